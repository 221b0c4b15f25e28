//! Converts errors of the driver and the server into our errors, by the table in [`super::codes`].
//!
//! Server messages may quote row values: 22P02 does, and a trigger's message may contain anything. So a message is kept
//! only where its kind never quotes values. Of all others the SQLSTATE is kept. DETAIL and CONTEXT are never kept.

use std::error::Error as StdError;

use tokio_postgres::error::{DbError, Severity};

use super::codes::{STATEMENT_COMPLETION_UNKNOWN, kind_of};
use crate::destination::failure::Phase;
use crate::destination::redact::has_safe_messages;
use crate::error::{Error, ErrorKind};

/// The parts of a server error that may be shown.
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
    // The driver's errors differ only in their texts.
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
        // The driver's error may quote data of ours.
        ErrorKind::Internal => Error::new(kind, format!("{doing}: {what}")),
        kind => Error::new(kind, doing).with_source(error),
    }
}

/// The error for an error answer of the server.
pub(super) fn server_failure(doing: &str, answer: &DbError) -> Error {
    let state = answer.code().code();
    let kind = kind_of(state).unwrap_or(ErrorKind::Internal);
    let message = if has_safe_messages(kind) { format!(": {}", answer.message()) } else { String::new() };
    Error::new(kind, doing).with_source(ServerError { state: state.to_owned(), message })
}

/// Returns the SQLSTATE of a driver error.
pub(super) fn state(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Whether this answer to COMMIT leaves its result open. All other errors have aborted the transaction.
pub(super) fn leaves_commit_open(error: &tokio_postgres::Error) -> bool {
    let Some(answer) = error.as_db_error() else { return true };
    let state = answer.code().code();
    // A server that shuts down, or that stops waiting for a standby, may have committed.
    let is_end =
        ["08", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) || state == STATEMENT_COMPLETION_UNKNOWN;
    is_end || answer.parsed_severity() != Some(Severity::Error)
}

/// Whether a TLS handshake was broken off by the server, without a result for the certificate.
fn is_broken_off(error: &tokio_postgres::Error) -> bool {
    let Some(source) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) else { return false };
    !source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_quote_values_are_not_kept() {
        for state in ["22P02", "23505", "P0001", "42601", "22021"] {
            assert!(!has_safe_messages(kind_of(state).unwrap_or(ErrorKind::Internal)), "{state}");
        }
    }
}
