//! The state of the modeled system: actors, database, bucket, and the faults that may still happen.

/// Number of workers that load files.
pub const WORKERS: usize = 2;
/// The index of the replay among the actors.
pub const REPLAY: usize = WORKERS;
/// Number of actors that run attempts.
pub const ACTORS: usize = WORKERS + 1;
/// Number of object versions.
pub const SOURCES: usize = 2;

/// A state of the whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The workers, then the replay.
    pub actors: [Actor; ACTORS],
    /// The clean-up of the sweep: the lease that it has read and found obsolete.
    pub clean_up: Option<Obsolete>,
    /// The object versions.
    pub sources: [Source; SOURCES],
    /// Whether the database accepts requests.
    pub is_database_up: bool,
    /// The faults that may still happen.
    pub faults: Faults,
    /// The invariant that a step has broken, if that cannot be seen in the state itself.
    pub broken: Option<crate::invariant::Invariant>,
}

/// How many faults of each kind may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A process dies, or an attempt fails with an error.
    pub crashes: u8,
    /// The database stops, a session ends, COMMIT gets no response, or it fails.
    pub database: u8,
    /// A lease expires while its holder is alive.
    pub stalls: u8,
}

/// A lease that the clean-up is about to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Obsolete {
    /// The leased version.
    pub source: u8,
    /// Whether the lease object still has the ETag that was read.
    pub is_unchanged: bool,
}

/// A process that runs one attempt after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor {
    /// The step that it has done last.
    pub at: At,
    /// The version that its attempt is about.
    pub source: u8,
    /// Whether a COMMIT may have taken effect.
    pub commit: Commit,
    /// Whether the previous holder of the lease may have been writing the fallback.
    pub must_abort: bool,
    /// Its transaction.
    pub transaction: Transaction,
    /// Its upload of a fallback object.
    pub upload: Upload,
    /// The notes in the expired lease that it has read, and whether that lease is unchanged.
    pub seen: Option<(Notes, bool)>,
    /// Where it moves the object.
    pub destination: Destination,
    /// Whether it read the file before it had the lease. Only without [`crate::guard::Guard::ReadUnderLease`].
    pub has_body: bool,
}

/// The step of an attempt that was done last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// No attempt.
    #[default]
    Idle,
    /// The worker has the object's version, or the replay has the manifest. No lease yet.
    Located,
    /// An expired lease was read.
    ExpiredLeaseRead,
    /// The lease is acquired.
    LeaseWritten,
    /// The uploads of the previous holder are aborted.
    UploadsAborted,
    /// No fallback object was found, before the uploads are aborted. Only without `Guard::AbortBeforeLookUp`.
    NotAborted,
    /// No fallback object was found.
    FallbackLookedUp,
    /// The rows are ready to be loaded.
    BodyEnd,
    /// The transaction has claimed the source.
    Claimed,
    /// The transaction has the rows and the final state of the ledger row.
    RowsAll,
    /// The lease is fenced.
    BeforeCommit,
    /// COMMIT got no response.
    Unanswered,
    /// The load has failed, because the database is down.
    LoadFailed,
    /// The ledger said that nothing is stored.
    Proved,
    /// The manifest is written.
    ManifestWritten,
    /// The rows are sent.
    RowsPartSent,
    /// The lease notes that the fallback object may appear.
    RowsFenced,
    /// The fallback object exists.
    RowsCompleted,
    /// An earlier attempt's fallback object was found.
    EarlierFallback,
    /// The ledger says that the version needs no load. Only with `Guard::NotNeededNote`.
    NotNeeded,
    /// The object may move.
    Outcome,
    /// The copy exists.
    BeforeDelete,
    /// The source is deleted, and the attempt has its outcome.
    AfterDelete,
    /// The attempt has failed.
    Failed,
    /// The replay has found no fallback object.
    NoFallback,
    /// The replay knows that the rows are loaded.
    Replayed,
    /// The replay has copied a source in place to the processed prefix. Only with `Guard::ReplayMovesSource`.
    SourceCopied,
    /// The fallback object is deleted.
    ObjectRemoved,
    /// The manifest is deleted too.
    ManifestRemoved,
    /// The object is copied from the failed to the processed prefix.
    Restored,
    /// The object is not under the failed prefix any more. Only with `Guard::RestoreBeforeManifest`.
    NotInFailed,
}

/// Whether a COMMIT for the version may have taken effect, as the attempt knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Commit {
    /// None was sent.
    #[default]
    NotSent,
    /// One may have been sent.
    InDoubt,
    /// Its result is known.
    Resolved,
}

/// A transaction of a live attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transaction {
    /// None.
    #[default]
    None,
    /// It is open and holds the claim.
    Open,
    /// The server has ended the session, and the attempt does not know it.
    Lost,
}

/// A multipart upload of a live attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upload {
    /// None.
    #[default]
    None,
    /// All parts are sent.
    Sent,
    /// Another worker has aborted it.
    Aborted,
}

/// The destination of a move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// The rows are loaded or not needed.
    #[default]
    Processed,
    /// The rows are in the fallback.
    Failed,
}

/// One object version, with everything that belongs to its source id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// Whether it was uploaded.
    pub is_uploaded: bool,
    /// Whether it has the same bytes as the other version.
    pub has_same_content: bool,
    /// Whether it is under its upload prefix.
    pub is_in_place: bool,
    /// Whether the user has overwritten it.
    pub is_overwritten: bool,
    /// The copy under the processed prefix.
    pub processed: Copy,
    /// The copy under the failed prefix.
    pub failed: Copy,
    /// The committed state in the ledger.
    pub ledger: Ledger,
    /// How often its rows are in the table.
    pub loads: u8,
    /// Transactions whose client is gone.
    pub orphans: Orphans,
    /// Its fallback.
    pub fallback: Fallback,
    /// Its lease.
    pub lease: Option<Lease>,
}

/// An object at the destination of a move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Copy {
    /// None.
    #[default]
    None,
    /// The version that it is named after.
    Own,
    /// Another version.
    Other,
}

/// The committed state of the ledger row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Ledger {
    /// Nothing that matters: no row, or an earlier fallback.
    #[default]
    Unknown,
    /// Loaded.
    Loaded,
    /// The same content is loaded as another version.
    Duplicate,
}

/// Transactions on the server whose client is gone: it died, or lost the connection. They hold the claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Orphans {
    /// One without COMMIT.
    pub open: bool,
    /// A worker's, after COMMIT was sent.
    pub committing: bool,
    /// The replay's, after COMMIT was sent.
    pub committing_replay: bool,
}

/// The fallback of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fallback {
    /// Whether the manifest exists.
    pub has_manifest: bool,
    /// Whether the object with the rows exists.
    pub has_object: bool,
    /// Whether the partition is in Glue.
    pub is_registered: bool,
    /// Whether a dead worker has left an upload.
    pub has_stale_upload: bool,
    /// Whether a replay knows that the rows of the object are loaded or not needed. It deletes the object next.
    pub is_replayed: bool,
}

/// A lease object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The actor whose current attempt holds it; `None` if that attempt has died or abandoned it.
    pub holder: Option<u8>,
    /// Whether another worker may take it over.
    pub is_expired: bool,
    /// Its notes.
    pub notes: Notes,
}

/// The notes in a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Notes {
    /// `commit_may_be_sent`.
    pub commit: bool,
    /// `fallback_may_be_written`.
    pub fallback: bool,
}

impl State {
    /// Whether an actor holds the lease of a version.
    pub fn holds(&self, actor: usize, source: usize) -> bool {
        self.sources[source].lease.is_some_and(|lease| lease.holder.map(usize::from) == Some(actor))
    }

    /// Whether the transaction of another client holds the claim on a version.
    pub fn is_claimed_by_another(&self, actor: usize, source: usize) -> bool {
        let Orphans { open, committing, committing_replay } = self.sources[source].orphans;
        let is_open = |(index, other): (usize, &Actor)| {
            index != actor && usize::from(other.source) == source && other.transaction == Transaction::Open
        };
        open || committing || committing_replay || self.actors.iter().enumerate().any(is_open)
    }

    /// The same state with the workers in a fixed order, because they are alike. Halves the number of states.
    pub(crate) fn normalized(mut self) -> Self {
        let rank = |state: &Self, actor: usize| (state.actors[actor], [0, 1].map(|source| state.holds(actor, source)));
        if rank(&self, 0) <= rank(&self, 1) {
            return self;
        }
        self.actors.swap(0, 1);
        for lease in self.sources.iter_mut().filter_map(|source| source.lease.as_mut()) {
            lease.holder = match lease.holder {
                Some(0) => Some(1),
                Some(1) => Some(0),
                other => other,
            };
        }
        self
    }
}
