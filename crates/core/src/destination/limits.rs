//! Time limits of statements that work on a whole file's rows.

use std::time::Duration;

/// Limit for a statement that copies, merges or deletes rows within the server: this time, plus the rows' size at this
/// speed.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);
const COPY_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Returns the limit for a statement that copies, merges or deletes so many bytes of rows within the server.
pub(super) fn copy_timeout(size_bytes: u64) -> Duration {
    COPY_TIMEOUT + Duration::from_secs(size_bytes / COPY_BYTES_PER_SECOND)
}

/// Limit for COMMIT, which waits for the log to be written, and for a standby server where there is one.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// Returns the limit for the COMMIT of so many bytes of rows.
pub(super) fn commit_timeout(size_bytes: u64) -> Duration {
    COMMIT_TIMEOUT + Duration::from_secs(size_bytes / COMMIT_BYTES_PER_SECOND)
}
