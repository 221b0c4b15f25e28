//! PostgreSQL: rows by COPY FROM STDIN, and their ledger row, in one transaction.
//!
//! One connection per session, no pool, and no retry: that is the caller's. A transaction may be of any size here, and so may what a
//! file replaces or merges in it: what is rolled back costs nothing and hinders nobody, so nothing is ever committed in
//! chunks. Rows that are merged wait in a temporary table of the same transaction. The driver's types stay in this room.

mod check;
mod column;
pub(super) mod connect;
mod copy;
mod encoding;
mod failure;
mod key;
mod ledger;
mod ledger_table;
mod merge;
mod rejection;
mod replace;
mod table;
mod unsupported;

use std::time::Duration;

use crate::config::{Credentials, DestinationOptions, LoadMode};
use crate::destination::column::types_unknown;
use crate::destination::idle::{Idle, Reusable};
use crate::destination::limits::Phase;
use crate::destination::rows::Rows;
use crate::destination::{Body, Claim, Claimed, CommitResult, Destination, LedgerEntry, LedgerOutcome, Loaded};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;
use crate::object::SourceId;
use crate::schema::Schema;

use column::TargetColumn;
use connect::Connection;
use failure::{failure, leaves_commit_open};
use ledger::{BEGIN, ClaimResult, Ledger, commit_statement, transaction_outcome};
use merge::Merge;
use table::Ready;

/// COMMIT waits for the log to be written, and for a standby where there is one.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// A PostgreSQL database as a target. Each call that needs a connection takes the idle one or opens another.
#[derive(Debug, Clone)]
pub struct PostgresDestination {
    credentials: Credentials,
    options: DestinationOptions,
    table: String,
    idle: Idle<Connection>,
}

impl PostgresDestination {
    /// A target that loads into `table`.
    pub fn new(credentials: Credentials, options: DestinationOptions, table: String) -> Self {
        Self { credentials, options, table, idle: Idle::default() }
    }

    /// With the place where its run keeps an idle connection.
    pub(super) fn sharing(self, idle: Idle<Connection>) -> Self {
        Self { idle, ..self }
    }

    async fn connect(&self) -> Result<Connection> {
        match self.idle.take(&self.credentials).await {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.credentials, &self.options).await,
        }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.options.ledger_table)
    }

    async fn claim_on(&self, connection: &mut Connection, claim: &Claim, schema: &Schema) -> Result<Prepared> {
        let ledger = self.ledger();
        ledger_table::ensure(connection, &self.options.ledger_table).await?;
        let known = ledger.peek(connection, &claim.source.id).await?;
        if let Some(entry) = known.filter(|entry| entry.state.is_in_target()) {
            return Ok(Prepared::Ended(entry));
        }
        let is_read = claim.body.is_some();
        let ready = table::prepare(connection, &self.table, schema, is_read, &self.options).await?;
        match &ready {
            Some(_) => Failpoint::TableMade.reached().await,
            None if claim.is_schema_provisional && self.options.load_mode == LoadMode::Append => {}
            None => return Err(types_unknown()),
        }
        connection.run("cannot begin a transaction", BEGIN).await?;
        Failpoint::Begun.reached().await;
        let mut end = ledger.claim(connection, claim).await?;
        if matches!(end, ClaimResult::Ours) && ready.as_ref().is_some_and(|ready| self.replaces(&ready.columns)) {
            end = ledger.claim_table(connection, claim).await?;
        }
        if let ClaimResult::Ended(entry) = end {
            return Ok(Prepared::Ended(entry));
        }
        Failpoint::Claimed.reached().await;
        let Ready { columns, key } = match ready {
            Some(ready) => ready,
            None => {
                let made = table::make_in_transaction(connection, &self.table, schema).await?;
                Failpoint::TableMade.reached().await;
                made
            }
        };
        let merge = match key {
            Some(key) => Some(Merge::prepare(connection, key, &self.table, &columns).await?),
            None => None,
        };
        Ok(Prepared::Ours { columns, merge })
    }

    /// Whether the file takes the place of the table's rows. One without columns does not say what the table should be.
    fn replaces(&self, columns: &[TargetColumn]) -> bool {
        !columns.is_empty() && self.options.load_mode == LoadMode::Replace
    }

    async fn load_on(&self, session: &mut PostgresSession, rows: BatchStream<'_>) -> Result<Loaded> {
        let PostgresSession { connection, claim, columns, merge, .. } = session;
        let mut rows = Rows::new(rows, columns, claim.decoded_bytes()).with_rejects(claim.value_rejects.clone());
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(Loaded::default()),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        if self.replaces(columns) {
            replace::delete_rows(connection, &self.table, columns).await?;
        }
        let place = merge.as_ref().map_or(&self.table, |merge| &merge.staging);
        let rows_stored = copy::load(connection, place, columns, &mut rows).await?;
        Ok(Loaded { rows_parsed: rows.taken, rows_stored, ..Loaded::default() })
    }

    /// What became of the rows, and the number of the transaction.
    async fn finalize_on(&self, session: &mut PostgresSession, loaded: Loaded) -> Result<(Loaded, i64)> {
        let PostgresSession { connection, claim, columns, merge, .. } = session;
        let loaded = match merge {
            Some(merge) => {
                let merged = merge.apply(connection, &self.table, columns, loaded, claim.decoded_bytes()).await?;
                Loaded { rows_rejected: loaded.rows_rejected, ..merged }
            }
            None => loaded,
        };
        if claim.body.is_none() {
            return Err(Error::new(ErrorKind::Internal, "a load is to be settled whose body nobody has claimed"));
        }
        Failpoint::BeforeLedgerEnd.reached().await;
        let mode = &self.options.load_mode;
        let transaction = self.ledger().finish(connection, &claim.source.id, mode, loaded).await?;
        Ok((loaded, transaction))
    }
}

/// What `claim` found and made.
enum Prepared {
    Ours { columns: Vec<TargetColumn>, merge: Option<Merge> },
    Ended(LedgerEntry),
}

/// An open connection with a transaction and a claim in it. Dropping it closes the connection, and the server rolls back.
#[derive(Debug)]
pub struct PostgresSession {
    connection: Connection,
    claim: Claim,
    /// The table's columns in the file's order.
    columns: Vec<TargetColumn>,
    /// How the rows are merged, in that mode.
    merge: Option<Merge>,
    /// The number of the transaction, once everything stands ready for COMMIT.
    finalized: Option<i64>,
}

impl PostgresSession {
    /// Undoes everything while the server still answers.
    async fn undo(&mut self) {
        self.finalized = None;
        self.connection.roll_back().await;
    }
}

impl Destination for PostgresDestination {
    type Session = PostgresSession;

    async fn claim(&self, claim: &Claim, schema: &Schema) -> Result<Claimed<PostgresSession>> {
        let mut connection = self.connect().await?;
        match self.claim_on(&mut connection, claim, schema).await {
            Ok(Prepared::Ours { columns, merge }) => {
                let claim = claim.clone();
                Ok(Claimed::Ours(PostgresSession { connection, claim, columns, merge, finalized: None }))
            }
            Ok(Prepared::Ended(entry)) => {
                connection.close().await;
                Ok(Claimed::Ended(entry))
            }
            Err(error) => {
                connection.roll_back().await;
                connection.close().await;
                Err(error)
            }
        }
    }

    async fn load(&self, session: &mut PostgresSession, schema: &Schema, rows: BatchStream<'_>) -> Result<Loaded> {
        debug_assert_eq!(session.columns.len(), schema.columns.len(), "another schema than at the claim");
        let loaded = self.load_on(session, rows).await;
        match &loaded {
            Ok(_) => Failpoint::RowsAll.reached().await,
            Err(_) => session.undo().await,
        }
        loaded
    }

    async fn claim_body(&self, session: &mut PostgresSession, body: Body) -> Result<()> {
        session.claim.body = Some(body);
        let claimed = self.ledger().claim_body(&mut session.connection, &session.claim).await;
        if claimed.is_err() {
            session.undo().await;
        }
        claimed
    }

    async fn finalize(&self, session: &mut PostgresSession, loaded: Loaded) -> Result<Loaded> {
        match self.finalize_on(session, loaded).await {
            Ok((loaded, transaction)) => {
                session.finalized = Some(transaction);
                Ok(loaded)
            }
            Err(error) => {
                session.undo().await;
                Err(error)
            }
        }
    }

    async fn commit(&self, mut session: PostgresSession) -> CommitResult {
        let Some(transaction) = session.finalized else {
            session.undo().await;
            return CommitResult::NotCommitted(Error::new(
                ErrorKind::Internal,
                "COMMIT of a session that is not settled",
            ));
        };
        let doing = "COMMIT was not answered";
        let limit = COMMIT_LIMIT + Duration::from_secs(session.claim.decoded_bytes() / COMMIT_BYTES_PER_SECOND);
        Failpoint::BeforeCommit.reached().await;
        let (messages, end) = match session.connection.messages(limit, doing, &commit_statement(transaction)).await {
            Ok(answer) => answer,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        match (end, transaction_outcome(&messages)) {
            (Ok(()), Some("committed")) => {
                Failpoint::AfterCommit.reached().await;
                self.idle.keep(&self.credentials, session.connection);
                CommitResult::Committed
            }
            (Ok(()), Some("aborted")) => {
                let message = "the server has answered COMMIT with ROLLBACK: the transaction had failed before";
                CommitResult::NotCommitted(Error::new(ErrorKind::Conflict, message))
            }
            (Ok(()), _) => {
                let message = "the server does not say what became of COMMIT";
                CommitResult::Unknown(Error::new(ErrorKind::Failover, message))
            }
            // An error in the question that follows COMMIT says nothing about COMMIT.
            (Err(error), _) if !messages.is_empty() || leaves_commit_open(&error) => {
                CommitResult::Unknown(failure(Phase::Connected, doing, error))
            }
            (Err(error), _) => {
                session.undo().await;
                CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
            }
        }
    }

    async fn look_up(&self, source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        let mut connection = self.connect().await?;
        let entry = self.ledger().look_up(&mut connection, source_id).await;
        self.idle.end(&self.credentials, connection, entry).await
    }

    async fn record(&self, claim: &Claim, outcome: &LedgerOutcome) -> Result<()> {
        let mut connection = self.connect().await?;
        ledger_table::ensure(&mut connection, &self.options.ledger_table).await?;
        let recorded = self.ledger().record(&mut connection, claim, outcome).await;
        self.idle.end(&self.credentials, connection, recorded).await
    }

    async fn record_move(&self, source_id: &SourceId, moved_to: &str, cost_usd: Option<f64>) -> Result<()> {
        let mut connection = self.connect().await?;
        let noted = self.ledger().record_move(&mut connection, source_id, moved_to, cost_usd).await;
        self.idle.end(&self.credentials, connection, noted).await
    }

    /// The staging tables of merges are temporary and end with their transaction, so there are never any to drop.
    async fn drop_stale_staging(&self, _older_than: Duration, _live: &[SourceId]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
