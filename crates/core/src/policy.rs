//! The retry policy: a table with the retries, the outcome, the alert and a hint of each error kind.
//!
//! `docs/errors.md` is generated from it. The module uses no clock and no random numbers: the caller passes them.
//! `RDS_RETRY_SECONDS` sets how long an outage is retried.

use std::time::Duration;

use crate::error::{Advice, Error, ErrorKind, chain};

/// How often a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Never.
    Never,
    /// Until this many tries have failed. Used when the database is healthy but busy.
    Tries(u32),
    /// For `RDS_RETRY_SECONDS` (the retry budget), each time on a new connection.
    Budget,
    /// For at most this long within the retry budget, with the secret read again: the password may have been rotated.
    FreshCredentials(Duration),
}

/// The outcome for the file when no try is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its rows are written to the fallback, but only if it is certain that they were not committed.
    FallBack,
    /// The file moves to the failed prefix with a reason. None of its rows is stored.
    Reject,
    /// The call fails and the object stays in place. Its event is received up to eight times.
    Fail,
}

/// The entry of one error kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The retries.
    pub retry: Retry,
    /// The outcome when they are used up.
    pub action: Action,
    /// Whether an operator must act although no row is lost. The log line is then an error, and `NeedsAttention` counts
    /// it.
    pub alert: bool,
    /// The advice for the operator, in lower case and without a full stop.
    pub hint: &'static str,
}

/// Returns the entry of this kind.
pub(crate) fn policy(kind: ErrorKind) -> Policy {
    use Action::{Fail, FallBack, Reject};
    use Retry::{Budget, FreshCredentials, Never, Tries};
    let (retry, action, alert, hint) = match kind {
        ErrorKind::Conflict => (Tries(6), Fail, false, "no action needed: the file is tried again"),
        ErrorKind::Failover => (Budget, FallBack, false, "replay the fallback when the database accepts writes again"),
        ErrorKind::Capacity => (
            Budget,
            FallBack,
            false,
            "raise max_connections or lower the concurrency of the functions, then replay the fallback",
        ),
        ErrorKind::Unreachable => {
            (Budget, FallBack, false, "check host, port, security groups and subnets, then replay the fallback")
        }
        ErrorKind::TlsRefused => (
            Never,
            FallBack,
            true,
            "check the server's certificate and RDS_CA_FILE, or set RDS_TLS=off to send plain text; until then, every file falls back; \
             then replay the fallback",
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
            "create the database or schema if the message says that it is missing; otherwise grant what is missing, as the message or a \
             check request says; then replay the fallback",
        ),
        ErrorKind::TableMismatch => (
            Never,
            FallBack,
            false,
            "change the table, then replay the fallback; or upload the file with other columns",
        ),
        ErrorKind::DataRefused => {
            (Never, FallBack, false, "change the table so that the record fits, then replay the fallback")
        }
        ErrorKind::ExportRefused => (
            Never,
            FallBack,
            false,
            "check the export; if the message is about deletions, and they are right, raise MIRROR_MAX_DELETES and replay the fallback",
        ),
        ErrorKind::DatabaseFull => {
            (Never, FallBack, false, "add storage or raise max_allowed_packet, then replay the fallback")
        }
        ErrorKind::Internal => (Never, FallBack, true, "report this message as a bug in Spillway"),
        ErrorKind::CommitUnknown => (
            Never,
            Fail,
            false,
            "no action needed: the next attempt reads the ledger to learn whether the rows are stored",
        ),
        ErrorKind::FileBroken => (Never, Reject, false, "correct the file and upload it again"),
        ErrorKind::Poison => (
            Never,
            Reject,
            true,
            "find out why the workers died, give them more memory or time if needed, then move the file back under an \
             upload prefix",
        ),
        ErrorKind::KeyRefused => {
            (Never, Reject, false, "correct TABLE_PATTERN or the key, then move the file back under an upload prefix")
        }
        ErrorKind::SourceChanged => (Never, Fail, false, "no action needed: the newer object is loaded"),
        ErrorKind::SourceMissing => (Never, Fail, false, "upload the object again if it was deleted by mistake"),
        ErrorKind::SourceArchived => {
            (Never, Fail, false, "restore the object, then load it by a request that names its key")
        }
        ErrorKind::DestinationTaken => (
            Never,
            Fail,
            true,
            "do what the message says about the object that it names; the next attempt then finishes the file",
        ),
        ErrorKind::Forbidden => (Never, Fail, true, "check the policy of the role and the policy of the KMS key"),
        ErrorKind::Throttled => (Never, Fail, false, "no action needed: the file is tried again"),
        ErrorKind::Service => (Never, Fail, false, "no action needed: the file is tried again"),
        ErrorKind::Busy => (Never, Fail, false, "no action needed: another worker is loading this object"),
        ErrorKind::LeaseLost => (Never, Fail, false, "no action needed: another worker is loading this object"),
        ErrorKind::Deadline => (
            Never,
            Fail,
            false,
            "the file is tried again; if it never has enough time, lower INLINE_MAX_BYTES so that a task loads it, or raise the timeout of \
             the function",
        ),
        ErrorKind::Interrupted => (
            Never,
            Fail,
            false,
            "no action needed in a stack: the next event or sweep loads the file; start a process of your own again",
        ),
        ErrorKind::Settings => (Never, Fail, true, "correct the setting, then deploy again"),
        // Without credentials this attempt cannot have committed anything, so its rows can go to the fallback.
        ErrorKind::SecretInvalid => {
            (Never, FallBack, true, "correct the secret; until then, every file falls back; then replay the fallback")
        }
        ErrorKind::EventInvalid => (Never, Fail, true, "send an S3 event or a request in the documented form"),
    };
    Policy { retry, action, alert, hint }
}

/// What a command does with the file or the table, which decides its advice on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It loads files into a database, or shows what loads do and did.
    Load,
    /// It reads rows of a database.
    Extract,
    /// It reads exports or their changes.
    ReadExports,
}

/// Returns the advice for a person who runs a command, in lower case and without a full stop. `None` if the message has better one.
///
/// A command that loads a local file has no fallback, so its advice differs from that for a deployed function.
pub fn hint(error: &Error, purpose: Purpose) -> Option<&'static str> {
    match error.advice() {
        Advice::OfKind => {}
        Advice::InMessage => return None,
        Advice::Own(advice) => return Some(advice),
    }
    if let Some(hint) = hint_of_purpose(error.kind(), purpose) {
        return Some(hint);
    }
    let is_about_a_record = error.position().is_some();
    match error.kind() {
        ErrorKind::DataRefused if error.is_of_one_record() && names_remedy(error.message()) => Some(
            "make the change that the message names, or change the table or the record; to load the file without its bad records, set \
             MAX_REJECTS",
        ),
        ErrorKind::DataRefused if is_about_a_record && names_remedy(error.message()) => {
            Some("make the change that the message names, or change the table or the record")
        }
        ErrorKind::DataRefused if error.is_of_one_record() => {
            Some("change the table or the record; to load the file without its bad records, set MAX_REJECTS")
        }
        ErrorKind::DataRefused if is_about_a_record => Some("change the table or the record"),
        ErrorKind::FileBroken if error.is_of_one_record() && names_remedy(error.message()) => Some(
            "correct the setting that the message names, or the file; if only single records are bad, set MAX_REJECTS to reject them",
        ),
        ErrorKind::FileBroken if error.is_of_one_record() => {
            Some("correct the file; if only single records are bad, set MAX_REJECTS to reject them")
        }
        // The message says how many records are bad.
        ErrorKind::FileBroken if error.message().contains("MAX_REJECTS") => {
            Some("correct the file; if only these records are bad, raise MAX_REJECTS")
        }
        ErrorKind::FileBroken if names_remedy(error.message()) => {
            Some("correct the setting that the message names, or the file")
        }
        // Without the name of a setting, the message is about an option, and says what it accepts.
        ErrorKind::Settings if !names_setting(error.message()) => None,
        kind => Some(hint_of_kind(kind)),
    }
}

/// Returns the advice for the operator of the functions, in lower case and without a full stop.
///
/// It is that of the kind, unless the message says that a setting may be wrong, and not the file or the table.
pub(crate) fn operator_hint(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::FileBroken if names_remedy(error.message()) => {
            "correct the setting that the message names, or the file, then upload the file again"
        }
        ErrorKind::DataRefused if names_remedy(error.message()) => {
            "change the table so that the record fits, then replay the fallback; or correct the setting that the message names, then \
             upload the file under another key"
        }
        kind => policy(kind).hint,
    }
}

/// Whether a message names a setting with which the file may be read as it is meant.
fn names_remedy(message: &str) -> bool {
    message.contains("table settings") || names_setting(&message.replace("MAX_REJECTS", ""))
}

/// Whether a message contains a name such as `MAX_REJECTS`.
fn names_setting(message: &str) -> bool {
    let is_name = |word: &str| {
        word.contains('_')
            && word.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    message.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').any(is_name)
}

/// The advice that differs from that of a load.
fn hint_of_purpose(kind: ErrorKind, purpose: Purpose) -> Option<&'static str> {
    match (purpose, kind) {
        (Purpose::Extract, ErrorKind::Privilege) => {
            Some("an extract needs SELECT on the table and, in PostgreSQL, USAGE on its schema")
        }
        (Purpose::Extract, ErrorKind::TableMismatch | ErrorKind::DataRefused) => {
            Some("name another table or cursor, or select and cast the columns with --query")
        }
        (Purpose::Extract, ErrorKind::Unreachable) => {
            Some("check host and port, and that the server accepts connections")
        }
        (Purpose::Extract, ErrorKind::Failover | ErrorKind::Capacity) => Some("run the command again later"),
        (Purpose::Extract, ErrorKind::Busy | ErrorKind::DestinationTaken) => {
            Some("make the change that the message names, then run the command again")
        }
        (Purpose::ReadExports, ErrorKind::FileBroken | ErrorKind::DataRefused) => {
            Some("correct the file; MAX_REJECTS does not apply to exports and their changes")
        }
        (Purpose::Load | Purpose::Extract | Purpose::ReadExports, _) => None,
    }
}

fn hint_of_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Conflict | ErrorKind::Busy | ErrorKind::LeaseLost => {
            "another process is loading into the same rows; run the command again when it has ended"
        }
        ErrorKind::Failover | ErrorKind::Capacity => "nothing was stored; run the command again later",
        // A publication may have sent a part.
        ErrorKind::Throttled | ErrorKind::Service => "run the command again later",
        ErrorKind::Unreachable => "nothing was stored; check host and port, and that the server accepts connections",
        ErrorKind::TlsRefused => {
            "check the server's certificate and --ca-file (RDS_CA_FILE), or use --tls off to send plain text"
        }
        ErrorKind::Credentials => "check user and password, and whether the database exists",
        ErrorKind::Privilege => {
            "create the database or schema if the message says that it is missing; otherwise run the GRANT statements that \
             spillway check prints"
        }
        ErrorKind::TableMismatch => "change the table, or load the file into another table",
        ErrorKind::DataRefused => "change the table or the record",
        ErrorKind::ExportRefused => {
            "check the export; if the message is about deletions, and they are right, raise MIRROR_MAX_DELETES"
        }
        ErrorKind::DatabaseFull => "add storage, or raise max_allowed_packet",
        ErrorKind::Internal => "report this message as a bug in Spillway",
        ErrorKind::CommitUnknown => "run the command again: it reads the ledger to learn whether the rows are stored",
        ErrorKind::FileBroken => "correct the file",
        ErrorKind::Poison => "find out why the workers died, and give them more memory or time",
        ErrorKind::KeyRefused => "correct TABLE_PATTERN or RDS_TABLE; plan and load also accept --table",
        ErrorKind::SourceChanged => "the file was changed while it was read; run the command when it is complete",
        ErrorKind::SourceMissing => "check the name of the file",
        ErrorKind::SourceArchived => "restore the object, then run the command again",
        ErrorKind::DestinationTaken => "move the object at the destination key away",
        ErrorKind::Forbidden => "check the permissions of the file, or the policies of the AWS identity",
        ErrorKind::Deadline => "raise the time limit",
        ErrorKind::Interrupted => "run the command again: it continues with what is not done",
        ErrorKind::Settings => "correct the option or the setting; docs/settings.md lists what each setting accepts",
        ErrorKind::SecretInvalid => "correct the secret",
        ErrorKind::EventInvalid => "correct the arguments; see --help",
    }
}

/// An error with its kind, its causes and the advice, on one line.
pub(crate) fn describe(error: &Error) -> String {
    format!("{}: {} ({})", error.kind(), chain(error), operator_hint(error))
}

/// Whether an error means that the database cannot be reached or used at all, whatever the file.
pub(crate) fn is_outage(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Failover
            | ErrorKind::Capacity
            | ErrorKind::Unreachable
            | ErrorKind::TlsRefused
            | ErrorKind::Credentials
            | ErrorKind::SecretInvalid
    )
}

/// Whether an error proves that the database works: it has responded, even if it refused the file.
pub(crate) fn is_response(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Conflict
            | ErrorKind::Privilege
            | ErrorKind::TableMismatch
            | ErrorKind::DataRefused
            | ErrorKind::ExportRefused
            | ErrorKind::DatabaseFull
    )
}

/// The delay before a retry: exponential, at most 10 seconds, times `unit` (0 to 1, random: full jitter).
pub(crate) fn backoff(attempt: u32, unit: f64) -> Duration {
    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(10);
    BASE.saturating_mul(1 << attempt.min(10)).min(CAP).mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_database_never_makes_a_file_fall_back() {
        assert_eq!(policy(ErrorKind::Conflict).action, Action::Fail);
    }

    #[test]
    fn an_unknown_commit_never_falls_back() {
        assert_eq!(policy(ErrorKind::CommitUnknown).action, Action::Fail);
    }

    /// A file that has waited for the database in vain has proved an outage.
    #[test]
    fn only_outages_are_retried_for_a_time() {
        for kind in ErrorKind::ALL {
            if matches!(policy(*kind).retry, Retry::Budget | Retry::FreshCredentials(_)) {
                assert!(is_outage(*kind) && !is_response(*kind), "{kind}");
                assert_eq!(policy(*kind).action, Action::FallBack, "{kind}");
            }
        }
    }

    #[test]
    fn hints_do_not_mislead() {
        let hint = |error: Error, purpose| hint(&error, purpose);
        let of_kind = |kind, purpose| hint(Error::new(kind, "x"), purpose).unwrap_or_default();
        // Each engine has its own statements, which the message contains.
        assert!(!of_kind(ErrorKind::Privilege, Purpose::Load).contains("INSERT"));
        assert!(of_kind(ErrorKind::Privilege, Purpose::Extract).contains("USAGE"));
        assert!(!of_kind(ErrorKind::Unreachable, Purpose::Extract).contains("stored"));
        let broken = || Error::new(ErrorKind::FileBroken, "x").at(crate::error::Position::default()).of_one_record();
        let unreadable = Error::new(ErrorKind::FileBroken, "x").at(crate::error::Position::default());
        assert!(!hint(unreadable, Purpose::Load).unwrap_or_default().contains("MAX_REJECTS"));
        assert!(hint(broken(), Purpose::Load).unwrap().contains("set MAX_REJECTS"));
        assert!(hint(broken(), Purpose::ReadExports).unwrap().contains("does not apply"));
        let of_settings = |message: &str| hint(Error::new(ErrorKind::Settings, message), Purpose::Load);
        assert!(of_settings("MAX_REJECTS is -1").unwrap().contains("docs/settings.md"));
        assert_eq!(of_settings("the URL of the database: write mysql://…"), None);
        let own = Error::new(ErrorKind::Settings, "MAX_REJECTS").advised("own");
        assert_eq!(hint(own, Purpose::Extract), Some("own"));
        assert_eq!(hint(Error::new(ErrorKind::Privilege, "GRANT it").with_advice(), Purpose::Load), None);
    }

    /// A file that is read with a wrong setting need not be corrected.
    #[test]
    fn hint_is_about_the_setting_that_a_message_names() {
        let at = crate::error::Position::default();
        let broken = |message: &str| Error::new(ErrorKind::FileBroken, message).at(at);
        let refused = |message: &str| Error::new(ErrorKind::DataRefused, message).at(at).of_one_record();
        for error in [
            broken("if that is the delimiter, set CSV_DELIMITER"),
            broken("set CSV_ENCODING").of_one_record(),
            broken("the value does not have the format of the table settings"),
            refused("the value is not an integer; if it means NULL, set NULL_VALUES"),
            refused("may begin with the day or the month; set its format in the table settings"),
        ] {
            for hint in [hint(&error, Purpose::Load).unwrap(), operator_hint(&error)] {
                assert!(hint.contains("that the message names"), "{error}: {hint}");
            }
        }
        for error in [broken("the quote is never closed"), refused("the value is not an integer")] {
            assert_eq!(operator_hint(&error), policy(error.kind()).hint);
            assert!(!hint(&error, Purpose::Load).unwrap().contains("message names"), "{error}");
        }
        let above = broken("more than 2 records are bad (MAX_REJECTS); the last one: 2 fields expected");
        assert!(hint(&above, Purpose::Load).unwrap().contains("raise MAX_REJECTS"));
        assert_eq!(operator_hint(&above), policy(ErrorKind::FileBroken).hint);
    }

    #[test]
    fn backoff_grows_to_its_cap() {
        let delays: Vec<u128> = [0, 1, 3, 7, 30].map(|attempt| backoff(attempt, 1.0).as_millis()).to_vec();
        assert_eq!(delays, [100, 200, 800, 10_000, 10_000]);
        assert_eq!(backoff(7, 0.0), Duration::ZERO);
    }
}
