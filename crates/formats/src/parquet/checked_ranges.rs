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

/// The most stored bytes of a row group, which is in memory as a whole.
const MAX_ROW_GROUP_BYTES: u64 = 512 << 20;
/// The most decompressed bytes of the pages of a row group that are in memory at the same time.
const MAX_OPEN_PAGES_BYTES: u64 = 512 << 20;
/// The most values of a column chunk with lists, because all of them may be in one row.
pub(super) const MAX_LIST_VALUES: u64 = 64 << 20;

/// Reads ranges, and checks that they are within the file, that their pages are of bounded size, and that the pages have
/// as many values and rows as the footer declares.
pub(super) struct CheckedRanges {
    ranges: Ranges,
    metadata: Arc<ParquetMetaData>,
    chunks: Arc<Chunks>,
}

impl CheckedRanges {
    /// Ranges of the file with this footer and these column chunks.
    pub(super) fn new(ranges: Ranges, metadata: Arc<ParquetMetaData>, chunks: Arc<Chunks>) -> Self {
        Self { ranges, metadata, chunks }
    }

    fn check_ranges(&self, ranges: &[Range<u64>]) -> Result<()> {
        let is_outside = |range: &Range<u64>| range.start > range.end || range.end > self.ranges.size_bytes();
        if ranges.iter().any(is_outside) {
            return Err(invalid("a column chunk is outside of the file; it may be truncated"));
        }
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if bytes > MAX_ROW_GROUP_BYTES {
            return Err(invalid(format!(
                "a row group has more than {MAX_ROW_GROUP_BYTES} bytes; write smaller row groups"
            )));
        }
        Ok(())
    }

    fn check_pages(&self, ranges: &[Range<u64>], chunks: &[Bytes]) -> Result<()> {
        let mut open_bytes = 0;
        for (range, bytes) in ranges.iter().zip(chunks) {
            let chunk = self.chunks.at(range)?;
            let pages = pages::read_headers(bytes).map_err(invalid)?;
            if chunk.is_list && pages.values > MAX_LIST_VALUES {
                return Err(invalid("the lists of a row group have too many values; write smaller row groups"));
            }
            chunk.check(&pages)?;
            open_bytes += pages.open_bytes;
        }
        if open_bytes > MAX_OPEN_PAGES_BYTES {
            return Err(invalid(format!(
                "the pages of a row group need more than {MAX_OPEN_PAGES_BYTES} bytes at a time; write smaller pages"
            )));
        }
        Ok(())
    }
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
