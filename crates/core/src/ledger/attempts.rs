//! The attempt history: a table beside the ledger with the attempts that did not load their file.
//!
//! It is for people. No decision depends on it, and the ledger is complete without it. A load writes nothing to it, because
//! its ledger row says everything. Attempts at one object version that end in the same way on the same day share a row, so
//! a file that fails on every sweep does not fill the database.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::attempts_table::{ATTEMPT_INDEXES, LEDGER_INDEXES, create_attempts};
use super::statements::{ATTEMPT_AGAIN, ATTEMPT_INSERT};
use super::{
    Dialect, ExecuteResult, LedgerColumns, LedgerConnection, LedgerState, REASON_CHARACTERS, SqlLedger,
    TableChangesColumn, WORKER_CHARACTERS, truncated,
};
use crate::error::{ErrorKind, Result};
use crate::object::{ObjectVersion, hash_parts};
use crate::pattern;

/// Number of batches that one upkeep deletes. The next one continues.
const MAX_BATCHES: u32 = 20;

/// Number of rows of a batch, as in [`Dialect::DELETE_OLD_ATTEMPTS`].
pub(super) const BATCH_ROWS: u64 = 500;

/// How a run ended. A run is an attempt at one object version, or several that ended in the same way on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// The rows are in the table.
    Loaded,
    /// The same bytes were loaded before.
    Duplicate,
    /// A newer file had replaced the table.
    Superseded,
    /// The rows were written to the fallback.
    FellBack,
    /// The file is broken, its key yields no table, or it was parked.
    Rejected,
    /// The attempt failed, and the file stayed in place.
    Failed,
}

impl RunOutcome {
    /// All outcomes.
    pub const ALL: [Self; 6] =
        [Self::Loaded, Self::Duplicate, Self::Superseded, Self::FellBack, Self::Rejected, Self::Failed];

    /// Returns the stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::FellBack => "fell_back",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl From<LedgerState> for RunOutcome {
    fn from(state: LedgerState) -> Self {
        match state {
            LedgerState::Loaded => Self::Loaded,
            LedgerState::Duplicate => Self::Duplicate,
            LedgerState::Superseded => Self::Superseded,
            LedgerState::FellBack => Self::FellBack,
            LedgerState::Rejected => Self::Rejected,
        }
    }
}

/// An attempt that did not load its file.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The version of the object.
    pub source: ObjectVersion,
    /// The table; empty if the key names none.
    pub table: String,
    /// The worker.
    pub worker: String,
    /// When the attempt started, as in the ledger.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The kind of the error that ended it.
    pub error_kind: ErrorKind,
    /// Rows of the file, including rejected records.
    pub rows_parsed: u64,
    /// Rows in the fallback.
    pub rows_stored: u64,
    /// Rejected records.
    pub rows_rejected: u64,
    /// The error or the reason, without row values.
    pub reason: String,
}

impl AttemptRecord {
    /// Returns the primary key. Attempts with the same key share a row.
    fn id(&self) -> String {
        let day = self.started_at.strftime("%Y-%m-%d").to_string();
        hash_parts(&[self.source.id.as_str(), self.outcome.name(), self.error_kind.name(), &day])
    }
}

/// The result of the maintenance of the attempt history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptsMaintenance {
    /// Number of old rows that were deleted.
    pub deleted: u64,
}

/// The state of the history in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttemptsProbe {
    /// The name of the history's table.
    pub table: String,
    /// Whether the table exists.
    pub exists: bool,
    /// The indexes that the ledger and the history lack, as the statements that create them.
    pub missing_indexes: Vec<String>,
    /// The informational columns that the ledger lacks, as the statements that add them.
    pub missing_columns: Vec<String>,
}

impl SqlLedger<'_> {
    /// The name of the history's table.
    pub(crate) fn attempts_table(&self) -> String {
        pattern::attempts_table(self.table)
    }

    /// Writes an attempt, outside of any transaction. Creates the table if it is missing, and a missing ledger with it: runs are
    /// listed from both.
    pub(crate) async fn record_attempt<C: LedgerConnection>(
        &self,
        connection: &mut C,
        attempt: &AttemptRecord,
    ) -> Result<()> {
        let context = "cannot record the attempt";
        match self.count_repeat(connection, attempt).await? {
            ExecuteResult::Rows(0) => {}
            ExecuteResult::Rows(_) | ExecuteResult::UniqueViolation(_) => return Ok(()),
            ExecuteResult::NoTable(_) if self.exists(connection).await? => self.create_attempts(connection).await?,
            ExecuteResult::NoTable(_) => self.ensure(connection, LedgerColumns::COMMON).await?,
        }
        let (source, id) = (&attempt.source, attempt.id());
        let params = [
            (&id).into(),
            source.id.as_str().into(),
            (&source.object.bucket).into(),
            (&source.object.key).into(),
            source.object.version_id.as_deref().into(),
            source.size_bytes.into(),
            (&attempt.table).into(),
            attempt.outcome.name().into(),
            attempt.error_kind.name().into(),
            attempt.started_at.into(),
            attempt.started_at.into(),
            attempt.ended_at.into(),
            truncated(&attempt.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            attempt.rows_parsed.into(),
            attempt.rows_stored.into(),
            attempt.rows_rejected.into(),
            truncated(&attempt.reason, REASON_CHARACTERS).into(),
        ];
        match self.execute(connection, context, ATTEMPT_INSERT, &params).await? {
            // Another worker has inserted the row in the meantime. So its count is one too low.
            ExecuteResult::Rows(_) | ExecuteResult::UniqueViolation(_) => Ok(()),
            ExecuteResult::NoTable(error) => Err(error),
        }
    }

    /// Adds the attempt to the row of the attempts that ended in the same way on the same day, if there is one.
    async fn count_repeat<C: LedgerConnection>(
        &self,
        connection: &mut C,
        attempt: &AttemptRecord,
    ) -> Result<ExecuteResult> {
        let id = attempt.id();
        let params = [
            truncated(&attempt.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            attempt.started_at.into(),
            attempt.ended_at.into(),
            attempt.rows_parsed.into(),
            attempt.rows_stored.into(),
            attempt.rows_rejected.into(),
            truncated(&attempt.reason, REASON_CHARACTERS).into(),
            (&id).into(),
        ];
        self.execute(connection, "cannot record the attempt", ATTEMPT_AGAIN, &params).await
    }

    /// Creates the history's table, outside of any transaction.
    pub(super) async fn create_attempts<C: LedgerConnection>(&self, connection: &mut C) -> Result<()> {
        let sql = create_attempts::<C::Dialect>(&self.attempts_table());
        connection.create("cannot create the attempt history", &sql).await
    }

    /// Creates the missing table, indexes and informational columns of an existing ledger, and deletes rows that started
    /// before a time.
    ///
    /// The statements wait for locks for a second only: a statement that waits longer would block the loads that start
    /// after it. The connection then has this setting and must be closed.
    pub(crate) async fn maintain_attempts<C: LedgerConnection>(
        &self,
        connection: &mut C,
        before: Timestamp,
    ) -> Result<AttemptsMaintenance> {
        let probe = self.probe_history(connection).await?;
        connection.run("cannot limit the wait for locks", C::Dialect::SHORT_LOCK_WAIT).await?;
        // Old rows are deleted even if something cannot be created.
        let created = self.create_missing(connection, &probe).await;
        let deleted = if probe.exists { self.delete_attempts(connection, before).await? } else { 0 };
        created.map(|()| AttemptsMaintenance { deleted })
    }

    async fn create_missing<C: LedgerConnection>(&self, connection: &mut C, probe: &AttemptsProbe) -> Result<()> {
        if !probe.exists {
            self.create_attempts(connection).await?;
        }
        for sql in &probe.missing_indexes {
            connection.create("cannot create an index of the ledger", sql).await?;
        }
        self.add_changes_column(connection).await.map(drop)
    }

    /// Deletes attempts that started before a time, on a database where one statement may delete all of them.
    pub(crate) async fn delete_attempts_before<C: LedgerConnection>(
        &self,
        connection: &mut C,
        before: Timestamp,
    ) -> Result<AttemptsMaintenance> {
        let context = "cannot delete old attempts";
        let result = self.execute(connection, context, C::Dialect::DELETE_OLD_ATTEMPTS, &[before.into()]).await?;
        Ok(AttemptsMaintenance { deleted: result.rows()? })
    }

    /// Deletes old rows in batches, so that no statement holds many locks.
    async fn delete_attempts<C: LedgerConnection>(&self, connection: &mut C, before: Timestamp) -> Result<u64> {
        let mut deleted = 0;
        for _ in 0..MAX_BATCHES {
            let context = "cannot delete old attempts";
            let result = self.execute(connection, context, C::Dialect::DELETE_OLD_ATTEMPTS, &[before.into()]).await?;
            let rows = result.rows()?;
            deleted += rows;
            if rows < BATCH_ROWS {
                break;
            }
        }
        Ok(deleted)
    }

    /// Whether the history exists and can be read.
    pub(super) async fn has_attempts<C: LedgerConnection>(&self, connection: &mut C) -> Result<bool> {
        match connection.table_columns(&self.attempts_table(), &[]).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.kind() == ErrorKind::Privilege => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns what the history lacks. The ledger must exist.
    pub(crate) async fn probe_history<C: LedgerConnection>(&self, connection: &mut C) -> Result<AttemptsProbe> {
        let attempts = self.attempts_table();
        let mut probe = AttemptsProbe { table: attempts.clone(), ..AttemptsProbe::default() };
        probe.exists = self.has_attempts(connection).await?;
        if self.changes_column(connection).await? == Some(TableChangesColumn::Absent) {
            probe.missing_columns.push(self.add_changes_sql::<C>());
        }
        let mut wanted = vec![(self.table, LEDGER_INDEXES)];
        if probe.exists {
            wanted.push((attempts.as_str(), ATTEMPT_INDEXES));
        }
        for (table, indexes) in wanted {
            let found = self.index_names(connection, table).await?;
            for index in indexes {
                let name = C::Dialect::index_name(table, *index);
                if !found.contains(&name) {
                    probe.missing_indexes.push(C::Dialect::add_index(table, *index));
                }
            }
        }
        Ok(probe)
    }

    async fn index_names<C: LedgerConnection>(&self, connection: &mut C, table: &str) -> Result<Vec<String>> {
        let context = "cannot read the indexes of the ledger";
        let rows = self.query(connection, context, C::Dialect::INDEX_NAMES, &[table.into()]).await?;
        rows.iter().map(|row| row.text(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    fn attempt(started_at: &str, error_kind: ErrorKind) -> AttemptRecord {
        let time: Timestamp = started_at.parse().unwrap();
        AttemptRecord {
            source: ObjectVersion::new(ObjectRef::new("bucket", "key"), "e".into(), 1, time, None),
            table: "orders".into(),
            worker: "worker".into(),
            started_at: time,
            ended_at: time,
            outcome: RunOutcome::Failed,
            error_kind,
            rows_parsed: 0,
            rows_stored: 0,
            rows_rejected: 0,
            reason: String::new(),
        }
    }

    #[test]
    fn attempts_that_end_in_the_same_way_on_a_day_share_a_row() {
        let first = attempt("2026-11-20T00:00:00Z", ErrorKind::Throttled).id();
        assert_eq!(attempt("2026-11-20T23:59:59Z", ErrorKind::Throttled).id(), first);
        assert_ne!(attempt("2026-11-21T00:00:00Z", ErrorKind::Throttled).id(), first);
        assert_ne!(attempt("2026-11-20T00:00:00Z", ErrorKind::Service).id(), first);
    }

    #[test]
    fn outcomes_are_named_as_in_the_ledger() {
        for outcome in RunOutcome::ALL {
            let json = serde_json::to_value(outcome).unwrap();
            assert_eq!(json, outcome.name());
        }
        for state in LedgerState::ALL {
            assert_eq!(RunOutcome::from(state).name(), state.name());
        }
    }
}
