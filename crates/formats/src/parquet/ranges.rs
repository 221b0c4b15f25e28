//! Reads byte ranges of an object for the Parquet crate, in as few requests as possible.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::failure::external;
use crate::error::BoxError;
use crate::{Error, Result};

/// The bytes at the end that are read first. Nearly every footer is shorter.
pub(super) const FOOTER_GUESS_BYTES: usize = 64 << 10;

/// An object that is read by byte ranges.
pub(super) struct Ranges {
    read: Box<dyn FnMut(Range<u64>) -> BoxFuture<'static, Result<Bytes>> + Send>,
    size_bytes: u64,
}

impl Ranges {
    /// An object of `size_bytes`. `read` returns the bytes of a range.
    pub(super) fn new<Read, Fut, E>(size_bytes: u64, mut read: Read) -> Self
    where
        Read: FnMut(Range<u64>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self { read: Box::new(move |range| read(range).map_err(Error::read).boxed()), size_bytes }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes of a range that lies within the object.
    pub(super) fn read(&mut self, range: Range<u64>) -> BoxFuture<'static, Result<Bytes>> {
        (self.read)(range)
    }
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        (self.read)(range).map_err(external).boxed()
    }

    /// Reads adjacent ranges with one request: all columns of a row group are adjacent, and are usually read together.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let start = ranges.iter().map(|range| range.start).min().unwrap_or(0);
            let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
            let needed: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let mut chunks = Vec::with_capacity(ranges.len());
            if end - start > needed {
                for range in ranges {
                    chunks.push(self.get_bytes(range).await?);
                }
                return Ok(chunks);
            }
            let all = self.get_bytes(start..end).await?;
            for range in ranges {
                let (from, to) = ((range.start - start) as usize, (range.end - start) as usize);
                if to > all.len() {
                    return Err(ParquetError::EOF("fewer bytes than requested were returned for a range".to_owned()));
                }
                chunks.push(all.slice(from..to));
            }
            Ok(chunks)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size_bytes = self.size_bytes;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_GUESS_BYTES));
            reader.load_and_finish(&mut *self, size_bytes).await.map(Arc::new)
        }
        .boxed()
    }
}
