//! What is written down about a fallback object before it is written.

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
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};

/// Thousands of columns fit; more is not ours.
const MAX_BYTES: u64 = 64 << 20;
/// How many manifests are read at once.
const READS_AT_ONCE: usize = 16;

/// What is known of a fallback object, kept beside it. Written before the object, so that none is ever without; a
/// manifest without an object is a write that did not complete, or one that is being taken out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whose rows these are.
    pub source: ObjectVersion,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: String,
    /// The table the rows were meant for.
    pub target_table: String,
    /// The Glue table that has them; `GLUE_TABLE` where none is written down.
    #[serde(default)]
    pub glue_table: Option<String>,
    /// The file's own columns.
    pub schema: Schema,
    /// How those columns are called and stored in the object, in the same order.
    pub columns: Vec<FallbackColumn>,
    /// How many rows. The object completes only with exactly so many.
    pub rows: u64,
    /// How many bad records of the file were left out.
    #[serde(default)]
    pub rows_rejected: u64,
    /// Why they are here.
    pub reason: String,
    /// The object's form.
    pub format: FallbackFormat,
    /// The object's key.
    pub key: String,
    /// The object's partition.
    pub dt: String,
    /// When this was written down.
    pub written_at: Timestamp,
}

impl Manifest {
    /// The catalog for this object's Glue table and form, whatever the settings say now.
    pub(super) fn catalog(&self, catalog: &Catalog) -> Catalog {
        let catalog = catalog.with_format(self.format);
        self.glue_table.as_deref().map_or(catalog.clone(), |table| catalog.with_table(table))
    }
}

/// The manifests of all fallback objects that were meant for a table, or for any, oldest source first. Those whose object
/// is not there are among them: what is half taken out is found again by them.
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
        let reads = page.into_iter().filter(|listed| listed.key.ends_with(".json")).map(|listed| async move {
            match read(store, bucket, &listed.key).await {
                // One that is taken out meanwhile is none.
                Ok(found) => Ok(found.map(|(manifest, _)| manifest)),
                Err(error) if error.kind() == ErrorKind::Internal => {
                    error!(error = %chain(&error), "a manifest cannot be read, its rows stay in the fallback");
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        let found: Vec<Option<Manifest>> = stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        let is_meant = |manifest: &Manifest| table.is_none_or(|table| manifest.target_table == table);
        manifests.extend(found.into_iter().flatten().filter(is_meant));
    }
    manifests.sort_by(|left, right| {
        let order = |manifest: &Manifest| (manifest.source.last_modified, manifest.source.object.key.clone());
        order(left).cmp(&order(right))
    });
    Ok(manifests)
}

/// The manifest of a source with its ETag, whether or not the object is there.
pub(super) async fn read_of(
    store: &Store,
    settings: &PipelineConfig,
    source: &ObjectVersion,
) -> Result<Option<(Manifest, String)>> {
    read(store, &source.object.bucket, &route::manifest_key(&settings.prefixes, &source.id)).await
}

/// Makes the catalog ready and the manifest lie where it belongs.
///
/// A manifest that an earlier attempt has left is kept when it still says what is so: then every attempt writes the same
/// object, whichever of them completes it.
pub(super) async fn finalize(
    store: &Store,
    catalog: &Catalog,
    settings: &PipelineConfig,
    fallback_write: &FallbackWrite<'_>,
) -> Result<Manifest> {
    let left = read_of(store, settings, fallback_write.source).await?;
    if let Some((left, _)) = &left
        && let Some(kept) = keep(catalog, settings, fallback_write, left).await?
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
    match left {
        Some((_, etag)) => store.put_if(bucket, &key, &etag, bytes.into(), content_type).await.map(drop)?,
        None => match store.put_new(bucket, &key, bytes.into(), content_type).await? {
            Created::New { .. } => {}
            Created::Exists => {
                // Under the lease nobody else writes it, so an earlier try of this very put did; anything else waits.
                let is_ours =
                    read_of(store, settings, fallback_write.source).await?.is_some_and(|(found, _)| found == manifest);
                if !is_ours {
                    let message = "another worker writes the fallback of the same source";
                    return Err(Error::new(ErrorKind::Busy, message).for_object(ObjectRef::new(bucket, key)));
                }
            }
        },
    }
    Ok(manifest)
}

/// A manifest for now.
async fn new(catalog: &Catalog, settings: &PipelineConfig, fallback_write: &FallbackWrite<'_>) -> Result<Manifest> {
    let source = fallback_write.source;
    let (prefixes, table, format) = (&settings.prefixes, fallback_write.table, catalog.format());
    let glue_table = settings.glue_table(table);
    let catalog = catalog.with_table(&glue_table);
    let columns = catalog.prepare(&table_folder(&source.object.bucket, settings, table), fallback_write.schema).await?;
    Ok(Manifest {
        source: source.clone(),
        body_sha256: fallback_write.body_sha256.to_owned(),
        target_table: table.to_owned(),
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

/// The manifest an earlier attempt has left, when it is of the same file, table and form, and the catalog has the columns
/// it says.
async fn keep(
    catalog: &Catalog,
    settings: &PipelineConfig,
    fallback_write: &FallbackWrite<'_>,
    left: &Manifest,
) -> Result<Option<Manifest>> {
    let (prefixes, source) = (&settings.prefixes, fallback_write.source);
    let key = route::fallback_data_key(prefixes, &left.target_table, source.last_modified, &source.id, left.format);
    let is_same = left.format == catalog.format()
        && left.key == key
        && left.target_table == fallback_write.table
        && (left.rows, left.rows_rejected, &left.schema)
            == (fallback_write.rows, fallback_write.rows_rejected, fallback_write.schema);
    if !is_same {
        return Ok(None);
    }
    let location = table_folder(&fallback_write.source.object.bucket, settings, &left.target_table);
    match left.catalog(catalog).prepare_again(&location, &left.columns).await {
        Ok(columns) if columns == left.columns => Ok(Some(left.clone())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Settings => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read(store: &Store, bucket: &str, key: &str) -> Result<Option<(Manifest, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    let manifest = serde_json::from_slice(&small.bytes).map_err(|error| {
        let message = "this is no manifest of a fallback object that this version understands";
        Error::new(ErrorKind::Internal, message).with_source(error).for_object(ObjectRef::new(bucket, key))
    })?;
    Ok(Some((manifest, small.etag)))
}
