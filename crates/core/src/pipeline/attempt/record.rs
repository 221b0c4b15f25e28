//! What an attempt writes into the ledger and the attempt history. A note for users that cannot be written is only logged.

use std::time::Duration;

use tracing::warn;

use super::Attempt;
use crate::destination::{LedgerOutcome, ObjectPlace};
use crate::error::{ErrorKind, Result, chain};
use crate::pipeline::attempt_notes::AttemptNote;

/// Time limit for a ledger update that only informs users, and on which no decision depends.
const LEDGER_NOTE_TIMEOUT: Duration = Duration::from_secs(5);

impl Attempt<'_> {
    /// Writes an outcome other than a load into the ledger.
    pub(crate) async fn try_record_outcome(&self, outcome: &LedgerOutcome) -> Result<()> {
        self.destination(false).await?.record(&self.claim(), outcome).await
    }

    /// Writes an outcome other than a load into the ledger, and an outcome after an error into the history too, if the
    /// database responds in time.
    pub(crate) async fn record_outcome(&self, outcome: &LedgerOutcome, cause: Option<ErrorKind>) {
        let is_recorded =
            self.record("the outcome could not be recorded in the ledger", self.try_record_outcome(outcome)).await;
        // If the ledger cannot be written, neither can the history.
        if is_recorded && let Some(note) = cause.and_then(|kind| AttemptNote::of_outcome(self, kind, outcome)) {
            note.write().await;
        }
    }

    /// Writes the place of the object and the cost into the ledger, if the database responds in time.
    pub(crate) async fn record_move(&self, place: ObjectPlace<'_>, cost_usd: Option<f64>) {
        if place == ObjectPlace::Kept && cost_usd.is_none() {
            return;
        }
        self.record("the place of the object could not be recorded in the ledger", async {
            self.destination(false).await?.record_move(&self.source.id, place, cost_usd).await
        })
        .await;
    }

    /// Returns whether it was written.
    async fn record(&self, failed: &str, writing: impl Future<Output = Result<()>>) -> bool {
        match tokio::time::timeout(LEDGER_NOTE_TIMEOUT, writing).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn!(error = %chain(&error), "{failed}"),
            Err(_) => warn!("{failed} within {} s", LEDGER_NOTE_TIMEOUT.as_secs()),
        }
        false
    }
}
