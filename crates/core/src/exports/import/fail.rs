//! The step fail: records a failure, and drops the planned import if nothing of it is stored or sent.

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::{error, warn};

use super::request::{Failure, LockedVersion};
use super::state::{FailingLock, PlannedImport, VersionRecord, VersionState};
use super::{ExportImporter, lock_end};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result, chain};

impl ExportImporter {
    /// Ends a failed import, and releases the lock.
    pub(super) async fn fail(&self, locked: &LockedVersion, failure: &Failure, deadline: &Deadline) -> Result<Value> {
        let until = lock_end(deadline.remaining());
        // With another number, no earlier attempt of this import can send COMMIT any more.
        let fenced = self
            .registry
            .change_state(locked.names(), |state| {
                let lock = state.begin_failure(locked.fence, until)?;
                Ok((lock, state.planned.clone()))
            })
            .await;
        let (lock, planned) = match fenced {
            Ok(fenced) => fenced,
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                warn!(error = %chain(&error), "another import has the lock, so this failure changes nothing");
                return Ok(json!({"status": "lost"}));
            }
            Err(error) => return Err(error),
        };
        let planned = planned.filter(|planned| planned.version == locked.place.version);
        let FailingLock::Fence(fence) = lock else { return Ok(ended(planned.is_some())) };
        let is_kept = match &planned {
            Some(planned) => self.must_be_finished(planned).await,
            None => false,
        };
        let now = Timestamp::now();
        let (kind, message) = (failure.kind.clone(), failure.message());
        let note = |record: &mut Option<VersionRecord>| {
            let Some(record) = record.as_mut().filter(|record| record.state != VersionState::Done) else { return };
            (record.error_kind, record.error) = (Some(kind.clone()), Some(message.clone()));
            if !is_kept {
                (record.state, record.ended_at) = (VersionState::Failed, Some(now));
            }
        };
        self.registry.change_record(&locked.place, note).await?;
        self.registry
            .change_state(locked.names(), |state| {
                state.renew(fence, until)?;
                if !is_kept {
                    state.planned.take_if(|planned| planned.version == locked.place.version);
                }
                state.release(fence);
                Ok(())
            })
            .await?;
        let (tenant, table) = locked.names();
        let version = &locked.place.version;
        error!(tenant, table, version, kind, error = message, is_kept, "the import of an export failed");
        Ok(ended(is_kept))
    }

    /// Whether a planned import may be stored or sent in parts. If the ledger cannot be read, it may be stored.
    async fn must_be_finished(&self, planned: &PlannedImport) -> bool {
        if planned.may_be_published || planned.statistics.is_loaded {
            return true;
        }
        if !self.settings.target.has_database() || planned.statistics.changes() == 0 {
            return false;
        }
        match self.is_loaded(planned).await {
            Ok(is_loaded) => is_loaded,
            Err(error) => {
                warn!(error = %chain(&error), "the ledger cannot be read, so the import is finished later");
                true
            }
        }
    }
}

/// The response of the step.
fn ended(is_kept: bool) -> Value {
    json!({"status": if is_kept { "kept" } else { "dropped" }})
}
