//! Row objects: Parquet objects in S3 with the rows of one source, registered in the Glue catalog.
//!
//! The fallback and the lake write them, each in an [`Area`] of its own. In an area each source has at most one object, at a
//! key derived from its identity. The object appears when its upload completes, and only if the key does not exist yet. So
//! every later attempt finds all rows or none. The steps are:
//!
//! 1. Prepare the Glue table, whose columns determine the types in the object, and write the manifest, which describes the
//!    object.
//! 2. Upload the rows.
//! 3. Complete the upload.
//! 4. Register the object's partition in Glue. If this fails, any later attempt can do it.

mod manifest;

use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::batch::BatchStream;
use crate::catalog::{Catalog, Purpose};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::PipelineConfig;
use crate::route;
use crate::store::Store;
use crate::store::upload::{SealedUpload, Upload};
use crate::table_name::TableName;
use spillway_formats::fallback_csv;
use spillway_formats::parquet::{self, ParquetEncoder};
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::FallbackFormat;

pub use manifest::Manifest;
pub(crate) use manifest::{ManifestPage, list};

const CONTENT_TYPE: &str = "application/vnd.apache.parquet";

/// A prefix in the bucket with row objects, and the place of their tables in the catalog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area<'a> {
    settings: &'a PipelineConfig,
    purpose: Purpose,
    root: &'a str,
}

impl<'a> Area<'a> {
    /// The area of rows that the database did not accept.
    pub(crate) fn fallback(settings: &'a PipelineConfig) -> Self {
        Self { settings, purpose: Purpose::Fallback, root: &settings.prefixes.fallback }
    }

    /// The area of the lake; `None` without `LAKE_PREFIX`.
    pub(crate) fn lake(settings: &'a PipelineConfig) -> Option<Self> {
        settings.prefixes.lake.as_deref().map(|root| Self { settings, purpose: Purpose::Lake, root })
    }

    /// The `Location` of a table's row objects.
    pub(crate) fn table_folder(self, bucket: &str, table: &TableName) -> String {
        format!("s3://{bucket}/{}", route::rows_table_prefix(self.root, table))
    }

    /// The name of a table's Glue table.
    fn glue_table(self, table: &TableName) -> String {
        match self.purpose {
            Purpose::Fallback => self.settings.glue_table(table),
            Purpose::Lake => route::lake_table(table),
        }
    }

    /// The catalog of this area. `fallback` is the one of the fallback.
    pub(crate) fn catalog(self, fallback: &Catalog) -> Catalog {
        match self.purpose {
            Purpose::Fallback => fallback.clone(),
            Purpose::Lake => fallback.for_lake(&self.settings.lake_database),
        }
    }

    /// The key of a manifest's partition.
    fn partition_key(self, manifest: &Manifest) -> String {
        route::rows_partition_prefix(self.root, &manifest.target_table, &manifest.dt)
    }

    /// The `Location` of a manifest's partition.
    fn partition_folder(self, bucket: &str, manifest: &Manifest) -> String {
        format!("s3://{bucket}/{}", self.partition_key(manifest))
    }
}

/// The row objects of an area, with the clients that write them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowObjects<'a> {
    pub(crate) store: &'a Store,
    /// The catalog of the fallback, from which that of the area is derived.
    pub(crate) catalog: &'a Catalog,
    pub(crate) area: Area<'a>,
}

/// Everything about a row object to write, except its rows.
#[derive(Debug, Clone, Copy)]
pub struct RowWrite<'a> {
    /// The version of the object that contains the rows.
    pub source: &'a ObjectVersion,
    /// The table of the rows.
    pub table: &'a TableName,
    /// The key of the file that first contained the records.
    pub original_key: &'a str,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: &'a str,
    /// The file's columns.
    pub schema: &'a Schema,
    /// Number of rows.
    pub rows: u64,
    /// Number of rejected records.
    pub rows_rejected: u64,
    /// The reason for a fallback, without row values; empty in the lake.
    pub reason: &'a str,
    /// Whether only a person can repair the reason.
    pub needs_attention: bool,
}

/// A row object whose rows are all sent. It is invisible, and another worker can abort it.
#[derive(Debug)]
pub(crate) struct SealedRows {
    upload: SealedUpload,
    /// The description of the object.
    pub(crate) manifest: Manifest,
}

impl SealedRows {
    /// Aborts the upload, which deletes its parts.
    pub(crate) async fn abort(self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Returns the manifest of this source, and the ETag of its row object if that exists; `None` without a manifest.
///
/// # Errors
/// When S3 fails.
pub(crate) async fn find(
    store: &Store,
    area: Area<'_>,
    source: &ObjectVersion,
) -> Result<Option<(Manifest, Option<String>)>> {
    let Some((manifest, _)) = manifest::read_of(store, area, source).await? else { return Ok(None) };
    let etag = store.etag_of(&source.object.bucket, &manifest.key).await?;
    Ok(Some((manifest, etag)))
}

/// Returns the key of this source's row object in the area under the current settings, if that object exists.
///
/// Tries one GET for each format, which costs a sixth of a listing.
pub(crate) async fn object_without_manifest(
    store: &Store,
    area: Area<'_>,
    source: &ObjectVersion,
) -> Result<Option<String>> {
    // Without a table the key of the object is known only from its manifest.
    let Ok(parts) = area.settings.key_parts(&source.object.key) else { return Ok(None) };
    let keys = FallbackFormat::ALL
        .map(|format| route::rows_key(area.root, &parts.table, source.last_modified, &source.id, format));
    let requests = keys.iter().map(|key| store.etag_of(&source.object.bucket, key));
    let found = futures_util::future::try_join_all(requests).await?;
    Ok(keys.into_iter().zip(found).find_map(|(key, etag)| etag.map(|_| key)))
}

/// The key of the manifest of a source.
pub(crate) fn manifest_key(area: Area<'_>, source: &ObjectVersion) -> String {
    route::manifest_key(area.root, &source.id)
}

/// Aborts all uploads of this source's row object, so that no earlier worker can complete one. Returns how many.
///
/// # Errors
/// When an upload may still exist.
pub(crate) async fn abort_writes(store: &Store, area: Area<'_>, source: &ObjectVersion) -> Result<usize> {
    // The manifest is written before an upload starts, so a source without a manifest has no upload.
    match manifest::read_of(store, area, source).await? {
        Some((manifest, _)) => store.abort_uploads(&source.object.bucket, &manifest.key).await,
        None => Ok(0),
    }
}

impl RowObjects<'_> {
    /// Writes the manifest and sends the rows. [`RowObjects::publish`] makes the object visible.
    ///
    /// # Errors
    /// After an error the object does not exist.
    pub(crate) async fn upload(self, write: &RowWrite<'_>, rows: BatchStream<'_>) -> Result<SealedRows> {
        let manifest = manifest::prepare_and_write(self, write).await?;
        Failpoint::ManifestWritten.reached().await?;
        let mut upload = self.store.upload(&write.source.object.bucket, &manifest.key, CONTENT_TYPE);
        if let Err(error) = send(&mut upload, &manifest, rows).await {
            // Return the first error; the cleanup aborts an upload that could not be aborted here.
            let _ = upload.abort().await;
            return Err(error);
        }
        let has_one_part = upload.parts_sent() == 0;
        let upload = upload.seal().await?;
        if has_one_part {
            Failpoint::RowsPartSent.reached().await?;
        }
        Ok(SealedRows { upload, manifest })
    }

    /// Makes the object visible, and registers it.
    ///
    /// `fence` is called before the object becomes visible. If it fails, the upload is aborted.
    ///
    /// # Errors
    /// After an error either the object does not exist, or only its registration is missing.
    pub(crate) async fn publish(self, rows: SealedRows, fence: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let SealedRows { upload, manifest } = rows;
        if let Err(error) = fence().await {
            let _ = upload.abort().await;
            return Err(error);
        }
        Failpoint::RowsFenced.reached().await?;
        // The holder of the claim or the lease found no object and aborted the uploads of earlier workers. So an existing object
        // is the result of an earlier try of this request.
        upload.complete_new().await?;
        Failpoint::RowsCompleted.reached().await?;
        register(self.catalog, self.area, &manifest).await
    }

    /// Deletes the data object, then the partition if it is empty, then the manifest. May be repeated.
    ///
    /// # Errors
    /// When any of them may still exist.
    pub(crate) async fn remove(self, manifest: &Manifest) -> Result<()> {
        let (store, bucket) = (self.store, &manifest.source.object.bucket);
        let folder_key = self.area.partition_key(manifest);
        store.delete(bucket, &manifest.key).await?;
        if !has_objects(store, bucket, &folder_key).await? {
            manifest::catalog_of(self.area, self.catalog, manifest).drop_partition(&manifest.dt).await?;
            // Another worker may have written to the folder, and found the partition just before this worker dropped it.
            if has_objects(store, bucket, &folder_key).await? {
                register(self.catalog, self.area, manifest).await?;
            }
        }
        self.remove_manifest(&manifest.source).await
    }

    /// Deletes the manifest of a source. May be repeated.
    ///
    /// # Errors
    /// When it may still exist.
    pub(crate) async fn remove_manifest(self, source: &ObjectVersion) -> Result<()> {
        self.store.delete(&source.object.bucket, &manifest_key(self.area, source)).await
    }
}

/// Registers the object of an earlier attempt.
///
/// # Errors
/// When the catalog cannot be changed.
pub(crate) async fn register_found(catalog: &Catalog, area: Area<'_>, manifest: &Manifest) -> Result<()> {
    let location = area.table_folder(&manifest.source.object.bucket, &manifest.target_table);
    manifest::catalog_of(area, catalog, manifest).prepare_again(&location, &manifest.columns).await?;
    register(catalog, area, manifest).await
}

/// Registers an object whose table is prepared.
async fn register(catalog: &Catalog, area: Area<'_>, manifest: &Manifest) -> Result<()> {
    let folder = area.partition_folder(&manifest.source.object.bucket, manifest);
    manifest::catalog_of(area, catalog, manifest).register(&manifest.dt, &folder).await
}

/// Reads the rows of a row object, with the columns of the source in their order. A value may be spelled
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
                let message =
                    format!("the object with the rows has {before} rows, but its manifest declares {declared}");
                Err(Error::new(ErrorKind::FileBroken, message))
            }
        }
    }))
}

/// Encodes and sends all rows, and checks their number against the manifest.
async fn send(upload: &mut Upload, manifest: &Manifest, mut rows: BatchStream<'_>) -> Result<()> {
    let mut encoder = ParquetEncoder::new(&manifest.columns)?;
    let mut sent_rows = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        sent_rows += batch.rows() as u64;
        encoder.write(&batch)?;
        write_part(upload, &encoder.take_bytes()).await?;
    }
    if sent_rows != manifest.rows {
        let message = format!("{sent_rows} rows were written, the manifest declares {}", manifest.rows);
        return Err(Error::new(ErrorKind::Internal, message));
    }
    write_part(upload, &encoder.finish()?).await
}

/// Writes encoded rows, and reaches the failpoint once S3 has the first part.
async fn write_part(upload: &mut Upload, bytes: &[u8]) -> Result<()> {
    let had_parts = upload.parts_sent() > 0;
    upload.write(bytes).await?;
    if !had_parts && upload.parts_sent() > 0 {
        Failpoint::RowsPartSent.reached().await?;
    }
    Ok(())
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

#[cfg(test)]
mod tests;
