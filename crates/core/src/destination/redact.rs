//! Decides which server messages may be quoted in errors and logs.

use crate::error::ErrorKind;

/// Whether server messages of this kind contain only names of hosts, users, tables, columns and settings.
///
/// Messages of all other kinds may quote a row's values.
pub(super) fn has_safe_messages(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Conflict
        | ErrorKind::Failover
        | ErrorKind::Capacity
        | ErrorKind::Unreachable
        | ErrorKind::TlsRefused
        | ErrorKind::Credentials
        | ErrorKind::Privilege
        | ErrorKind::TableMismatch
        | ErrorKind::DatabaseFull => true,
        ErrorKind::DataRefused
        | ErrorKind::ExportRefused
        | ErrorKind::Internal
        | ErrorKind::CommitUnknown
        | ErrorKind::FileBroken
        | ErrorKind::Poison
        | ErrorKind::KeyRefused
        | ErrorKind::SourceChanged
        | ErrorKind::SourceMissing
        | ErrorKind::SourceArchived
        | ErrorKind::Forbidden
        | ErrorKind::Throttled
        | ErrorKind::Service
        | ErrorKind::Busy
        | ErrorKind::DestinationTaken
        | ErrorKind::LeaseLost
        | ErrorKind::Deadline
        | ErrorKind::Interrupted
        | ErrorKind::Settings
        | ErrorKind::SecretInvalid
        | ErrorKind::EventInvalid => false,
    }
}
