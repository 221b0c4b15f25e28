//! The fallback: stores rows that the database did not accept in S3, and registers them in the Glue catalog.
//!
//! Its objects are those of the module `row_objects`. The completion of an upload is the commit point: every later attempt
//! finds all rows or none, even while the database is down. A replay loads the rows and removes the object.

use crate::batch::BatchStream;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::PipelineConfig;
use crate::row_objects::{self, Area, RowObjects};
use crate::store::Store;
use crate::table_name::TableName;

pub(crate) use crate::row_objects::ManifestPage;
pub use crate::row_objects::{Manifest, RowWrite, open_rows};

/// Returns the manifest of this source's fallback object, if that object exists in any format.
///
/// # Errors
/// When S3 fails, or when the object exists without its manifest.
pub async fn find(store: &Store, settings: &PipelineConfig, source: &ObjectVersion) -> Result<Option<Manifest>> {
    let area = Area::fallback(settings);
    // Concurrent requests are safe: only the holder of the lease creates or deletes these objects. Usually none exists.
    let (found, object) = tokio::try_join!(
        row_objects::find(store, area, source),
        row_objects::object_without_manifest(store, area, source)
    )?;
    if let Some((manifest, Some(_))) = found {
        return Ok(Some(manifest));
    }
    let Some(key) = object else { return Ok(None) };
    let message = format!(
        "the manifest {} of this fallback object is missing; restore it, or delete the object to load the file again",
        row_objects::manifest_key(area, source)
    );
    Err(Error::new(ErrorKind::Service, message).for_object(ObjectRef::new(&source.object.bucket, key)))
}

/// Returns the manifests for a table, or for every table, oldest source first.
///
/// That includes manifests without an object, so that a replay can complete a removal that failed.
///
/// # Errors
/// When the fallback cannot be listed.
pub async fn list(
    store: &Store,
    bucket: &str,
    settings: &PipelineConfig,
    table: Option<&str>,
) -> Result<Vec<Manifest>> {
    row_objects::list(store, bucket, Area::fallback(settings), table).await
}

/// Aborts all uploads of this source's fallback object, so that no earlier worker can complete one. Returns how many.
///
/// # Errors
/// When an upload may still exist.
pub async fn abort_writes(store: &Store, settings: &PipelineConfig, source: &ObjectVersion) -> Result<usize> {
    row_objects::abort_writes(store, Area::fallback(settings), source).await
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
    write: &RowWrite<'_>,
    rows: BatchStream<'_>,
    fence: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let objects = objects(store, catalog, settings);
    let sealed = objects.upload(write, rows).await?;
    objects.publish(sealed, fence).await
}

/// Registers the fallback object of an earlier attempt.
///
/// # Errors
/// When the catalog cannot be changed.
pub async fn register_found(catalog: &Catalog, settings: &PipelineConfig, found: &Manifest) -> Result<()> {
    row_objects::register_found(catalog, Area::fallback(settings), found).await
}

/// Deletes the data object, then the partition if it is empty, then the manifest. May be repeated.
///
/// Call it only when the ledger says that the rows are in the database.
///
/// # Errors
/// When any of them may still exist.
pub async fn remove(store: &Store, catalog: &Catalog, settings: &PipelineConfig, manifest: &Manifest) -> Result<()> {
    objects(store, catalog, settings).remove(manifest).await
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
    match row_objects::find(store, Area::fallback(settings), source).await? {
        Some((manifest, _)) => remove(store, catalog, settings, &manifest).await,
        None => Ok(()),
    }
}

/// The `Location` of a target table's fallback.
pub(crate) fn table_folder(bucket: &str, settings: &PipelineConfig, target_table: &TableName) -> String {
    Area::fallback(settings).table_folder(bucket, target_table)
}

fn objects<'a>(store: &'a Store, catalog: &'a Catalog, settings: &'a PipelineConfig) -> RowObjects<'a> {
    RowObjects { store, catalog, area: Area::fallback(settings) }
}
