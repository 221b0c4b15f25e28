//! How long the server may work on a statement, what a call that failed or was never answered means by when it happened, and
//! what may be told of its failure.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How long a statement may take at the least that moves, merges or deletes rows within the server, and the pace it must
/// keep beyond that.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);
const COPY_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// How long a statement may take that works on rows of so many bytes within the server.
pub(super) fn copy_timeout(size_bytes: u64) -> Duration {
    COPY_TIMEOUT + Duration::from_secs(size_bytes / COPY_BYTES_PER_SECOND)
}

/// Limit for COMMIT: it waits for the log to be written, and for a standby where there is one.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// How long COMMIT may take for so many bytes of rows.
pub(super) fn commit_timeout(size_bytes: u64) -> Duration {
    COMMIT_TIMEOUT + Duration::from_secs(size_bytes / COMMIT_BYTES_PER_SECOND)
}

/// Whether there was a connection when the error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The connection was being made.
    Connecting,
    /// A statement was on its way.
    Connected,
}

impl Phase {
    /// What a connection that broke at this stage is.
    pub(super) fn broken(self) -> ErrorKind {
        match self {
            Self::Connecting => ErrorKind::Unreachable,
            Self::Connected => ErrorKind::Failover,
        }
    }
}

/// The error for a call that got no answer in time.
pub(super) fn timed_out(phase: Phase, doing: &str, limit: Duration) -> Error {
    Error::new(phase.broken(), format!("{doing}: no answer within {} s", limit.as_secs()))
}

/// Whether a server's messages of this kind only name hosts, users, tables, columns and settings. All others may quote a
/// row's values.
pub(super) fn has_safe_messages(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Conflict
        | ErrorKind::Failover
        | ErrorKind::Capacity
        | ErrorKind::Unreachable
        | ErrorKind::TlsRefused
        | ErrorKind::Credentials
        | ErrorKind::Privilege
        | ErrorKind::TableMismatch
        | ErrorKind::DatabaseFull => true,
        ErrorKind::DataRefused
        | ErrorKind::Internal
        | ErrorKind::CommitUnknown
        | ErrorKind::FileBroken
        | ErrorKind::KeyRefused
        | ErrorKind::SourceChanged
        | ErrorKind::SourceMissing
        | ErrorKind::Forbidden
        | ErrorKind::Throttled
        | ErrorKind::Service
        | ErrorKind::Busy
        | ErrorKind::DestinationTaken
        | ErrorKind::LeaseLost
        | ErrorKind::Deadline
        | ErrorKind::Interrupted
        | ErrorKind::Settings
        | ErrorKind::SecretInvalid
        | ErrorKind::EventInvalid => false,
    }
}
