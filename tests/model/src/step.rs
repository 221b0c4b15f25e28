//! The steps of the model, and the places in the code that correspond to them.

use crate::listed::listed;

listed! {
    /// A step of an actor or of the environment.
    pub enum Step {
        /// The worker asks S3 for the object's version.
        CurrentVersion,
        /// The replay lists the manifests.
        ListManifests,
        /// An expired lease is read.
        ReadLease,
        /// The lease is created or taken over.
        LeaseWritten,
        /// The uploads of the previous holder are aborted.
        AbortWrites,
        /// No fallback object exists.
        FallbackLookedUp,
        /// A fallback object exists.
        EarlierFallback,
        /// The file is read to its end.
        BodyEnd,
        /// The claim ends the attempt, because the version needs no load.
        NotNeeded,
        /// The source is claimed.
        Claimed,
        /// The transaction has all rows and the final state of the ledger row.
        RowsAll,
        /// The lease is fenced.
        BeforeCommit,
        /// COMMIT is confirmed.
        AfterCommit,
        /// The ledger is read after a COMMIT without a response.
        ResolveUnknownCommit,
        /// The ledger is read because a COMMIT is in doubt.
        FinishedEntry,
        /// The database cannot be reached.
        LoadOnce,
        /// The load is tried again, or its error is returned.
        Load,
        /// The manifest of the fallback is written.
        ManifestWritten,
        /// The rows are sent.
        RowsPartSent,
        /// The lease notes that the fallback object may appear.
        RowsFenced,
        /// The fallback object appears.
        RowsCompleted,
        /// The partition is registered.
        PartitionMade,
        /// The partition of an earlier attempt's object is registered.
        RegisterFound,
        /// The object is copied.
        AfterCopy,
        /// The object is deleted at its old key.
        AfterDelete,
        /// The lease is deleted.
        Release,
        /// The attempt fails, and ends its lease.
        Abandon,
        /// The fallback object and its partition are deleted.
        Remove,
        /// The manifest of the fallback is deleted.
        RemoveManifest,
        /// The object is copied from the failed to the processed prefix, or nothing is there.
        RestoreObject,
        /// The clean-up finds an obsolete lease.
        IsObsolete,
        /// The clean-up deletes it.
        DropExpired,
        /// The clean-up aborts a dead worker's upload.
        AbortStaleUploads,
        /// A process dies.
        Crash,
        /// An attempt fails because of S3, Glue or the deadline.
        Failure,
        /// A lease expires while its holder is stalled.
        LeaseExpires,
        /// The database stops accepting requests.
        DatabaseStops,
        /// The database accepts requests again.
        DatabaseStarts,
        /// The server ends a session and rolls its transaction back.
        SessionEnds,
        /// COMMIT is sent, and the connection is lost.
        CommitUnanswered,
        /// COMMIT returns an error.
        CommitRefused,
        /// The server commits a transaction whose client is gone.
        OrphanCommits,
        /// The server rolls such a transaction back.
        OrphanEnds,
        /// The user overwrites the object.
        Overwritten,
    }
}

/// The place in the code that corresponds to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A failpoint with the name of the step.
    Failpoint,
    /// A function in a file of `crates/core/src`.
    Function(&'static str, &'static str),
    /// Nothing in the code: the environment.
    Environment,
}

/// Failpoints that the model has no step for, because they change nothing that it contains.
pub const NOT_MODELED: &[&str] = &[
    // The model is about whole files; between these, nothing changes outside of the process or of its open transaction.
    "EventParsed",
    "HeadersRead",
    "BodyFirstByte",
    "BodyHalf",
    "Inferred",
    "TableMade",
    "Begun",
    "OldRowsDeleted",
    "MissingRowsDeleted",
    "RowsFirst",
    "RowsHalf",
    "BeforeLedgerEnd",
    // The model's move copies in one step and verifies the copy in the same step.
    "MidPartCopy",
    "BeforeDelete",
    // The Glue table is prepared with the manifest.
    "CatalogTableMade",
    // Rejects, staging, lake, raw zone, dispatch and sync are not modeled.
    "BeforeRejects",
    "RejectsLookedUp",
    "RejectsWritten",
    "StagingChunk",
    "AfterInsertSelect",
    "BeforeStagingDrop",
    "LakePublished",
    "RawRegistered",
    "AfterRunTask",
    // The Glue job has the same lease and ledger as other workers; its runs are not modeled.
    "GluePlanWritten",
    "GlueRunStarted",
    "GlueRunRecorded",
    "SyncListed",
    "SyncFilesDone",
    // Extracts write files for later loads.
    "ExtractPartSent",
    "ExtractPlanned",
    "ExtractPartVisible",
    "ExtractPartsVisible",
    "ExtractManifestWritten",
    // An import of exports loads its delta with the modeled load; its lock and its plan are not modeled.
    "ImportRegistered",
    "ImportLocked",
    "ImportDeltaWritten",
    "ImportPlanned",
    "ImportApplied",
    "ImportPublished",
    "ImportFinished",
];

impl Step {
    /// The place in the code.
    pub fn place(self) -> Place {
        use Place::{Environment, Failpoint, Function};
        match self {
            Self::CurrentVersion => Function("pipeline/mod.rs", "current_version"),
            Self::ListManifests => Function("fallback.rs", "list"),
            Self::ReadLease => Function("store/lease/acquire.rs", "take_over"),
            Self::AbortWrites => Function("fallback.rs", "abort_writes"),
            Self::EarlierFallback => Function("pipeline/attempt.rs", "find_earlier_fallback"),
            Self::NotNeeded => Function("ledger/claim.rs", "claim"),
            Self::ResolveUnknownCommit => Function("pipeline/load.rs", "resolve_unknown_commit"),
            Self::FinishedEntry => Function("pipeline/load.rs", "finished_entry"),
            Self::LoadOnce => Function("pipeline/load.rs", "load_once"),
            Self::Load => Function("pipeline/load.rs", "load"),
            Self::RegisterFound => Function("fallback.rs", "register_found"),
            Self::Release => Function("store/lease/mod.rs", "release"),
            Self::Abandon => Function("store/lease/mod.rs", "abandon"),
            Self::Remove => Function("row_objects/mod.rs", "remove"),
            Self::RemoveManifest => Function("row_objects/mod.rs", "remove_manifest"),
            Self::RestoreObject => Function("replay.rs", "restore_object"),
            Self::IsObsolete => Function("store/lease/listing.rs", "is_obsolete"),
            Self::DropExpired => Function("store/lease/listing.rs", "drop_expired"),
            Self::AbortStaleUploads => Function("store/write.rs", "abort_stale_uploads"),
            Self::Crash | Self::Failure | Self::LeaseExpires | Self::DatabaseStops | Self::DatabaseStarts => {
                Environment
            }
            Self::SessionEnds | Self::CommitUnanswered | Self::CommitRefused => Environment,
            Self::OrphanCommits | Self::OrphanEnds | Self::Overwritten => Environment,
            Self::LeaseWritten | Self::FallbackLookedUp | Self::BodyEnd | Self::Claimed | Self::RowsAll => Failpoint,
            Self::BeforeCommit | Self::AfterCommit | Self::ManifestWritten | Self::RowsPartSent => Failpoint,
            Self::RowsFenced | Self::RowsCompleted | Self::PartitionMade | Self::AfterCopy | Self::AfterDelete => {
                Failpoint
            }
        }
    }
}
