//! The lake: the rows of a loaded file as Parquet in S3, one object for each source.
//!
//! The object is uploaded and published while an open transaction holds the claim on the source. So only the worker that
//! is about to commit the ledger row publishes it, and the ledger row names it. After COMMIT the ledger is the guard, and the
//! manifest is deleted. Before COMMIT the manifest leads the next attempt to the object.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use tracing::{info, warn};

use crate::batch::BatchStream;
use crate::destination::{LedgerEntry, LedgerState};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::object::ObjectRef;
use crate::pipeline::{Attempt, FileRows, finished_entry};
use crate::row_objects::{self, Area, Manifest, RowObjects, RowWrite, SealedRows};
use spillway_formats::numbers::counted;
use spillway_formats::reject::Reject;

/// The object of a file in the lake, before the ledger names it.
pub(crate) struct LakeObject<'a> {
    attempt: &'a Attempt<'a>,
    state: State,
}

enum State {
    /// All rows are sent, and the object is invisible.
    Sealed(Box<SealedRows>),
    /// An earlier attempt published it.
    Found(Box<Manifest>),
}

impl LakeObject<'_> {
    /// The key of the object.
    pub(crate) fn key(&self) -> &str {
        match &self.state {
            State::Sealed(rows) => &rows.manifest.key,
            State::Found(manifest) => &manifest.key,
        }
    }

    /// Makes the object visible, unless an earlier attempt has, and registers it in the catalog.
    ///
    /// # Errors
    /// When the lease is lost, or S3 or Glue fail. Do not send COMMIT then.
    pub(crate) async fn publish(self) -> Result<()> {
        self.attempt.set_lake_key(self.key());
        let Self { attempt, state } = self;
        let objects = objects(attempt)?;
        match state {
            State::Sealed(rows) => objects.publish(*rows, || attempt.fence_before_publish()).await?,
            State::Found(manifest) => row_objects::register_found(objects.catalog, objects.area, &manifest).await?,
        }
        Failpoint::LakePublished.reached().await?;
        Ok(())
    }

    /// Aborts the upload of a load that failed.
    pub(crate) async fn abandon(self) {
        if let State::Sealed(rows) = self.state
            && let Err(error) = rows.abort().await
        {
            warn!(error = %chain(&error), "the upload to the lake could not be aborted; the cleanup will abort it");
        }
    }
}

/// Sends the rows to the lake, except the records in `table_rejects`. `None` without a lake or without rows.
///
/// With a lake, an earlier attempt's object is looked up even if no row is left: it may contain rows that this attempt rejects.
///
/// # Errors
/// When the rows cannot be sent, or an earlier attempt published other rows.
pub(super) async fn upload<'a>(
    attempt: &'a Attempt<'a>,
    rows: &FileRows<'_>,
    table_rejects: &[Reject],
) -> Result<Option<LakeObject<'a>>> {
    let count = rows.rows - table_rejects.len() as u64;
    if !attempt.config.destination.output.has_lake() {
        return Ok(None);
    }
    let (objects, table) = (objects(attempt)?, attempt.table_name());
    let write = RowWrite {
        source: &attempt.source,
        table: &table,
        original_key: &attempt.original_key,
        body_sha256: &rows.body_sha256,
        schema: &rows.schema,
        rows: count,
        rows_rejected: rows.rows_rejected + table_rejects.len() as u64,
        reason: "",
        needs_attention: false,
    };
    let state = match row_objects::find(objects.store, objects.area, &attempt.source).await? {
        Some((manifest, Some(_))) => {
            check_same(&manifest, &write)?;
            info!(key = manifest.key, "an earlier attempt has written the rows to the lake");
            State::Found(Box::new(manifest))
        }
        Some((_, None)) | None if count == 0 => return Ok(None),
        Some((_, None)) | None => {
            State::Sealed(Box::new(objects.upload(&write, without(rows.open().await?, table_rejects)).await?))
        }
    };
    Ok(Some(LakeObject { attempt, state }))
}

/// The rows except the rejected ones.
fn without<'a>(rows: BatchStream<'a>, rejected: &[Reject]) -> BatchStream<'a> {
    if rejected.is_empty() {
        return rows;
    }
    let records: HashSet<u64> = rejected.iter().map(|reject| reject.position.record).collect();
    Box::pin(rows.map_ok(move |batch| batch.filtered(|position| !records.contains(&position.record))))
}

/// Fails if the object of an earlier attempt differs from this attempt's rows in their number, schema or table.
///
/// The object is not overwritten: another worker may have loaded it in between.
fn check_same(found: &Manifest, write: &RowWrite<'_>) -> Result<()> {
    if (found.rows, &found.schema, &found.target_table) == (write.rows, write.schema, write.table) {
        return Ok(());
    }
    Err(has_other_rows(found))
}

/// The error for a published object that does not have the rows of this attempt.
fn has_other_rows(found: &Manifest) -> Error {
    let message = format!(
        "an earlier attempt has written {} of the file to the lake at {}, and this attempt reads other rows or columns, because \
         the settings or the table have changed since; delete that object, but only if the ledger does not say loaded for the \
         source {}, and the next attempt writes the file again",
        counted(found.rows, "row"),
        found.key,
        found.source.id,
    );
    Error::new(ErrorKind::DestinationTaken, message).for_object(&found.source.object)
}

/// Cleans up the lake for a source with a ledger row in `state`. Loaded: deletes the manifest. Not loaded: deletes object and
/// manifest. Fallen back: does nothing.
///
/// # Errors
/// When rows that the ledger does not count may still be in the lake.
pub(crate) async fn clean_up(attempt: &Attempt<'_>, state: LedgerState) -> Result<()> {
    // `OUTPUT` may have had a lake when an earlier attempt published the object.
    let Some(objects) = find_objects(attempt) else { return Ok(()) };
    match state {
        LedgerState::Loaded => {
            if let Err(error) = objects.remove_manifest(&attempt.source).await {
                warn!(error = %chain(&error), "the manifest of the lake object stays; the next sweep deletes it");
            }
            Ok(())
        }
        // The same rows are in the lake as another source, or are not needed.
        LedgerState::Duplicate | LedgerState::Superseded | LedgerState::Rejected => remove(attempt).await,
        // A replay loads the rows, and finds the object.
        LedgerState::FellBack => Ok(()),
    }
}

/// Before COMMIT of a load without a lake, removes the object that an earlier attempt has published for the lake. The ledger row
/// of this load does not name it.
///
/// # Errors
/// When the object may still exist. Do not send COMMIT then.
pub(super) async fn withdraw(attempt: &Attempt<'_>) -> Result<()> {
    match attempt.config.destination.output.has_lake() {
        true => Ok(()),
        false => remove(attempt).await,
    }
}

/// Looks for the object of an earlier attempt at a file that this attempt reads as empty. Returns the ledger entry if that
/// attempt has committed.
///
/// # Errors
/// When the object exists, and its rows are not committed.
pub(super) async fn find_committed(attempt: &Attempt<'_>) -> Result<Option<LedgerEntry>> {
    let Some(objects) = find_objects(attempt) else { return Ok(None) };
    let found = row_objects::find(objects.store, objects.area, &attempt.source).await?;
    let Some((manifest, Some(_))) = found else { return Ok(None) };
    match finished_entry(attempt).await? {
        Some(entry) => Ok(Some(entry)),
        None if attempt.config.destination.output.has_lake() => Err(has_other_rows(&manifest)),
        None => remove(attempt).await.map(|()| None),
    }
}

/// Removes the object that an earlier attempt at this source has published without a COMMIT.
///
/// # Errors
/// When the object may still exist.
pub(crate) async fn remove(attempt: &Attempt<'_>) -> Result<()> {
    let Some(objects) = find_objects(attempt) else { return Ok(()) };
    let Some((manifest, _)) = row_objects::find(objects.store, objects.area, &attempt.source).await? else {
        return Ok(());
    };
    // Nothing that was read before this was written by a successor.
    attempt.verify_lease().await?;
    info!(key = manifest.key, "removing the rows from the lake, because their load was not committed");
    objects.remove(&manifest).await
}

/// The row objects of the lake.
pub(crate) fn objects<'a>(attempt: &'a Attempt<'_>) -> Result<RowObjects<'a>> {
    find_objects(attempt).ok_or_else(|| {
        let object = ObjectRef::clone(&attempt.source.object);
        Error::new(ErrorKind::Settings, "OUTPUT needs LAKE_PREFIX, which is not set").for_object(object)
    })
}

/// The row objects of the lake; `None` without `LAKE_PREFIX`.
fn find_objects<'a>(attempt: &'a Attempt<'_>) -> Option<RowObjects<'a>> {
    let context = attempt.context;
    let area = Area::lake(&context.settings)?;
    Some(RowObjects { store: &context.store, catalog: &context.catalog, area })
}
