//! The ledger: one row per source, written in the transaction of its rows, and the run history that users query.
//!
//! A claim is the row's lock. The row is inserted without its content id, so that only the primary key can clash there; the content
//! id is set in a step of its own, behind a savepoint, where a clash means that the same bytes are loaded under another source id.
//! Only rows of loaded sources keep a content id. A source that is to replace its table claims the table as well. Every statement names its columns, so a ledger with more columns than
//! this version knows (nullable, or with a default) works.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage};

use super::connect::Connection;
use super::failure::{failure, state};
use super::rejection::is_unique_violation;
use super::table::{quoted, relation};
use crate::destination::entry::{Current, cut, dollars, duplicate_content, entry};
use crate::destination::limits::Phase;
use crate::destination::{Claim, LedgerEntry, LedgerOutcome, LedgerState, LoadMode, RowCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::object::SourceId;

const UNDEFINED_TABLE: &str = "42P01";

/// What a claim found.
pub(super) enum ClaimResult {
    /// The row is ours; the transaction stays open.
    Ours,
    /// The rows are in the table already; the transaction is closed.
    Ended(LedgerEntry),
}

/// The ledger's columns that decide, in the order in which [`first_entry`] takes them.
const ENTRY_COLUMNS: &str = "state, rows_parsed, rows_stored, moved_to";

/// The start of every transaction, whatever the user's default isolation is: each statement sees what is committed by then.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The ledger of one database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ledger<'a> {
    table: &'a str,
}

impl<'a> Ledger<'a> {
    /// The ledger in this table.
    pub(super) fn new(table: &'a str) -> Self {
        Self { table }
    }

    fn name(&self) -> String {
        quoted(self.table)
    }

    /// What the ledger says, without waiting and without a lock. What is not committed is not seen.
    pub(super) async fn peek(&self, connection: &mut Connection, id: &SourceId) -> Result<Option<LedgerEntry>> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = $1", self.name());
        first_entry(&connection.rows("cannot read the ledger", &sql, &[(&id.as_str(), Type::TEXT)]).await?)
    }

    /// What the ledger says now that nobody holds the row. Another transaction's row is a conflict, at once.
    ///
    /// A row that another transaction has inserted and not committed cannot be seen, but a row with the same key cannot be
    /// inserted either: this is how an open claim is found out.
    pub(super) async fn look_up(&self, connection: &mut Connection, id: &SourceId) -> Result<Option<LedgerEntry>> {
        if relation(connection, self.table, &[]).await?.is_none() {
            return Ok(None);
        }
        let doing = "cannot look the source up in the ledger";
        connection.run(doing, &format!("{BEGIN}; SET LOCAL lock_timeout = '20ms'")).await?;
        let sql = format!(
            "INSERT INTO {} (source_id, bucket, object_key, etag, size_bytes, body_sha256, target_table, state, worker, \
             tool_version, started_at) VALUES ($1, '', '', '', 0, '', '', 'loading', '', '', now()) \
             ON CONFLICT (source_id) DO NOTHING",
            self.name()
        );
        let id: (&(dyn ToSql + Sync), Type) = (&id.as_str(), Type::TEXT);
        let found = match connection.change(doing, &sql, std::slice::from_ref(&id)).await? {
            0 => {
                let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = $1 FOR UPDATE NOWAIT", self.name());
                first_entry(&connection.rows(doing, &sql, &[id]).await?)?
            }
            _ => None,
        };
        connection.run(doing, "ROLLBACK").await?;
        Ok(found)
    }

    /// Claims the source in the transaction that is open. After [`ClaimResult::Ended`] it is closed; after an error the
    /// caller rolls back.
    pub(super) async fn claim(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<ClaimResult> {
        let id = claim.file.source.id.as_str();
        if !self.insert_or_lock(connection, claim).await? {
            let entry = self.locked_entry(connection, &claim.file.source.id).await?;
            if let Some(entry) = entry.filter(|entry| entry.state.is_in_target()) {
                connection.roll_back().await;
                return Ok(ClaimResult::Ended(entry));
            }
            self.take_over(connection, claim).await?;
        }
        let Some(content_id) = claim.content_id else { return Ok(ClaimResult::Ours) };
        let doing = "cannot claim the content";
        connection.run(doing, "SAVEPOINT content").await?;
        let sql = format!("UPDATE {} SET content_id = $1 WHERE source_id = $2", self.name());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&content_id, Type::TEXT), (&id, Type::TEXT)];
        match connection.change_raw(doing, &sql, &params).await? {
            Ok(_) => {
                connection.run(doing, "RELEASE SAVEPOINT content").await?;
                Ok(ClaimResult::Ours)
            }
            Err(error) if is_unique_violation(&error) => {
                // An error has stopped the whole transaction; back at the savepoint it goes on.
                connection.run(doing, "ROLLBACK TO SAVEPOINT content").await?;
                self.end_as_duplicate(connection, claim, content_id).await
            }
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }

    /// Writes the body that has become known into the row that is claimed, and claims its content.
    pub(super) async fn claim_body(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<()> {
        let doing = "cannot claim the content";
        let sql = format!("UPDATE {} SET body_sha256 = $1, content_id = $2 WHERE source_id = $3", self.name());
        let params: [(&(dyn ToSql + Sync), Type); 3] = [
            (&claim.body_sha256, Type::TEXT),
            (&claim.content_id, Type::TEXT),
            (&claim.file.source.id.as_str(), Type::TEXT),
        ];
        match connection.change_raw(doing, &sql, &params).await? {
            Ok(_) => Ok(()),
            Err(error) if is_unique_violation(&error) => Err(duplicate_content()),
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }

    /// Claims the table for a source that is to replace it, in the transaction that holds the source's row. Two sources
    /// cannot hold it at once, and an older one does not get it from a newer one. After [`ClaimResult::Ended`] the transaction
    /// is closed; after an error the caller rolls back.
    pub(super) async fn claim_table(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<ClaimResult> {
        let doing = "cannot claim the table";
        let sql = format!(
            "SELECT source_id, object_key, CAST(round(extract(epoch FROM source_modified_at) * 1000000) AS bigint) FROM {} \
             WHERE current_of = $1 FOR UPDATE",
            self.name()
        );
        if let Some(row) = connection.rows(doing, &sql, &[(&claim.file.table, Type::TEXT)]).await?.first() {
            let current = Current { source_id: value(row, 0)?, key: value(row, 1)?, modified_micros: value(row, 2)? };
            if current.is_newer_than(&claim.file.source) {
                return self.end_as_superseded(connection, claim, &current.source_id).await;
            }
            let sql = format!("UPDATE {} SET current_of = NULL WHERE source_id = $1", self.name());
            connection.change(doing, &sql, &[(&current.source_id, Type::TEXT)]).await?;
        }
        let sql = format!(
            "UPDATE {} SET current_of = $1, source_modified_at = CAST($2 AS timestamptz) WHERE source_id = $3",
            self.name()
        );
        let params: [(&(dyn ToSql + Sync), Type); 3] = [
            (&claim.file.table, Type::TEXT),
            (&claim.file.source.last_modified.to_string(), Type::TEXT),
            (&claim.file.source.id.as_str(), Type::TEXT),
        ];
        match connection.change_raw(doing, &sql, &params).await? {
            Ok(_) => Ok(ClaimResult::Ours),
            Err(error) if is_unique_violation(&error) => {
                Err(Error::new(ErrorKind::Conflict, "another worker has replaced the table meanwhile"))
            }
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }

    /// The table holds the rows of a newer file: says so in our row, and commits it.
    async fn end_as_superseded(
        &self,
        connection: &mut Connection,
        claim: Claim<'_>,
        newer_id: &str,
    ) -> Result<ClaimResult> {
        let doing = "cannot note the superseded file";
        let sql = format!(
            "UPDATE {} SET state = 'superseded', content_id = NULL, committed_at = clock_timestamp(), reason = $1 \
             WHERE source_id = $2",
            self.name()
        );
        let reason = format!("the newer source {newer_id} has replaced the table already");
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&reason, Type::TEXT), (&claim.file.source.id.as_str(), Type::TEXT)];
        connection.change(doing, &sql, &params).await?;
        connection.run(doing, "COMMIT").await?;
        let state = LedgerState::Superseded;
        Ok(ClaimResult::Ended(LedgerEntry { state, rows_parsed: 0, rows_stored: 0, moved_to: None }))
    }

    /// Inserts our row; `false` when there is one already. While another transaction is inserting it, waits briefly for
    /// what becomes of it.
    async fn insert_or_lock(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<bool> {
        let sql = format!(
            "INSERT INTO {} (source_id, bucket, object_key, version_id, etag, size_bytes, body_sha256, target_table, \
             state, attempt, worker, tool_version, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'loading', 1, $9, \
             $10, CAST($11 AS timestamptz)) ON CONFLICT (source_id) DO NOTHING",
            self.name()
        );
        let source = &claim.file.source;
        let size_bytes = signed(source.size_bytes);
        let params: [(&(dyn ToSql + Sync), Type); 11] = [
            (&source.id.as_str(), Type::TEXT),
            (&source.object.bucket, Type::TEXT),
            (&source.object.key, Type::TEXT),
            (&source.object.version_id, Type::TEXT),
            (&source.etag, Type::TEXT),
            (&size_bytes, Type::INT8),
            (&claim.body_sha256, Type::TEXT),
            (&claim.file.table, Type::TEXT),
            (&cut(&claim.file.worker, 255), Type::TEXT),
            (&env!("CARGO_PKG_VERSION"), Type::TEXT),
            (&claim.file.started_at.to_string(), Type::TEXT),
        ];
        Ok(connection.change("cannot claim the source", &sql, &params).await? == 1)
    }

    /// The entry that is there, locked; waits briefly for whoever holds it.
    async fn locked_entry(&self, connection: &mut Connection, id: &SourceId) -> Result<Option<LedgerEntry>> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = $1 FOR UPDATE", self.name());
        let rows = connection.rows("cannot claim the source", &sql, &[(&id.as_str(), Type::TEXT)]).await?;
        match first_entry(&rows)? {
            Some(entry) => Ok(Some(entry)),
            // Whoever had inserted it deleted it again; nothing is held, so nothing may be loaded.
            None => Err(Error::new(ErrorKind::Conflict, "the source's ledger row is gone again")),
        }
    }

    /// Begins another attempt in the row of a source that fell back or was rejected.
    async fn take_over(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET state = 'loading', attempt = attempt + 1, content_id = NULL, body_sha256 = $2, \
             target_table = $3, worker = $4, tool_version = $5, started_at = CAST($6 AS timestamptz), \
             committed_at = NULL, rows_parsed = 0, rows_stored = 0, rows_rejected = 0, rows_updated = NULL, \
             rows_unchanged = NULL, reason = NULL WHERE source_id = $1",
            self.name()
        );
        let params: [(&(dyn ToSql + Sync), Type); 6] = [
            (&claim.file.source.id.as_str(), Type::TEXT),
            (&claim.body_sha256, Type::TEXT),
            (&claim.file.table, Type::TEXT),
            (&cut(&claim.file.worker, 255), Type::TEXT),
            (&env!("CARGO_PKG_VERSION"), Type::TEXT),
            (&claim.file.started_at.to_string(), Type::TEXT),
        ];
        connection.change("cannot claim the source again", &sql, &params).await?;
        Ok(())
    }

    /// The content is loaded under another source id: says so in our row, and commits it.
    async fn end_as_duplicate(
        &self,
        connection: &mut Connection,
        claim: Claim<'_>,
        content_id: &str,
    ) -> Result<ClaimResult> {
        let doing = "cannot note the duplicate";
        let sql =
            format!("SELECT source_id, rows_parsed FROM {} WHERE content_id = $1 AND state = 'loaded'", self.name());
        let original = connection.rows(doing, &sql, &[(&content_id, Type::TEXT)]).await?;
        let Some(original) = original.first() else {
            return Err(Error::new(ErrorKind::Conflict, "another worker is loading the same content"));
        };
        let (original_id, rows_parsed): (String, i64) = (value(original, 0)?, value(original, 1)?);
        let sql = format!(
            "UPDATE {} SET state = 'duplicate', rows_parsed = $1, committed_at = clock_timestamp(), reason = $2 \
             WHERE source_id = $3",
            self.name()
        );
        let reason = format!("the same content is loaded as source {original_id}");
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&rows_parsed, Type::INT8), (&reason, Type::TEXT), (&claim.file.source.id.as_str(), Type::TEXT)];
        connection.change(doing, &sql, &params).await?;
        connection.run(doing, "COMMIT").await?;
        let (state, rows_parsed) = (LedgerState::Duplicate, unsigned(rows_parsed)?);
        Ok(ClaimResult::Ended(LedgerEntry { state, rows_parsed, rows_stored: 0, moved_to: None }))
    }

    /// Writes the end of a load into the claimed row; answers the number of the transaction.
    pub(super) async fn finish(
        &self,
        connection: &mut Connection,
        id: &SourceId,
        mode: &LoadMode,
        counts: RowCounts,
    ) -> Result<i64> {
        let sql = format!(
            "UPDATE {} SET state = 'loaded', load_mode = $1, rows_parsed = $2, rows_stored = $3, rows_rejected = $4, \
             rows_updated = $5, rows_unchanged = $6, committed_at = clock_timestamp() \
             WHERE source_id = $7 AND state = 'loading' RETURNING txid_current()",
            self.name()
        );
        let rejected = signed(counts.rows_rejected);
        let params: [(&(dyn ToSql + Sync), Type); 7] = [
            (&mode.name(), Type::TEXT),
            (&(signed(counts.rows_parsed) + rejected), Type::INT8),
            (&signed(counts.rows_stored), Type::INT8),
            (&rejected, Type::INT8),
            (&signed(counts.rows_updated), Type::INT8),
            (&signed(counts.rows_unchanged), Type::INT8),
            (&id.as_str(), Type::TEXT),
        ];
        match connection.rows("cannot write the ledger", &sql, &params).await?.as_slice() {
            [row] => value(row, 0),
            _ => Err(Error::new(ErrorKind::Internal, "the claimed ledger row is gone")),
        }
    }

    /// Writes a fate that is not a load, in a transaction of its own; a source that is loaded stays so.
    pub(super) async fn record(
        &self,
        connection: &mut Connection,
        claim: Claim<'_>,
        outcome: &LedgerOutcome,
    ) -> Result<()> {
        let doing = "cannot record the file's fate";
        connection.run(doing, BEGIN).await?;
        if !self.insert_or_lock(connection, claim).await? {
            let entry = self.locked_entry(connection, &claim.file.source.id).await?;
            if entry.is_some_and(|entry| entry.state.is_in_target()) {
                connection.roll_back().await;
                return Ok(());
            }
            self.take_over(connection, claim).await?;
        }
        let sql = format!(
            "UPDATE {} SET state = $1, content_id = NULL, rows_parsed = $2, rows_stored = $3, \
             rows_rejected = $4, reason = $5, committed_at = clock_timestamp() WHERE source_id = $6",
            self.name()
        );
        let rejected = signed(outcome.rows_rejected);
        let (parsed, stored) = (signed(outcome.rows_parsed) + rejected, signed(outcome.rows_stored));
        let params: [(&(dyn ToSql + Sync), Type); 6] = [
            (&outcome.state.name(), Type::TEXT),
            (&parsed, Type::INT8),
            (&stored, Type::INT8),
            (&rejected, Type::INT8),
            (&cut(&outcome.reason, 8000), Type::TEXT),
            (&claim.file.source.id.as_str(), Type::TEXT),
        ];
        connection.change(doing, &sql, &params).await?;
        connection.run(doing, "COMMIT").await
    }

    /// Notes where the object was moved, and the cost. A source without a row, or without a ledger, has nothing to note it
    /// in.
    pub(super) async fn record_move(
        &self,
        connection: &mut Connection,
        id: &SourceId,
        moved_to: &str,
        cost_usd: Option<f64>,
    ) -> Result<()> {
        let doing = "cannot note the move in the ledger";
        let sql = format!(
            "UPDATE {} SET moved_at = clock_timestamp(), moved_to = $1, \
             cost_usd = COALESCE(CAST($2 AS numeric), cost_usd) WHERE source_id = $3",
            self.name()
        );
        let cost_usd = cost_usd.map(dollars);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&moved_to, Type::TEXT), (&cost_usd, Type::TEXT), (&id.as_str(), Type::TEXT)];
        match connection.change_raw(doing, &sql, &params).await? {
            Ok(_) => Ok(()),
            Err(error) if state(&error) == Some(UNDEFINED_TABLE) => Ok(()),
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }
}

/// COMMIT, and the question what became of the transaction: an aborted one is answered with ROLLBACK, which is no error and
/// which the driver does not show.
pub(super) fn commit_statement(transaction: i64) -> String {
    format!("COMMIT; SELECT txid_status({transaction}) AS fate")
}

/// What the server says the transaction's end was, in the answer to [`commit_statement`].
pub(super) fn transaction_outcome(messages: &[SimpleQueryMessage]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get("fate").ok().flatten(),
        _ => None,
    })
}

fn first_entry(rows: &[Row]) -> Result<Option<LedgerEntry>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let (state, moved_to): (String, Option<String>) = (value(row, 0)?, value(row, 3)?);
    entry(&state, unsigned(value(row, 1)?)?, unsigned(value(row, 2)?)?, moved_to).map(Some)
}

/// A column of an answer.
pub(super) fn value<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| {
        Error::new(ErrorKind::Internal, "the server's answer has another form than expected").with_source(error)
    })
}

/// Counts are far below what 63 bits hold.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> Result<u64> {
    u64::try_from(count).map_err(|_| Error::new(ErrorKind::Internal, "the ledger counts fewer than no rows"))
}
