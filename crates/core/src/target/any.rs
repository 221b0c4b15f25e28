//! The target that the credentials name, whichever engine it is.

use std::time::Duration;

use super::idle::Idle;
use super::mysql::{self, MySqlSession, MySqlTarget};
use super::postgres::{self, PostgresSession, PostgresTarget};
use super::{Body, Claim, Claimed, CommitEnd, Fate, LedgerEntry, Loaded, Target};
use crate::config::{Credentials, Engine, TargetOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BatchStream;
use crate::object::SourceId;
use crate::schema::Schema;

/// A target of any engine.
#[derive(Debug, Clone)]
pub enum AnyTarget {
    /// MySQL or MariaDB.
    MySql(MySqlTarget),
    /// PostgreSQL.
    Postgres(PostgresTarget),
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

impl AnyTarget {
    /// The engine's target that loads into `table`, on the connection that its run keeps, where there is one.
    pub fn new(credentials: Credentials, options: TargetOptions, table: String, idle: &IdleConnections) -> Self {
        match credentials.engine {
            Engine::MySql => Self::MySql(MySqlTarget::new(credentials, options, table).sharing(idle.mysql.clone())),
            Engine::Postgres => {
                Self::Postgres(PostgresTarget::new(credentials, options, table).sharing(idle.postgres.clone()))
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
    Error::new(ErrorKind::Bug, "a session of one engine was given to the other")
}

impl Target for AnyTarget {
    type Session = AnySession;

    async fn claim(&self, claim: &Claim, schema: &Schema) -> Result<Claimed<AnySession>> {
        match self {
            Self::MySql(target) => Ok(claimed(target.claim(claim, schema).await?, AnySession::MySql)),
            Self::Postgres(target) => Ok(claimed(target.claim(claim, schema).await?, AnySession::Postgres)),
        }
    }

    async fn load(&self, session: &mut AnySession, schema: &Schema, rows: BatchStream<'_>) -> Result<Loaded> {
        match (self, session) {
            (Self::MySql(target), AnySession::MySql(session)) => target.load(session, schema, rows).await,
            (Self::Postgres(target), AnySession::Postgres(session)) => target.load(session, schema, rows).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn claim_body(&self, session: &mut AnySession, body: Body) -> Result<()> {
        match (self, session) {
            (Self::MySql(target), AnySession::MySql(session)) => target.claim_body(session, body).await,
            (Self::Postgres(target), AnySession::Postgres(session)) => target.claim_body(session, body).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn settle(&self, session: &mut AnySession, loaded: Loaded) -> Result<Loaded> {
        match (self, session) {
            (Self::MySql(target), AnySession::MySql(session)) => target.settle(session, loaded).await,
            (Self::Postgres(target), AnySession::Postgres(session)) => target.settle(session, loaded).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => Err(strange()),
        }
    }

    async fn commit(&self, session: AnySession) -> CommitEnd {
        match (self, session) {
            (Self::MySql(target), AnySession::MySql(session)) => target.commit(session).await,
            (Self::Postgres(target), AnySession::Postgres(session)) => target.commit(session).await,
            (Self::MySql(_), AnySession::Postgres(_)) | (Self::Postgres(_), AnySession::MySql(_)) => {
                CommitEnd::NotCommitted(strange())
            }
        }
    }

    async fn look_up(&self, source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        match self {
            Self::MySql(target) => target.look_up(source_id).await,
            Self::Postgres(target) => target.look_up(source_id).await,
        }
    }

    async fn record(&self, claim: &Claim, fate: &Fate) -> Result<()> {
        match self {
            Self::MySql(target) => target.record(claim, fate).await,
            Self::Postgres(target) => target.record(claim, fate).await,
        }
    }

    async fn record_move(&self, source_id: &SourceId, moved_to: &str, cost_usd: Option<f64>) -> Result<()> {
        match self {
            Self::MySql(target) => target.record_move(source_id, moved_to, cost_usd).await,
            Self::Postgres(target) => target.record_move(source_id, moved_to, cost_usd).await,
        }
    }

    async fn sweep_staging(&self, older_than: Duration, live: &[SourceId]) -> Result<Vec<String>> {
        match self {
            Self::MySql(target) => target.sweep_staging(older_than, live).await,
            Self::Postgres(target) => target.sweep_staging(older_than, live).await,
        }
    }
}
