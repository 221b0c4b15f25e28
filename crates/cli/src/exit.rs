//! The exit codes of every command.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use spillway_core::deadline::{Deadline, StopSignal};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::report::{Outcome, Report};

/// The result of a command for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: the command did what it was asked to do.
    Done,
    /// 1: the command failed, or a file was not loaded.
    Failed,
    /// 2: the command ran, and its result needs attention: a file would not load, or a check found a problem.
    NeedsAttention,
    /// 64: the command line or a setting is invalid.
    Usage,
    /// 75, or 130 after Ctrl-C: a signal stopped the command. Nothing was left half done. Run it again.
    Interrupted,
}

/// Whether the signal was Ctrl-C.
static IS_CTRL_C: AtomicBool = AtomicBool::new(false);

/// A deadline that is reached when the command gets SIGTERM or SIGINT (Ctrl-C).
///
/// # Errors
/// When the process cannot listen for signals.
pub(crate) fn until_signal() -> Result<Deadline> {
    Deadline::until_signal(|signal| IS_CTRL_C.store(signal == StopSignal::Interrupt, Ordering::Relaxed))
}

impl Exit {
    /// The exit code of a command that ended with this error.
    pub(crate) fn of(error: &Error) -> Self {
        if matches!(error.kind(), ErrorKind::Settings | ErrorKind::EventInvalid | ErrorKind::KeyRefused) {
            Self::Usage
        } else if error.kind() == ErrorKind::Interrupted {
            Self::Interrupted
        } else {
            Self::Failed
        }
    }

    /// The exit code of a command for a file with an outcome.
    pub(crate) fn of_report(report: &Report) -> Self {
        Self::of_outcome(report.outcome, report.needs_attention)
    }

    /// The exit code of a command for a file with this outcome. `needs_attention` is that of its report.
    pub(crate) fn of_outcome(outcome: Outcome, needs_attention: bool) -> Self {
        match outcome {
            Outcome::Skipped => Self::Failed,
            Outcome::FellBack | Outcome::Rejected => Self::NeedsAttention,
            Outcome::Loaded
            | Outcome::AlreadyLoaded
            | Outcome::Superseded
            | Outcome::HandedOver
            | Outcome::Replayed => match needs_attention {
                true => Self::NeedsAttention,
                false => Self::Done,
            },
        }
    }

    /// The worse of two results: an interruption, then wrong use, then a failure, then a result that needs attention.
    pub(crate) fn and(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Done => 0,
            Self::NeedsAttention => 1,
            Self::Failed => 2,
            Self::Usage => 3,
            Self::Interrupted => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::NeedsAttention => 2,
            Self::Usage => 64,
            // As a shell reports a process that SIGINT has ended.
            Self::Interrupted if IS_CTRL_C.load(Ordering::Relaxed) => 130,
            Self::Interrupted => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
