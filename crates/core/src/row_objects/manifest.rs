//! The manifest: a JSON object in S3 that describes one row object. It is written before that object.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Area, RowObjects, RowWrite};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::{ObjectRef, ObjectVersion};
use crate::route;
use crate::store::Store;
use crate::store::write::Created;
use crate::table_name::TableName;
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};

/// The largest manifest that is read. One with thousands of columns is smaller.
const MAX_BYTES: u64 = 64 << 20;
/// The largest number of manifests that a page reads if its limit is lower.
const MAX_READS: usize = 1000;
/// Number of manifests that are read concurrently.
const CONCURRENT_READS: usize = 16;

/// The description of a row object.
///
/// It is written before the object. A manifest without an object belongs to a write that did not complete, or to an object
/// that is being removed. In the fallback it is deleted after the object, in the lake once the ledger names the object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the object that contained the rows.
    pub source: ObjectVersion,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: String,
    /// The table of the rows.
    pub target_table: TableName,
    /// The key of the file that first contained the records, if it is another than the source's. Its table settings apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_key: Option<String>,
    /// The Glue table of the object; `None` in old manifests means `GLUE_TABLE`.
    #[serde(default)]
    pub glue_table: Option<String>,
    /// The file's own columns.
    pub schema: Schema,
    /// The name and type of those columns in the object, in the same order.
    pub columns: Vec<FallbackColumn>,
    /// Number of rows. The object is completed only with exactly this number.
    pub rows: u64,
    /// Number of rejected records of the file.
    #[serde(default)]
    pub rows_rejected: u64,
    /// The reason for a fallback; empty in the lake.
    pub reason: String,
    /// Whether only a person can repair the reason. An attempt that finds the object reports it again.
    #[serde(default)]
    pub needs_attention: bool,
    /// The object's format. Earlier versions also wrote CSV.
    pub format: FallbackFormat,
    /// The object's key.
    pub key: String,
    /// The object's partition.
    pub dt: String,
    /// When the manifest was written.
    pub written_at: Timestamp,
}

impl Manifest {
    /// Whether the object is in this bucket, in this area, and named after the source. It may be deleted then.
    fn names_own_object(&self, area: Area<'_>, bucket: &str) -> bool {
        let file_name = self.key.strip_prefix(area.root).and_then(|rest| rest.rsplit('/').next());
        self.source.object.bucket == bucket && file_name.is_some_and(|name| name.starts_with(self.source.id.as_str()))
    }
}

/// Returns the manifests for a table, or for every table, oldest source first.
///
/// That includes manifests without an object, so that a removal that failed can be completed.
///
/// # Errors
/// When the area cannot be listed.
pub(crate) async fn list(store: &Store, bucket: &str, area: Area<'_>, table: Option<&str>) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut pages = store.list(bucket, &route::manifests_prefix(area.root));
    while let Some(page) = pages.next().await? {
        let keys = page.into_iter().map(|listed| listed.key).filter(|key| key.ends_with(".json")).collect();
        let found = read_all(store, area, bucket, keys).await?;
        let is_meant = |manifest: &Manifest| table.is_none_or(|table| manifest.target_table == *table);
        manifests.extend(found.into_iter().filter(is_meant));
    }
    manifests.sort_by(|left, right| {
        let order = |manifest: &Manifest| (manifest.source.last_modified, manifest.source.object.key.clone());
        order(left).cmp(&order(right))
    });
    Ok(manifests)
}

/// Reads manifests, in any order. Leaves out those that cannot be parsed, and those that a replay has deleted.
async fn read_all(store: &Store, area: Area<'_>, bucket: &str, keys: Vec<String>) -> Result<Vec<Manifest>> {
    let reads = keys.into_iter().map(|key| async move {
        match read(store, area, bucket, &key).await {
            Ok(found) => Ok(found.map(|(manifest, _)| manifest)),
            Err(error) if error.kind() == ErrorKind::Internal => {
                error!(error = %chain(&error), "a manifest cannot be read; its rows stay where they are");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    });
    let found: Vec<Option<Manifest>> = stream::iter(reads).buffer_unordered(CONCURRENT_READS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// A page of manifests, in the order of their keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ManifestPage<'a> {
    /// The beginning of their keys.
    pub(crate) prefix: &'a str,
    /// Only keys after this one.
    pub(crate) after: Option<&'a str>,
    /// The largest number of manifests.
    pub(crate) limit: usize,
}

impl ManifestPage<'_> {
    /// Returns the wanted manifests, and the key after which the next page begins, if there is one.
    ///
    /// Reads at most `MAX_READS` manifests, or `limit` if that is more. So a page may have fewer, although others follow.
    ///
    /// # Errors
    /// When the area cannot be listed.
    pub(crate) async fn read(
        self,
        store: &Store,
        bucket: &str,
        area: Area<'_>,
        is_wanted: impl Fn(&Manifest) -> bool,
    ) -> Result<(Vec<Manifest>, Option<String>)> {
        let (mut wanted, mut last, mut left) = (Vec::new(), None, MAX_READS.max(self.limit));
        let mut pages = store.list_after(bucket, self.prefix, self.after);
        while let Some(page) = pages.next().await? {
            let mut keys = page.into_iter().map(|listed| listed.key).filter(|key| key.ends_with(".json")).peekable();
            while keys.peek().is_some() {
                if wanted.len() == self.limit || left == 0 {
                    return Ok((wanted, last));
                }
                let part: Vec<String> = keys.by_ref().take(left.min(self.limit - wanted.len())).collect();
                left -= part.len();
                last = part.last().cloned();
                let found = read_all(store, area, bucket, part).await?;
                wanted.extend(found.into_iter().filter(&is_wanted));
            }
        }
        Ok((wanted, None))
    }
}

/// Reads the manifest of a source, with its ETag. The object may not exist.
pub(super) async fn read_of(
    store: &Store,
    area: Area<'_>,
    source: &ObjectVersion,
) -> Result<Option<(Manifest, String)>> {
    read(store, area, &source.object.bucket, &route::manifest_key(area.root, &source.id)).await
}

/// Prepares the catalog, and writes the manifest.
///
/// The manifest of an earlier attempt is kept if it still applies. Then every attempt writes the same object, so any of
/// them may complete its upload.
pub(super) async fn prepare_and_write(objects: RowObjects<'_>, write: &RowWrite<'_>) -> Result<Manifest> {
    let RowObjects { store, area, .. } = objects;
    let earlier = read_of(store, area, write.source).await?;
    if let Some((earlier, _)) = &earlier
        && let Some(kept) = keep(objects, write, earlier).await?
    {
        return Ok(kept);
    }
    let manifest = new(objects, write).await?;
    let bucket = &write.source.object.bucket;
    let key = route::manifest_key(area.root, &write.source.id);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| {
        Error::new(ErrorKind::Internal, "the manifest cannot be written as JSON").with_source(error)
    })?;
    let content_type = "application/json";
    match earlier {
        Some((_, etag)) => store.put_if(bucket, &key, &etag, bytes.into(), content_type).await.map(drop)?,
        None => match store.put_new(bucket, &key, bytes.into(), content_type).await? {
            Created::New { .. } => {}
            Created::Exists => {
                // Only the holder of the lease writes it, so an earlier try of this request must have written it.
                let is_ours = read_of(store, area, write.source).await?.is_some_and(|(found, _)| found == manifest);
                if !is_ours {
                    let message = "another worker is writing the rows of this object";
                    return Err(Error::new(ErrorKind::Busy, message).for_object(ObjectRef::new(bucket, key)));
                }
            }
        },
    }
    Ok(manifest)
}

/// Creates a manifest from the current settings.
async fn new(objects: RowObjects<'_>, write: &RowWrite<'_>) -> Result<Manifest> {
    let RowObjects { area, catalog, .. } = objects;
    let (source, table) = (write.source, write.table);
    let glue_table = area.glue_table(table);
    let catalog = area.catalog(catalog).with_table(&glue_table);
    let format = FallbackFormat::Parquet;
    let columns = catalog.prepare(&area.table_folder(&source.object.bucket, table), write.schema).await?;
    Ok(Manifest {
        source: source.clone(),
        body_sha256: write.body_sha256.to_owned(),
        target_table: table.clone(),
        original_key: Some(write.original_key.to_owned()).filter(|key| *key != source.object.key),
        glue_table: Some(glue_table),
        schema: write.schema.clone(),
        columns,
        rows: write.rows,
        rows_rejected: write.rows_rejected,
        reason: write.reason.to_owned(),
        needs_attention: write.needs_attention,
        format,
        key: route::rows_key(area.root, table, source.last_modified, &source.id, format),
        dt: route::rows_day(source.last_modified),
        written_at: Timestamp::now(),
    })
}

/// Returns the manifest of an earlier attempt if it has the same file, table and format, and the catalog has its
/// columns.
async fn keep(objects: RowObjects<'_>, write: &RowWrite<'_>, earlier: &Manifest) -> Result<Option<Manifest>> {
    let RowObjects { area, catalog, .. } = objects;
    let source = write.source;
    let key = route::rows_key(area.root, &earlier.target_table, source.last_modified, &source.id, earlier.format);
    let is_same = earlier.format == FallbackFormat::Parquet
        && earlier.key == key
        && earlier.target_table == *write.table
        && (earlier.rows, earlier.rows_rejected, &earlier.schema) == (write.rows, write.rows_rejected, write.schema);
    if !is_same {
        return Ok(None);
    }
    let location = area.table_folder(&source.object.bucket, &earlier.target_table);
    match catalog_of(area, catalog, earlier).prepare_again(&location, &earlier.columns).await {
        Ok(columns) if columns == earlier.columns => Ok(Some(earlier.clone())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Settings => Ok(None),
        Err(error) => Err(error),
    }
}

/// The catalog for the Glue table and the format of a manifest's object, whatever the settings say now.
pub(super) fn catalog_of(area: Area<'_>, catalog: &Catalog, manifest: &Manifest) -> Catalog {
    let catalog = area.catalog(catalog).with_format(manifest.format);
    manifest.glue_table.as_deref().map_or(catalog.clone(), |table| catalog.with_table(table))
}

async fn read(store: &Store, area: Area<'_>, bucket: &str, key: &str) -> Result<Option<(Manifest, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    let invalid = |message| Error::new(ErrorKind::Internal, message).for_object(ObjectRef::new(bucket, key));
    let manifest: Manifest = serde_json::from_slice(&small.bytes)
        .map_err(|error| invalid("the object is not a manifest that this version can read").with_source(error))?;
    if !manifest.names_own_object(area, bucket) || area.settings.check_not_own(&manifest.target_table).is_err() {
        return Err(invalid(
            "the manifest names an object or a table that Spillway never writes; another program wrote it",
        ));
    }
    Ok(Some((manifest, small.etag)))
}
