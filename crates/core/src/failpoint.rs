//! Named places on the road where a test can hold the process still and kill it.
//!
//! With the feature `failpoints` a process whose `SPILLWAY_FAILPOINT` names a point creates the file
//! `SPILLWAY_FAILPOINT_FILE` when it gets there and goes on once that file is gone. Without the feature, which is how
//! Spillway is deployed, reaching a point does nothing.

/// Every place on the road where a test may stop the process, in the road's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// The event was understood, nothing was asked of anybody.
    EventParsed,
    /// The fallback was asked for this source, and it is not there.
    FallbackLookedUp,
    /// Our lease object exists.
    LeaseWritten,
    /// The header record was read.
    HeadersRead,
    /// The first chunk of the body was read.
    BodyFirstByte,
    /// Half of the body was read.
    BodyHalf,
    /// The body was read to its end.
    BodyEnd,
    /// The schema is known.
    Inferred,
    /// The target table exists.
    TableMade,
    /// A transaction is open.
    Begun,
    /// The ledger row is claimed in that transaction.
    Claimed,
    /// The rows that a file replaces are deleted in that transaction.
    OldRowsDeleted,
    /// The first rows were sent.
    RowsFirst,
    /// Half of the bytes were parsed and sent.
    RowsHalf,
    /// The server has answered for all rows.
    RowsAll,
    /// The bad records that are left out are about to be looked after.
    BeforeRejects,
    /// What earlier attempts have left out is known, and the lease was proved; nothing is taken away or written.
    RejectsLookedUp,
    /// The bad records that were left out are written; nothing of the file is committed.
    RejectsWritten,
    /// The counts agree; the ledger's end state is not written.
    BeforeLedgerEnd,
    /// The ledger's end state is written; COMMIT was not sent.
    BeforeCommit,
    /// COMMIT was answered.
    AfterCommit,
    /// The copy at the destination exists; the source was not checked again.
    AfterCopy,
    /// Between two parts of a part copy.
    MidPartCopy,
    /// The copy was verified; the source was not deleted.
    BeforeDelete,
    /// The source is deleted.
    AfterDelete,
    /// A chunk was committed to the staging table.
    StagingChunk,
    /// INSERT..SELECT from the staging table was answered.
    AfterInsertSelect,
    /// The staging table's rows are committed to the target, the staging table is still there.
    BeforeStagingDrop,
    /// The fallback is decided, its object was not started.
    FallbackBeforePut,
    /// A part of the fallback's multipart upload was sent.
    FallbackMidUpload,
    /// Everything is sent and the lease says so; the fallback object is about to appear.
    FallbackAnnounced,
    /// The fallback object exists, the catalog does not know it.
    FallbackAfterComplete,
    /// The Glue table exists.
    FallbackAfterCreateTable,
    /// The Glue partition exists.
    FallbackAfterPartition,
    /// RunTask was answered.
    AfterRunTask,
}

impl Failpoint {
    /// Every point, in the road's order.
    pub const ALL: [Self; 35] = [
        Self::EventParsed,
        Self::FallbackLookedUp,
        Self::LeaseWritten,
        Self::HeadersRead,
        Self::BodyFirstByte,
        Self::BodyHalf,
        Self::BodyEnd,
        Self::Inferred,
        Self::TableMade,
        Self::Begun,
        Self::Claimed,
        Self::OldRowsDeleted,
        Self::RowsFirst,
        Self::RowsHalf,
        Self::RowsAll,
        Self::BeforeRejects,
        Self::RejectsLookedUp,
        Self::RejectsWritten,
        Self::BeforeLedgerEnd,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::AfterCopy,
        Self::MidPartCopy,
        Self::BeforeDelete,
        Self::AfterDelete,
        Self::StagingChunk,
        Self::AfterInsertSelect,
        Self::BeforeStagingDrop,
        Self::FallbackBeforePut,
        Self::FallbackMidUpload,
        Self::FallbackAnnounced,
        Self::FallbackAfterComplete,
        Self::FallbackAfterCreateTable,
        Self::FallbackAfterPartition,
        Self::AfterRunTask,
    ];

    /// The name that `SPILLWAY_FAILPOINT` takes: the variant's own.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Marks that the process is here. A test may hold it, forever if it likes.
    #[cfg(not(feature = "failpoints"))]
    #[allow(clippy::unused_async, reason = "the same signature as with fault points")]
    pub async fn reached(self) {}

    /// Marks that the process is here. A test may hold it, forever if it likes.
    #[cfg(feature = "failpoints")]
    pub async fn reached(self) {
        let Some(pause) = crate::config::test_pause() else { return };
        if pause.point != self.name() || std::fs::write(&pause.file, self.name()).is_err() {
            return;
        }
        while pause.file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
