//! Writes the rows of a file as Parquet parts, and the manifest with which COPY reads them.
//!
//! Each attempt writes to a folder of its own, `copy/<source id>/<attempt>/`. The parts are read only by the transaction of that
//! attempt. They are deleted after it; the cleanup deletes the parts of dead workers.

use bytes::Bytes;
use serde_json::json;
use spillway_formats::Batch;
use spillway_formats::parquet::ParquetEncoder;
use spillway_formats::schema::fallback::FallbackColumn;
use tracing::warn;

use super::column::{Storage, encode, parquet_columns};
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::SourceId;
use crate::store::Store;
use crate::store::upload::Upload;
use crate::store::write::Created;

/// A part ends when it has this many bytes. COPY reads several parts at once.
const PART_BYTES: u64 = 128 << 20;
/// Rows are encoded in batches of this many bytes or rows.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 4096;
const CONTENT_TYPE: &str = "application/vnd.apache.parquet";

/// The folder of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    store: Store,
    pub(super) bucket: String,
    prefix: String,
    /// The keys of the parts, with their sizes.
    parts: Vec<(String, u64)>,
}

impl Folder {
    pub(super) fn new(store: &Store, bucket: &str, prefix: &str, source_id: &SourceId, attempt: &str) -> Self {
        let prefix = format!("{prefix}{source_id}/{attempt}/");
        Self { store: store.clone(), bucket: bucket.to_owned(), prefix, parts: Vec::new() }
    }

    /// Returns the key of the manifest.
    pub(super) fn manifest_key(&self) -> String {
        format!("{}manifest.json", self.prefix)
    }

    /// Checks and writes all rows, and then the manifest. Returns the number of rows. `sequence` is the name of a last column with the
    /// number of each row.
    pub(super) async fn write(&mut self, rows: &mut Rows<'_, Storage>, sequence: Option<&str>) -> Result<u64> {
        let mut writer = PartWriter::new(self, parquet_columns(rows.columns(), sequence));
        let written = writer.write(rows).await;
        let (parts, open) = (std::mem::take(&mut writer.parts), writer.open.take());
        self.parts = parts;
        if let Some(Part { upload, .. }) = open {
            // Return the first error; the cleanup aborts an upload that could not be aborted here.
            let _ = upload.abort().await;
        }
        written?;
        if !self.parts.is_empty() {
            self.store.put(&self.bucket, &self.manifest_key(), self.manifest(), "application/json").await?;
        }
        Ok(rows.accepted)
    }

    /// Whether the file has rows.
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The manifest. For Parquet, COPY requires the size of each part.
    fn manifest(&self) -> Bytes {
        let entry = |(key, size): &(String, u64)| {
            let url = format!("s3://{}/{key}", self.bucket);
            json!({"url": url, "mandatory": true, "meta": {"content_length": size}})
        };
        let entries: Vec<_> = self.parts.iter().map(entry).collect();
        json!({ "entries": entries }).to_string().into()
    }

    /// Deletes the manifest and the parts. If that fails, the cleanup does it later.
    pub(super) async fn remove(&mut self) {
        let manifest = self.has_parts().then(|| self.manifest_key());
        let parts = std::mem::take(&mut self.parts);
        for key in manifest.iter().chain(parts.iter().map(|(key, _)| key)) {
            if let Err(error) = self.store.delete(&self.bucket, key).await {
                warn!(error = %chain(&error), "a copied part could not be deleted; the cleanup deletes it");
            }
        }
    }
}

/// An open part.
struct Part {
    key: String,
    upload: Upload,
    encoder: ParquetEncoder,
    size: u64,
}

struct PartWriter<'a> {
    folder: &'a Folder,
    columns: Vec<FallbackColumn>,
    open: Option<Part>,
    parts: Vec<(String, u64)>,
}

impl<'a> PartWriter<'a> {
    fn new(folder: &'a Folder, columns: Vec<FallbackColumn>) -> Self {
        Self { folder, columns, open: None, parts: Vec::new() }
    }

    async fn write(&mut self, rows: &mut Rows<'_, Storage>) -> Result<()> {
        let (width, is_numbered) = (self.columns.len(), self.columns.len() > rows.width());
        let (mut batch, mut row) = (Batch::new(width), EncodedRow::default());
        while rows.advance().await? {
            if row.read(rows)? {
                row.push_to(&mut batch);
                if is_numbered {
                    batch.push_field(Some(rows.accepted.to_string().as_bytes()));
                }
                batch.end_row(rows.position());
            }
            let is_full = batch.rows() >= BATCH_ROWS || batch.size_bytes() >= BATCH_BYTES;
            if is_full || rows.needs_flush() {
                self.add(&mut batch).await?;
                rows.sent().await?;
            }
        }
        self.add(&mut batch).await?;
        rows.all_sent().await?;
        self.close().await
    }

    /// Encodes a batch, and leaves an empty one.
    async fn add(&mut self, batch: &mut Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut part = match self.open.take() {
            Some(part) => part,
            None => {
                let Folder { store, bucket, prefix, .. } = self.folder;
                let key = format!("{prefix}part-{:05}.parquet", self.parts.len() + 1);
                let upload = store.upload(bucket, &key, CONTENT_TYPE);
                Part { key, upload, encoder: ParquetEncoder::new(&self.columns)?, size: 0 }
            }
        };
        let encoded = part.encoder.write(batch);
        *batch = batch.next();
        let bytes = part.encoder.take_bytes();
        part.size += bytes.len() as u64;
        let written = part.upload.write(&bytes).await;
        let is_full = part.size >= PART_BYTES;
        self.open = Some(part);
        encoded?;
        written?;
        if is_full { self.close().await } else { Ok(()) }
    }

    /// Completes the open part.
    async fn close(&mut self) -> Result<()> {
        let Some(Part { key, mut upload, encoder, mut size }) = self.open.take() else { return Ok(()) };
        let written = async {
            let bytes = encoder.finish()?;
            size += bytes.len() as u64;
            upload.write(&bytes).await
        };
        if let Err(error) = written.await {
            let _ = upload.abort().await;
            return Err(error);
        }
        match upload.finish_new().await? {
            // Only this attempt writes to the folder, so the object is the result of an earlier try of this request.
            Created::New { .. } | Created::Exists => self.parts.push((key, size)),
        }
        Ok(())
    }
}

/// The fields of one row, as the Parquet columns read them.
#[derive(Default)]
struct EncodedRow {
    bytes: Vec<u8>,
    /// The end of each field in `bytes`; `None` for NULL.
    ends: Vec<Option<usize>>,
    scratch: Vec<u8>,
}

impl EncodedRow {
    /// Reads the current row. Returns `false` if it is rejected.
    fn read(&mut self, rows: &mut Rows<'_, Storage>) -> Result<bool> {
        let Self { bytes, ends, scratch } = self;
        bytes.clear();
        ends.clear();
        rows.encode_row(bytes, |rows, bytes| {
            for (column, field) in rows.fields() {
                let has_value = encode(column, field, scratch, rows.position(), bytes)?;
                ends.push(has_value.then_some(bytes.len()));
            }
            Ok(())
        })
    }

    fn push_to(&self, batch: &mut Batch) {
        let mut start = 0;
        for end in &self.ends {
            batch.push_field(end.map(|end| &self.bytes[start..end]));
            start = end.unwrap_or(start);
        }
    }
}

/// The error for rows of a file that is not in S3.
pub(super) fn not_in_s3() -> Error {
    let message =
        "Redshift copies rows from S3, and this file is not there; upload it to the bucket, or load it with the task";
    Error::new(ErrorKind::Settings, message)
}
