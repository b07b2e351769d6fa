//! A data lake small enough to jump into.
fn main() {}
