//! What a call that failed or was never answered means by when it happened.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Whether there was a connection when the error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection was being made.
    Connecting,
    /// A statement was on its way.
    Connected,
}

impl Stage {
    /// What a connection that broke at this stage is.
    pub(super) fn broken(self) -> ErrorKind {
        match self {
            Self::Connecting => ErrorKind::Unreachable,
            Self::Connected => ErrorKind::Failover,
        }
    }
}

/// The error for a call that got no answer in time.
pub(super) fn timed_out(stage: Stage, doing: &str, limit: Duration) -> Error {
    Error::new(stage.broken(), format!("{doing}: no answer within {} s", limit.as_secs()))
}
