//! Numbers as people write them.

pub(crate) use spillway_formats::numbers::{counted, with_thousands as count};
