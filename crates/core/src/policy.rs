//! What each failure means: one exhaustive table from error kind to what is done next and what the operator can do.
//!
//! Pure: clocks and random numbers are the caller's. How long an outage may be waited for is a setting.

use std::time::Duration;

use crate::error::ErrorKind;

/// How often a step is tried again before its failure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Not at all.
    Never,
    /// Up to this many tries in all: the database is healthy, only busy.
    Tries(u32),
    /// Until `RDS_RETRY_SECONDS` are over, each time on a new connection.
    Budget,
    /// For at most this long within the budget, with the secret read again: the password may just have been rotated.
    FreshCredentials(Duration),
}

/// What happens to the file when no try is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its rows go over the spillway. Only ever taken when non-commit is proved.
    FallBack,
    /// The file is broken: to the failed prefix with a reason, zero rows anywhere.
    Reject,
    /// An error: the object stays in place, the event comes again, then the dead letter queue.
    Fail,
}

/// What is done about a kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// How often the step is tried again.
    pub retry: Retry,
    /// What happens then.
    pub action: Action,
    /// Whether a person must look even though nothing is lost: the run exits non-zero, the log line is an error.
    pub alert: bool,
    /// What the operator can do.
    pub hint: &'static str,
}

/// The failure table.
pub(crate) fn policy(kind: ErrorKind) -> Policy {
    use Action::{Fail, FallBack, Reject};
    use Retry::{Budget, FreshCredentials, Never, Tries};
    let (retry, action, alert, hint) = match kind {
        ErrorKind::Conflict => {
            (Tries(6), Fail, false, "another transaction holds the same rows; the event comes again by itself")
        }
        ErrorKind::Failover => {
            (Budget, FallBack, false, "the database is failing over or read-only; replay the fallback when it is back")
        }
        ErrorKind::Capacity => (
            Budget,
            FallBack,
            false,
            "raise max_connections or lower the functions' concurrency, then replay the fallback",
        ),
        ErrorKind::Unreachable => {
            (Budget, FallBack, false, "check host, port, security group and subnets, then replay the fallback")
        }
        ErrorKind::TlsRefused => (
            Never,
            FallBack,
            true,
            "check the server's certificate and RDS_CA_FILE; plain text is used only with RDS_TLS=off",
        ),
        ErrorKind::Credentials => (
            FreshCredentials(Duration::from_secs(60)),
            FallBack,
            false,
            "check user and password in the secret, then replay the fallback",
        ),
        ErrorKind::Privilege => (
            Never,
            FallBack,
            false,
            "grant SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES, ALTER and DROP on the database, then replay \
             the fallback",
        ),
        ErrorKind::TableMismatch => {
            (Never, FallBack, false, "change the table (or the file's columns), then replay the fallback")
        }
        ErrorKind::DataRefused => {
            (Never, FallBack, false, "the record does not fit the table; change the table, then replay the fallback")
        }
        ErrorKind::DatabaseFull => {
            (Never, FallBack, false, "give the database room (storage, max_allowed_packet), then replay the fallback")
        }
        ErrorKind::Internal => (Never, FallBack, true, "this is a bug in Spillway: please report it with this message"),
        ErrorKind::CommitUnknown => (
            Never,
            Fail,
            false,
            "COMMIT was not answered and the ledger could not be asked; the file waits in place and the event comes again",
        ),
        ErrorKind::FileBroken => (Never, Reject, false, "correct the file and upload it again"),
        ErrorKind::KeyRefused => {
            (Never, Reject, false, "correct TABLE_PATTERN or the key, and move the file back under an upload prefix")
        }
        ErrorKind::SourceChanged => (Never, Fail, false, "the object was overwritten; the newer one is loaded"),
        ErrorKind::SourceMissing => (Never, Fail, false, "the object is gone"),
        ErrorKind::DestinationTaken => {
            (Never, Fail, true, "look at the object at the destination; move it away, then the source moves by itself")
        }
        ErrorKind::Forbidden => (Never, Fail, true, "check the role's policy and the key policy (KMS)"),
        ErrorKind::Throttled => (Never, Fail, false, "the service asked to slow down; the event comes again by itself"),
        ErrorKind::Service => (Never, Fail, false, "the service failed; the event comes again by itself"),
        ErrorKind::Busy => {
            (Never, Fail, false, "another worker holds this object; the event comes again and finds it done")
        }
        ErrorKind::LeaseLost => (Never, Fail, false, "another worker has taken over; the event comes again"),
        ErrorKind::Deadline => (Never, Fail, false, "raise the function's timeout or lower INLINE_MAX_BYTES"),
        ErrorKind::Interrupted => (Never, Fail, false, "the process was stopped; start it again"),
        ErrorKind::Settings => (Never, Fail, true, "correct the setting and deploy again"),
        // With no usable credentials nothing can have been committed by this attempt, so the rows need not wait.
        ErrorKind::SecretInvalid => (Never, FallBack, true, "correct the secret, then replay the fallback"),
        ErrorKind::EventInvalid => (Never, Fail, true, "send an S3 notification or a request as the README shows it"),
    };
    Policy { retry, action, alert, hint }
}

/// Full jitter: a random share (`unit`, 0 to 1) of the exponential delay, at most `cap`.
pub(crate) fn backoff(attempt: u32, unit: f64) -> Duration {
    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(10);
    BASE.saturating_mul(1 << attempt.min(10)).min(CAP).mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_database_never_makes_a_file_fall_back() {
        assert_eq!(policy(ErrorKind::Conflict).action, Action::Fail);
    }

    #[test]
    fn an_unknown_commit_never_falls_back() {
        assert_eq!(policy(ErrorKind::CommitUnknown).action, Action::Fail);
    }

    #[test]
    fn backoff_grows_to_its_cap() {
        let delays: Vec<u128> = [0, 1, 3, 7, 30].map(|attempt| backoff(attempt, 1.0).as_millis()).to_vec();
        assert_eq!(delays, [100, 200, 800, 10_000, 10_000]);
        assert_eq!(backoff(7, 0.0), Duration::ZERO);
    }
}
