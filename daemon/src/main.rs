//! The `ferrolb` program.
fn main() {}
