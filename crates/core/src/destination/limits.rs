//! Time limits of calls to the server. The drivers have none of their own.

use std::time::Duration;

/// Limit for a small statement. Lock waits end sooner.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit for ROLLBACK and for closing the connection. After it the socket is closed without waiting for the server.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit for the server to accept the next piece of rows.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// Limit for the server to respond after the last piece of rows.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(300);

/// A statement that copies, merges or deletes rows within the server may take this long, plus the time for the rows'
/// bytes at this speed.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);
const COPY_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Returns the limit for a statement that copies, merges or deletes rows of this size within the server.
pub(super) fn copy_timeout(size_bytes: u64) -> Duration {
    COPY_TIMEOUT + Duration::from_secs(size_bytes / COPY_BYTES_PER_SECOND)
}

/// Limit for DDL that may write every row of the table again.
pub(super) const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// COMMIT waits until the log is written, and for a standby server where there is one.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// Returns the limit for the COMMIT of rows of this size.
pub(super) fn commit_timeout(size_bytes: u64) -> Duration {
    COMMIT_TIMEOUT + Duration::from_secs(size_bytes / COMMIT_BYTES_PER_SECOND)
}
