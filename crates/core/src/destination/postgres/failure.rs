//! Converts errors of the driver and the server into Spillway's errors, by the table in [`super::codes`].
//!
//! Server messages may quote row values: that of 22P02 (invalid_text_representation) does, and a trigger's message may
//! contain anything. The error keeps a message only if messages of its kind never quote values. Otherwise it keeps only
//! the SQLSTATE. It never keeps DETAIL and CONTEXT.

use std::error::Error as StdError;

use tokio_postgres::error::{DbError, Severity};

use super::codes::{STATEMENT_COMPLETION_UNKNOWN, kind_of};
use crate::destination::denial::MISSING_DATABASE;
use crate::destination::failure::{Phase, other_protocol};
use crate::destination::redact::has_safe_messages;
use crate::error::{Error, ErrorKind};

/// invalid_schema_name: no schema has been selected to create in.
const NO_SCHEMA: &str = "3F000";

/// insufficient_privilege.
const DENIED: &str = "42501";

/// The beginning of the message about a schema that the user may not use.
const DENIED_SCHEMA: &str = ": permission denied for schema ";

/// invalid_catalog_name: the database does not exist.
const NO_DATABASE: &str = "3D000";

/// The parts of a server error that may be shown.
#[derive(Debug, thiserror::Error)]
#[error("server error {state}{message}")]
pub(super) struct ServerError {
    state: String,
    /// Empty, or a colon and the message.
    message: String,
}

impl ServerError {
    /// Returns the error of a server that hides a table because the user may not use its schema.
    pub(super) fn hidden_by(schema: &str) -> Self {
        Self { state: DENIED.to_owned(), message: format!("{DENIED_SCHEMA}{schema}") }
    }

    /// Whether a schema does not exist, or none is selected.
    pub(super) fn names_no_schema(&self) -> bool {
        self.state == NO_SCHEMA
    }

    /// Returns the schema that the user may not use. A message in another language than English names none. Then only the statement
    /// in the advice is missing.
    ///
    /// Without USAGE on `public`, the server ignores that schema, and has none in which a table can be created.
    pub(super) fn denied_schema(&self) -> Option<&str> {
        match self.state.as_str() {
            NO_SCHEMA => Some("public"),
            _ => self.message.strip_prefix(DENIED_SCHEMA),
        }
    }
}

/// The error for a failed call; `context` is the failed action, such as "cannot send the rows".
pub(super) fn failure(phase: Phase, context: &str, error: tokio_postgres::Error) -> Error {
    if let Some(server) = error.as_db_error() {
        return server_failure(context, server);
    }
    // The driver does not export the kinds of its errors, so their texts are compared.
    let text = error.to_string();
    let kind = match text.as_str() {
        "error performing TLS handshake" if is_closed_by_server(&error) => ErrorKind::Unreachable,
        "error performing TLS handshake" => ErrorKind::TlsRefused,
        "authentication error" => ErrorKind::Credentials,
        "connection closed" | "error communicating with the server" | "error connecting to server" => {
            phase.connection_failure()
        }
        "unexpected message from server" | "error parsing response from server" if phase == Phase::Connecting => {
            return other_protocol(context);
        }
        _ => ErrorKind::Internal,
    };
    match kind {
        // The driver's error may quote row values.
        ErrorKind::Internal => Error::new(kind, format!("{context}: {text}")),
        kind => Error::new(kind, context).with_source(error),
    }
}

/// Converts an error that the server returned.
pub(super) fn server_failure(context: &str, server: &DbError) -> Error {
    let state = server.code().code();
    let kind = kind_of(state).unwrap_or(ErrorKind::Internal);
    let message = shown_message(kind, server.message());
    let error = Error::new(kind, context).with_source(ServerError { state: state.to_owned(), message });
    if state == NO_DATABASE { error.advised(MISSING_DATABASE) } else { error }
}

/// Returns a colon and the message, or nothing if messages of this kind may quote row values.
fn shown_message(kind: ErrorKind, message: &str) -> String {
    if has_safe_messages(kind) { format!(": {message}") } else { String::new() }
}

/// Returns the SQLSTATE of a driver error.
pub(super) fn state(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Whether COMMIT may have taken effect in spite of this error. All other errors have aborted the transaction.
pub(super) fn leaves_commit_in_doubt(error: &tokio_postgres::Error) -> bool {
    let Some(server) = error.as_db_error() else { return true };
    let state = server.code().code();
    // A server that shuts down, or that stops waiting for a standby, may have committed.
    let may_have_committed =
        ["08", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) || state == STATEMENT_COMPLETION_UNKNOWN;
    may_have_committed || server.parsed_severity() != Some(Severity::Error)
}

/// Whether the server closed the connection during the TLS handshake, so that TLS itself did not fail.
fn is_closed_by_server(error: &tokio_postgres::Error) -> bool {
    let Some(source) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) else { return false };
    !source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_quote_values_are_not_kept() {
        for state in ["22P02", "23505", "P0001", "42601", "22021"] {
            let kind = kind_of(state).unwrap_or(ErrorKind::Internal);
            assert_eq!(shown_message(kind, "top secret"), "", "{state}");
        }
        assert_eq!(shown_message(ErrorKind::Privilege, "permission denied"), ": permission denied");
    }
}
