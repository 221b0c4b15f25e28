//! The ledger: one row per source, written in the transaction of its rows, and the run history that users query.
//!
//! A claim is the row's exclusive lock. The row is inserted without its content id, so that only the primary key can clash there;
//! the content id is set in a step of its own, where a clash means that the same bytes are loaded, or being loaded, under
//! another source id. Only rows of loaded sources keep a content id. Every statement names its columns, so a ledger with
//! more columns than this version knows (nullable, or with a default) works.

use jiff::Timestamp;
use mysql_async::params;

use super::connect::{Connection, STATEMENT_LIMIT};
use super::failure::{DUPLICATE_COLUMN, DUPLICATE_KEY, failure, server_code};
use super::table::{TABLE_OPTIONS, exists, quoted};
use crate::destination::entry::{Current, cut, dollars, duplicate_content, entry};
use crate::destination::limits::Phase;
use crate::destination::{Claim, LedgerEntry, LedgerOutcome, LedgerState, LoadMode, RowCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::object::SourceId;

const NO_SUCH_TABLE: u16 = 1146;

/// Columns that ledgers of earlier versions lack.
const ADDED_COLUMNS: [(&str, &str); 5] = [
    ("load_mode", "VARCHAR(8) NULL"),
    ("rows_updated", "BIGINT UNSIGNED NULL"),
    ("rows_unchanged", "BIGINT UNSIGNED NULL"),
    // The table whose rows are this source's alone, which it has replaced last.
    ("current_of", "VARCHAR(64) NULL UNIQUE"),
    ("source_modified_at", "DATETIME(6) NULL"),
];

/// What a claim found.
pub(super) enum ClaimResult {
    /// The row is ours; the transaction stays open.
    Ours,
    /// The rows are in the table already; the transaction is closed.
    Ended(LedgerEntry),
}

/// The ledger's columns that decide, in the order of [`ENTRY_COLUMNS`].
type EntryRow = (String, u64, u64, Option<String>);

const ENTRY_COLUMNS: &str = "state, rows_parsed, rows_stored, moved_to";

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

    /// Makes the ledger, or those of its columns that are missing. Must run outside of any transaction.
    pub(super) async fn ensure(&self, connection: &mut Connection) -> Result<()> {
        if !exists(connection, self.table).await? {
            connection.run("cannot make the ledger", &create_statement(self.table)).await?;
            return Ok(());
        }
        let doing = "cannot add the ledger's new columns";
        let sql =
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let columns: Vec<String> = connection.rows(doing, sql, (self.table,)).await?;
        for (name, definition) in ADDED_COLUMNS {
            if columns.iter().any(|column| column == name) {
                continue;
            }
            let sql = format!("ALTER TABLE {} ADD COLUMN {name} {definition}", self.name());
            match connection.run_raw(STATEMENT_LIMIT, doing, sql.as_bytes()).await? {
                Ok(_) => {}
                // Another worker was first.
                Err(error) if server_code(&error) == Some(DUPLICATE_COLUMN) => {}
                Err(error) => return Err(failure(Phase::Connected, doing, error)),
            }
        }
        Ok(())
    }

    /// What the ledger says, without waiting and without a lock. What is not committed is not seen.
    pub(super) async fn peek(&self, connection: &mut Connection, id: &SourceId) -> Result<Option<LedgerEntry>> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = ?", self.name());
        first_entry(connection.rows("cannot read the ledger", &sql, (id.as_str(),)).await?)
    }

    /// The loaded entry with this content, without waiting.
    pub(super) async fn peek_content(
        &self,
        connection: &mut Connection,
        content_id: &str,
    ) -> Result<Option<LedgerEntry>> {
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE content_id = ? AND state = 'loaded'", self.name());
        first_entry(connection.rows("cannot read the ledger", &sql, (content_id,)).await?)
    }

    /// What the ledger says now that nobody holds the row. Another transaction's row is a conflict, at once.
    pub(super) async fn look_up(&self, connection: &mut Connection, id: &SourceId) -> Result<Option<LedgerEntry>> {
        if !exists(connection, self.table).await? {
            return Ok(None);
        }
        let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = ? FOR UPDATE NOWAIT", self.name());
        first_entry(connection.rows("cannot look the source up in the ledger", &sql, (id.as_str(),)).await?)
    }

    /// Claims the source in the transaction that is open. After [`ClaimResult::Ended`] it is closed; after an error the
    /// caller rolls back.
    pub(super) async fn claim(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<ClaimResult> {
        let is_new = self.insert_or_lock(connection, claim).await?;
        if !is_new {
            let id = &claim.file.source.id;
            let sql = format!("SELECT {ENTRY_COLUMNS} FROM {} WHERE source_id = ? FOR UPDATE", self.name());
            let entry = first_entry(connection.rows("cannot claim the source", &sql, (id.as_str(),)).await?)?;
            if let Some(entry) = entry.filter(|entry| entry.state.is_in_target()) {
                connection.roll_back().await;
                return Ok(ClaimResult::Ended(entry));
            }
            self.take_over(connection, claim).await?;
        }
        let Some(content_id) = claim.content_id else { return Ok(ClaimResult::Ours) };
        let sql = format!("UPDATE {} SET content_id = ? WHERE source_id = ?", self.name());
        let doing = "cannot claim the content";
        match connection.change_raw(doing, &sql, (content_id, claim.file.source.id.as_str())).await? {
            Ok(_) => Ok(ClaimResult::Ours),
            Err(error) if server_code(&error) == Some(DUPLICATE_KEY) => {
                self.end_as_duplicate(connection, claim, content_id).await
            }
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }

    /// Writes the body that has become known into the row that is claimed, and claims its content.
    pub(super) async fn claim_body(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<()> {
        let doing = "cannot claim the content";
        let sql = format!("UPDATE {} SET body_sha256 = ?, content_id = ? WHERE source_id = ?", self.name());
        let params = (claim.body_sha256, claim.content_id, claim.file.source.id.as_str());
        match connection.change_raw(doing, &sql, params).await? {
            Ok(_) => Ok(()),
            Err(error) if server_code(&error) == Some(DUPLICATE_KEY) => Err(duplicate_content()),
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }

    /// Claims the table for a source that is to replace it, in the transaction that holds the source's row. Two sources
    /// cannot hold it at once, and an older one does not get it from a newer one: by the time S3 last modified them, then by
    /// key. After [`ClaimResult::Ended`] the transaction is closed.
    pub(super) async fn claim_table(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<ClaimResult> {
        let doing = "cannot claim the table";
        let sql = format!(
            "SELECT source_id, object_key, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', source_modified_at) FROM {} \
             WHERE current_of = ? FOR UPDATE",
            self.name()
        );
        let current: Vec<(String, String, Option<i64>)> = connection.rows(doing, &sql, (&claim.file.table,)).await?;
        if let Some((source_id, key, modified_micros)) = current.into_iter().next() {
            let current = Current { source_id, key, modified_micros };
            if current.is_newer_than(&claim.file.source) {
                return self.end_as_superseded(connection, claim, &current.source_id).await;
            }
            let sql = format!("UPDATE {} SET current_of = NULL WHERE source_id = ?", self.name());
            connection.change(doing, &sql, (current.source_id,)).await?;
        }
        let (id, modified_at) = (claim.file.source.id.as_str(), sql_time(claim.file.source.last_modified));
        let sql = format!("UPDATE {} SET current_of = ?, source_modified_at = ? WHERE source_id = ?", self.name());
        match connection.change_raw(doing, &sql, (&claim.file.table, &modified_at, id)).await? {
            Ok(_) => Ok(ClaimResult::Ours),
            Err(error) if server_code(&error) == Some(DUPLICATE_KEY) => {
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
            "UPDATE {} SET state = 'superseded', content_id = NULL, committed_at = UTC_TIMESTAMP(6), reason = ? \
             WHERE source_id = ?",
            self.name()
        );
        let reason = format!("the newer source {newer_id} has replaced the table already");
        connection.change(doing, &sql, (reason, claim.file.source.id.as_str())).await?;
        connection.run(doing, "COMMIT").await?;
        let state = LedgerState::Superseded;
        Ok(ClaimResult::Ended(LedgerEntry { state, rows_parsed: 0, rows_stored: 0, moved_to: None }))
    }

    /// Inserts our row, or waits (briefly) for the exclusive lock on the one that is there. Whether it is new.
    ///
    /// A plain INSERT would take a shared lock on a row that is there, and two claimants with shared locks deadlock.
    async fn insert_or_lock(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<bool> {
        let sql = format!(
            "INSERT INTO {} (source_id, bucket, object_key, version_id, etag, size_bytes, body_sha256, target_table, \
             state, attempt, worker, tool_version, started_at) VALUES (:id, :bucket, :object_key, :version_id, :etag, \
             :size_bytes, :body_sha256, :target_table, 'loading', 1, :worker, :tool_version, :started_at) \
             ON DUPLICATE KEY UPDATE source_id = source_id",
            self.name()
        );
        let source = &claim.file.source;
        let params = params! {
            "id" => source.id.as_str(),
            "bucket" => &source.object.bucket,
            "object_key" => &source.object.key,
            "version_id" => &source.object.version_id,
            "etag" => &source.etag,
            "size_bytes" => source.size_bytes,
            "body_sha256" => claim.body_sha256,
            "target_table" => &claim.file.table,
            "worker" => cut(&claim.file.worker, 255),
            "tool_version" => env!("CARGO_PKG_VERSION"),
            "started_at" => sql_time(claim.file.started_at),
        };
        let outcome = connection.change("cannot claim the source", &sql, params).await?;
        Ok(outcome.affected_rows == 1)
    }

    /// Begins another attempt in the row of a source that fell back or was rejected.
    async fn take_over(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET state = 'loading', attempt = attempt + 1, content_id = NULL, body_sha256 = :body_sha256, \
             target_table = :target_table, worker = :worker, tool_version = :tool_version, started_at = :started_at, \
             committed_at = NULL, rows_parsed = 0, rows_stored = 0, rows_rejected = 0, rows_updated = NULL, \
             rows_unchanged = NULL, reason = NULL \
             WHERE source_id = :id",
            self.name()
        );
        let params = params! {
            "id" => claim.file.source.id.as_str(),
            "body_sha256" => claim.body_sha256,
            "target_table" => &claim.file.table,
            "worker" => cut(&claim.file.worker, 255),
            "tool_version" => env!("CARGO_PKG_VERSION"),
            "started_at" => sql_time(claim.file.started_at),
        };
        connection.change("cannot claim the source again", &sql, params).await?;
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
            format!("SELECT source_id, rows_parsed FROM {} WHERE content_id = ? AND state = 'loaded'", self.name());
        let original: Vec<(String, u64)> = connection.rows(doing, &sql, (content_id,)).await?;
        let Some((original_id, rows_parsed)) = original.into_iter().next() else {
            return Err(Error::new(ErrorKind::Conflict, "another worker is loading the same content"));
        };
        let sql = format!(
            "UPDATE {} SET state = 'duplicate', rows_parsed = ?, committed_at = UTC_TIMESTAMP(6), reason = ? \
             WHERE source_id = ?",
            self.name()
        );
        let reason = format!("the same content is loaded as source {original_id}");
        connection.change(doing, &sql, (rows_parsed, reason, claim.file.source.id.as_str())).await?;
        connection.run(doing, "COMMIT").await?;
        let state = LedgerState::Duplicate;
        Ok(ClaimResult::Ended(LedgerEntry { state, rows_parsed, rows_stored: 0, moved_to: None }))
    }

    /// Writes the end of a load into the claimed row.
    pub(super) async fn finish(
        &self,
        connection: &mut Connection,
        id: &SourceId,
        mode: &LoadMode,
        counts: RowCounts,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET state = 'loaded', load_mode = :mode, rows_parsed = :parsed, rows_stored = :stored, \
             rows_rejected = :rejected, rows_updated = :updated, rows_unchanged = :unchanged, committed_at = UTC_TIMESTAMP(6) \
             WHERE source_id = :id AND state = 'loading'",
            self.name()
        );
        let params = params! {
            "mode" => mode.name(),
            "parsed" => counts.rows_parsed + counts.rows_rejected,
            "rejected" => counts.rows_rejected,
            "stored" => counts.rows_stored,
            "updated" => counts.rows_updated,
            "unchanged" => counts.rows_unchanged,
            "id" => id.as_str(),
        };
        let outcome = connection.change("cannot write the ledger", &sql, params).await?;
        if outcome.affected_rows != 1 {
            return Err(Error::new(ErrorKind::Internal, "the claimed ledger row is gone"));
        }
        Ok(())
    }

    /// Writes a fate that is not a load, in a transaction of its own; a source that is loaded stays so.
    pub(super) async fn record(
        &self,
        connection: &mut Connection,
        claim: Claim<'_>,
        outcome: &LedgerOutcome,
    ) -> Result<()> {
        let doing = "cannot record the file's fate";
        connection.run(doing, "BEGIN").await?;
        if !self.insert_or_lock(connection, claim).await? {
            let entry = self.peek(connection, &claim.file.source.id).await?;
            if entry.is_some_and(|entry| entry.state.is_in_target()) {
                connection.roll_back().await;
                return Ok(());
            }
            self.take_over(connection, claim).await?;
        }
        let sql = format!(
            "UPDATE {} SET state = ?, content_id = NULL, rows_parsed = ?, rows_stored = ?, rows_rejected = ?, reason = ?, \
             committed_at = UTC_TIMESTAMP(6) WHERE source_id = ?",
            self.name()
        );
        let id = claim.file.source.id.as_str();
        let LedgerOutcome { state, rows_parsed, rows_stored, rows_rejected, reason, body_sha256: _ } = outcome;
        let params = (state.name(), rows_parsed + rows_rejected, rows_stored, rows_rejected, cut(reason, 8000), id);
        connection.change(doing, &sql, params).await?;
        connection.run(doing, "COMMIT").await?;
        Ok(())
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
            "UPDATE {} SET moved_at = UTC_TIMESTAMP(6), moved_to = ?, cost_usd = COALESCE(?, cost_usd) WHERE source_id = ?",
            self.name()
        );
        match connection.change_raw(doing, &sql, (moved_to, cost_usd.map(dollars), id.as_str())).await? {
            Ok(_) => Ok(()),
            Err(error) if server_code(&error) == Some(NO_SUCH_TABLE) => Ok(()),
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        }
    }
}

fn first_entry(rows: Vec<EntryRow>) -> Result<Option<LedgerEntry>> {
    let Some((state, rows_parsed, rows_stored, moved_to)) = rows.into_iter().next() else { return Ok(None) };
    entry(&state, rows_parsed, rows_stored, moved_to).map(Some)
}

fn sql_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

fn create_statement(table: &str) -> String {
    let hash = "CHAR(64) CHARACTER SET ascii COLLATE ascii_bin";
    let added = ADDED_COLUMNS.map(|(name, definition)| format!("{name} {definition}")).join(", ");
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\
         source_id {hash} NOT NULL, content_id {hash} NULL, bucket VARCHAR(255) NOT NULL, \
         object_key VARCHAR(1024) NOT NULL, version_id VARCHAR(1024) NULL, etag VARCHAR(255) NOT NULL, \
         size_bytes BIGINT UNSIGNED NOT NULL, body_sha256 {hash} NOT NULL, target_table VARCHAR(64) NOT NULL, \
         state VARCHAR(16) NOT NULL, rows_parsed BIGINT UNSIGNED NOT NULL DEFAULT 0, \
         rows_stored BIGINT UNSIGNED NOT NULL DEFAULT 0, rows_rejected BIGINT UNSIGNED NOT NULL DEFAULT 0, \
         attempt INT UNSIGNED NOT NULL DEFAULT 1, worker VARCHAR(255) NOT NULL, tool_version VARCHAR(32) NOT NULL, \
         started_at DATETIME(6) NOT NULL, committed_at DATETIME(6) NULL, moved_at DATETIME(6) NULL, \
         moved_to VARCHAR(2048) NULL, reason TEXT NULL, cost_usd DECIMAL(12,6) NULL, {added}, \
         PRIMARY KEY (source_id), UNIQUE KEY content (content_id), KEY history (started_at)) {TABLE_OPTIONS}",
        quoted(table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_sql_has_them() {
        let time: Timestamp = "2026-11-20T13:05:06.000789Z".parse().unwrap();
        assert_eq!(sql_time(time), "2026-11-20 13:05:06.000789");
    }
}
