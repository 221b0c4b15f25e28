//! A claim without rows: for a file whose rows are stored only in the lake. The database has its ledger row.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::database::{Database, claim_of};
use super::engine::LoadConnection;
use super::limits::commit_timeout;
use super::transaction::KEEP_ALIVE;
use super::{Body, Claimed, CommitResult, FileClaim, OpenClaim, ReadyLoad, RowCounts};
use crate::error::Result;
use crate::failpoint::Failpoint;
use crate::ledger::{ClaimResult, Dialect, LedgerColumns, Loaded};

/// A connection with an open transaction that holds the claim.
#[derive(Debug)]
struct LedgerClaim<C: LoadConnection> {
    database: Arc<Database<C>>,
    connection: C,
    file: FileClaim,
}

/// See [`super::Destination::claim`].
pub(super) async fn claim<C: LoadConnection>(
    database: &Arc<Database<C>>,
    file: &FileClaim,
    body: &Body,
) -> Result<Claimed> {
    let mut connection = database.connect().await?;
    let error = match claim_on(database, &mut connection, file, body).await {
        Ok(ClaimResult::Claimed) => {
            let claim = LedgerClaim { database: database.clone(), connection, file: file.clone() };
            return Ok(Claimed::Open(Box::new(claim)));
        }
        Ok(ClaimResult::NotNeeded(entry)) => {
            database.idle.keep(&database.credentials, connection);
            return Ok(Claimed::NotNeeded(*entry));
        }
        Err(error) => {
            connection.roll_back().await;
            database.explained(&mut connection, file, error).await
        }
    };
    connection.close().await;
    Err(error)
}

async fn claim_on<C: LoadConnection>(
    database: &Database<C>,
    connection: &mut C,
    file: &FileClaim,
    body: &Body,
) -> Result<ClaimResult> {
    let ledger = database.ledger();
    ledger.ensure(connection, database.ledger_columns()).await?;
    if let Some(entry) = ledger.find_done(connection, &file.source.id).await? {
        return Ok(ClaimResult::NotNeeded(Box::new(entry)));
    }
    connection.run("cannot begin a transaction", C::Dialect::BEGIN).await?;
    Failpoint::Begun.reached().await?;
    let result = ledger.claim(connection, &claim_of(file, Some(body))).await?;
    if result == ClaimResult::Claimed {
        Failpoint::Claimed.reached().await?;
    }
    Ok(result)
}

impl<C: LoadConnection> LedgerClaim<C> {
    async fn record(&mut self, body: &Body, counts: RowCounts) -> Result<C::Transaction> {
        Failpoint::BeforeLedgerEnd.reached().await?;
        let lake_key = body.lake_key.as_deref();
        let load_mode = self.database.options.stored_mode();
        let loaded = Loaded { load_mode, counts, lake_key, columns: LedgerColumns::COMMON, table_changes: &[] };
        self.database.ledger().record_loaded(&mut self.connection, &self.file.source.id, &loaded).await
    }
}

impl<C: LoadConnection> OpenClaim for LedgerClaim<C> {
    fn keep_alive(&mut self) -> BoxFuture<'_, Result<()>> {
        self.connection.run(KEEP_ALIVE, "SELECT 1").boxed()
    }

    fn finalize(mut self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            match self.record(&body, counts).await {
                Ok(transaction) => Ok(Box::new(ReadyClaim { claim: *self, counts, transaction }) as Box<dyn ReadyLoad>),
                Err(error) => {
                    self.connection.roll_back().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn undo(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.connection.roll_back().await }.boxed()
    }
}

/// A claim whose ledger row says `loaded`, before COMMIT.
#[derive(Debug)]
struct ReadyClaim<C: LoadConnection> {
    claim: LedgerClaim<C>,
    counts: RowCounts,
    transaction: C::Transaction,
}

impl<C: LoadConnection> ReadyLoad for ReadyClaim<C> {
    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn undo(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.claim.connection.roll_back().await }.boxed()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        async move {
            let Self { claim: LedgerClaim { database, mut connection, .. }, transaction, .. } = *self;
            let result = match Failpoint::BeforeCommit.reached().await {
                Ok(()) => connection.commit(commit_timeout(0), transaction).await,
                Err(error) => CommitResult::NotCommitted(error),
            };
            match &result {
                CommitResult::Committed | CommitResult::Merged(_) => {
                    if let Err(error) = Failpoint::AfterCommit.reached().await {
                        return CommitResult::Unknown(error);
                    }
                    database.idle.keep(&database.credentials, connection);
                }
                CommitResult::NotCommitted(_) => connection.roll_back().await,
                CommitResult::Unknown(_) => {}
            }
            result
        }
        .boxed()
    }
}
