//! MySQL and MariaDB: rows by LOAD DATA LOCAL (or INSERT), and their ledger row, in one transaction.
//!
//! One connection per session, no pool, and no retry: that is the caller's. A file above `atomic_max_bytes` goes through a staging
//! table, and so does every file that is merged (a temporary one, when it is small). The driver's types stay in this room.

mod check;
mod column;
pub(super) mod connect;
mod failure;
mod insert;
mod ledger;
mod load;
mod load_data;
mod merge;
mod rejection;
mod replace;
mod rows;
mod staging;
mod table;

use std::time::Duration;

use tracing::warn;

use crate::config::{Credentials, DestinationOptions, LoadMode};
use crate::destination::idle::{Idle, Reusable};
use crate::destination::limits::Phase;
use crate::destination::{Body, Claim, Claimed, CommitResult, Destination, LedgerEntry, LedgerOutcome, Loaded};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;
use crate::object::SourceId;
use crate::schema::Schema;

use column::TargetColumn;
use connect::Connection;
use failure::{failure, leaves_commit_open, server_code};
use ledger::{ClaimResult, Ledger};
use merge::{Keep, Merge};

/// COMMIT of a large transaction writes the binary log; it may take this long, and longer by size.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// A MySQL or MariaDB database as a target. Each call that needs a connection takes the idle one or opens another.
#[derive(Debug, Clone)]
pub struct MySqlDestination {
    credentials: Credentials,
    options: DestinationOptions,
    table: String,
    idle: Idle<Connection>,
}

impl MySqlDestination {
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

    /// After COMMIT: drops the staging table and lets go of the connection. Nothing here can change what was committed.
    async fn clean_up(&self, mut session: MySqlSession) {
        if let Some(staging) = session.staging.take() {
            Failpoint::BeforeStagingDrop.reached().await;
            if let Err(error) = staging::drop_table(&mut session.connection, &staging).await {
                warn!(table = staging, error = %chain(&error), "the staging table was not dropped; the sweep drops it");
            }
        }
        match session.merge {
            // Its temporary tables end with the connection.
            Some(_) => session.connection.close().await,
            None => self.idle.keep(&self.credentials, session.connection),
        }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.options.ledger_table)
    }

    async fn claim_on(&self, connection: &mut Connection, claim: &Claim, schema: &Schema) -> Result<Prepared> {
        let ledger = self.ledger();
        ledger.ensure(connection).await?;
        let known = ledger.peek(connection, &claim.source.id).await?;
        if let Some(entry) = known.filter(|entry| entry.state.is_in_target()) {
            return Ok(Prepared::Ended(entry));
        }
        let is_read = claim.body.is_some();
        let (columns, key) = table::prepare(connection, &self.table, schema, is_read, &self.options).await?;
        Failpoint::TableMade.reached().await;
        let is_large = claim.decoded_bytes() > self.options.atomic_max_bytes && !columns.is_empty();
        if is_large && !is_read {
            return Err(too_large_for_single_pass());
        }
        let name = staging::name(&claim.source.id);
        if is_large && !self.is_duplicate_content(connection, claim).await? {
            let merge = match key {
                Some(key) => Some(Merge::prepare(connection, key, &columns, name.clone(), Keep::UntilDropped).await?),
                None => {
                    staging::create(connection, &name, &self.table).await?;
                    None
                }
            };
            return Ok(Prepared::Ours { columns, staging: Some(name), merge });
        }
        let merge = match key {
            Some(key) => Some(Merge::prepare(connection, key, &columns, name, Keep::Session).await?),
            None => None,
        };
        match self.begin_claim(connection, claim, &columns).await? {
            ClaimResult::Ours => Ok(Prepared::Ours { columns, staging: None, merge }),
            ClaimResult::Ended(entry) => Ok(Prepared::Ended(entry)),
        }
    }

    async fn is_duplicate_content(&self, connection: &mut Connection, claim: &Claim) -> Result<bool> {
        let Some(content_id) = claim.content_id() else { return Ok(false) };
        Ok(self.ledger().peek_content(connection, content_id).await?.is_some())
    }

    async fn begin_claim(
        &self,
        connection: &mut Connection,
        claim: &Claim,
        columns: &[TargetColumn],
    ) -> Result<ClaimResult> {
        connection.run("cannot begin a transaction", "BEGIN").await?;
        Failpoint::Begun.reached().await;
        let mut end = self.ledger().claim(connection, claim).await?;
        if matches!(end, ClaimResult::Ours) && self.replaces(columns) {
            end = self.ledger().claim_table(connection, claim).await?;
        }
        if matches!(end, ClaimResult::Ours) {
            Failpoint::Claimed.reached().await;
        }
        Ok(end)
    }

    /// Whether the file takes the place of the table's rows. One without columns does not say what the table should be.
    fn replaces(&self, columns: &[TargetColumn]) -> bool {
        !columns.is_empty() && self.options.load_mode == LoadMode::Replace
    }

    async fn finalize_on(&self, session: &mut MySqlSession, loaded: Loaded) -> Result<Loaded> {
        let MySqlSession { connection, claim, columns, staging, merge, .. } = session;
        if staging.is_some() {
            match self.begin_claim(connection, claim, columns).await? {
                ClaimResult::Ours => {}
                ClaimResult::Ended(_) => {
                    // The next try finds it ended.
                    let message = "another worker has loaded the same rows meanwhile";
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
            }
        }
        let size_bytes = claim.decoded_bytes();
        let loaded = match (&*merge, &*staging) {
            (Some(merge), _) => {
                let merged = merge.apply(connection, &self.table, columns, loaded, size_bytes).await?;
                Loaded { rows_rejected: loaded.rows_rejected, ..merged }
            }
            (None, Some(staging)) => {
                if self.replaces(columns) {
                    replace::delete_rows(connection, &self.table, columns).await?;
                }
                staging::copy_from_staging(connection, staging, &self.table, columns, loaded.rows_stored, size_bytes)
                    .await?;
                loaded
            }
            (None, None) => loaded,
        };
        if staging.is_some() {
            Failpoint::AfterInsertSelect.reached().await;
        }
        if claim.body.is_none() {
            return Err(Error::new(ErrorKind::Internal, "a load is to be settled whose body nobody has claimed"));
        }
        Failpoint::BeforeLedgerEnd.reached().await;
        self.ledger().finish(connection, &claim.source.id, &self.options.load_mode, loaded).await?;
        Ok(loaded)
    }
}

fn too_large_for_single_pass() -> Error {
    Error::new(ErrorKind::Unread, "the file may be one that is staged, for which its size must be known")
}

/// What `claim` found and made.
enum Prepared {
    Ours { columns: Vec<TargetColumn>, staging: Option<String>, merge: Option<Merge> },
    Ended(LedgerEntry),
}

/// An open connection with a transaction and a claim in it (for a large file: with its staging table). Dropping it closes the
/// connection, and the server rolls back.
#[derive(Debug)]
pub struct MySqlSession {
    connection: Connection,
    claim: Claim,
    /// The table's columns in the file's order.
    columns: Vec<TargetColumn>,
    /// The staging table, for a large file.
    staging: Option<String>,
    /// How the rows are merged, in that mode.
    merge: Option<Merge>,
    /// Set once everything stands ready for COMMIT.
    is_finalized: bool,
}

impl MySqlSession {
    /// Undoes everything while the server still answers: the transaction, and the staging table.
    async fn undo(&mut self) {
        self.is_finalized = false;
        self.connection.roll_back().await;
        if let Some(staging) = self.staging.take() {
            // A connection that is lost leaves it to the sweep.
            let _ = staging::drop_table(&mut self.connection, &staging).await;
        }
    }
}

impl Destination for MySqlDestination {
    type Session = MySqlSession;

    async fn claim(&self, claim: &Claim, schema: &Schema) -> Result<Claimed<MySqlSession>> {
        let mut connection = self.connect().await?;
        match self.claim_on(&mut connection, claim, schema).await {
            Ok(Prepared::Ours { columns, staging, merge }) => {
                let claim = claim.clone();
                Ok(Claimed::Ours(MySqlSession { connection, claim, columns, staging, merge, is_finalized: false }))
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

    async fn load(&self, session: &mut MySqlSession, schema: &Schema, rows: BatchStream<'_>) -> Result<Loaded> {
        debug_assert_eq!(session.columns.len(), schema.columns.len(), "another schema than at the claim");
        let loaded = self.load_on(session, rows).await;
        match &loaded {
            Ok(_) => Failpoint::RowsAll.reached().await,
            Err(_) => session.undo().await,
        }
        loaded
    }

    async fn claim_body(&self, session: &mut MySqlSession, body: Body) -> Result<()> {
        session.claim.body = Some(body);
        let claimed = self.ledger().claim_body(&mut session.connection, &session.claim).await;
        if claimed.is_err() {
            session.undo().await;
        }
        claimed
    }

    async fn finalize(&self, session: &mut MySqlSession, loaded: Loaded) -> Result<Loaded> {
        let finalized = self.finalize_on(session, loaded).await;
        match &finalized {
            Ok(_) => session.is_finalized = true,
            Err(_) => session.undo().await,
        }
        finalized
    }

    async fn commit(&self, mut session: MySqlSession) -> CommitResult {
        if !session.is_finalized {
            session.undo().await;
            return CommitResult::NotCommitted(Error::new(
                ErrorKind::Internal,
                "COMMIT of a session that is not settled",
            ));
        }
        let doing = "COMMIT was not answered";
        let limit = COMMIT_LIMIT + Duration::from_secs(session.claim.decoded_bytes() / COMMIT_BYTES_PER_SECOND);
        Failpoint::BeforeCommit.reached().await;
        let error = match session.connection.run_raw(limit, doing, b"COMMIT").await {
            Ok(Ok(_)) => {
                Failpoint::AfterCommit.reached().await;
                self.clean_up(session).await;
                return CommitResult::Committed;
            }
            Ok(Err(error)) => error,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        let is_answer = server_code(&error).is_some_and(|code| !leaves_commit_open(code));
        if !is_answer {
            return CommitResult::Unknown(failure(Phase::Connected, doing, error));
        }
        session.undo().await;
        CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
    }

    async fn look_up(&self, source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        let mut connection = self.connect().await?;
        let entry = self.ledger().look_up(&mut connection, source_id).await;
        self.idle.end(&self.credentials, connection, entry).await
    }

    async fn record(&self, claim: &Claim, outcome: &LedgerOutcome) -> Result<()> {
        let mut connection = self.connect().await?;
        self.ledger().ensure(&mut connection).await?;
        let recorded = self.ledger().record(&mut connection, claim, outcome).await;
        self.idle.end(&self.credentials, connection, recorded).await
    }

    async fn record_move(&self, source_id: &SourceId, moved_to: &str, cost_usd: Option<f64>) -> Result<()> {
        let mut connection = self.connect().await?;
        let noted = self.ledger().record_move(&mut connection, source_id, moved_to, cost_usd).await;
        self.idle.end(&self.credentials, connection, noted).await
    }

    async fn drop_stale_staging(&self, older_than: Duration, live: &[SourceId]) -> Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let dropped = staging::sweep(&mut connection, older_than, live).await;
        self.idle.end(&self.credentials, connection, dropped).await
    }
}
