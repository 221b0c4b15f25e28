//! Reads one version of an object, or a local file: its format, layout, schema and rows.
//!
//! A reader needs only the object's bytes and options: no lease, no ledger, no database. The scan, a first pass over
//! all values ([`FileReader::scan`]), determines the schema and the layout. Later passes ([`FileReader::rows`]) use
//! that layout and return the same rows. A single-pass load does without a scan: it peeks at the first rows
//! ([`FileReader::peek`]) and then reads on.

mod bytes;
mod encoding;
pub(crate) mod hint;
mod parquet_rows;
mod peeked_file;
mod read_ahead;
mod scan;
mod shape;
mod streamed;
mod suspects;

use std::ops::Range;

use futures_util::{TryStreamExt, stream};

use crate::batch::BatchStream;
use crate::error::Result;
use crate::key_columns::KeyFields;
use crate::local_file::LocalFile;
use crate::object::ObjectVersion;
use crate::progress::Progress;
use crate::store::Store;
use spillway_formats::Batch;
use spillway_formats::decoder::{Decoder, Layout, ReadOptions};
use spillway_formats::detect::{self, Compression, Format};
use spillway_formats::extract::RecordExtractor;
use spillway_formats::parquet::{ParquetLimits, ParquetReader};

pub(crate) use bytes::DecodedBytes;
use bytes::{Checksum, StoredFile, hints};
use parquet_rows::ParquetRows;
#[cfg(test)]
pub(crate) use peeked_file::StopReason;
pub(crate) use peeked_file::{PassResult, PeekedFile};
pub(crate) use scan::ScanResult;
pub(crate) use shape::{FileShape, ShapeContents, TextShape, ValueScan};
use streamed::BadRecords;
pub(crate) use streamed::StreamedRows;

/// Reads one version of an object, any number of times.
#[derive(Debug, Clone)]
pub(crate) struct FileReader {
    object: ObjectVersion,
    stored: StoredFile,
    options: ReadOptions,
    key_fields: KeyFields,
    progress: Progress,
    value_scan: ValueScan,
}

/// The position of the records in a file's bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileLayout {
    /// CSV or JSON, read from the first byte to the last.
    Streaming(Layout),
    /// Parquet, read by byte ranges.
    Parquet,
}

impl FileReader {
    /// Opens an object in S3. Reads it into memory if it has at most `buffer_max_bytes`.
    ///
    /// # Errors
    /// When S3 does not return the object, or its current version is another one.
    pub(crate) async fn open(
        store: &Store,
        object: &ObjectVersion,
        buffer_max_bytes: u64,
        options: &ReadOptions,
        key_fields: &KeyFields,
    ) -> Result<Self> {
        let stored = StoredFile::open(store, object, buffer_max_bytes).await?;
        Ok(Self::of(object, stored, options, key_fields.clone(), Progress::default()))
    }

    /// Opens a local file, as the body of `object`. Reads it into memory if it has at most `buffer_max_bytes`.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed.
    pub(crate) async fn open_local(
        file: &LocalFile,
        object: &ObjectVersion,
        buffer_max_bytes: u64,
        options: &ReadOptions,
        (key_fields, progress): (KeyFields, Progress),
    ) -> Result<Self> {
        let stored = StoredFile::open_local(file, buffer_max_bytes).await?;
        Ok(Self::of(object, stored, options, key_fields, progress))
    }

    fn of(
        object: &ObjectVersion,
        stored: StoredFile,
        options: &ReadOptions,
        key_fields: KeyFields,
        progress: Progress,
    ) -> Self {
        let value_scan = ValueScan::Off;
        Self { object: object.clone(), stored, options: options.clone(), key_fields, progress, value_scan }
    }

    /// The same reader, whose first pass finds out what a program that reads the file in place would read wrong.
    #[must_use]
    pub(crate) fn with_value_scan(self, value_scan: ValueScan) -> Self {
        Self { value_scan, ..self }
    }

    /// The same reader with other counters.
    #[must_use]
    pub(crate) fn with_progress(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The counters.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A reader of these bytes, as the body of `object`.
    pub(crate) fn of_bytes(
        bytes: ::bytes::Bytes,
        object: &ObjectVersion,
        options: &ReadOptions,
        key_fields: KeyFields,
    ) -> Self {
        Self::of(object, StoredFile::Memory(bytes), options, key_fields, Progress::default())
    }

    /// A reader of these bytes, as the body of `object`.
    #[cfg(test)]
    pub(crate) fn in_memory(bytes: impl Into<::bytes::Bytes>, object: &ObjectVersion, options: &ReadOptions) -> Self {
        let stored = StoredFile::Memory(bytes.into());
        Self::of(object, stored, options, KeyFields::default(), Progress::default())
    }

    /// Whether all bytes are in memory, so that another pass is cheap.
    pub(crate) fn is_buffered(&self) -> bool {
        matches!(self.stored, StoredFile::Memory(_))
    }

    /// Returns all rows, with the layout of the scan.
    ///
    /// # Errors
    /// When the object cannot be read, or was overwritten. The stream also returns errors of records.
    pub(crate) async fn rows<'a>(&'a self, layout: &FileLayout) -> Result<BatchStream<'a>> {
        let rows: BatchStream<'a> = match layout {
            FileLayout::Streaming(layout) => {
                let decoder = Decoder::with_layout(layout, &self.options);
                let (bytes, rules) = (self.decoded(Checksum::Skip).await?, self.options.columns.clone());
                let rows = StreamedRows::start(bytes, decoder, rules, (BadRecords::Reject, ValueScan::Off));
                Box::pin(stream::try_unfold(rows, |mut rows| async {
                    let batch = rows.next().await?;
                    Ok(batch.map(|batch| (batch, rows)))
                }))
            }
            FileLayout::Parquet => Box::pin(stream::try_unfold(self.parquet().await?, |mut rows| async {
                let batch = rows.next().await?;
                Ok(batch.map(|batch| (batch, rows)))
            })),
        };
        Ok(self.with_key_fields(rows))
    }

    /// Starts another pass over the decompressed bytes, with an extractor for the records that start at `starts`.
    pub(crate) async fn records(
        &self,
        layout: &Layout,
        starts: impl Iterator<Item = u64>,
    ) -> Result<(DecodedBytes, RecordExtractor)> {
        let extractor = RecordExtractor::new(layout, &self.options, starts);
        Ok((self.decoded(Checksum::Skip).await?, extractor))
    }

    /// Adds the columns of `KEY_COLUMNS` to the rows, and counts the rows.
    fn with_key_fields<'a>(&'a self, rows: BatchStream<'a>) -> BatchStream<'a> {
        let rows: BatchStream<'a> = Box::pin(rows.inspect_ok(|batch: &Batch| self.progress.add_rows(batch.rows())));
        match self.key_fields.is_empty() {
            true => rows,
            false => Box::pin(rows.map_ok(|batch: Batch| self.key_fields.widen(&batch))),
        }
    }

    /// Detects the format and the compression from the first bytes.
    ///
    /// # Errors
    /// When the file cannot be read, or has a format that is not supported.
    pub(crate) async fn format(&self) -> Result<(Format, Option<Compression>)> {
        let (decoded, format) = self.detect().await?;
        Ok((format, decoded.compression()))
    }

    /// Starts the first pass, and detects the format from its first bytes.
    async fn detect(&self) -> Result<(DecodedBytes, Format)> {
        let mut decoded = self.decoded(Checksum::Compute).await?;
        let head = decoded.head().await?;
        let format = detect::format(self.options.format, hints(&self.object), &head)?;
        Ok((decoded, format))
    }

    /// Starts a pass over the decompressed bytes, which computes the checksum of the stored ones.
    ///
    /// # Errors
    /// When the file cannot be read, or has a compression that is not supported.
    pub(crate) async fn bytes(&self) -> Result<DecodedBytes> {
        self.decoded(Checksum::Compute).await
    }

    async fn decoded(&self, checksum: Checksum) -> Result<DecodedBytes> {
        let (limits, progress) = (self.options.limits.decoded, self.progress.clone());
        DecodedBytes::open(&self.stored, &self.object, limits, checksum, progress).await
    }

    async fn parquet(&self) -> Result<ParquetRows> {
        let limits = self.options.limits;
        let limits = ParquetLimits {
            max_record_bytes: limits.max_record_bytes,
            max_columns: limits.max_columns,
            max_memory_bytes: limits.max_memory_bytes,
        };
        let (stored, object) = (self.stored.clone(), self.object.clone());
        let read = move |range: Range<u64>| {
            let (stored, object) = (stored.clone(), object.clone());
            async move { stored.read_range(&object, range).await }
        };
        let reader = ParquetReader::open(self.object.size_bytes, read, limits).await?;
        Ok(ParquetRows::new(reader, self.options.columns.clone()))
    }
}

#[cfg(test)]
mod tests;
