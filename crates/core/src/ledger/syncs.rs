//! The watermarks of syncs: a table beside the ledger with one row per bucket and table.
//!
//! A watermark narrows the listing of the next sync. It decides nothing: the ledger alone says which files are loaded. So a
//! lost or an old watermark only makes a listing longer.

use jiff::Timestamp;
use serde::Serialize;

use super::history::time;
use super::statements::{SYNC_AGAIN, SYNC_INSERT, SYNC_WATERMARK, SYNCS};
use super::table::{Column, create_table, definition};
use super::{ExecuteResult, LedgerConnection, Row, SqlLedger, SqlType, Value, WORKER_CHARACTERS, truncated};
use crate::error::Result;
use crate::object::hash_parts;
use crate::pattern;

/// The columns of the table. They have the names of the ledger's columns where they mean the same.
const COLUMNS: [Column; 10] = [
    // A hash of bucket and table.
    ("sync_id", SqlType::Hash, "NOT NULL"),
    ("bucket", SqlType::Text(255), "NOT NULL"),
    ("target_table", SqlType::Text(64), "NOT NULL"),
    ("watermark", SqlType::Time, "NULL"),
    ("started_at", SqlType::Time, "NOT NULL"),
    ("ended_at", SqlType::Time, "NOT NULL"),
    ("files_listed", SqlType::Count, "NOT NULL"),
    ("files_remaining", SqlType::Count, "NOT NULL"),
    ("worker", SqlType::Text(255), "NOT NULL"),
    ("tool_version", SqlType::Text(32), "NOT NULL"),
];

/// The watermark of a table, and its last sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncState {
    /// The bucket.
    #[serde(skip)]
    pub bucket: String,
    /// The table.
    pub table: String,
    /// Every listed file before this time is done: the start of a sync, or the time of its oldest remaining file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// When the last sync started.
    pub started_at: Timestamp,
    /// When the last sync ended. While a sync runs, and if it died, this is `started_at` or earlier.
    pub ended_at: Timestamp,
    /// Number of files in its window.
    pub files: u64,
    /// Number of those files that remain: they failed, or a worker still loads them.
    pub remaining: u64,
    /// The worker.
    #[serde(skip)]
    pub worker: String,
}

impl SyncState {
    fn id(&self) -> String {
        hash_parts(&[&self.bucket, &self.table])
    }
}

impl SqlLedger<'_> {
    /// The name of the table with the watermarks.
    pub(super) fn syncs_table(&self) -> String {
        pattern::syncs_table(self.table)
    }

    /// Returns the states of a bucket's syncs, and none if no sync has run. Reads only, and locks nothing.
    pub(crate) async fn syncs<C: LedgerConnection>(&self, connection: &mut C, bucket: &str) -> Result<Vec<SyncState>> {
        if connection.table_columns(&self.syncs_table(), &[]).await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = self.query(connection, "cannot read the watermarks", SYNCS, &[bucket.into()]).await?;
        rows.iter().map(|row| sync_state(row, bucket)).collect()
    }

    /// Writes the start or the end of a sync, and its watermark if it has one, outside of any transaction. Creates the table if it is
    /// missing. A watermark never moves back.
    pub(crate) async fn record_sync<C: LedgerConnection>(&self, connection: &mut C, sync: &SyncState) -> Result<()> {
        let (context, id) = ("cannot record the sync", sync.id());
        let mut params: Vec<Value<'_>> = vec![
            sync.started_at.into(),
            sync.ended_at.into(),
            sync.files.into(),
            sync.remaining.into(),
            truncated(&sync.worker, WORKER_CHARACTERS).into(),
            env!("CARGO_PKG_VERSION").into(),
            (&id).into(),
        ];
        let changed = self.execute(connection, context, SYNC_AGAIN, &params).await?;
        if let ExecuteResult::NoTable(_) = changed {
            self.create_syncs(connection).await?;
        }
        if !matches!(changed, ExecuteResult::Rows(1)) {
            params.extend([Value::from(&sync.bucket), Value::from(&sync.table)]);
            match self.execute(connection, context, SYNC_INSERT, &params).await? {
                // Another worker has inserted the row in the meantime.
                ExecuteResult::Rows(_) | ExecuteResult::UniqueViolation(_) => {}
                ExecuteResult::NoTable(error) => return Err(error),
            }
        }
        let Some(watermark) = sync.watermark else { return Ok(()) };
        let params = [watermark.into(), (&id).into(), watermark.into()];
        self.execute(connection, "cannot move the watermark", SYNC_WATERMARK, &params).await?.rows().map(drop)
    }

    async fn create_syncs<C: LedgerConnection>(&self, connection: &mut C) -> Result<()> {
        let columns: Vec<String> = COLUMNS.iter().map(definition::<C::Dialect>).collect();
        let sql = create_table::<C::Dialect>(&self.syncs_table(), &columns, "PRIMARY KEY (sync_id)", &[]);
        connection.create("cannot create the table of the watermarks", &sql).await
    }
}

fn sync_state(row: &Row, bucket: &str) -> Result<SyncState> {
    let at = |index: usize| row.optional_integer(index)?.map_or(Ok(Timestamp::UNIX_EPOCH), time);
    Ok(SyncState {
        bucket: bucket.to_owned(),
        table: row.text(0)?,
        watermark: row.optional_integer(1)?.map(time).transpose()?,
        started_at: at(2)?,
        ended_at: at(3)?,
        files: row.count(4)?,
        remaining: row.count(5)?,
        worker: row.text(6)?,
    })
}
