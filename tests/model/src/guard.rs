//! The guards of the protocol. A model without one of them must break an invariant, or the guard is redundant.

use crate::listed::listed;

listed! {
    /// A guard of the protocol: a check, a condition of a request, or the order of two steps.
    pub enum Guard {
        /// A new lease is created with `If-None-Match: *`.
        LeaseIfNoneMatch,
        /// An expired lease is overwritten only if it still has the ETag that was read.
        TakeOverIfMatch,
        /// A worker that takes over a lease keeps the notes of the previous holder.
        TakeOverKeepsNotes,
        /// The file is read only after the lease is acquired.
        ReadUnderLease,
        /// The lease is written once more before COMMIT.
        FenceBeforeCommit,
        /// That write fails if another worker has taken over.
        FenceIfMatch,
        /// That write notes that a COMMIT may be sent.
        CommitNote,
        /// Only one open transaction can claim a version.
        ClaimLock,
        /// The claim fails if the ledger row says that the version needs no load.
        ClaimReadsLedger,
        /// The claim fails if the same content is loaded as another version.
        ContentClaim,
        /// After a COMMIT without a response, the attempt reads the ledger before anything else.
        AskAfterUnknownCommit,
        /// While a COMMIT is in doubt, the ledger is read before the fallback is written.
        AskBeforeFallback,
        /// A look-up in the ledger fails while an open transaction claims the version.
        LookUpSeesClaims,
        /// Every attempt looks for a fallback object first.
        FallbackLookedUpFirst,
        /// The lease is written before the upload of a fallback object is completed, and that fails if another worker has taken over.
        FenceBeforePublish,
        /// That write notes that a fallback object may appear.
        FallbackNote,
        /// A worker that takes over such a lease aborts all uploads of the fallback object.
        AbortEarlierUploads,
        /// It aborts them before it looks for the fallback object.
        AbortBeforeLookUp,
        /// The upload of a fallback object is completed with `If-None-Match: *`.
        FallbackIfNoneMatch,
        /// The manifest is written before the fallback object.
        ManifestFirst,
        /// The manifest is deleted after the fallback object.
        ManifestRemovedLast,
        /// An attempt that finds a fallback object registers it in Glue again.
        RegisterFound,
        /// The object moves only after its outcome.
        MoveAfterOutcome,
        /// The copy is made only if the source still has the ETag of the version.
        CopyIfMatch,
        /// The source is deleted only after the copy exists.
        DeleteAfterCopy,
        /// The source is deleted only if it still has the ETag of the version.
        DeleteIfMatch,
        /// The lease is released after the move.
        ReleaseAfterMove,
        /// A worker deletes the lease only if it still holds it.
        ReleaseIfMatch,
        /// A failed attempt leaves the notes in the lease.
        AbandonKeepsNotes,
        /// The clean-up keeps an expired lease with notes as long as the object is in place.
        CleanUpKeepsNotes,
        /// The clean-up deletes a lease only if it still has the ETag that was read.
        CleanUpIfMatch,
        /// A replay acquires the lease of the source.
        ReplayUnderLease,
        /// A replay claims the source id in the ledger.
        ReplayClaimsSource,
        /// A replay deletes the fallback object only after COMMIT.
        RemoveAfterCommit,
        /// A replay moves a source that is still in place to the processed prefix before it deletes the fallback object.
        ReplayMovesSource,
        /// A worker whose version needs no load notes in the lease that a COMMIT may be in doubt before it moves the object.
        NotNeededNote,
        /// A replay deletes the manifest only after the object has moved to the processed prefix.
        RestoreBeforeManifest,
    }
}

/// A set of guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards(u64);

impl Guards {
    /// All guards.
    pub fn all() -> Self {
        Self((1 << Guard::ALL.len()) - 1)
    }

    /// The same guards without these.
    #[must_use]
    pub fn without(self, removed: &[Guard]) -> Self {
        Self(removed.iter().fold(self.0, |bits, guard| bits & !(1 << *guard as u64)))
    }

    /// Whether the set has this guard.
    pub fn has(self, guard: Guard) -> bool {
        self.0 & (1 << guard as u64) != 0
    }
}
