//! What is more than one cargo command.
fn main() {}
