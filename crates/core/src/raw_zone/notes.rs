//! Registrations that Glue did not accept, noted in S3 until a sweep or a sync registers the folders.
//!
//! There is one note for each partition and set of columns, however many files need it.

use tracing::{error, info, warn};

use super::register::{is_outage, register};
use crate::catalog::{RawColumn, RawFile, Registration};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::{ObjectRef, hash_parts};
use crate::pipeline::{Context, PipelineConfig};
use crate::route;
use crate::store::Store;

/// The largest note that is read.
const MAX_BYTES: u64 = 16 << 20;

/// The share of the time left that noted registrations do not use.
const RESERVED_SHARE: u32 = 4;

/// Notes a registration for a later sweep or sync.
///
/// # Errors
/// When S3 does not store the note. The folder would be forgotten, so the file must not be loaded.
pub(crate) async fn note(store: &Store, settings: &PipelineConfig, bucket: &str, file: &RawFile) -> Result<()> {
    let body = serde_json::to_string(file).map_err(unwritable)?;
    let key = route::registration_key(&settings.prefixes, &identity(file)?);
    store.put(bucket, &key, body.into(), "application/json").await.map(drop)
}

/// The hash of what Glue stores. Files with other values but the same columns have the same one.
fn identity(file: &RawFile) -> Result<String> {
    let RawFile { table, root, folder, partition, format, columns, unreadable } = file;
    let columns: Vec<_> = columns.iter().map(|RawColumn { name, glue_type, key, .. }| (name, glue_type, key)).collect();
    let text = serde_json::to_string(&(table, root, folder, partition, format, columns, unreadable));
    Ok(hash_parts(&[&text.map_err(unwritable)?]))
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "the registration cannot be written as JSON").with_source(error)
}

/// Registers the noted folders in the time that is left. Those that fail again stay noted.
///
/// Does nothing if no table has `CATALOG_RAW`.
pub(crate) async fn register_noted(context: &Context, bucket: &str, deadline: &Deadline) {
    if !context.settings.catalogs_raw() {
        return;
    }
    let registered = tokio::select! {
        registered = register_all(context, bucket, deadline) => registered,
        error = deadline.reached() => Err(error),
    };
    if let Err(error) = registered {
        warn!(error = %chain(&error), "noted folders of raw zones are still not registered in Glue; the next sweep or sync tries again");
    }
}

async fn register_all(context: &Context, bucket: &str, deadline: &Deadline) -> Result<()> {
    let reserved = deadline.remaining().map(|left| left / RESERVED_SHARE);
    let is_late = || deadline.remaining().zip(reserved).is_some_and(|(left, reserved)| left <= reserved);
    let mut pages = context.store.list(bucket, &route::registrations_prefix(&context.settings.prefixes));
    while let Some(page) = pages.next().await? {
        for listed in page {
            if is_late() {
                return Err(Error::new(ErrorKind::Deadline, "too little time is left for more registrations"));
            }
            let registered = register_note(context, bucket, &listed.key).await;
            match registered.map_err(|error| error.for_object(ObjectRef::new(bucket, &listed.key))) {
                Ok(()) => {}
                Err(error) if is_outage(&error) => return Err(error),
                // The other notes may be about other tables.
                Err(error) => error!(error = %chain(&error), "a folder of a raw zone is still not registered in Glue"),
            }
        }
    }
    Ok(())
}

async fn register_note(context: &Context, bucket: &str, key: &str) -> Result<()> {
    let Some(note) = context.store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(()) };
    let file: RawFile = serde_json::from_slice(&note.bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "the object is not a registration that this version can read")
            .with_source(error)
    })?;
    let (table, folder) = (&file.table, &file.folder);
    match register(context, &file).await? {
        Registration::Done => info!(table, folder, "registered a noted folder of a raw zone"),
        Registration::Differs(why) => {
            error!(
                table,
                folder, why, "a noted folder of a raw zone does not fit its Glue table, so it is not registered"
            );
        }
    }
    context.store.delete(bucket, key).await
}
