//! What an error of the driver or the server means: SQLSTATE → [`ErrorKind`], by the failure table.
//!
//! Server messages can hold row values (22P02 quotes them, a trigger may say anything), so only the messages of kinds that never
//! do are kept as a source; of all others the SQLSTATE stays. DETAIL and CONTEXT are never kept.

use std::error::Error as StdError;

use tokio_postgres::error::{DbError, Severity};

use crate::destination::limits::{Phase, has_safe_messages};
use crate::error::{Error, ErrorKind};

/// A column of this name exists: another worker added it first.
pub(super) const DUPLICATE_COLUMN: &str = "42701";

/// The table does not exist.
pub(super) const UNDEFINED_TABLE: &str = "42P01";

/// An answer of the server, as much of it as may be told.
#[derive(Debug, thiserror::Error)]
#[error("server error {state}{message}")]
struct ServerError {
    state: String,
    /// Empty, or a colon and the message.
    message: String,
}

/// The error for a failed call; `doing` says what was tried, as in "cannot send the rows".
pub(super) fn failure(phase: Phase, doing: &str, error: tokio_postgres::Error) -> Error {
    if let Some(answer) = error.as_db_error() {
        return server_failure(doing, answer);
    }
    // The driver tells these apart by their texts alone.
    let what = error.to_string();
    let kind = match what.as_str() {
        "error performing TLS handshake" if is_broken_off(&error) => ErrorKind::Unreachable,
        "error performing TLS handshake" => ErrorKind::TlsRefused,
        "authentication error" => ErrorKind::Credentials,
        "connection closed" | "error communicating with the server" | "error connecting to server" => phase.broken(),
        "unexpected message from server" | "error parsing response from server" if phase == Phase::Connecting => {
            let message = format!("{doing}: the server does not speak the protocol");
            return Error::new(ErrorKind::Unreachable, message);
        }
        _ => ErrorKind::Internal,
    };
    match kind {
        // It may hold what we sent.
        ErrorKind::Internal => Error::new(kind, format!("{doing}: {what}")),
        kind => Error::new(kind, doing).with_source(error),
    }
}

/// What an answer of the server means that is an error.
pub(super) fn server_failure(doing: &str, answer: &DbError) -> Error {
    let state = answer.code().code();
    let kind = kind_of(state).unwrap_or(ErrorKind::Internal);
    let message = if has_safe_messages(kind) { format!(": {}", answer.message()) } else { String::new() };
    Error::new(kind, doing).with_source(ServerError { state: state.to_owned(), message })
}

/// The SQLSTATE behind a driver error.
pub(super) fn state(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Whether an answer to COMMIT leaves open what became of it. Everything else is an error that has aborted the transaction.
pub(super) fn leaves_commit_open(error: &tokio_postgres::Error) -> bool {
    let Some(answer) = error.as_db_error() else { return true };
    let state = answer.code().code();
    // A server that ends (or a wait for a standby that is cut short) may have committed before it says so.
    let is_end = ["08", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) || state == "40003";
    is_end || answer.parsed_severity() != Some(Severity::Error)
}

/// A handshake that ended without a verdict on the certificate: the server went away.
fn is_broken_off(error: &tokio_postgres::Error) -> bool {
    let Some(source) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) else { return false };
    !source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The failure table for PostgreSQL. A code that is not listed is judged by its class; `None` when that says nothing either.
pub(super) fn kind_of(state: &str) -> Option<ErrorKind> {
    let kind = match state {
        // Serialisation, deadlock, lock timeout and NOWAIT, object in use.
        "40000" | "40001" | "40P01" | "55P03" | "55006" => ErrorKind::Conflict,
        // Read-only, shutting down, terminated, cancelled, idle too long.
        "25006" | "25P03" | "25P04" | "57000" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "F0001" => {
            ErrorKind::Failover
        }
        // Connections (max_connections, those that are reserved, of the role, of the database), memory, limits.
        "53000" | "53200" | "53300" | "53400" => ErrorKind::Capacity,
        "53100" => ErrorKind::DatabaseFull,
        // The server does not take this user from this host, or not this way; the database may also demand TLS here.
        "08004" | "28000" | "28P01" => ErrorKind::Credentials,
        // Grants, no such database, schema or role; the database was dropped.
        "0L000" | "0LP01" | "0P000" | "3D000" | "3F000" | "42501" | "57P04" => ErrorKind::Privilege,
        // Tables, columns, types, names, widths; columns that are always generated; a partition or object in a state that refuses.
        "42601" | "0A000" => ErrorKind::Internal,
        "42P01" | "42P06" | "42P07" | "42P10" | "42P16" | "42P17" | "42701" | "42703" | "42704" | "42710" | "42804"
        | "42809" | "42611" | "42622" | "42830" | "428C9" | "54000" | "54011" | "55000" => ErrorKind::TableMismatch,
        // Our COPY in a form that the server does not read.
        "22P04" => ErrorKind::Internal,
        // A view's check, a trigger that raises, a row twice in one statement.
        "21000" | "27000" | "44000" | "09000" => ErrorKind::DataRefused,
        _ => return kind_of_class(state.get(..2)?),
    };
    Some(kind)
}

fn kind_of_class(class: &str) -> Option<ErrorKind> {
    match class {
        "08" | "57" | "58" => Some(ErrorKind::Failover),
        // Values, keys, constraints; errors of functions that triggers and defaults call.
        "22" | "23" | "2F" | "38" | "39" | "P0" => Some(ErrorKind::DataRefused),
        "28" => Some(ErrorKind::Credentials),
        "40" => Some(ErrorKind::Conflict),
        "42" => Some(ErrorKind::Internal),
        "53" => Some(ErrorKind::Capacity),
        "54" => Some(ErrorKind::TableMismatch),
        // What we do not know falls back, so that nothing is lost, and asks for a person.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The failure table of the design, line by line.
    const TABLE: [(ErrorKind, &[&str]); 9] = [
        (ErrorKind::Conflict, &["40001", "40P01", "55P03"]),
        (ErrorKind::Failover, &["25006", "57P01", "57P02", "57P03", "08000", "08006", "08P01", "58000", "58030"]),
        (ErrorKind::Capacity, &["53300", "53200"]),
        (ErrorKind::Credentials, &["28P01", "28000", "08004"]),
        (ErrorKind::Privilege, &["42501", "3D000", "3F000"]),
        (ErrorKind::TableMismatch, &["42P01", "42703", "42804", "42701", "54000", "54011"]),
        (ErrorKind::DataRefused, &["22001", "22003", "22P02", "22P05", "23502", "23505", "23514", "P0001"]),
        (ErrorKind::DatabaseFull, &["53100"]),
        (ErrorKind::Internal, &["42601", "0A000"]),
    ];

    #[test]
    fn every_code_of_the_failure_table_has_its_kind() {
        for (kind, states) in TABLE {
            for state in states {
                assert_eq!(kind_of(state), Some(kind), "{state}");
            }
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_nobody_s() {
        for state in ["XX000", "U0001", "", "4"] {
            assert_eq!(kind_of(state), None, "{state}");
        }
    }

    #[test]
    fn no_kind_whose_messages_quote_values_keeps_them() {
        for state in ["22P02", "23505", "P0001", "42601", "22021"] {
            assert!(!has_safe_messages(kind_of(state).unwrap_or(ErrorKind::Internal)), "{state}");
        }
    }
}
