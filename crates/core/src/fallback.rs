//! The fallback: stores rows that the database did not accept in S3, and registers them in the Glue catalog.
//!
//! Each source has at most one data object, at a key derived from its identity. The object appears when its upload
//! completes, and only if the key does not exist yet. That is the commit point: every later attempt finds all rows or
//! none, even while the database is down. The steps are:
//!
//! 1. Write the manifest, which describes the object, and the columns of the Glue table, on which the object's types
//!    depend.
//! 2. Upload the rows and complete the upload.
//! 3. Register the object's partition in Glue. If this fails, any later attempt can do it.

mod manifest;

use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::batch::BatchStream;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::PipelineConfig;
use crate::route;
use crate::store::Store;
use crate::store::upload::Upload;
use crate::table_name::TableName;
use spillway_formats::Batch;
use spillway_formats::fallback_csv::{self, CsvEncoder};
use spillway_formats::parquet::{self, ParquetEncoder};
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::FallbackFormat;

pub(crate) use manifest::ManifestPage;
pub use manifest::{Manifest, list};

/// Everything about a fallback to write, except its rows.
#[derive(Debug, Clone, Copy)]
pub struct FallbackWrite<'a> {
    /// The version of the object that contains the rows.
    pub source: &'a ObjectVersion,
    /// The table that the rows were to be loaded into.
    pub table: &'a TableName,
    /// The key of the file that first contained the records.
    pub original_key: &'a str,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: &'a str,
    /// The file's columns.
    pub schema: &'a Schema,
    /// Number of rows, from the scan.
    pub rows: u64,
    /// Number of rejected records, from the scan.
    pub rows_rejected: u64,
    /// The reason, without row values.
    pub reason: &'a str,
}

/// Returns the manifest of this source's fallback object, if that object exists in any format.
///
/// # Errors
/// When S3 fails, or when the object exists without its manifest.
pub async fn find(store: &Store, settings: &PipelineConfig, source: &ObjectVersion) -> Result<Option<Manifest>> {
    let bucket = &source.object.bucket;
    // Concurrent requests are safe: only the holder of the lease creates or deletes these objects. Usually none exists.
    let (manifest, object) =
        tokio::try_join!(manifest::read_of(store, settings, source), data_object(store, settings, source))?;
    if let Some((manifest, _)) = manifest
        && store.etag_of(bucket, &manifest.key).await?.is_some()
    {
        return Ok(Some(manifest));
    }
    let Some(key) = object else { return Ok(None) };
    let message = format!(
        "the manifest {} of this fallback object is missing; restore it, or delete the object to load the file again",
        route::manifest_key(&settings.prefixes, &source.id)
    );
    Err(Error::new(ErrorKind::Service, message).for_object(ObjectRef::new(bucket, key)))
}

/// Returns the key of this source's fallback object under the current settings.
///
/// Tries one GET for each format, which costs a sixth of a listing.
async fn data_object(store: &Store, settings: &PipelineConfig, source: &ObjectVersion) -> Result<Option<String>> {
    // Without a table the key of the object is known only from its manifest.
    let Ok(parts) = settings.key_parts(&source.object.key) else { return Ok(None) };
    let keys = FallbackFormat::ALL.map(|format| {
        route::fallback_data_key(&settings.prefixes, &parts.table, source.last_modified, &source.id, format)
    });
    let requests = keys.iter().map(|key| store.etag_of(&source.object.bucket, key));
    let found = futures_util::future::try_join_all(requests).await?;
    Ok(keys.into_iter().zip(found).find_map(|(key, etag)| etag.map(|_| key)))
}

/// Aborts all uploads of this source's fallback object, so that no earlier worker can complete one. Returns how many.
///
/// # Errors
/// When an upload may still exist.
pub async fn abort_writes(store: &Store, settings: &PipelineConfig, source: &ObjectVersion) -> Result<usize> {
    // The manifest is written before an upload starts, so without a manifest there is no upload.
    match manifest::read_of(store, settings, source).await? {
        Some((manifest, _)) => store.abort_uploads(&source.object.bucket, &manifest.key).await,
        None => Ok(0),
    }
}

/// Writes the manifest and the data object, and registers the object.
///
/// `fence` is called after all bytes are sent, before the object becomes visible. If it fails, the upload is aborted.
///
/// # Errors
/// After an error either the object does not exist, or only its registration is missing.
pub async fn write(
    store: &Store,
    catalog: &Catalog,
    settings: &PipelineConfig,
    fallback_write: &FallbackWrite<'_>,
    rows: BatchStream<'_>,
    fence: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let bucket = &fallback_write.source.object.bucket;
    let manifest = manifest::finalize(store, catalog, settings, fallback_write).await?;
    Failpoint::FallbackBeforePut.reached().await;
    let mut upload = store.upload(bucket, &manifest.key, content_type(manifest.format));
    if let Err(error) = send(&mut upload, &manifest, rows).await {
        // Return the first error; the cleanup aborts an upload that could not be aborted here.
        let _ = upload.abort().await;
        return Err(error);
    }
    let has_one_part = upload.parts_sent() == 0;
    let sealed = upload.seal().await?;
    if has_one_part {
        Failpoint::FallbackMidUpload.reached().await;
    }
    if let Err(error) = fence().await {
        let _ = sealed.abort().await;
        return Err(error);
    }
    Failpoint::FallbackAnnounced.reached().await;
    // An existing object belongs to the same source, so it contains the same rows.
    sealed.complete_new().await?;
    Failpoint::FallbackAfterComplete.reached().await;
    manifest.catalog(catalog).register(&manifest.dt, &partition_folder(bucket, settings, &manifest)).await
}

/// Registers the fallback object of an earlier attempt.
///
/// # Errors
/// When the catalog cannot be changed.
pub async fn register_found(catalog: &Catalog, settings: &PipelineConfig, found: &Manifest) -> Result<()> {
    let bucket = &found.source.object.bucket;
    let catalog = found.catalog(catalog);
    catalog.prepare_again(&table_folder(bucket, settings, &found.target_table), &found.columns).await?;
    catalog.register(&found.dt, &partition_folder(bucket, settings, found)).await
}

/// Reads the rows of a fallback object, with the columns of the source in their order. A value may be spelled
/// differently than in the source, but means the same.
///
/// # Errors
/// When the object cannot be read, or the number of rows differs from the manifest. `SourceMissing` when the object was
/// never completed, or was deleted.
pub async fn open_rows(store: &Store, manifest: &Manifest) -> Result<BatchStream<'static>> {
    let bucket = &manifest.source.object.bucket;
    let data = store.head(&ObjectRef::new(bucket, &manifest.key)).await?;
    let rows = match manifest.format {
        FallbackFormat::Parquet => {
            let (store, size_bytes) = (store.clone(), data.size_bytes);
            let read = move |range: Range<u64>| {
                let (store, data) = (store.clone(), data.clone());
                async move { store.read_range(&data.object, &data.etag, range).await }
            };
            parquet::decode(&manifest.columns, size_bytes, read).map_err(Error::from).boxed()
        }
        FallbackFormat::Csv => {
            let body = store.open(&data).await?;
            let chunks = stream::try_unfold(body, |mut body| async move {
                let chunk = body.next().await?;
                Ok::<_, Error>(chunk.map(|chunk| (chunk, body)))
            });
            fallback_csv::decode(&manifest.columns, chunks).map_err(Error::from).boxed()
        }
    };
    Ok(counted(rows, manifest.rows))
}

/// Returns the same rows, and an error at the end if their number differs from the manifest.
fn counted(rows: BatchStream<'static>, declared: u64) -> BatchStream<'static> {
    Box::pin(stream::try_unfold((rows, 0), move |(mut rows, before)| async move {
        match rows.try_next().await? {
            Some(batch) => {
                let read = before + batch.rows() as u64;
                Ok(Some((batch, (rows, read))))
            }
            None if before == declared => Ok(None),
            None => {
                let message = format!("the fallback object has {before} rows, but its manifest declares {declared}");
                Err(Error::new(ErrorKind::FileBroken, message))
            }
        }
    }))
}

/// Deletes the data object, then the partition if it is empty, then the manifest. May be repeated.
///
/// Call it only when the ledger says that the rows are in the database.
///
/// # Errors
/// When any of them may still exist.
pub async fn remove(store: &Store, catalog: &Catalog, settings: &PipelineConfig, manifest: &Manifest) -> Result<()> {
    let bucket = &manifest.source.object.bucket;
    let folder_key = partition_key(settings, manifest);
    store.delete(bucket, &manifest.key).await?;
    if !has_objects(store, bucket, &folder_key).await? {
        let catalog = manifest.catalog(catalog);
        catalog.drop_partition(&manifest.dt).await?;
        // Another worker may have written to the folder, and found the partition just before this worker dropped it.
        if has_objects(store, bucket, &folder_key).await? {
            catalog.register(&manifest.dt, &partition_folder(bucket, settings, manifest)).await?;
        }
    }
    store.delete(bucket, &route::manifest_key(&settings.prefixes, &manifest.source.id)).await
}

/// Deletes the manifest of a fallback that was not completed, and the partition if it is empty. May be repeated.
///
/// Call it only while holding the lease, after [`abort_writes`] and [`find`] have shown that no object exists.
///
/// # Errors
/// When the manifest may still exist.
pub async fn remove_incomplete(
    store: &Store,
    catalog: &Catalog,
    settings: &PipelineConfig,
    source: &ObjectVersion,
) -> Result<()> {
    match manifest::read_of(store, settings, source).await? {
        Some((manifest, _)) => remove(store, catalog, settings, &manifest).await,
        None => Ok(()),
    }
}

/// An encoder for either format.
enum Encoder {
    Parquet(Box<ParquetEncoder>),
    Csv(CsvEncoder),
}

impl Encoder {
    fn new(manifest: &Manifest) -> Result<Self> {
        Ok(match manifest.format {
            FallbackFormat::Parquet => Self::Parquet(Box::new(ParquetEncoder::new(&manifest.columns)?)),
            FallbackFormat::Csv => Self::Csv(CsvEncoder::new(&manifest.columns)),
        })
    }

    /// Encodes rows and returns the finished bytes.
    async fn write(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(encoder) => {
                encoder.write(batch)?;
                Ok(encoder.take_bytes())
            }
            Self::Csv(encoder) => {
                encoder.write(batch).await?;
                Ok(encoder.take_bytes())
            }
        }
    }

    fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(encoder) => Ok(encoder.finish()?),
            Self::Csv(encoder) => Ok(encoder.finish()),
        }
    }
}

/// Encodes and sends all rows, and checks their number against the manifest.
async fn send(upload: &mut Upload, manifest: &Manifest, mut rows: BatchStream<'_>) -> Result<()> {
    let mut encoder = Encoder::new(manifest)?;
    let mut sent_rows = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        sent_rows += batch.rows() as u64;
        write_part(upload, &encoder.write(&batch).await?).await?;
    }
    if sent_rows != manifest.rows {
        let message = format!("the fallback write read {sent_rows} rows, the scan {}", manifest.rows);
        return Err(Error::new(ErrorKind::Internal, message));
    }
    write_part(upload, &encoder.finish()?).await
}

/// Writes encoded rows, and reaches the failpoint once S3 has the first part.
async fn write_part(upload: &mut Upload, bytes: &[u8]) -> Result<()> {
    let had_parts = upload.parts_sent() > 0;
    upload.write(bytes).await?;
    if !had_parts && upload.parts_sent() > 0 {
        Failpoint::FallbackMidUpload.reached().await;
    }
    Ok(())
}

fn content_type(format: FallbackFormat) -> &'static str {
    match format {
        FallbackFormat::Parquet => "application/vnd.apache.parquet",
        FallbackFormat::Csv => "text/csv",
    }
}

/// Whether a folder contains any object except folder markers.
async fn has_objects(store: &Store, bucket: &str, folder_key: &str) -> Result<bool> {
    let mut pages = store.list(bucket, folder_key);
    while let Some(page) = pages.next().await? {
        if page.iter().any(|listed| !listed.key.ends_with('/')) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The `Location` of a target table's fallback.
pub(crate) fn table_folder(bucket: &str, settings: &PipelineConfig, target_table: &TableName) -> String {
    format!("s3://{bucket}/{}", route::fallback_table_prefix(&settings.prefixes, target_table))
}

fn partition_key(settings: &PipelineConfig, manifest: &Manifest) -> String {
    route::fallback_partition_prefix(&settings.prefixes, &manifest.target_table, &manifest.dt)
}

/// The `Location` of a manifest's partition.
fn partition_folder(bucket: &str, settings: &PipelineConfig, manifest: &Manifest) -> String {
    format!("s3://{bucket}/{}", partition_key(settings, manifest))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use bytes::Bytes;

    use super::*;
    use crate::error::Position;
    use spillway_formats::schema::ColumnType;
    use spillway_formats::schema::fallback::FallbackColumn;

    fn columns() -> Vec<FallbackColumn> {
        let (file_type, stored_type) = (ColumnType::Text, ColumnType::Text);
        vec![FallbackColumn { name: "c".to_owned(), file_type, stored_type, place: 1 }]
    }

    fn three_rows() -> Batch {
        let mut batch = Batch::new(1);
        for record in 1..=3 {
            batch.push_field(Some(b"x"));
            batch.end_row(Position { record, line: 0, byte: 0 });
        }
        batch
    }

    fn as_parquet() -> Vec<u8> {
        let mut encoder = ParquetEncoder::new(&columns()).unwrap();
        encoder.write(&three_rows()).unwrap();
        let mut bytes = encoder.take_bytes();
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    fn decode_parquet(bytes: Vec<u8>) -> BatchStream<'static> {
        let bytes = Bytes::from(bytes);
        let size_bytes = bytes.len() as u64;
        let read =
            move |range: Range<u64>| ready(Ok::<_, Error>(bytes.slice(range.start as usize..range.end as usize)));
        parquet::decode(&columns(), size_bytes, read).map_err(Error::from).boxed()
    }

    async fn decode_csv(kept_bytes: usize) -> BatchStream<'static> {
        let mut encoder = CsvEncoder::new(&columns());
        encoder.write(&three_rows()).await.unwrap();
        let mut bytes = encoder.take_bytes();
        bytes.extend(encoder.finish());
        bytes.truncate(bytes.len().min(kept_bytes));
        fallback_csv::decode(&columns(), stream::iter([Ok::<_, Error>(Bytes::from(bytes))]))
            .map_err(Error::from)
            .boxed()
    }

    async fn rows_of(rows: BatchStream<'static>, declared: u64) -> Result<usize> {
        let batches: Vec<Batch> = counted(rows, declared).try_collect().await?;
        Ok(batches.iter().map(Batch::rows).sum())
    }

    #[tokio::test]
    async fn fallback_object_must_have_the_rows_of_its_manifest() {
        for declared in [0, 2, 3, 4] {
            for rows in [decode_parquet(as_parquet()), decode_csv(usize::MAX).await] {
                match rows_of(rows, declared).await {
                    Ok(rows) => assert_eq!((rows, declared), (3, 3)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::FileBroken);
                        let expected = format!("the fallback object has 3 rows, but its manifest declares {declared}");
                        assert_eq!(error.message(), expected);
                        assert_ne!(declared, 3);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn fallback_object_without_its_last_rows_is_an_error() {
        // Each record is `"","x"` and its line end.
        let error = rows_of(decode_csv(14).await, 3).await.unwrap_err();
        assert_eq!(error.message(), "the fallback object has 2 rows, but its manifest declares 3");
    }

    /// The reader treats such an object as empty.
    #[tokio::test]
    async fn fallback_object_whose_footer_has_no_rows_is_an_error() {
        let mut bytes = as_parquet();
        // `FileMetaData.num_rows`, which is 3, before the list of row groups.
        let num_rows: Vec<usize> = bytes
            .windows(4)
            .enumerate()
            .filter(|(_, four)| four == b"\x16\x06\x19\x1c")
            .map(|(place, _)| place)
            .collect();
        assert_eq!(num_rows.len(), 1);
        bytes[num_rows[0] + 1] = 0;
        let error = rows_of(decode_parquet(bytes), 3).await.unwrap_err();
        assert_eq!(error.message(), "the fallback object has 0 rows, but its manifest declares 3");
    }
}
