//! Notes in the attempt history: attempts that did not load their file.
//!
//! A note is for people. No decision depends on it, so a note that cannot be written only leaves a line in the log. Nothing
//! waits for a database that is known to be down.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::destination::{AttemptRecord, DestinationOptions, LedgerOutcome, LedgerState, RunOutcome};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::{Attempt, Destinations, KnownOutage};
use crate::policy::is_outage;

/// Time limit for a note.
pub(crate) const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for a note after the deadline. It must fit into the time that [`crate::deadline`] keeps for the end.
pub(crate) const LATE_NOTE_TIMEOUT: Duration = Duration::from_secs(1);

/// A note that is not written yet. It does not need the attempt's lease.
pub(crate) struct AttemptNote<'a> {
    pub(crate) destinations: &'a dyn Destinations,
    pub(crate) options: DestinationOptions,
    pub(crate) record: AttemptRecord,
    pub(crate) limit: Duration,
}

impl<'a> AttemptNote<'a> {
    /// The note about an attempt that failed; `None` if the database cannot be reached.
    pub(super) fn of_failure(attempt: &Attempt<'a>, error: &Error) -> Option<Self> {
        (!is_unreachable(&attempt.context.outage, error.kind())).then(|| Self::new(attempt, error.kind(), chain(error)))
    }

    /// The note about an attempt that wrote the rows to the fallback or rejected the file; `None` for other outcomes, and
    /// if the database cannot be reached.
    pub(super) fn of_outcome(attempt: &Attempt<'a>, kind: ErrorKind, outcome: &LedgerOutcome) -> Option<Self> {
        if !matches!(outcome.state, LedgerState::FellBack | LedgerState::Rejected)
            || is_unreachable(&attempt.context.outage, kind)
        {
            return None;
        }
        let mut note = Self::new(attempt, kind, outcome.reason.clone());
        note.record.outcome = outcome.state.into();
        note.record.rows_parsed = outcome.rows_parsed + outcome.rows_rejected;
        note.record.rows_stored = outcome.rows_stored;
        note.record.rows_rejected = outcome.rows_rejected;
        Some(note)
    }

    fn new(attempt: &Attempt<'a>, error_kind: ErrorKind, reason: String) -> Self {
        let limit = match attempt.remaining() {
            Some(Duration::ZERO) => LATE_NOTE_TIMEOUT,
            Some(remaining) => NOTE_TIMEOUT.min(remaining + LATE_NOTE_TIMEOUT),
            None => NOTE_TIMEOUT,
        };
        let record = AttemptRecord {
            source: attempt.source.clone(),
            table: attempt.table_name().to_string(),
            worker: attempt.context.worker.clone(),
            started_at: attempt.started_at,
            ended_at: Timestamp::now(),
            outcome: RunOutcome::Failed,
            error_kind,
            rows_parsed: 0,
            rows_stored: 0,
            rows_rejected: 0,
            reason,
        };
        let (destinations, options) = (&*attempt.context.destinations, attempt.config.destination.clone());
        Self { destinations, options, record, limit }
    }

    /// Writes the note, if the database responds in time.
    pub(super) async fn write(&self) {
        if let Err(error) = self.try_write().await {
            warn!(error = %chain(&error), "the attempt could not be recorded in the history");
        }
    }

    /// Writes the note.
    ///
    /// # Errors
    /// Also when the database does not respond in time.
    pub(crate) async fn try_write(&self) -> Result<()> {
        match tokio::time::timeout(self.limit, self.record()).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the database did not respond within {} s", self.limit.as_secs());
                Err(Error::new(ErrorKind::Unreachable, message))
            }
        }
    }

    async fn record(&self) -> Result<()> {
        self.destinations.open(&self.options, false).await?.record_attempt(&self.record).await
    }
}

/// Whether the database is known to be down, or an error of this kind says so.
pub(crate) fn is_unreachable(outage: &KnownOutage, kind: ErrorKind) -> bool {
    outage.kind().is_some() || is_outage(kind)
}
