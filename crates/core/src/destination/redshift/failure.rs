//! Maps failures of the Data API and messages of Redshift to error kinds.
//!
//! The Data API returns no error codes of the server. So a message is recognized by the fixed parts of its text.

use std::error::Error as StdError;

use aws_sdk_redshiftdata::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::client::RolledBack;
use super::sql::Step;
use crate::destination::redact::has_safe_messages;
use crate::error::{Error, ErrorKind};

/// Texts of messages, in lower case, and what they mean. The first match decides.
const MESSAGES: &[(&str, ErrorKind)] = &[
    ("serializable isolation violation", ErrorKind::Conflict),
    ("could not serialize access", ErrorKind::Conflict),
    ("deadlock detected", ErrorKind::Conflict),
    ("concurrent transaction", ErrorKind::Conflict),
    ("disk full", ErrorKind::DatabaseFull),
    ("no space left", ErrorKind::DatabaseFull),
    ("permission denied", ErrorKind::Privilege),
    ("must be owner", ErrorKind::Privilege),
    ("not authorized", ErrorKind::Privilege),
    ("access denied", ErrorKind::Privilege),
    ("accessdenied", ErrorKind::Privilege),
    ("password authentication failed", ErrorKind::Credentials),
    ("fatal: database", ErrorKind::Privilege),
    ("schema \"", ErrorKind::Privilege),
    ("s3 query exception", ErrorKind::DataRefused),
    ("spectrum scan error", ErrorKind::DataRefused),
    ("too long", ErrorKind::DataRefused),
    ("out of range", ErrorKind::DataRefused),
    ("overflow", ErrorKind::DataRefused),
    ("cannot insert a null", ErrorKind::DataRefused),
    ("violates", ErrorKind::DataRefused),
    ("invalid input syntax", ErrorKind::DataRefused),
    ("syntax error", ErrorKind::Internal),
    ("relation \"", ErrorKind::TableMismatch),
    ("column \"", ErrorKind::TableMismatch),
    ("cannot be cast", ErrorKind::TableMismatch),
    ("but expression is of type", ErrorKind::TableMismatch),
    ("too many connections", ErrorKind::Capacity),
    ("connection limit", ErrorKind::Capacity),
    ("read-only", ErrorKind::Failover),
    ("read only", ErrorKind::Failover),
    ("connection", ErrorKind::Failover),
    ("shutting down", ErrorKind::Failover),
    ("restart", ErrorKind::Failover),
    ("paused", ErrorKind::Failover),
    ("timed out", ErrorKind::Failover),
    ("timeout", ErrorKind::Failover),
];

/// Whether a message says that a table does not exist.
pub(super) fn is_missing_table(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("relation \"") && message.contains("does not exist")
}

/// Returns the error of a transaction that was rolled back. `steps` are those of its statements.
pub(super) fn rolled_back(context: &str, failed: &RolledBack, steps: &[Step]) -> Error {
    let step = failed.statement.and_then(|index| steps.get(index).copied());
    let is_guard = failed.message.to_ascii_lowercase().replace("division", "divide").contains("divide by zero");
    match step {
        Some(Step::GuardSource) if is_guard => {
            Error::new(ErrorKind::Conflict, "another worker has loaded the same file")
        }
        Some(Step::GuardFence) if is_guard => {
            Error::new(ErrorKind::Conflict, "another worker has ended this worker's claim on the file")
        }
        Some(Step::GuardContent) if is_guard => {
            Error::new(ErrorKind::Conflict, "the same content is loaded as another source")
        }
        Some(Step::GuardTable) if is_guard => {
            Error::new(ErrorKind::Conflict, "another worker replaced the table at the same time")
        }
        Some(Step::GuardCount) if is_guard => {
            Error::new(ErrorKind::Internal, "COPY has not stored as many rows as the file has")
        }
        Some(Step::GuardKey) if is_guard => {
            let message = format!(
                "{context}: several rows of the table have the same merge key; delete all but one of them, or name other columns \
                 in MERGE_KEY"
            );
            Error::new(ErrorKind::TableMismatch, message)
        }
        Some(Step::GuardMerge) if is_guard => {
            Error::new(ErrorKind::Internal, format!("{context}: the merge has not stored each row of the file once"))
        }
        // Only guards divide.
        _ if is_guard => Error::new(ErrorKind::Conflict, format!("{context}: another worker was faster")),
        _ => message_error(context, &failed.message),
    }
}

fn message_error(context: &str, message: &str) -> Error {
    let kind = kind_of(message);
    let text = message.lines().next().unwrap_or_default().trim();
    match has_safe_messages(kind) && !text.is_empty() {
        true => Error::new(kind, format!("{context}: {text}")),
        // The message may quote a value.
        false => {
            Error::new(kind, format!("{context}: the server's message is in the history of the Redshift Data API"))
        }
    }
}

/// Returns the kind of a server message. An unknown one counts as a bug, so that its file is kept in the fallback.
fn kind_of(message: &str) -> ErrorKind {
    let message = message.to_ascii_lowercase();
    MESSAGES.iter().find(|(text, _)| message.contains(text)).map_or(ErrorKind::Internal, |(_, kind)| *kind)
}

/// Returns the error of a call that the Data API has refused.
pub(super) fn refused<E, R>(context: &str, error: &SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let SdkError::ServiceError(service) = error else { return unanswered(context, error) };
    let code = service.err().code().unwrap_or_default();
    let kind = match code {
        "AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException" => ErrorKind::Credentials,
        "ResourceNotFoundException" => ErrorKind::Privilege,
        "ActiveStatementsExceededException"
        | "ActiveSessionsExceededException"
        | "ThrottlingException"
        | "QueryTimeoutException" => ErrorKind::Capacity,
        "DatabaseConnectionException" | "InternalServerException" => ErrorKind::Unreachable,
        _ => ErrorKind::Internal,
    };
    let message = service.err().message().unwrap_or_default();
    match has_safe_messages(kind) {
        true => Error::new(kind, format!("{context}: {code}: {message}")),
        false => Error::new(kind, format!("{context}: {code}")),
    }
}

/// Returns the error of a call without a response.
pub(super) fn unanswered<E, R>(context: &str, error: &SdkError<E, R>) -> Error
where
    E: StdError + 'static,
    R: std::fmt::Debug,
{
    let cause = DisplayErrorContext(error).to_string();
    let cause = cause.split(" (").next().unwrap_or_default().to_owned();
    Error::new(ErrorKind::Unreachable, format!("{context}: the Redshift Data API does not respond: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_its_kind() {
        for (message, kind) in [
            ("ERROR: 1023\n Detail: Serializable isolation violation on table - 100", ErrorKind::Conflict),
            ("ERROR: could not serialize access due to concurrent update", ErrorKind::Conflict),
            ("ERROR: permission denied for relation orders", ErrorKind::Privilege),
            (
                "ERROR: User arn:aws:redshift:u is not authorized to assume IAM Role arn:aws:iam::1:role/r",
                ErrorKind::Privilege,
            ),
            ("ERROR: relation \"orders\" does not exist", ErrorKind::TableMismatch),
            ("ERROR: column \"a\" of relation \"orders\" does not exist", ErrorKind::TableMismatch),
            ("ERROR: Value too long for character type", ErrorKind::DataRefused),
            ("ERROR: Cannot insert a NULL value into column a", ErrorKind::DataRefused),
            ("ERROR: Disk Full", ErrorKind::DatabaseFull),
            ("ERROR: syntax error at or near \"x\"", ErrorKind::Internal),
            ("Connection to the cluster was lost", ErrorKind::Failover),
            ("a text of a later version", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(message), kind, "{message}");
        }
    }

    #[test]
    fn guard_is_known_by_its_place() {
        let steps = [
            Step::Lock,
            Step::GuardSource,
            Step::GuardFence,
            Step::GuardContent,
            Step::GuardCount,
            Step::GuardTable,
            Step::GuardKey,
            Step::GuardMerge,
        ];
        let error = |statement, message: &str| {
            rolled_back("cannot load", &RolledBack { statement: Some(statement), message: message.into() }, &steps)
        };
        for (statement, kind) in [
            (1, ErrorKind::Conflict),
            (2, ErrorKind::Conflict),
            (3, ErrorKind::Conflict),
            (4, ErrorKind::Internal),
            (5, ErrorKind::Conflict),
            (6, ErrorKind::TableMismatch),
            (7, ErrorKind::Internal),
        ] {
            for message in ["ERROR: Divide by zero", "ERROR: division by zero"] {
                assert_eq!(error(statement, message).kind(), kind, "{statement}");
            }
        }
        assert_eq!(error(0, "ERROR: deadlock detected").kind(), ErrorKind::Conflict);
        assert_eq!(error(0, "ERROR: Divide by zero").kind(), ErrorKind::Conflict);
    }

    #[test]
    fn value_in_a_message_is_not_repeated() {
        let failed = RolledBack { statement: None, message: "ERROR: invalid input syntax: \"4111-1111\"".into() };
        let error = rolled_back("cannot load", &failed, &[]);
        assert_eq!(error.kind(), ErrorKind::DataRefused);
        assert!(!error.to_string().contains("4111"), "{error}");
    }
}
