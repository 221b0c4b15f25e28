//! The target that the credentials name, whichever engine it is.

use std::time::Duration;

use super::idle::Idle;
use super::mysql::{self, MySqlDestination, MySqlSession};
use super::postgres::{self, PostgresDestination, PostgresSession};
use super::{Body, Claim, Claimed, CommitResult, Destination, LedgerEntry, LedgerOutcome, Loaded};
use crate::config::{Credentials, DestinationOptions, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BatchStream;
use crate::object::SourceId;
use crate::schema::Schema;

/// A target of any engine.
#[derive(Debug, Clone)]
pub enum AnyDestination {
    /// MySQL or MariaDB.
    MySql(MySqlDestination),
    /// PostgreSQL.
    Postgres(PostgresDestination),
}

/// Room for idle connections between two pieces of work of a run. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct IdleConnections {
    mysql: Idle<mysql::connect::Connection>,
    postgres: Idle<postgres::connect::Connection>,
}

impl IdleConnections {
    /// Takes leave of the servers, at the end of a run.
    pub async fn close(&self) {
        self.mysql.close().await;
        self.postgres.close().await;
    }
}

/// A session of any engine.
#[derive(Debug)]
pub enum AnySession {
    /// MySQL's or MariaDB's.
    MySql(MySqlSession),
    /// PostgreSQL's.
    Postgres(PostgresSession),
}

impl AnyDestination {
    /// The engine's target that loads into `table`, on the connection that its run keeps, where there is one.
    pub fn new(credentials: Credentials, options: DestinationOptions, table: String, idle: &IdleConnections) -> Self {
        match credentials.engine {
            Engine::MySql => {
                Self::MySql(MySqlDestination::new(credentials, options, table).sharing(idle.mysql.clone()))
            }
            Engine::Postgres => {
                Self::Postgres(PostgresDestination::new(credentials, options, table).sharing(idle.postgres.clone()))
            }
        }
    }
}

fn claimed<S>(claimed: Claimed<S>, session: impl FnOnce(S) -> AnySession) -> Claimed<AnySession> {
    match claimed {
        Claimed::Ours(ours) => Claimed::Ours(session(ours)),
        Claimed::Ended(entry) => Claimed::Ended(entry),
    }
}

fn strange() -> Error {
    Error::new(ErrorKind::Internal, "a session of one engine was given to the other")
}

impl Destination for AnyDestination {
    type Session = AnySession;

    async fn claim(&self, claim: &Claim, schema: &Schema) -> Result<Claimed<AnySession>> {
        match self {
            Self::MySql(destination) => Ok(claimed(destination.claim(claim, schema).await?, AnySession::MySql)),
            Self::Postgres(destination) => Ok(claimed(destination.claim(claim, schema).await?, AnySession::Postgres)),
        }
    }

    async fn load(&self, session: &mut AnySession, schema: &Schema, rows: BatchStream<'_>) -> Result<Loaded> {
        match (self, session) {
            (Self::MySql(destination), AnySession::MySql(session)) => destination.load(session, schema, rows).await,
            (Self::Postgres(destination), AnySession::Postgres(session)) => {
                destination.load(session, schema, rows).await
            }
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn claim_body(&self, session: &mut AnySession, body: Body) -> Result<()> {
        match (self, session) {
            (Self::MySql(destination), AnySession::MySql(session)) => destination.claim_body(session, body).await,
            (Self::Postgres(destination), AnySession::Postgres(session)) => destination.claim_body(session, body).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn finalize(&self, session: &mut AnySession, loaded: Loaded) -> Result<Loaded> {
        match (self, session) {
            (Self::MySql(destination), AnySession::MySql(session)) => destination.finalize(session, loaded).await,
            (Self::Postgres(destination), AnySession::Postgres(session)) => destination.finalize(session, loaded).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn commit(&self, session: AnySession) -> CommitResult {
        match (self, session) {
            (Self::MySql(destination), AnySession::MySql(session)) => destination.commit(session).await,
            (Self::Postgres(destination), AnySession::Postgres(session)) => destination.commit(session).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => {
                CommitResult::NotCommitted(strange())
            }
        }
    }

    async fn look_up(&self, source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        match self {
            Self::MySql(destination) => destination.look_up(source_id).await,
            Self::Postgres(destination) => destination.look_up(source_id).await,
        }
    }

    async fn record(&self, claim: &Claim, outcome: &LedgerOutcome) -> Result<()> {
        match self {
            Self::MySql(destination) => destination.record(claim, outcome).await,
            Self::Postgres(destination) => destination.record(claim, outcome).await,
        }
    }

    async fn record_move(&self, source_id: &SourceId, moved_to: &str, cost_usd: Option<f64>) -> Result<()> {
        match self {
            Self::MySql(destination) => destination.record_move(source_id, moved_to, cost_usd).await,
            Self::Postgres(destination) => destination.record_move(source_id, moved_to, cost_usd).await,
        }
    }

    async fn drop_stale_staging(&self, older_than: Duration, live: &[SourceId]) -> Result<Vec<String>> {
        match self {
            Self::MySql(destination) => destination.drop_stale_staging(older_than, live).await,
            Self::Postgres(destination) => destination.drop_stale_staging(older_than, live).await,
        }
    }
}
