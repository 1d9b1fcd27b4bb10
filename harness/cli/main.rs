//! The tritbench binary.
fn main() {}
