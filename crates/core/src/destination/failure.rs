//! Errors about a connection that are the same for every engine.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Whether a connection existed when the error occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The connection was being opened.
    Connecting,
    /// A statement was running.
    Connected,
}

impl Phase {
    /// Returns the kind of a connection failure in this phase.
    pub(super) fn connection_failure(self) -> ErrorKind {
        match self {
            Self::Connecting => ErrorKind::Unreachable,
            Self::Connected => ErrorKind::Failover,
        }
    }
}

/// The error for a server that did not respond in time.
pub(super) fn timed_out(phase: Phase, context: &str, limit: Duration) -> Error {
    let message = format!("{context}: the server did not respond within {} s", limit.as_secs());
    Error::new(phase.connection_failure(), message)
}

/// The error for a call on a connection that was closed or lost before.
pub(super) fn connection_lost() -> Error {
    Error::new(ErrorKind::Failover, "the connection to the database is lost")
}

/// The error for a server that accepts no writes, which happens during a failover.
pub(super) fn read_only(context: &str) -> Error {
    Error::new(ErrorKind::Failover, format!("{context}: the server is read-only"))
}

/// The error for a server of another kind.
pub(super) fn other_protocol(context: &str) -> Error {
    let message = format!("{context}: the server does not use this database's protocol; check host, port and engine");
    Error::new(ErrorKind::Unreachable, message).with_advice()
}

/// The error for a response that lacks an expected row or column.
pub(super) fn unexpected_response(context: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("{context}: the server's response does not have the expected form"))
}
