//! Amazon Redshift: rows go to S3 as Parquet, and one transaction of the Data API copies them into their table.
//!
//! A worker keeps no connection. It sends a transaction as a list of statements, and the Data API runs it on its own, also after
//! the worker has died. So a claim cannot be an open transaction. It is a fence instead:
//!
//! 1. [`Destination::begin`] reads the fence of the source.
//! 2. The transaction of the load fails unless the fence is still the same, and unless the source still needs a load.
//! 3. [`Destination::look_up`] writes a new fence. So no transaction that was sent before can be committed after it.
//!
//! Redshift enforces no unique key. All transactions that write therefore lock one table first, and run one after the other.
//! The load modes `mirror` and `changes`, changes of existing tables and the lake are deliberately absent.

mod client;
mod column;
mod failure;
mod inspect;
mod key;
mod ledger;
mod literal;
mod load;
mod merge;
mod plan;
mod probe;
mod settings;
mod sql;
mod write;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use futures_util::future::{BoxFuture, FutureExt};
use jiff::Timestamp;

use super::database::claim_of;
use super::{
    AttemptRecord, AttemptsMaintenance, Begun, Body, Claimed, Destination, DestinationOptions, DoneVersion, FileClaim,
    FileSchema, HistoryEntry, Inspection, LedgerEntry, LedgerOutcome, LedgerState, ObjectPlace, Probe, RunFilter,
    RunPage, SyncState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Claim, REASON_CHARACTERS, SqlLedger, WORKER_CHARACTERS, truncated};
use crate::object::{ObjectRef, SourceId};
use crate::store::Store;
use client::{Client, Limit, Transaction};
use column::columns_query;
use failure::{is_missing_table, rolled_back};
use ledger::{CHANGE_LIMIT, RedshiftDialect, Session, queries, random};
use literal::bind;
use sql::{LedgerRow, LedgerTables, Statements, Step};

#[cfg(test)]
pub(crate) use sql::tests::statements as redshift_statements;

pub use settings::{RedshiftKeys, RedshiftLogin, RedshiftServer, RedshiftSettings};

/// Number of bytes of the literals in one query for loaded versions. A statement has at most 100 KB.
const MAX_QUERY_BYTES: usize = 64 << 10;

/// A Redshift database, with the clients that reach it. Clones share them.
#[derive(Debug, Clone)]
pub struct RedshiftDatabase {
    client: Client,
    store: Store,
    /// The ledgers that are known to exist.
    ledgers: Arc<Mutex<HashSet<String>>>,
}

impl RedshiftDatabase {
    /// Returns the database. Nothing is sent yet.
    pub fn new(config: &SdkConfig, store: Store, settings: RedshiftSettings) -> Self {
        Self { client: Client::new(config, settings), store, ledgers: Arc::default() }
    }

    /// Returns the destination for these options.
    pub fn open(&self, options: DestinationOptions) -> Box<dyn Destination> {
        let tables = LedgerTables::new(&options.ledger_table);
        Box::new(Arc::new(Redshift { database: self.clone(), options, tables }))
    }
}

/// A Redshift database with the options of one table.
#[derive(Debug)]
struct Redshift {
    database: RedshiftDatabase,
    options: DestinationOptions,
    tables: LedgerTables,
}

impl Redshift {
    fn client(&self) -> &Client {
        &self.database.client
    }

    fn session(&self) -> Session<'_> {
        Session::new(self.client(), &self.tables)
    }

    fn ledger(&self) -> SqlLedger<'_> {
        SqlLedger::new(&self.options.ledger_table)
    }

    /// Creates the ledger if it is missing.
    async fn ensure_ledger(&self) -> Result<()> {
        let name = &self.options.ledger_table;
        if self.has_noted(name) || self.has_ledger().await? {
            self.note(name);
            return Ok(());
        }
        let mut sqls = self.ledger().create_statements::<RedshiftDialect>().to_vec();
        sqls.extend(self.tables.create());
        let created = self.client().transaction(&sqls, &random(), Limit::Time(CHANGE_LIMIT)).await;
        match created {
            Transaction::Committed(_) => {}
            // Another worker may have created it at the same moment.
            Transaction::RolledBack(failed) => {
                if !self.has_ledger().await? {
                    let error = rolled_back("cannot create the ledger", &failed, &[]);
                    let kind = if error.kind() == ErrorKind::DataRefused { ErrorKind::Conflict } else { error.kind() };
                    return Err(Error::new(kind, "cannot create the ledger").with_source(error));
                }
            }
            Transaction::Refused(error) | Transaction::Unknown(error) => return Err(error),
        }
        self.note(name);
        Ok(())
    }

    /// Whether the ledger exists. Its last table is created last.
    async fn has_ledger(&self) -> Result<bool> {
        let [_, lock] = LedgerTables::own_names(&self.options.ledger_table);
        let sql = columns_query(&lock.as_str().into());
        Ok(!queries(self.client(), "cannot look for the ledger", &[sql]).await?.swap_remove(0).is_empty())
    }

    fn has_noted(&self, name: &str) -> bool {
        self.database.ledgers.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn note(&self, name: &str) {
        self.database.ledgers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Runs a transaction that waits for the loads before it. Returns `false` if the source needs no load any more.
    async fn change(&self, context: &str, statements: Statements) -> Result<bool> {
        let (steps, sqls): (Vec<Step>, Vec<String>) = statements.into_iter().unzip();
        match self.client().transaction(&sqls, &random(), Limit::Time(CHANGE_LIMIT)).await {
            Transaction::Committed(_) => Ok(true),
            Transaction::RolledBack(failed) => {
                let step = failed.statement.and_then(|index| steps.get(index));
                let error = rolled_back(context, &failed, &steps);
                let is_guarded = step == Some(&Step::GuardSource) && error.kind() == ErrorKind::Conflict;
                if is_guarded { Ok(false) } else { Err(error) }
            }
            Transaction::Refused(error) | Transaction::Unknown(error) => Err(error),
        }
    }

    /// Ends all earlier claims on a source. Returns its entry; `None` if the entry or the ledger does not exist.
    async fn fence_off(&self, source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        let context = "cannot look up the source in the ledger";
        let mut statements = self.tables.fence_off(source_id.as_str(), &random());
        let entry = bind(&self.ledger().entry_query::<RedshiftDialect>(), &[source_id.as_str().into()]);
        let place = statements.len();
        statements.push((Step::Ledger, entry));
        let (steps, sqls): (Vec<Step>, Vec<String>) = statements.into_iter().unzip();
        match self.client().transaction(&sqls, &random(), Limit::Time(CHANGE_LIMIT)).await {
            Transaction::Committed(committed) => {
                let rows = self.client().rows(&committed, place).await?;
                rows.first().map(crate::ledger::entry).transpose()
            }
            // Without a ledger no load was sent: a load creates it first.
            Transaction::RolledBack(failed) if is_missing_table(&failed.message) => Ok(None),
            Transaction::RolledBack(failed) => Err(rolled_back(context, &failed, &steps)),
            Transaction::Refused(error) | Transaction::Unknown(error) => Err(error),
        }
    }

    /// Writes an outcome other than a load, unless the source needs no load any more.
    async fn record_outcome(&self, claim: &Claim<'_>, outcome: &LedgerOutcome, changes: &str) -> Result<()> {
        let sql = self.tables.attempt_query(claim.source.id.as_str());
        let found = queries(self.client(), "cannot read the ledger", &[sql]).await?.swap_remove(0);
        let attempts = found.first().map(|row| row.count(0)).transpose()?.unwrap_or(0);
        let row = LedgerRow {
            state: outcome.state,
            attempt: attempts + 1,
            rows_parsed: outcome.rows_parsed + outcome.rows_rejected,
            rows_stored: outcome.rows_stored,
            rows_rejected: outcome.rows_rejected,
            load_mode: None,
            reason: Some(truncated(&outcome.reason, REASON_CHARACTERS)),
            table_changes: Some(changes).filter(|changes| !changes.is_empty()),
            current_of: None,
        };
        let worker = truncated(claim.worker, WORKER_CHARACTERS);
        let claim = Claim { worker, ..*claim };
        self.change("cannot record the file's outcome", self.tables.outcome(&claim, &row)).await.map(drop)
    }
}

/// The changes of a table as the ledger lists them.
fn listed_changes(file: &FileClaim) -> String {
    file.table_changes.reported().join("; ")
}

impl Destination for Arc<Redshift> {
    fn begin<'a>(&'a self, file: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>> {
        load::begin(self, file, schema).boxed()
    }

    fn claim<'a>(&'a self, _: &'a FileClaim, _: &'a Body) -> BoxFuture<'a, Result<Claimed>> {
        let message = "rows for the lake alone need a ledger in another database than Redshift; set OUTPUT=database";
        async move { Err(Error::new(ErrorKind::Settings, message)) }.boxed()
    }

    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>> {
        self.fence_off(source_id).boxed()
    }

    fn history<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<Vec<HistoryEntry>>> {
        async move { self.ledger().history(&mut self.session(), object).await }.boxed()
    }

    fn runs<'a>(&'a self, filter: &'a RunFilter) -> BoxFuture<'a, Result<RunPage>> {
        async move { self.ledger().runs(&mut self.session(), filter).await }.boxed()
    }

    fn record_attempt<'a>(&'a self, attempt: &'a AttemptRecord) -> BoxFuture<'a, Result<()>> {
        async move {
            self.ensure_ledger().await?;
            self.ledger().record_attempt(&mut self.session(), attempt).await
        }
        .boxed()
    }

    fn syncs<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<Vec<SyncState>>> {
        async move { self.ledger().syncs(&mut self.session(), bucket).await }.boxed()
    }

    fn record_sync<'a>(&'a self, sync: &'a SyncState) -> BoxFuture<'a, Result<()>> {
        async move {
            self.ensure_ledger().await?;
            self.ledger().record_sync(&mut self.session(), sync).await
        }
        .boxed()
    }

    fn maintain_attempts(&self, before: Timestamp) -> BoxFuture<'_, Result<AttemptsMaintenance>> {
        async move {
            match self.has_ledger().await? {
                true => self.ledger().delete_attempts_before(&mut self.session(), before).await,
                false => Ok(AttemptsMaintenance::default()),
            }
        }
        .boxed()
    }

    fn inspect<'a>(&'a self, file: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Inspection>> {
        inspect::inspect(self, file, schema).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probe>> {
        probe::probe(self).boxed()
    }

    fn record<'a>(&'a self, file: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>> {
        async move {
            self.ensure_ledger().await?;
            let claim = Claim { body_sha256: outcome.body_sha256.as_deref(), ..claim_of(file, None) };
            self.record_outcome(&claim, outcome, &listed_changes(file)).await
        }
        .boxed()
    }

    fn loaded_versions<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [&'a str],
        etags: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<DoneVersion>>> {
        async move {
            let mut found = Vec::new();
            for (keys, etags) in chunks(keys, etags) {
                found.extend(self.ledger().loaded_versions(&mut self.session(), bucket, keys, etags).await?);
            }
            Ok(found)
        }
        .boxed()
    }

    fn record_move<'a>(
        &'a self,
        source_id: &'a SourceId,
        place: ObjectPlace<'a>,
        cost_usd: Option<f64>,
    ) -> BoxFuture<'a, Result<()>> {
        async move { self.ledger().record_move(&mut self.session(), source_id, place, cost_usd).await }.boxed()
    }

    fn drop_stale_staging<'a>(&'a self, _: Duration, _: &'a [SourceId]) -> BoxFuture<'a, Result<Vec<String>>> {
        // Its staging tables end with their transactions.
        async move { Ok(Vec::new()) }.boxed()
    }
}

/// Returns pairs of parts of both lists, so that each combination is in one pair and no query is too long.
fn chunks<'a>(keys: &'a [&'a str], etags: &'a [&'a str]) -> Vec<(&'a [&'a str], &'a [&'a str])> {
    let parts = |texts: &'a [&'a str]| {
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0) + 4;
        texts.chunks((MAX_QUERY_BYTES / 2 / longest).max(1)).collect::<Vec<_>>()
    };
    let etags = parts(etags);
    parts(keys).into_iter().flat_map(|keys| etags.iter().map(move |etags| (keys, *etags))).collect()
}

/// The ledger entry of a source whose content is loaded as another source, with its outcome.
fn duplicate_outcome(entry: &LedgerEntry, body: &Body) -> LedgerOutcome {
    LedgerOutcome {
        state: LedgerState::Duplicate,
        body_sha256: Some(body.sha256.clone()),
        rows_parsed: entry.rows_parsed,
        rows_stored: 0,
        rows_rejected: 0,
        reason: entry.reason.clone().unwrap_or_default(),
    }
}

/// The ledger entry of a source that a newer file supersedes, with its outcome.
fn superseded_outcome(entry: &LedgerEntry, body: &Body) -> LedgerOutcome {
    LedgerOutcome {
        state: LedgerState::Superseded,
        body_sha256: Some(body.sha256.clone()),
        rows_parsed: 0,
        rows_stored: 0,
        rows_rejected: 0,
        reason: entry.reason.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_of_keys_and_etags_is_asked_once() {
        let texts: Vec<String> = (0..1000).map(|number| format!("{number:0>1000}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let chunks = chunks(&texts, &texts[..100]);
        assert_eq!(chunks.iter().map(|(keys, etags)| keys.len() * etags.len()).sum::<usize>(), 100_000);
        assert!(chunks.iter().all(|(keys, etags)| (keys.len() + etags.len()) * 1004 <= MAX_QUERY_BYTES));
    }
}
