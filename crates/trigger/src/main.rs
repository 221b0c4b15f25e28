//! The trigger binary.

fn main() {}
