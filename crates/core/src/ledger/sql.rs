//! The ledger's statements and the order in which a claim runs them.
//!
//! A new row is inserted without its content id, so only its primary key can be violated there. The content id is set
//! by a statement of its own, where a violation means that the same bytes are loaded, or being loaded, under another
//! source id. Only rows of loaded sources keep a content id. Every statement names its columns, so a ledger may have
//! more columns than this version knows (nullable, or with a default).

use std::borrow::Cow;

use super::{
    Claim, ClaimResult, CurrentSource, Dialect, Executed, LedgerConnection, LedgerEntry, LedgerOutcome, LedgerState,
    Row, RowCounts, Value, table, truncated,
};
use crate::error::{Error, ErrorKind, Result};
use crate::object::SourceId;

const ENTRY: &str = "SELECT state, rows_parsed, rows_stored, moved_to FROM {ledger} WHERE source_id = ?";
const ENTRY_LOCKED: &str =
    "SELECT state, rows_parsed, rows_stored, moved_to FROM {ledger} WHERE source_id = ? FOR UPDATE";
const ENTRY_NOWAIT: &str =
    "SELECT state, rows_parsed, rows_stored, moved_to FROM {ledger} WHERE source_id = ? FOR UPDATE NOWAIT";
const ORIGINAL: &str = "SELECT source_id, rows_parsed FROM {ledger} WHERE content_id = ? AND state = 'loaded'";
const CURRENT: &str = "SELECT source_id, object_key, {modified_micros} FROM {ledger} WHERE current_of = ? FOR UPDATE";

const INSERT: &str = "INSERT INTO {ledger} (source_id, bucket, object_key, version_id, etag, size_bytes, body_sha256, \
     target_table, state, attempt, worker, tool_version, started_at) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'loading', 1, ?, ?, ?) {or_keep}";
const INSERT_LOOK_UP: &str = "INSERT INTO {ledger} (source_id, bucket, object_key, etag, size_bytes, body_sha256, \
     target_table, state, worker, tool_version, started_at) \
     VALUES (?, '', '', '', 0, '', '', 'loading', '', '', {now}) {or_keep}";
const CLAIM_AGAIN: &str = "UPDATE {ledger} SET state = 'loading', attempt = attempt + 1, content_id = NULL, \
     body_sha256 = ?, target_table = ?, worker = ?, tool_version = ?, started_at = ?, committed_at = NULL, \
     rows_parsed = 0, rows_stored = 0, rows_rejected = 0, rows_updated = NULL, rows_unchanged = NULL, reason = NULL \
     WHERE source_id = ?";
const CLAIM_CONTENT: &str = "UPDATE {ledger} SET content_id = ? WHERE source_id = ?";
const CLAIM_BODY: &str = "UPDATE {ledger} SET body_sha256 = ?, content_id = ? WHERE source_id = ?";
const RELEASE_TABLE: &str = "UPDATE {ledger} SET current_of = NULL WHERE source_id = ?";
const CLAIM_TABLE: &str = "UPDATE {ledger} SET current_of = ?, source_modified_at = ? WHERE source_id = ?";
const SUPERSEDED: &str = "UPDATE {ledger} SET state = 'superseded', content_id = NULL, committed_at = {now}, \
     reason = ? WHERE source_id = ?";
const DUPLICATE: &str = "UPDATE {ledger} SET state = 'duplicate', rows_parsed = ?, committed_at = {now}, reason = ? \
     WHERE source_id = ?";
const LOADED: &str = "UPDATE {ledger} SET state = 'loaded', load_mode = ?, rows_parsed = ?, rows_stored = ?, \
     rows_rejected = ?, rows_updated = ?, rows_unchanged = ?, committed_at = {now} \
     WHERE source_id = ? AND state = 'loading'";
const OUTCOME: &str = "UPDATE {ledger} SET state = ?, content_id = NULL, rows_parsed = ?, rows_stored = ?, \
     rows_rejected = ?, reason = ?, committed_at = {now} WHERE source_id = ?";
const MOVED: &str = "UPDATE {ledger} SET moved_at = {now}, moved_to = ?, \
     cost_usd = COALESCE(CAST(? AS DECIMAL(12,6)), cost_usd) WHERE source_id = ?";

/// The characters that the columns `worker` and `reason` store.
const WORKER_CHARACTERS: usize = 255;
const REASON_CHARACTERS: usize = 8000;

/// The ledger in a table of an SQL database. Its methods run on the caller's connection, most of them in the caller's
/// transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlLedger<'a> {
    table: &'a str,
}

impl<'a> SqlLedger<'a> {
    /// The ledger in this table.
    pub(crate) fn new(table: &'a str) -> Self {
        Self { table }
    }

    /// Creates the ledger, or its missing columns. Must run outside of any transaction, and sends no DDL when
    /// everything is in place.
    pub(crate) async fn ensure<C: LedgerConnection>(&self, connection: &mut C) -> Result<()> {
        let Some(found) = connection.table_columns(self.table, &table::added_columns()).await? else {
            let sql = table::create_statement::<C::Dialect>(self.table);
            return connection.create("cannot create the ledger", &sql).await;
        };
        for sql in table::add_statements::<C::Dialect>(self.table, &found) {
            connection.create("cannot add the ledger's new columns", &sql).await?;
        }
        Ok(())
    }

    /// Returns the entry of a source that needs no load. Neither waits nor locks, and does not see uncommitted rows.
    pub(crate) async fn find_loaded<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
    ) -> Result<Option<LedgerEntry>> {
        let rows = self.query(connection, "cannot read the ledger", ENTRY, &[id.as_str().into()]).await?;
        Ok(first_entry(&rows)?.filter(|entry| entry.state.is_in_target()))
    }

    /// Whether this content is loaded under any source id. Does not wait.
    pub(crate) async fn has_content<C: LedgerConnection>(&self, connection: &mut C, content_id: &str) -> Result<bool> {
        let rows = self.query(connection, "cannot read the ledger", ORIGINAL, &[content_id.into()]).await?;
        Ok(!rows.is_empty())
    }

    /// Returns the source's entry, and `None` without an entry or without a ledger. Runs outside of any transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], at once, while another transaction holds a claim on the source.
    pub(crate) async fn look_up<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
    ) -> Result<Option<LedgerEntry>> {
        if connection.table_columns(self.table, &[]).await?.is_none() {
            return Ok(None);
        }
        let (doing, params) = ("cannot look the source up in the ledger", [Value::from(id.as_str())]);
        let Some(begin) = C::Dialect::BEGIN_LOOK_UP else {
            return first_entry(&self.query(connection, doing, ENTRY_NOWAIT, &params).await?);
        };
        connection.run(doing, begin).await?;
        let is_new = self.execute(connection, doing, INSERT_LOOK_UP, &params).await?.rows()? == 1;
        let found = match is_new {
            true => None,
            false => first_entry(&self.query(connection, doing, ENTRY_NOWAIT, &params).await?)?,
        };
        connection.run(doing, "ROLLBACK").await?;
        Ok(found)
    }

    /// Claims the source in the open transaction, and its content where that is known. After an error the caller rolls
    /// back.
    pub(crate) async fn claim<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<ClaimResult> {
        if let Some(entry) = self.claim_source(connection, claim).await? {
            connection.roll_back().await;
            return Ok(ClaimResult::AlreadyLoaded(entry));
        }
        let Some(content_id) = claim.content_id else { return Ok(ClaimResult::Claimed) };
        let doing = "cannot claim the content";
        let has_savepoint = C::Dialect::ERROR_ENDS_TRANSACTION;
        if has_savepoint {
            connection.run(doing, "SAVEPOINT content").await?;
        }
        let params = [content_id.into(), claim.source.id.as_str().into()];
        match self.execute(connection, doing, CLAIM_CONTENT, &params).await? {
            Executed::Rows(_) if has_savepoint => {
                connection.run(doing, "RELEASE SAVEPOINT content").await?;
                Ok(ClaimResult::Claimed)
            }
            Executed::Rows(_) => Ok(ClaimResult::Claimed),
            Executed::UniqueViolation(_) => {
                if has_savepoint {
                    connection.run(doing, "ROLLBACK TO SAVEPOINT content").await?;
                }
                self.end_as_duplicate(connection, claim, content_id).await
            }
            Executed::NoTable(error) => Err(error),
        }
    }

    /// Locks the source's row for this attempt, and inserts it where it is missing. Returns the entry of a source that
    /// needs no load.
    async fn claim_source<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<Option<LedgerEntry>> {
        let (doing, source) = ("cannot claim the source", claim.source);
        let params = [
            source.id.as_str().into(),
            (&source.object.bucket).into(),
            (&source.object.key).into(),
            source.object.version_id.as_deref().into(),
            (&source.etag).into(),
            source.size_bytes.into(),
            claim.body_sha256.unwrap_or_default().into(),
            claim.table.into(),
            truncated(claim.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            claim.started_at.into(),
        ];
        // While another transaction is inserting the same row, this waits until it ends, within the lock timeout.
        if self.execute(connection, doing, INSERT, &params).await?.rows()? == 1 {
            return Ok(None);
        }
        let rows = self.query(connection, doing, ENTRY_LOCKED, &[source.id.as_str().into()]).await?;
        let Some(entry) = first_entry(&rows)? else {
            // Another transaction has deleted the row again. Nothing is locked, so nothing may be loaded.
            return Err(Error::new(ErrorKind::Conflict, "the source's ledger row was deleted meanwhile"));
        };
        if entry.state.is_in_target() {
            return Ok(Some(entry));
        }
        self.claim_again(connection, claim).await?;
        Ok(None)
    }

    /// Starts another attempt in the row of a source that fell back or was rejected.
    async fn claim_again<C: LedgerConnection>(&self, connection: &mut C, claim: &Claim<'_>) -> Result<()> {
        let params = [
            claim.body_sha256.unwrap_or_default().into(),
            claim.table.into(),
            truncated(claim.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            claim.started_at.into(),
            claim.source.id.as_str().into(),
        ];
        self.execute(connection, "cannot claim the source again", CLAIM_AGAIN, &params).await?.rows()?;
        Ok(())
    }

    /// Writes the body of a source that was claimed without it, and claims its content.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the content is loaded, or being loaded, under another source id.
    pub(crate) async fn claim_body<C: LedgerConnection>(&self, connection: &mut C, claim: &Claim<'_>) -> Result<()> {
        let params =
            [claim.body_sha256.unwrap_or_default().into(), claim.content_id.into(), claim.source.id.as_str().into()];
        match self.execute(connection, "cannot claim the content", CLAIM_BODY, &params).await? {
            Executed::Rows(_) => Ok(()),
            Executed::UniqueViolation(_) => {
                let message = "the same content is loaded, or being loaded, as another source";
                Err(Error::new(ErrorKind::Conflict, message))
            }
            Executed::NoTable(error) => Err(error),
        }
    }

    /// Claims the table for a claimed source that is to replace it. Two sources cannot hold a table at the same time,
    /// and an older source does not replace a newer one, see `CurrentSource::is_newer_than`.
    pub(crate) async fn claim_table<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
    ) -> Result<ClaimResult> {
        let doing = "cannot claim the table";
        if let Some(row) = self.query(connection, doing, CURRENT, &[claim.table.into()]).await?.first() {
            let (source_id, key, modified_micros) = (row.text(0)?, row.text(1)?, row.optional_integer(2)?);
            let current = CurrentSource { source_id, key, modified_micros };
            if current.is_newer_than(claim.source) {
                return self.end_as_superseded(connection, claim, &current.source_id).await;
            }
            self.execute(connection, doing, RELEASE_TABLE, &[(&current.source_id).into()]).await?.rows()?;
        }
        let params = [claim.table.into(), claim.source.last_modified.into(), claim.source.id.as_str().into()];
        match self.execute(connection, doing, CLAIM_TABLE, &params).await? {
            Executed::Rows(_) => Ok(ClaimResult::Claimed),
            Executed::UniqueViolation(_) => {
                Err(Error::new(ErrorKind::Conflict, "another worker has replaced the table meanwhile"))
            }
            Executed::NoTable(error) => Err(error),
        }
    }

    /// Writes into the claimed row that a newer file has replaced the table, and commits.
    async fn end_as_superseded<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        newer_id: &str,
    ) -> Result<ClaimResult> {
        let doing = "cannot record that the file is superseded";
        let reason = format!("the newer source {newer_id} has replaced the table already");
        let params = [(&reason).into(), claim.source.id.as_str().into()];
        self.execute(connection, doing, SUPERSEDED, &params).await?.rows()?;
        connection.run(doing, "COMMIT").await?;
        let state = LedgerState::Superseded;
        Ok(ClaimResult::AlreadyLoaded(LedgerEntry { state, rows_parsed: 0, rows_stored: 0, moved_to: None }))
    }

    /// Writes into the claimed row that its content is loaded under another source id, and commits.
    async fn end_as_duplicate<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        content_id: &str,
    ) -> Result<ClaimResult> {
        let doing = "cannot record that the file is a duplicate";
        let original = self.query(connection, doing, ORIGINAL, &[content_id.into()]).await?;
        let Some(original) = original.first() else {
            return Err(Error::new(ErrorKind::Conflict, "another worker is loading the same content"));
        };
        let (original_id, rows_parsed) = (original.text(0)?, original.count(1)?);
        let reason = format!("the same content is loaded as source {original_id}");
        let params = [rows_parsed.into(), (&reason).into(), claim.source.id.as_str().into()];
        self.execute(connection, doing, DUPLICATE, &params).await?.rows()?;
        connection.run(doing, "COMMIT").await?;
        let state = LedgerState::Duplicate;
        Ok(ClaimResult::AlreadyLoaded(LedgerEntry { state, rows_parsed, rows_stored: 0, moved_to: None }))
    }

    /// Writes `loaded` and the counts into the claimed row. Only COMMIT is missing then.
    pub(crate) async fn finish<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
        load_mode: &str,
        counts: RowCounts,
    ) -> Result<C::Transaction> {
        let params = [
            load_mode.into(),
            (counts.rows_parsed + counts.rows_rejected).into(),
            counts.rows_stored.into(),
            counts.rows_rejected.into(),
            counts.rows_updated.into(),
            counts.rows_unchanged.into(),
            id.as_str().into(),
        ];
        let transaction =
            connection.execute_last("cannot write the ledger", &self.sql::<C::Dialect>(LOADED), &params).await?;
        transaction.ok_or_else(|| Error::new(ErrorKind::Internal, "the claimed ledger row is missing"))
    }

    /// Writes an outcome other than a load, in its own transaction. A source that is loaded stays loaded.
    pub(crate) async fn record<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        outcome: &LedgerOutcome,
    ) -> Result<()> {
        let doing = "cannot record the file's outcome";
        connection.run(doing, C::Dialect::BEGIN).await?;
        if self.claim_source(connection, claim).await?.is_some() {
            connection.roll_back().await;
            return Ok(());
        }
        let params = [
            outcome.state.name().into(),
            (outcome.rows_parsed + outcome.rows_rejected).into(),
            outcome.rows_stored.into(),
            outcome.rows_rejected.into(),
            truncated(&outcome.reason, REASON_CHARACTERS).into(),
            claim.source.id.as_str().into(),
        ];
        self.execute(connection, doing, OUTCOME, &params).await?.rows()?;
        connection.run(doing, "COMMIT").await
    }

    /// Writes the key that the object was moved to, and the cost. A source without an entry, or without a ledger, is
    /// not an error.
    pub(crate) async fn record_move<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
        moved_to: &str,
        cost_usd: Option<f64>,
    ) -> Result<()> {
        let cost_usd = cost_usd.map(|dollars| format!("{dollars:.6}"));
        let params = [moved_to.into(), cost_usd.as_deref().into(), id.as_str().into()];
        match self.execute(connection, "cannot record the move in the ledger", MOVED, &params).await? {
            Executed::Rows(_) | Executed::NoTable(_) => Ok(()),
            Executed::UniqueViolation(error) => Err(error),
        }
    }

    async fn execute<C: LedgerConnection>(
        &self,
        connection: &mut C,
        doing: &str,
        template: &str,
        params: &[Value<'_>],
    ) -> Result<Executed> {
        connection.execute(doing, &self.sql::<C::Dialect>(template), params).await
    }

    async fn query<C: LedgerConnection>(
        &self,
        connection: &mut C,
        doing: &str,
        template: &str,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        connection.query(doing, &self.sql::<C::Dialect>(template), params).await
    }

    /// A statement in a dialect. The table's name is filled in last, because it may contain anything.
    fn sql<D: Dialect>(&self, template: &str) -> String {
        let mut number = 0;
        let placeholders = template.split_inclusive('?').map(|part| match part.strip_suffix('?') {
            Some(text) => {
                number += 1;
                Cow::Owned(format!("{text}{}", D::placeholder(number)))
            }
            None => Cow::Borrowed(part),
        });
        placeholders
            .collect::<String>()
            .replace("{now}", D::NOW)
            .replace("{or_keep}", D::OR_KEEP)
            .replace("{modified_micros}", D::MODIFIED_MICROS)
            .replace("{ledger}", &D::quoted(self.table))
    }
}

fn first_entry(rows: &[Row]) -> Result<Option<LedgerEntry>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let state = LedgerState::of_name(&row.text(0)?)?;
    let (rows_parsed, rows_stored) = (row.count(1)?, row.count(2)?);
    Ok(Some(LedgerEntry { state, rows_parsed, rows_stored, moved_to: row.optional_text(3)? }))
}
