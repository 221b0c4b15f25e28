//! The ledger in a table of an SQL database: creating it, reading entries and writing outcomes.
//!
//! Claims are in [`super::claim`].

use std::borrow::Cow;

use tracing::warn;

use super::attempts_table::create_attempts;
use super::history::time;
#[cfg(test)]
use super::statements::{
    ATTEMPT_AGAIN, ATTEMPT_INSERT, ATTEMPT_RUNS, HISTORY, LEDGER_RUNS, LOADED_VERSIONS, SYNC_AGAIN, SYNC_INSERT,
    SYNC_WATERMARK, SYNCS,
};
use super::statements::{
    COST, CURRENT, ENTRY, INSERT_LOOK_UP, LOADED, LOCKED_NOWAIT, MODE, MORE_LAKE_KEY, MORE_ROWS_DELETED,
    MORE_ROWS_MISSING, MOVED, NO_MODE, ORIGINAL, OUTCOME,
};
use super::table::LedgerColumns;
use super::{
    Claim, Dialect, ExecuteResult, LedgerConnection, LedgerEntry, LedgerOutcome, LedgerState, ObjectPlace,
    REASON_CHARACTERS, Row, RowCounts, TableChangesColumn, Value, table, truncated,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::{ObjectRef, SourceId};

/// A load that is about to be committed, as the ledger stores it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded<'a> {
    /// The load mode, or `lake` if no row is in the database.
    pub(crate) load_mode: &'a str,
    /// The row counts.
    pub(crate) counts: RowCounts,
    /// The key of the object with the rows in the lake, if there is one.
    pub(crate) lake_key: Option<&'a str>,
    /// The columns of the ledger that the load writes.
    pub(crate) columns: LedgerColumns,
    /// The changes of the table. They are empty if the ledger lacks the column for them.
    pub(crate) table_changes: &'a [String],
}

/// The ledger in a table of an SQL database. Its methods use the caller's connection, and most of them the caller's
/// open transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlLedger<'a> {
    pub(super) table: &'a str,
}

impl<'a> SqlLedger<'a> {
    /// Returns the ledger in this table.
    pub(crate) fn new(table: &'a str) -> Self {
        Self { table }
    }

    /// Returns the query for the entry of a source. Its parameter is the source's id.
    pub(crate) fn entry_query<D: Dialect>(&self) -> String {
        self.sql::<D>(&ENTRY.replace("{mode}", NO_MODE))
    }

    /// Returns the query for the source that was the last to replace a table. Its parameter is the text in `current_of`.
    pub(crate) fn current_query<D: Dialect>(&self) -> String {
        self.sql::<D>(CURRENT)
    }

    /// Returns the statements that create the ledger and the attempt history, unless they exist.
    pub(crate) fn create_statements<D: Dialect>(&self) -> [String; 2] {
        [table::create_statement::<D>(self.table), create_attempts::<D>(&self.attempts_table())]
    }

    /// Creates the ledger, or its missing columns, outside of any transaction. Sends no DDL when nothing is missing, and nothing at
    /// all when this connection has done the same before.
    pub(crate) async fn ensure<C: LedgerConnection>(&self, connection: &mut C, columns: LedgerColumns) -> Result<()> {
        if connection.checked_ledger().covers(self.table, columns) {
            return Ok(());
        }
        self.create_or_extend(connection, columns).await?;
        connection.checked_ledger().note(self.table, columns);
        Ok(())
    }

    async fn create_or_extend<C: LedgerConnection>(&self, connection: &mut C, columns: LedgerColumns) -> Result<()> {
        let Some(found) = connection.table_columns(self.table, &columns.names()).await? else {
            let sql = table::create_statement::<C::Dialect>(self.table);
            connection.create("cannot create the ledger", &sql).await?;
            if let Err(error) = self.create_attempts(connection).await {
                warn!(error = %chain(&error), "the attempt history was not created; failed attempts are only in the log");
            }
            return Ok(());
        };
        for sql in table::add_statements::<C::Dialect>(self.table, columns, &found) {
            connection.create("cannot add the ledger's new columns", &sql).await?;
        }
        Ok(())
    }

    /// Returns the committed entry of a source that needs no load. Does not lock the row or wait for a lock. The ledger must have
    /// all columns, see [`Self::ensure`].
    pub(crate) async fn find_done<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
    ) -> Result<Option<LedgerEntry>> {
        let entry = self.query_entry(connection, "cannot read the ledger", (MODE, ""), id).await?;
        Ok(entry.filter(|entry| entry.state.needs_no_load()))
    }

    /// Like [`Self::find_done`], but the ledger may be of an earlier version. Then the load mode is unknown.
    pub(crate) async fn inspect_loaded<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
    ) -> Result<Option<LedgerEntry>> {
        let found = connection.table_columns(self.table, &[MODE]).await?;
        let mode = if found.is_some_and(|columns| !columns.is_empty()) { MODE } else { NO_MODE };
        let entry = self.query_entry(connection, "cannot read the ledger", (mode, ""), id).await?;
        Ok(entry.filter(|entry| entry.state.needs_no_load()))
    }

    /// Whether this content is loaded under any source id. Does not wait for a lock.
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
        let context = "cannot look up the source in the ledger";
        let Some(begin) = C::Dialect::BEGIN_LOOK_UP else {
            return self.query_entry(connection, context, (NO_MODE, LOCKED_NOWAIT), id).await;
        };
        connection.run(context, begin).await?;
        let is_new = self.execute(connection, context, INSERT_LOOK_UP, &[id.as_str().into()]).await?.rows()? == 1;
        let found = match is_new {
            true => None,
            false => self.query_entry(connection, context, (NO_MODE, LOCKED_NOWAIT), id).await?,
        };
        connection.run(context, "ROLLBACK").await?;
        Ok(found)
    }

    /// Writes `loaded` and the counts into the claimed row. The next statement must be COMMIT.
    pub(crate) async fn record_loaded<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
        loaded: &Loaded<'_>,
    ) -> Result<C::Transaction> {
        self.record_changes(connection, id, loaded.table_changes).await?;
        let counts = loaded.counts;
        let mut params = vec![
            loaded.load_mode.into(),
            (counts.rows_parsed + counts.rows_rejected).into(),
            counts.rows_stored.into(),
            counts.rows_rejected.into(),
            counts.rows_updated.into(),
            counts.rows_unchanged.into(),
        ];
        let mut more = String::new();
        if let Some(lake_key) = loaded.lake_key {
            more += MORE_LAKE_KEY;
            params.push(lake_key.into());
        }
        if loaded.columns.deletes {
            more += MORE_ROWS_DELETED;
            params.push(counts.rows_deleted.into());
        }
        if loaded.columns.missing {
            more += MORE_ROWS_MISSING;
            params.push(counts.rows_missing.into());
        }
        params.push(id.as_str().into());
        let sql = self.sql::<C::Dialect>(&LOADED.replace("{more}", &more));
        let transaction = connection.execute_last("cannot write the ledger", &sql, &params).await?;
        transaction.ok_or_else(|| Error::new(ErrorKind::Internal, "the claimed ledger row is missing"))
    }

    /// Writes an outcome other than a load, in its own transaction, with the changes of the table that the attempt has made
    /// before. A source that is loaded stays loaded.
    pub(crate) async fn record<C: LedgerConnection>(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        outcome: &LedgerOutcome,
        changes: &[String],
    ) -> Result<()> {
        let context = "cannot record the file's outcome";
        let is_listed =
            !changes.is_empty() && self.changes_column(connection).await? == Some(TableChangesColumn::Present);
        connection.run(context, C::Dialect::BEGIN).await?;
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
        self.execute(connection, context, OUTCOME, &params).await?.rows()?;
        if is_listed {
            self.record_changes(connection, &claim.source.id, changes).await?;
        }
        connection.run(context, "COMMIT").await
    }

    /// Writes the place of the object, and the cost. Does nothing without an entry or without a ledger.
    pub(crate) async fn record_move<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
        place: ObjectPlace<'_>,
        cost_usd: Option<f64>,
    ) -> Result<()> {
        let cost_usd = cost_usd.map(|dollars| format!("{dollars:.6}"));
        let (context, cost_usd, id) =
            ("cannot record the move in the ledger", cost_usd.as_deref().into(), id.as_str().into());
        let result = match place {
            ObjectPlace::MovedTo(key) => self.execute(connection, context, MOVED, &[key.into(), cost_usd, id]).await?,
            ObjectPlace::Deleted => {
                self.execute(connection, context, MOVED, &[Value::Text(None), cost_usd, id]).await?
            }
            ObjectPlace::Kept => self.execute(connection, context, COST, &[cost_usd, id]).await?,
        };
        match result {
            ExecuteResult::Rows(_) | ExecuteResult::NoTable(_) => Ok(()),
            ExecuteResult::UniqueViolation(error) => Err(error),
        }
    }

    /// Returns every statement about single rows that needs no open transaction, with its placeholders.
    #[cfg(test)]
    pub(crate) fn templates<D: Dialect>(&self) -> Vec<String> {
        let runs =
            " AND object_key LIKE ? ESCAPE '!' AND started_at >= ? ORDER BY started_at DESC, source_id DESC LIMIT 21";
        let lists = " AND object_key IN (?, ?) AND etag IN (?, ?)";
        let columns = super::load_details::ListedColumns::all();
        let templates = [
            ORIGINAL.to_owned(),
            columns.select(HISTORY),
            columns.select(LEDGER_RUNS) + runs,
            ATTEMPT_RUNS.to_owned() + runs,
            LOADED_VERSIONS.to_owned() + lists,
            COST.to_owned(),
            MOVED.to_owned(),
            ATTEMPT_AGAIN.to_owned(),
            ATTEMPT_INSERT.to_owned(),
            SYNCS.to_owned(),
            SYNC_AGAIN.to_owned(),
            SYNC_INSERT.to_owned(),
            SYNC_WATERMARK.to_owned(),
            D::DELETE_OLD_ATTEMPTS.to_owned(),
        ];
        templates.iter().map(|template| self.sql::<D>(template)).collect()
    }

    pub(super) async fn execute<C: LedgerConnection>(
        &self,
        connection: &mut C,
        context: &str,
        template: &str,
        params: &[Value<'_>],
    ) -> Result<ExecuteResult> {
        connection.execute(context, &self.sql::<C::Dialect>(template), params).await
    }

    /// Returns the entry of a source. `mode` is [`MODE`] or [`NO_MODE`], and `lock` is the end of the statement that says how the row is
    /// locked.
    pub(super) async fn query_entry<C: LedgerConnection>(
        &self,
        connection: &mut C,
        context: &str,
        (mode, lock): (&str, &str),
        id: &SourceId,
    ) -> Result<Option<LedgerEntry>> {
        let template = ENTRY.replace("{mode}", mode) + lock;
        self.query(connection, context, &template, &[id.as_str().into()]).await?.first().map(entry).transpose()
    }

    pub(super) async fn query<C: LedgerConnection>(
        &self,
        connection: &mut C,
        context: &str,
        template: &str,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        connection.query(context, &self.sql::<C::Dialect>(template), params).await
    }

    /// Returns a statement in a dialect. Inserted names are not searched for placeholders, which a table's name may contain.
    fn sql<D: Dialect>(&self, template: &str) -> String {
        let mut sql = String::with_capacity(2 * template.len());
        let mut number = 0;
        for part in template.split_inclusive(['?', '}']) {
            if let Some(text) = part.strip_suffix('?') {
                number += 1;
                sql += text;
                sql += &D::placeholder(number);
            } else if let Some((text, name)) = part.strip_suffix('}').and_then(|part| part.split_once('{')) {
                sql += text;
                sql += &self.inserted::<D>(name);
            } else {
                sql += part;
            }
        }
        sql
    }

    /// Returns the text for a name in braces.
    fn inserted<D: Dialect>(&self, name: &str) -> Cow<'static, str> {
        match (name, name.strip_prefix("micros:")) {
            ("now", _) => D::NOW.into(),
            ("or_keep", _) => D::OR_KEEP.into(),
            ("ledger", _) => D::quoted(self.table).into(),
            ("attempts", _) => D::quoted(&self.attempts_table()).into(),
            ("syncs", _) => D::quoted(&self.syncs_table()).into(),
            (_, Some(column)) => D::micros(column).into(),
            (_, None) => format!("{{{name}}}").into(),
        }
    }
}

/// Returns the entry in a row of [`SqlLedger::entry_query`].
pub(crate) fn entry(row: &Row) -> Result<LedgerEntry> {
    let state = LedgerState::from_name(&row.text(0)?)?;
    Ok(LedgerEntry {
        state,
        rows_parsed: row.count(1)?,
        rows_stored: row.count(2)?,
        moved_to: row.optional_text(3)?,
        object: ObjectRef::new(row.text(4)?, row.text(5)?),
        committed_at: row.optional_integer(6)?.map(time).transpose()?,
        reason: row.optional_text(7)?,
        load_mode: row.optional_text(8)?.filter(|mode| !mode.is_empty()),
        replaced_by: None,
    })
}
