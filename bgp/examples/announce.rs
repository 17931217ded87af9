//! Announces prefixes to a router.
fn main() {}
