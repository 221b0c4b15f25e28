//! Databases that rows are loaded into, each with its ledger beside the target table.
//!
//! [`Destination`] is the contract every engine keeps; [`mysql`] is MySQL and MariaDB, [`postgres`] PostgreSQL, and [`any`] whichever
//! of them the credentials name. A driver's types stay in its room, and every failure comes out as an
//! [`crate::error::ErrorKind`] from the failure table.

pub mod any;
mod column;
mod entry;
mod idle;
mod limits;
mod merge;
pub mod mysql;
pub mod postgres;
mod rows;
mod value_check;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::BatchStream;
use crate::object::{ObjectVersion, SourceId};
use crate::reject::ValueRejects;
use crate::report::Report;
use crate::schema::Schema;

/// What is claimed: this source, for this table, by this worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The version of the object whose rows these are.
    pub source: ObjectVersion,
    /// What is known of the body; nothing while it is only being read, see [`Destination::claim_body`].
    pub body: Option<Body>,
    /// The table the rows go to.
    pub table: String,
    /// Whether a missing table may be made by a schema that only the file's beginning has shown. The caller watches over it: the load
    /// is given up at the first row by which a column would have another type.
    pub is_schema_provisional: bool,
    /// Who works: host, process and start time; for people who read the ledger.
    pub worker: String,
    /// When this attempt started.
    pub started_at: Timestamp,
    /// Where a row may be noted and left out whose values the check before sending refuses; without it, or when there is
    /// no more room, such a row refuses the load.
    pub value_rejects: Option<Arc<ValueRejects>>,
}

impl Claim {
    /// SHA-256 of the body in hex; empty as long as it is not known.
    pub fn body_sha256(&self) -> &str {
        self.body.as_ref().map_or("", |body| &body.sha256)
    }

    /// The identity of the content, where it is known and counts.
    pub fn content_id(&self) -> Option<&str> {
        self.body.as_ref()?.content_id.as_deref()
    }

    /// How many bytes the rows are read from, decompressed: what time and room a load takes goes by this. The stored size
    /// where nobody has counted.
    pub fn decoded_bytes(&self) -> u64 {
        self.body.as_ref().map_or(self.source.size_bytes, |body| body.decoded_bytes)
    }
}

/// A body that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// SHA-256 in hex, as it is stored.
    pub sha256: String,
    /// The identity of the content: one key's same bytes load once. `None` with `DEDUPE=version`.
    pub content_id: Option<String>,
    /// How many bytes come out of it, decompressed.
    pub decoded_bytes: u64,
}

/// What the ledger says of a source. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// Its rows are in the target table.
    Loaded,
    /// Its bytes are in the target table under another source id of the same key.
    Duplicate,
    /// A newer file has replaced the table before this one could; in its turn, its rows would be gone by now.
    Superseded,
    /// Its rows are in the fallback.
    FellBack,
    /// The file is broken; its rows are nowhere.
    Rejected,
}

impl LedgerState {
    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::FellBack => "fell_back",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the rows are in the target table, or were replaced there, so that nothing is left to load.
    pub fn is_in_target(self) -> bool {
        match self {
            Self::Loaded | Self::Duplicate | Self::Superseded => true,
            Self::FellBack | Self::Rejected => false,
        }
    }
}

/// A ledger row, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The end the source has reached.
    pub state: LedgerState,
    /// Rows the file has.
    pub rows_parsed: u64,
    /// Rows that were stored.
    pub rows_stored: u64,
    /// Where the object was moved, once it was.
    pub moved_to: Option<String>,
}

/// The answer to a claim.
pub enum Claimed<Session> {
    /// The source is ours until the session ends: a transaction is open and holds its ledger row.
    Ours(Session),
    /// The rows are in the table already ([`LedgerState::Loaded`] or [`LedgerState::Duplicate`]), or a newer file's are
    /// in their place ([`LedgerState::Superseded`]); no transaction is open.
    /// A source that fell back or was rejected can be claimed again.
    Ended(LedgerEntry),
}

/// What a load stored. Every row that was parsed is in exactly one of: inserted (`rows_stored` less the two below),
/// updated, unchanged, superseded by a later row of the same file (`rows_parsed` less `rows_stored`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Rows taken from the stream and not left out.
    pub rows_parsed: u64,
    /// Rows of the file that stand in the table; equal to `rows_parsed` except in a merge, where of rows with the same
    /// key only the last one is stored.
    pub rows_stored: u64,
    /// Of those, rows of the table that a merge has changed.
    pub rows_updated: u64,
    /// Of those, rows that the table had already, in a merge.
    pub rows_unchanged: u64,
    /// Bad records of the file that were left out, besides all of these.
    pub rows_rejected: u64,
}

impl Loaded {
    /// Every row of the file was inserted.
    pub fn inserted(rows: u64) -> Self {
        Self { rows_parsed: rows, rows_stored: rows, ..Self::default() }
    }

    /// Writes into a report what became of the rows.
    pub fn count_in(&self, report: &mut Report) {
        report.rows_stored = self.rows_stored;
        report.rows_rejected = self.rows_rejected;
        report.rows_updated = self.rows_updated;
        report.rows_unchanged = self.rows_unchanged;
    }
}

/// The three ends of a COMMIT.
#[derive(Debug)]
pub enum CommitResult {
    /// The server has answered: the rows and their ledger row are stored.
    Committed,
    /// The server has answered, or COMMIT was never sent: nothing is stored.
    NotCommitted(Error),
    /// COMMIT was sent and no answer came. Only the ledger can tell, see [`Destination::look_up`].
    Unknown(Error),
}

/// A fate that is not a load, to be written into the ledger.
#[derive(Debug, Clone)]
pub struct LedgerOutcome {
    /// The end.
    pub state: LedgerState,
    /// Rows the file has, as far as they were counted.
    pub rows_parsed: u64,
    /// Rows stored elsewhere (the fallback).
    pub rows_stored: u64,
    /// Bad records that were left out, besides those parsed.
    pub rows_rejected: u64,
    /// Why, without row values.
    pub reason: String,
}

/// A database that takes each source's rows once.
///
/// The order of calls for one source is `claim`, `load`, `claim_body` where the body was not known before, `finalize`,
/// `commit`; dropping a session at any time rolls back and closes its connection. Every call may be repeated with the same source by any number of workers at once: whatever the
/// order, at most one of their commits ends as [`CommitResult::Committed`], and every later claim answers
/// [`Claimed::Ended`]. No call retries inside; that is the caller's, by the failure table.
pub trait Destination: Send + Sync {
    /// An open connection with a transaction and a claim in it.
    type Session: Send;

    /// Makes ledger and target table where they are missing (from `schema`), checks that the table can take the file,
    /// begins a transaction and claims the source in it. Another worker's claim is [`crate::error::ErrorKind::Conflict`].
    ///
    /// Without a body in the claim, only the columns' names in `schema` count. Then nothing is made, and
    /// [`crate::error::ErrorKind::Unread`] says that the file must be read first: the table or a column is missing, or the file may be
    /// one that is staged. Where the schema is watched ([`Claim::is_schema_provisional`]), an engine whose transactions hold DDL may make the
    /// table in the one that it begins, so that nobody sees it before the rows.
    fn claim(&self, claim: &Claim, schema: &Schema) -> impl Future<Output = Result<Claimed<Self::Session>>> + Send;

    /// Sends all rows; each is checked against its column's real type before it is sent, and what the server stored is
    /// compared with what was sent. After an error nothing of this session may be committed. Rows that are staged count
    /// as inserted here.
    fn load(
        &self,
        session: &mut Self::Session,
        schema: &Schema,
        rows: BatchStream<'_>,
    ) -> impl Future<Output = Result<Loaded>> + Send;

    /// Claims the body of a source that was claimed without, now that all of it was read. The same content under another
    /// source id is [`crate::error::ErrorKind::Conflict`], and nothing of this session may be committed then.
    fn claim_body(&self, session: &mut Self::Session, body: Body) -> impl Future<Output = Result<()>> + Send;

    /// Makes everything ready for the commit: the rows stand in the target table and the ledger row says `loaded`, both
    /// in the open transaction. What was staged in committed chunks is claimed and moved over here. Answers what became
    /// of the rows that `load` has answered.
    fn finalize(&self, session: &mut Self::Session, loaded: Loaded) -> impl Future<Output = Result<Loaded>> + Send;

    /// Sends COMMIT, and says which of its three ends it had. The fault points right before and right after COMMIT are
    /// reached here.
    fn commit(&self, session: Self::Session) -> impl Future<Output = CommitResult> + Send;

    /// What the ledger says of a source, waiting for nobody: a row another transaction holds is
    /// [`crate::error::ErrorKind::Conflict`], no row (or no ledger yet) is `None`.
    fn look_up(&self, source_id: &SourceId) -> impl Future<Output = Result<Option<LedgerEntry>>> + Send;

    /// Writes a fate that is not a load, in a transaction of its own. A source that is already loaded stays loaded.
    fn record(&self, claim: &Claim, outcome: &LedgerOutcome) -> impl Future<Output = Result<()>> + Send;

    /// Notes where a source's object was moved, and what all of it has cost in US dollars, where that is known.
    fn record_move(
        &self,
        source_id: &SourceId,
        moved_to: &str,
        cost_usd: Option<f64>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Drops staging tables of runs that ended without cleaning up: those older than `older_than` whose source is not
    /// in `live`. Answers the names that were dropped.
    fn drop_stale_staging(
        &self,
        older_than: Duration,
        live: &[SourceId],
    ) -> impl Future<Output = Result<Vec<String>>> + Send;
}
