//! Batches of rows on their way through the core, with the core's errors.

use std::pin::Pin;

use futures_util::Stream;
use spillway_formats::Batch;

use crate::error::Result;

/// The rows of a file in batches, in file order. An error ends the stream.
pub type BatchStream<'a> = Pin<Box<dyn Stream<Item = Result<Batch>> + Send + 'a>>;
