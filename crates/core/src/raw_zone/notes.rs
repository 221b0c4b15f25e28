//! Registrations that Glue could not make, noted in S3 until a sweep or a sync makes them.
//!
//! There is one note for each partition and set of columns, however many files need it.

use futures_util::TryFutureExt;
use tracing::{error, info, warn};

use crate::catalog::{Catalog, RawFile, Registration};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::{ObjectRef, hash_parts};
use crate::pipeline::{Context, PipelineConfig};
use crate::route;
use crate::store::Store;

/// The largest note that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Notes a registration, so that a later sweep or sync makes it.
///
/// # Errors
/// When S3 does not store the note. The folder would be forgotten, so the file must not be loaded.
pub(crate) async fn note(store: &Store, settings: &PipelineConfig, bucket: &str, file: &RawFile) -> Result<()> {
    let body = serde_json::to_string(file).map_err(|error| {
        Error::new(ErrorKind::Internal, "the registration cannot be written as JSON").with_source(error)
    })?;
    let key = route::registration_key(&settings.prefixes, &hash_parts(&[&body]));
    store.put(bucket, &key, body.into(), "application/json").await.map(drop)
}

/// Makes the noted registrations. Those that fail again stay noted. Does nothing if no table has `CATALOG_RAW`.
pub(crate) async fn register_noted(context: &Context, bucket: &str) {
    if !context.settings.catalogs_raw() {
        return;
    }
    if let Err(error) = register_all(context, bucket).await {
        warn!(error = %chain(&error), "the noted registrations of raw zones could not be made; the next sweep or sync tries again");
    }
}

async fn register_all(context: &Context, bucket: &str) -> Result<()> {
    let catalog = context.catalog.for_raw_zone(&context.settings.raw_database);
    let mut pages = context.store.list(bucket, &route::registrations_prefix(&context.settings.prefixes));
    while let Some(page) = pages.next().await? {
        for listed in page {
            let registered = register(context, &catalog, bucket, &listed.key);
            if let Err(error) = registered.map_err(|error| error.for_object(ObjectRef::new(bucket, &listed.key))).await
            {
                // The other notes may be about other tables.
                error!(error = %chain(&error), "a folder of a raw zone is still not registered in Glue");
            }
        }
    }
    Ok(())
}

async fn register(context: &Context, catalog: &Catalog, bucket: &str, key: &str) -> Result<()> {
    let Some(note) = context.store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(()) };
    let file: RawFile = serde_json::from_slice(&note.bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "the object is not a registration that this version can read")
            .with_source(error)
    })?;
    match catalog.register_raw(&file).await? {
        Registration::Done => {
            info!(table = file.table, folder = file.folder, "registered a folder of a raw zone later")
        }
        Registration::Differs(why) => {
            warn!(table = file.table, folder = file.folder, why, "the table over a raw zone does not fit a folder");
        }
    }
    context.store.delete(bucket, key).await
}
