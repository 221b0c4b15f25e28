//! Whether a person reads the errors of a process, who can correct a setting at once.

use crate::error::ErrorKind;
use crate::policy::{Action, policy};

/// The reader of the errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// Functions and tasks, whose errors go to logs and alarms.
    Absent,
    /// A person has started a command in a terminal.
    Present,
}

impl Operator {
    /// The action after an error without another try.
    ///
    /// A function moves a file out of the way, because the next event has the same settings. A person first corrects them: with a
    /// mistyped pattern, a command would reject every file that it is given.
    pub(crate) fn action_after(self, kind: ErrorKind) -> Action {
        let is_correctable = matches!(
            kind,
            ErrorKind::KeyRefused
                | ErrorKind::Privilege
                | ErrorKind::Credentials
                | ErrorKind::SecretInvalid
                | ErrorKind::TlsRefused
        );
        match self {
            Self::Present if is_correctable => Action::Fail,
            Self::Present | Self::Absent => policy(kind).action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_waits_only_for_what_a_person_can_correct() {
        for kind in ErrorKind::ALL {
            let action = Operator::Present.action_after(*kind);
            let is_same = action == policy(*kind).action;
            assert!(is_same || action == Action::Fail, "{kind}");
            assert_eq!(Operator::Absent.action_after(*kind), policy(*kind).action, "{kind}");
        }
        assert_eq!(Operator::Present.action_after(ErrorKind::KeyRefused), Action::Fail);
        // A database that goes down during a load is not a mistake of the person.
        assert_eq!(Operator::Present.action_after(ErrorKind::Unreachable), Action::FallBack);
        assert_eq!(Operator::Present.action_after(ErrorKind::FileBroken), Action::Reject);
    }
}
