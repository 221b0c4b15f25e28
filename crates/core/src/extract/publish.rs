//! Makes the parts of a planned run visible, in order, and then writes its manifest.
//!
//! Every step may be repeated, also by several processes at once: an upload is completed once, and only if its key is free.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::run::manifest_key;
use super::state::{PlannedRun, StateObject};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::ObjectRef;
use crate::store::Store;
use crate::store::sent_upload::{Completion, KeyOwner, SavedUpload};
use crate::store::write::Created;

/// No lifecycle rule aborts an upload that is younger than a day.
const UPLOADS_LAST: SignedDuration = SignedDuration::from_hours(24);

/// Publishes the last run of the state.
///
/// # Errors
/// After an error a later call goes on.
pub(super) async fn publish(store: &Store, bucket: &str, object: &mut StateObject<'_>) -> Result<()> {
    let Some(run) = object.state.as_ref().map(|state| state.run.clone()) else { return Ok(()) };
    for upload in &run.uploads {
        make_visible(store, bucket, &run, upload).await?;
        Failpoint::ExtractPartVisible.reached().await?;
    }
    Failpoint::ExtractPartsVisible.reached().await?;
    write_manifest(store, bucket, &run).await?;
    Failpoint::ExtractManifestWritten.reached().await?;
    object.mark_published().await
}

async fn make_visible(store: &Store, bucket: &str, run: &PlannedRun, upload: &SavedUpload) -> Result<()> {
    let completion = store.complete_sent(bucket, upload).await?;
    if completion == Completion::New {
        return Ok(());
    }
    let fails = |kind, message: &str| Err(Error::new(kind, message).for_object(ObjectRef::new(bucket, &upload.key)));
    match store.owner_of(bucket, &upload.key).await? {
        // An earlier call has completed it.
        KeyOwner::Run(id) if id == run.manifest.run => Ok(()),
        KeyOwner::Run(_) | KeyOwner::Other => fails(
            ErrorKind::DestinationTaken,
            "another file has the key of this part; move it, and send the extract again",
        ),
        // The part was completed, and then loaded and moved or deleted.
        KeyOwner::Missing if Timestamp::now().duration_since(run.manifest.started_at) < UPLOADS_LAST => Ok(()),
        KeyOwner::Missing => fails(
            ErrorKind::SourceMissing,
            "the part is neither visible nor can it be completed: it was loaded and moved, or its upload was aborted after a \
             day; see docs/extract.md",
        ),
    }
}

async fn write_manifest(store: &Store, bucket: &str, run: &PlannedRun) -> Result<()> {
    let key = manifest_key(&run.folder);
    let json = serde_json::to_vec_pretty(&run.manifest)
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot write the manifest as JSON").with_source(error))?;
    // An existing one is that of an earlier call: no run is planned for a folder with a manifest.
    let _: Created = store.put_new(bucket, &key, Bytes::from(json), "application/json").await?;
    Ok(())
}
