//! The manifest: a JSON object in S3 that describes one fallback object. It is written before that object.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{FallbackWrite, table_folder};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::PipelineConfig;
use crate::route;
use crate::store::Store;
use crate::store::write::Created;
use crate::table_name::TableName;
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};

/// The largest manifest that is read. One with thousands of columns is smaller.
const MAX_BYTES: u64 = 64 << 20;
/// Number of manifests that a page reads at most, if its limit is lower.
const MAX_READS: usize = 1000;
/// Number of manifests that are read concurrently.
const CONCURRENT_READS: usize = 16;

/// The description of a fallback object.
///
/// It is written before the object and deleted after it. A manifest without an object belongs to a write that did not
/// complete, or to a replay that is removing the object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the object that contained the rows.
    pub source: ObjectVersion,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: String,
    /// The table that the rows were to be loaded into.
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
    /// The reason for the fallback.
    pub reason: String,
    /// The object's format.
    pub format: FallbackFormat,
    /// The object's key.
    pub key: String,
    /// The object's partition.
    pub dt: String,
    /// When the manifest was written.
    pub written_at: Timestamp,
}

impl Manifest {
    /// Whether the object is in this bucket, under the fallback prefix, and named after the source. A replay deletes it.
    fn names_own_object(&self, settings: &PipelineConfig, bucket: &str) -> bool {
        let file_name = self.key.strip_prefix(&settings.prefixes.fallback).and_then(|rest| rest.rsplit('/').next());
        self.source.object.bucket == bucket && file_name.is_some_and(|name| name.starts_with(self.source.id.as_str()))
    }

    /// The catalog for this object's Glue table and format, whatever the settings say now.
    pub(super) fn catalog(&self, catalog: &Catalog) -> Catalog {
        let catalog = catalog.with_format(self.format);
        self.glue_table.as_deref().map_or(catalog.clone(), |table| catalog.with_table(table))
    }
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
    let mut manifests = Vec::new();
    let mut pages = store.list(bucket, &route::manifests_prefix(&settings.prefixes));
    while let Some(page) = pages.next().await? {
        let keys = page.into_iter().map(|listed| listed.key).filter(|key| key.ends_with(".json")).collect();
        let found = read_all(store, settings, bucket, keys).await?;
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
async fn read_all(store: &Store, settings: &PipelineConfig, bucket: &str, keys: Vec<String>) -> Result<Vec<Manifest>> {
    let reads = keys.into_iter().map(|key| async move {
        match read(store, settings, bucket, &key).await {
            Ok(found) => Ok(found.map(|(manifest, _)| manifest)),
            Err(error) if error.kind() == ErrorKind::Internal => {
                error!(error = %chain(&error), "a manifest cannot be read; its rows stay in the fallback");
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
    /// Reads at most a few times as many manifests as the limit. So a page may have fewer, although others follow.
    ///
    /// # Errors
    /// When the fallback cannot be listed.
    pub(crate) async fn read(
        self,
        store: &Store,
        bucket: &str,
        settings: &PipelineConfig,
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
                let found = read_all(store, settings, bucket, part).await?;
                wanted.extend(found.into_iter().filter(&is_wanted));
            }
        }
        Ok((wanted, None))
    }
}

/// Reads the manifest of a source, with its ETag. The object may not exist.
pub(super) async fn read_of(
    store: &Store,
    settings: &PipelineConfig,
    source: &ObjectVersion,
) -> Result<Option<(Manifest, String)>> {
    read(store, settings, &source.object.bucket, &route::manifest_key(&settings.prefixes, &source.id)).await
}

/// Prepares the catalog, and writes the manifest.
///
/// The manifest of an earlier attempt is kept if it still applies. Then every attempt writes the same object, so any of
/// them may complete its upload.
pub(super) async fn finalize(
    store: &Store,
    catalog: &Catalog,
    settings: &PipelineConfig,
    fallback_write: &FallbackWrite<'_>,
) -> Result<Manifest> {
    let earlier = read_of(store, settings, fallback_write.source).await?;
    if let Some((earlier, _)) = &earlier
        && let Some(kept) = keep(catalog, settings, fallback_write, earlier).await?
    {
        return Ok(kept);
    }
    let manifest = new(catalog, settings, fallback_write).await?;
    let bucket = &fallback_write.source.object.bucket;
    let key = route::manifest_key(&settings.prefixes, &fallback_write.source.id);
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
                let is_ours =
                    read_of(store, settings, fallback_write.source).await?.is_some_and(|(found, _)| found == manifest);
                if !is_ours {
                    let message = "another worker is writing the fallback of this object";
                    return Err(Error::new(ErrorKind::Busy, message).for_object(ObjectRef::new(bucket, key)));
                }
            }
        },
    }
    Ok(manifest)
}

/// Creates a manifest from the current settings.
async fn new(catalog: &Catalog, settings: &PipelineConfig, fallback_write: &FallbackWrite<'_>) -> Result<Manifest> {
    let source = fallback_write.source;
    let (prefixes, table, format) = (&settings.prefixes, fallback_write.table, catalog.format());
    let glue_table = settings.glue_table(table);
    let catalog = catalog.with_table(&glue_table);
    let columns = catalog.prepare(&table_folder(&source.object.bucket, settings, table), fallback_write.schema).await?;
    Ok(Manifest {
        source: source.clone(),
        body_sha256: fallback_write.body_sha256.to_owned(),
        target_table: table.clone(),
        original_key: Some(fallback_write.original_key.to_owned()).filter(|key| *key != source.object.key),
        glue_table: Some(glue_table),
        schema: fallback_write.schema.clone(),
        columns,
        rows: fallback_write.rows,
        rows_rejected: fallback_write.rows_rejected,
        reason: fallback_write.reason.to_owned(),
        format,
        key: route::fallback_data_key(prefixes, table, source.last_modified, &source.id, format),
        dt: route::fallback_day(source.last_modified),
        written_at: Timestamp::now(),
    })
}

/// Returns the manifest of an earlier attempt if it has the same file, table and format, and the catalog has its
/// columns.
async fn keep(
    catalog: &Catalog,
    settings: &PipelineConfig,
    fallback_write: &FallbackWrite<'_>,
    earlier: &Manifest,
) -> Result<Option<Manifest>> {
    let (prefixes, source) = (&settings.prefixes, fallback_write.source);
    let key =
        route::fallback_data_key(prefixes, &earlier.target_table, source.last_modified, &source.id, earlier.format);
    let is_same = earlier.format == catalog.format()
        && earlier.key == key
        && earlier.target_table == *fallback_write.table
        && (earlier.rows, earlier.rows_rejected, &earlier.schema)
            == (fallback_write.rows, fallback_write.rows_rejected, fallback_write.schema);
    if !is_same {
        return Ok(None);
    }
    let location = table_folder(&fallback_write.source.object.bucket, settings, &earlier.target_table);
    match earlier.catalog(catalog).prepare_again(&location, &earlier.columns).await {
        Ok(columns) if columns == earlier.columns => Ok(Some(earlier.clone())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Settings => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read(store: &Store, settings: &PipelineConfig, bucket: &str, key: &str) -> Result<Option<(Manifest, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    let invalid = |message| Error::new(ErrorKind::Internal, message).for_object(ObjectRef::new(bucket, key));
    let manifest: Manifest = serde_json::from_slice(&small.bytes)
        .map_err(|error| invalid("the object is not a manifest that this version can read").with_source(error))?;
    if !manifest.names_own_object(settings, bucket) || settings.check_not_own(&manifest.target_table).is_err() {
        return Err(invalid(
            "the manifest names an object or a table that a fallback never has; another program wrote it",
        ));
    }
    Ok(Some((manifest, small.etag)))
}
