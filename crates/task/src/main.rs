//! The task binary.

fn main() {}
