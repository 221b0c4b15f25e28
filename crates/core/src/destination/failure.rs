//! Failures that every engine's `failure` handles alike: a lost connection and a missing answer.

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
    /// The kind of a connection failure in this phase.
    pub(super) fn broken(self) -> ErrorKind {
        match self {
            Self::Connecting => ErrorKind::Unreachable,
            Self::Connected => ErrorKind::Failover,
        }
    }
}

/// The error for a call that was not answered in time.
pub(super) fn timed_out(phase: Phase, doing: &str, limit: Duration) -> Error {
    Error::new(phase.broken(), format!("{doing}: no answer within {} s", limit.as_secs()))
}
