//! Failpoints: named points of the pipeline at which a test can pause a process and kill it.
//!
//! With the feature `failpoints`, a process that reaches the point in `SPILLWAY_FAILPOINT` creates the file
//! `SPILLWAY_FAILPOINT_FILE` and continues when that file is deleted. With `NAME:panic` it panics there instead. With `NAME:error`
//! the step before the point fails each time, with an error that the step can return. With `every:trace` the process adds the
//! name of each point that it reaches to the file. Deployed binaries are built without the feature: there a failpoint does nothing.

use crate::error::Result;
#[cfg(feature = "failpoints")]
use crate::error::{Error, ErrorKind};

/// The failpoint of this process.
#[cfg(feature = "failpoints")]
static ARMED: std::sync::OnceLock<Armed> = std::sync::OnceLock::new();

/// A failpoint, and what happens there.
#[cfg(feature = "failpoints")]
struct Armed {
    point: String,
    action: Action,
    /// The file that shows which point was reached.
    file: std::path::PathBuf,
}

/// What happens at a failpoint.
#[cfg(feature = "failpoints")]
#[derive(PartialEq, Eq)]
enum Action {
    /// The process waits until the file is deleted.
    Pause,
    /// The process panics.
    Panic,
    /// The step before the failpoint fails.
    Fail,
    /// The process continues. Applies to every failpoint.
    Trace,
}

/// Arms one failpoint until the end of this process. Only the first call has an effect.
#[cfg(feature = "failpoints")]
pub(crate) fn arm(spec: &str, file: std::path::PathBuf) {
    let (point, action) = match spec.split_once(':') {
        Some((point, "panic")) => (point, Action::Panic),
        Some((point, "error")) => (point, Action::Fail),
        Some((point, "trace")) => (point, Action::Trace),
        _ => (spec, Action::Pause),
    };
    let _ = ARMED.set(Armed { point: point.to_owned(), action, file });
}

/// Every failpoint, in the order of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// The event was parsed; no request was sent.
    EventParsed,
    /// The source has no fallback object.
    FallbackLookedUp,
    /// The lease object was written.
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
    /// The rows that a mirrored file does not have are deleted in that transaction.
    MissingRowsDeleted,
    /// The first rows were sent.
    RowsFirst,
    /// Half of the bytes were parsed and sent.
    RowsHalf,
    /// The server has confirmed all rows.
    RowsAll,
    /// The file has rejected records; they were not processed.
    BeforeRejects,
    /// The reject files of earlier attempts were listed and the lease was verified; nothing was deleted or written.
    RejectsLookedUp,
    /// The reject files were written; no row of the file is committed.
    RejectsWritten,
    /// The row counts were compared; the final ledger state was not written.
    BeforeLedgerEnd,
    /// The final ledger state was written; COMMIT was not sent.
    BeforeCommit,
    /// The server has confirmed COMMIT.
    AfterCommit,
    /// The copy at the destination exists; it was not verified.
    AfterCopy,
    /// Between two parts of a part copy.
    MidPartCopy,
    /// The copy was verified; the source was not deleted.
    BeforeDelete,
    /// The source was deleted.
    AfterDelete,
    /// A chunk of rows was committed to the staging table.
    StagingChunk,
    /// The server has confirmed INSERT..SELECT from the staging table.
    AfterInsertSelect,
    /// The rows are committed to the target table; the staging table still exists.
    BeforeStagingDrop,
    /// The manifest was written; the upload of the fallback or lake object was not started.
    ManifestWritten,
    /// The first part of an upload was sent.
    RowsPartSent,
    /// All parts were sent and the lease records it; the upload was not completed.
    RowsFenced,
    /// The fallback or lake object exists; it was not registered in the catalog.
    RowsCompleted,
    /// The Glue table exists.
    CatalogTableMade,
    /// The Glue partition exists.
    PartitionMade,
    /// The lake object exists and is registered; COMMIT was not sent.
    LakePublished,
    /// The folder of a file that stays in place is registered in Glue; COMMIT was not sent.
    RawRegistered,
    /// ECS has confirmed RunTask.
    AfterRunTask,
    /// The plan for the Glue job was written; no run was asked for.
    GluePlanWritten,
    /// Glue has confirmed StartJobRun; the id of the run is not recorded.
    GlueRunStarted,
    /// The id of the run is recorded; the lease is held.
    GlueRunRecorded,
    /// A sync has listed the files of a table and asked the ledger; no file was processed.
    SyncListed,
    /// A sync has processed its files; the watermark was not moved.
    SyncFilesDone,
    /// All bytes of a part of an extract were sent; it is invisible, and the extract is not planned.
    ExtractPartSent,
    /// The plan of an extract was written; no part is visible.
    ExtractPlanned,
    /// A part of an extract is visible.
    ExtractPartVisible,
    /// All parts of an extract are visible; the manifest was not written.
    ExtractPartsVisible,
    /// The manifest was written; the state does not say that the extract is published.
    ExtractManifestWritten,
    /// All files of an export are there, and its record was written.
    ImportRegistered,
    /// The import of an export has the lock of its table.
    ImportLocked,
    /// The delta of an import exists; the import is not planned.
    ImportDeltaWritten,
    /// The import is planned; nothing of it is loaded or published.
    ImportPlanned,
    /// The delta is loaded; the state of the table does not say so.
    ImportApplied,
    /// All changes are in the stream; the state of the table does not say so.
    ImportPublished,
    /// The state of the table says that the export is imported; its record does not.
    ImportFinished,
}

/// The failpoints among the rows of one file: after the first rows were sent, and after half of the bytes.
///
/// A sender flushes at them, so that the server has those rows. Without the feature `failpoints` there is nothing to flush.
#[derive(Debug, Default)]
pub struct RowFailpoints {
    #[cfg(feature = "failpoints")]
    half_at_byte: u64,
    #[cfg(feature = "failpoints")]
    passed: u8,
}

#[cfg(not(feature = "failpoints"))]
#[allow(clippy::unused_self, clippy::unused_async, reason = "the same signatures as with failpoints")]
impl RowFailpoints {
    /// The failpoints of a file with this decompressed size.
    pub fn new(_: u64) -> Self {
        Self {}
    }

    /// Whether the rows up to this byte of the file must be sent now.
    #[inline]
    pub fn needs_flush(&self, _: u64) -> bool {
        false
    }

    /// Reaches the failpoint that the sent rows have passed.
    pub async fn sent(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    /// Reaches the failpoint at half of the bytes, when no row starts in the second half.
    pub async fn all_sent(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(feature = "failpoints")]
impl RowFailpoints {
    /// The failpoints of a file with this decompressed size.
    pub fn new(size_bytes: u64) -> Self {
        Self { half_at_byte: size_bytes / 2, passed: 0 }
    }

    /// Whether the rows up to this byte of the file must be sent now.
    pub fn needs_flush(&self, byte: u64) -> bool {
        self.passed == 0 || (self.passed == 1 && byte >= self.half_at_byte)
    }

    /// Reaches the failpoint that the sent rows have passed.
    pub async fn sent(&mut self, byte: u64) -> Result<()> {
        if self.passed == 0 {
            self.passed = 1;
            Failpoint::RowsFirst.reached().await
        } else if byte >= self.half_at_byte {
            self.all_sent().await
        } else {
            Ok(())
        }
    }

    /// Reaches the failpoint at half of the bytes, when no row starts in the second half.
    pub async fn all_sent(&mut self) -> Result<()> {
        if self.passed == 1 {
            self.passed = 2;
            return Failpoint::RowsHalf.reached().await;
        }
        Ok(())
    }
}

impl Failpoint {
    /// Every failpoint, in the order of the pipeline.
    pub const ALL: [Self; 55] = [
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
        Self::MissingRowsDeleted,
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
        Self::ManifestWritten,
        Self::RowsPartSent,
        Self::RowsFenced,
        Self::RowsCompleted,
        Self::CatalogTableMade,
        Self::PartitionMade,
        Self::LakePublished,
        Self::RawRegistered,
        Self::AfterRunTask,
        Self::GluePlanWritten,
        Self::GlueRunStarted,
        Self::GlueRunRecorded,
        Self::SyncListed,
        Self::SyncFilesDone,
        Self::ExtractPartSent,
        Self::ExtractPlanned,
        Self::ExtractPartVisible,
        Self::ExtractPartsVisible,
        Self::ExtractManifestWritten,
        Self::ImportRegistered,
        Self::ImportLocked,
        Self::ImportDeltaWritten,
        Self::ImportPlanned,
        Self::ImportApplied,
        Self::ImportPublished,
        Self::ImportFinished,
    ];

    /// The name in `SPILLWAY_FAILPOINT`: that of the variant.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Pauses, ends or fails the step here if a test has requested it.
    #[cfg(not(feature = "failpoints"))]
    #[allow(clippy::unused_async, clippy::unused_self, reason = "the same signature as with the feature")]
    pub async fn reached(self) -> Result<()> {
        Ok(())
    }

    /// Pauses, ends or fails the step here if a test has requested it.
    ///
    /// # Errors
    /// If a test has requested one.
    #[cfg(feature = "failpoints")]
    pub async fn reached(self) -> Result<()> {
        let Some(Armed { point, action, file }) = ARMED.get() else { return Ok(()) };
        if *action == Action::Trace {
            // Without its file, a trace has no effect, and the test that reads it fails.
            let _ = std::fs::File::options()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{}\n", self.name()).as_bytes()));
        }
        if *point != self.name() || std::fs::write(file, self.name()).is_err() {
            return Ok(());
        }
        match action {
            Action::Fail => return Err(Error::new(self.error_kind(), "a test has requested this error")),
            Action::Panic => panic!("a test has requested a panic at the failpoint {point}"),
            Action::Pause | Action::Trace => {}
        }
        while file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The kind of the error when the connection to the server of this step is lost.
    #[cfg(feature = "failpoints")]
    fn error_kind(self) -> ErrorKind {
        match self {
            Self::TableMade
            | Self::Begun
            | Self::Claimed
            | Self::OldRowsDeleted
            | Self::MissingRowsDeleted
            | Self::RowsFirst
            | Self::RowsHalf
            | Self::RowsAll
            | Self::BeforeLedgerEnd
            | Self::BeforeCommit
            | Self::AfterCommit
            | Self::StagingChunk
            | Self::AfterInsertSelect
            | Self::BeforeStagingDrop
            | Self::SyncListed
            | Self::SyncFilesDone => ErrorKind::Failover,
            Self::EventParsed
            | Self::FallbackLookedUp
            | Self::LeaseWritten
            | Self::HeadersRead
            | Self::BodyFirstByte
            | Self::BodyHalf
            | Self::BodyEnd
            | Self::Inferred
            | Self::BeforeRejects
            | Self::RejectsLookedUp
            | Self::RejectsWritten
            | Self::AfterCopy
            | Self::MidPartCopy
            | Self::BeforeDelete
            | Self::AfterDelete
            | Self::ManifestWritten
            | Self::RowsPartSent
            | Self::RowsFenced
            | Self::RowsCompleted
            | Self::CatalogTableMade
            | Self::PartitionMade
            | Self::LakePublished
            | Self::RawRegistered
            | Self::AfterRunTask
            | Self::GluePlanWritten
            | Self::GlueRunStarted
            | Self::GlueRunRecorded
            | Self::ExtractPartSent
            | Self::ExtractPlanned
            | Self::ExtractPartVisible
            | Self::ExtractPartsVisible
            | Self::ExtractManifestWritten
            | Self::ImportRegistered
            | Self::ImportLocked
            | Self::ImportDeltaWritten
            | Self::ImportPlanned
            | Self::ImportApplied
            | Self::ImportPublished
            | Self::ImportFinished => ErrorKind::Service,
        }
    }
}
