//! Byte ranges of a user's file, checked before the Parquet crate decodes them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::counts::Chunks;
use super::failure::{external, invalid};
use super::pages;
use super::ranges::Ranges;
use crate::Result;

/// Reads ranges, and checks that they are within the file, that decoding them needs a bounded amount of memory, and that
/// the pages have as many values and rows as the footer declares.
pub(super) struct CheckedRanges {
    ranges: Ranges,
    metadata: Arc<ParquetMetaData>,
    chunks: Arc<Chunks>,
    max_memory_bytes: u64,
}

impl CheckedRanges {
    /// Ranges of the file with this footer and these column chunks. A row group may need at most `max_memory_bytes`.
    pub(super) fn new(
        ranges: Ranges,
        metadata: Arc<ParquetMetaData>,
        chunks: Arc<Chunks>,
        max_memory_bytes: u64,
    ) -> Self {
        Self { ranges, metadata, chunks, max_memory_bytes }
    }

    fn check_ranges(&self, ranges: &[Range<u64>]) -> Result<()> {
        let is_outside = |range: &Range<u64>| range.start > range.end || range.end > self.ranges.size_bytes();
        if ranges.iter().any(is_outside) {
            return Err(invalid("a column chunk is outside of the file; it may be truncated"));
        }
        self.check_memory(stored_bytes(ranges))
    }

    fn check_memory(&self, needed_bytes: u64) -> Result<()> {
        match needed_bytes > self.max_memory_bytes {
            false => Ok(()),
            true => Err(invalid(format!(
                "a row group needs {needed_bytes} bytes of memory, and this worker may use {}; write smaller row groups, or \
                 give the worker more memory",
                self.max_memory_bytes
            ))),
        }
    }

    fn check_pages(&self, ranges: &[Range<u64>], chunks: &[Bytes]) -> Result<()> {
        // All stored bytes, the largest pages of each column, and all values of a list, which may be in one row.
        let mut needed_bytes = stored_bytes(ranges);
        for (range, bytes) in ranges.iter().zip(chunks) {
            let chunk = self.chunks.at(range)?;
            let pages = pages::read_headers(bytes).map_err(invalid)?;
            chunk.check(&pages)?;
            needed_bytes = needed_bytes
                .saturating_add(pages.open_bytes)
                .saturating_add(pages.values.saturating_mul(chunk.list_value_bytes));
        }
        self.check_memory(needed_bytes)
    }
}

fn stored_bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add)
}

impl AsyncFileReader for CheckedRanges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut chunks = self.get_byte_ranges(vec![range]).await?;
            chunks.pop().ok_or_else(|| ParquetError::EOF("no bytes were returned for a range".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            self.check_ranges(&ranges).map_err(external)?;
            let chunks = self.ranges.get_byte_ranges(ranges.clone()).await?;
            self.check_pages(&ranges, &chunks).map_err(external)?;
            Ok(chunks)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = Arc::clone(&self.metadata);
        async move { Ok(metadata) }.boxed()
    }
}
