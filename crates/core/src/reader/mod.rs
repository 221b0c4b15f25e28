//! Reads one version of an object: its format, layout, schema and rows.
//!
//! A reader needs the object's bytes and options, nothing else: no lease, no ledger, no database. A first pass over all
//! values ([`FileReader::scan`]) decides the schema; later passes ([`FileReader::rows`]) return the same rows by the layout
//! that the first one found. A single-pass load starts from the file's beginning ([`FileReader::peek`]).

mod beginning;
mod bytes;
mod read_ahead;
mod scan;
mod streamed;

use std::ops::Range;

use futures_util::{TryStreamExt, stream};

use crate::batch::BatchStream;
use crate::error::Result;
use crate::key_columns::KeyFields;
use crate::object::ObjectVersion;
use crate::store::Store;
use spillway_formats::Batch;
use spillway_formats::decoder::{Decoder, Layout, ReadOptions};
use spillway_formats::detect::{self, Format};
use spillway_formats::extract::RecordExtractor;
use spillway_formats::parquet::{ParquetLimits, ParquetReader};

#[cfg(test)]
pub(crate) use beginning::StopReason;
pub(crate) use beginning::{Beginning, StreamEnd};
pub(crate) use bytes::DecodedBytes;
use bytes::{Checksum, StoredFile, hints};
pub(crate) use scan::ScanResult;
use streamed::BadRecords;
pub(crate) use streamed::StreamedRows;

/// Reads one version of an object, as often as needed.
#[derive(Debug, Clone)]
pub(crate) struct FileReader {
    object: ObjectVersion,
    stored: StoredFile,
    options: ReadOptions,
    key_fields: KeyFields,
}

/// How a file's records are found in its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileLayout {
    /// CSV or JSON, read from the first byte to the last.
    Streaming(Layout),
    /// Parquet, read by byte ranges.
    Parquet,
}

impl FileReader {
    /// Opens an object in S3. One of at most `buffer_max_bytes` is read into memory now.
    ///
    /// # Errors
    /// When S3 does not return the object, or returns another version of it.
    pub(crate) async fn open(
        store: &Store,
        object: &ObjectVersion,
        buffer_max_bytes: u64,
        options: &ReadOptions,
        key_fields: &KeyFields,
    ) -> Result<Self> {
        let stored = StoredFile::open(store, object, buffer_max_bytes).await?;
        Ok(Self { object: object.clone(), stored, options: options.clone(), key_fields: key_fields.clone() })
    }

    /// A reader of bytes that are in memory, as if they were the body of `object`.
    #[cfg(test)]
    pub(crate) fn in_memory(bytes: impl Into<::bytes::Bytes>, object: &ObjectVersion, options: &ReadOptions) -> Self {
        let stored = StoredFile::Memory(bytes.into());
        Self { object: object.clone(), stored, options: options.clone(), key_fields: KeyFields::default() }
    }

    /// Whether all bytes are in memory, so that reading them again costs little.
    pub(crate) fn is_buffered(&self) -> bool {
        matches!(self.stored, StoredFile::Memory(_))
    }

    /// All rows, by the layout that a scan found.
    ///
    /// # Errors
    /// When the object cannot be read or is another version by now; the stream also returns errors of its records.
    pub(crate) async fn rows<'a>(&'a self, layout: &FileLayout) -> Result<BatchStream<'a>> {
        let rows: BatchStream<'a> = match layout {
            FileLayout::Streaming(layout) => {
                let decoder = Decoder::with_layout(layout, &self.options);
                let rows = StreamedRows::start(self.decoded(Checksum::Skip).await?, decoder, BadRecords::Reject);
                Box::pin(stream::try_unfold(rows, |mut rows| async {
                    let batch = rows.next().await?;
                    Ok(batch.map(|batch| (batch, rows)))
                }))
            }
            FileLayout::Parquet => Box::pin(stream::try_unfold(self.parquet().await?, |mut reader| async {
                let batch = reader.next().await?;
                Ok(batch.map(|batch| (batch, reader)))
            })),
        };
        Ok(self.with_key_fields(rows))
    }

    /// One more pass over the decompressed bytes, with an extractor for the records that start at `starts`, in order.
    pub(crate) async fn records(
        &self,
        layout: &Layout,
        starts: impl Iterator<Item = u64>,
    ) -> Result<(DecodedBytes, RecordExtractor)> {
        let extractor = RecordExtractor::new(layout, &self.options, starts);
        Ok((self.decoded(Checksum::Skip).await?, extractor))
    }

    /// The rows with the columns that `KEY_COLUMNS` adds; unchanged if it adds none.
    fn with_key_fields<'a>(&'a self, rows: BatchStream<'a>) -> BatchStream<'a> {
        match self.key_fields.is_empty() {
            true => rows,
            false => Box::pin(rows.map_ok(|batch: Batch| self.key_fields.widen(&batch))),
        }
    }

    /// Starts the first pass. The first decompressed bytes decide the format.
    async fn detect(&self) -> Result<(DecodedBytes, Format)> {
        let mut decoded = self.decoded(Checksum::Compute).await?;
        let head = decoded.head().await?;
        let format = detect::format(self.options.format, hints(&self.object), &head)?;
        Ok((decoded, format))
    }

    async fn decoded(&self, checksum: Checksum) -> Result<DecodedBytes> {
        DecodedBytes::open(&self.stored, &self.object, self.options.limits.decoded, checksum).await
    }

    async fn parquet(&self) -> Result<ParquetReader> {
        let limits = self.options.limits;
        let limits = ParquetLimits { max_record_bytes: limits.max_record_bytes, max_columns: limits.max_columns };
        let (stored, object) = (self.stored.clone(), self.object.clone());
        let read = move |range: Range<u64>| {
            let (stored, object) = (stored.clone(), object.clone());
            async move { stored.read_range(&object, range).await }
        };
        Ok(ParquetReader::open(self.object.size_bytes, read, limits).await?)
    }
}

#[cfg(test)]
mod tests;
