//! The ledger rows of one object key, and a test of the ledger that changes nothing.

use jiff::Timestamp;
use serde::Serialize;

use super::statements::{HISTORY, INSERT_LOOK_UP, LOADED_VERSIONS};
use super::table_changes::{LISTED_CHARACTERS, cut};
use super::{Dialect, LedgerConnection, LedgerState, LoadDetails, Row, SqlLedger, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, SourceId};

/// A row of the ledger, for people who look for a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// The identity of the object's version.
    pub source_id: String,
    /// The state.
    pub state: LedgerState,
    /// Rows of the file.
    pub rows_parsed: u64,
    /// Rows that were stored in the table or in the fallback.
    pub rows_stored: u64,
    /// Rejected records of the file.
    pub rows_rejected: u64,
    /// The load mode and the other counts.
    #[serde(flatten)]
    pub load: LoadDetails,
    /// Number of attempts that have reached the ledger.
    pub attempt: u64,
    /// When the last attempt started.
    pub started_at: Timestamp,
    /// When its outcome was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// The key that the object was moved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The reason for an outcome other than a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the table was changed for the source, at most 1,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_changes: Option<String>,
}

/// A version of an object that needs no load, see [`LedgerState::needs_no_load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneVersion {
    /// Its identity.
    pub source_id: String,
    /// Its key.
    pub key: String,
    /// The version id, in a versioned bucket.
    pub version_id: Option<String>,
    /// The ETag, including its quotes.
    pub etag: String,
    /// The size in bytes.
    pub size_bytes: u64,
}

impl SqlLedger<'_> {
    /// Returns the versions of these keys with one of these ETags that need no load, and none without a ledger. Locks
    /// nothing.
    pub(crate) async fn loaded_versions<C: LedgerConnection>(
        &self,
        connection: &mut C,
        bucket: &str,
        keys: &[&str],
        etags: &[&str],
    ) -> Result<Vec<DoneVersion>> {
        if keys.is_empty() || etags.is_empty() || !self.exists(connection).await? {
            return Ok(Vec::new());
        }
        let list = |count: usize| vec!["?"; count].join(", ");
        let sql =
            format!("{LOADED_VERSIONS} AND object_key IN ({}) AND etag IN ({})", list(keys.len()), list(etags.len()));
        let params: Vec<Value<'_>> = [bucket].iter().chain(keys).chain(etags).map(|text| (*text).into()).collect();
        self.query(connection, "cannot read the ledger", &sql, &params).await?.iter().map(loaded_version).collect()
    }

    /// Returns the latest rows of an object's key, newest first, and none without a ledger. Locks nothing.
    pub(crate) async fn history<C: LedgerConnection>(
        &self,
        connection: &mut C,
        object: &ObjectRef,
    ) -> Result<Vec<HistoryEntry>> {
        let Some(columns) = self.listed_columns(connection).await? else { return Ok(Vec::new()) };
        let sql = columns.select(HISTORY);
        let params = [(&object.bucket).into(), (&object.key).into()];
        self.query(connection, "cannot read the ledger", &sql, &params).await?.iter().map(history_entry).collect()
    }

    /// Whether the ledger's table exists.
    pub(crate) async fn exists<C: LedgerConnection>(&self, connection: &mut C) -> Result<bool> {
        Ok(connection.table_columns(self.table, &[]).await?.is_some())
    }

    /// Inserts a row into the existing ledger, and rolls back.
    pub(crate) async fn try_insert<C: LedgerConnection>(&self, connection: &mut C, id: &SourceId) -> Result<()> {
        let context = "cannot write the ledger";
        connection.run(context, C::Dialect::BEGIN).await?;
        let inserted = self.execute(connection, context, INSERT_LOOK_UP, &[id.as_str().into()]).await;
        connection.roll_back().await;
        inserted?.rows().map(drop)
    }
}

fn loaded_version(row: &Row) -> Result<DoneVersion> {
    Ok(DoneVersion {
        source_id: row.text(0)?,
        key: row.text(1)?,
        version_id: row.optional_text(2)?,
        etag: row.text(3)?,
        size_bytes: row.count(4)?,
    })
}

fn history_entry(row: &Row) -> Result<HistoryEntry> {
    Ok(HistoryEntry {
        source_id: row.text(0)?,
        state: LedgerState::from_name(&row.text(1)?)?,
        rows_parsed: row.count(2)?,
        rows_stored: row.count(3)?,
        rows_rejected: row.count(4)?,
        load: LoadDetails::read(row, 11)?,
        attempt: row.count(5)?,
        started_at: row.optional_integer(6)?.map(time).transpose()?.unwrap_or(Timestamp::UNIX_EPOCH),
        committed_at: row.optional_integer(7)?.map(time).transpose()?,
        moved_to: row.optional_text(8)?,
        reason: row.optional_text(9)?,
        table_changes: listed_changes(row, 10)?,
    })
}

/// Returns the changes that a list shows.
pub(super) fn listed_changes(row: &Row, index: usize) -> Result<Option<String>> {
    Ok(row.optional_text(index)?.map(|text| cut(&text, LISTED_CHARACTERS).into_owned()))
}

pub(super) fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| Error::new(ErrorKind::Internal, "the ledger contains an invalid time").with_source(error))
}
