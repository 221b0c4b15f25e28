//! MySQL and MariaDB: the target that loads with LOAD DATA LOCAL or INSERT, and its ledger, in one transaction.
//!
//! One connection per session, no pool. The driver's types stay in this room.

use std::time::Duration;

use crate::config::{Credentials, TargetOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BatchStream;
use crate::object::SourceId;
use crate::schema::Schema;
use crate::target::{Claim, Claimed, CommitEnd, Fate, LedgerEntry, Loaded, Target};

/// A MySQL or MariaDB database as a target. Holds no connection: each call that needs one opens it.
#[derive(Debug, Clone)]
pub struct MySqlTarget {
    credentials: Credentials,
    options: TargetOptions,
    table: String,
}

impl MySqlTarget {
    /// A target that loads into `table`.
    pub fn new(credentials: Credentials, options: TargetOptions, table: String) -> Self {
        Self { credentials, options, table }
    }

    fn unfinished(&self) -> Error {
        let place = format!("{}:{}", self.credentials.host, self.credentials.port);
        let limit = self.options.connect_timeout.as_secs();
        Error::new(ErrorKind::Bug, format!("loading into {} at {place} ({limit} s) is not built yet", self.table))
    }
}

/// An open connection with a transaction and a claim in it. Dropping it closes the connection, and the server rolls back.
#[derive(Debug)]
pub struct MySqlSession {}

impl Target for MySqlTarget {
    type Session = MySqlSession;

    async fn claim(&self, _claim: &Claim, _schema: &Schema) -> Result<Claimed<MySqlSession>> {
        Err(self.unfinished())
    }

    async fn load(&self, _session: &mut MySqlSession, _schema: &Schema, _rows: BatchStream<'_>) -> Result<Loaded> {
        Err(self.unfinished())
    }

    async fn settle(&self, _session: &mut MySqlSession, _loaded: Loaded) -> Result<()> {
        Err(self.unfinished())
    }

    async fn commit(&self, _session: MySqlSession) -> CommitEnd {
        CommitEnd::NotCommitted(self.unfinished())
    }

    async fn look_up(&self, _source_id: &SourceId) -> Result<Option<LedgerEntry>> {
        Err(self.unfinished())
    }

    async fn record(&self, _claim: &Claim, _fate: &Fate) -> Result<()> {
        Err(self.unfinished())
    }

    async fn record_move(&self, _source_id: &SourceId, _moved_to: &str) -> Result<()> {
        Err(self.unfinished())
    }

    async fn sweep_staging(&self, _older_than: Duration, _live: &[SourceId]) -> Result<Vec<String>> {
        Err(self.unfinished())
    }
}
