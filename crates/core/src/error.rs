//! The one error of the core: a kind that says which side failed and what it means, our own context, and the source.
//!
//! What follows from a kind (retry, fall back, reject, fail) is decided in [`crate::policy`] alone. Context never holds a
//! row value or a secret; data errors carry record, line, byte and column name instead.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in the core that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which side failed, and what it means for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Another transaction holds what we need: deadlock, lock wait timeout, serialisation failure.
    Conflict,
    /// The database is changing hands: read-only, shutting down, connection lost.
    Failover,
    /// The database has no connection or memory to spare.
    Capacity,
    /// No connection could be made: refused, timed out, no such name.
    Unreachable,
    /// The server offers no TLS, or a certificate that does not verify.
    TlsRefused,
    /// The database does not accept the user or the password.
    Credentials,
    /// The user may not do what the load needs, or the database does not exist.
    Privilege,
    /// The target table cannot hold this file's columns, or is no transactional table.
    TableMismatch,
    /// The database, or our check before it, refuses a value.
    DataRefused,
    /// The database has no room, or a packet or transaction is too large for it.
    DatabaseFull,
    /// A statement of ours that the server cannot understand, or a broken invariant.
    Internal,
    /// COMMIT was sent and no answer came: the rows may or may not be stored.
    CommitUnknown,
    /// The file itself is broken: encoding, unterminated quote, wrong field count, limits exceeded.
    FileBroken,
    /// The object's key gives no table that rows could go to.
    KeyRefused,
    /// The object has changed since it was first looked at (HTTP 412).
    SourceChanged,
    /// The object does not exist (any more).
    SourceMissing,
    /// Another object lies where a source was to move; it is not overwritten.
    DestinationTaken,
    /// S3, Glue, ECS or Secrets Manager refused us (HTTP 403, KMS).
    Forbidden,
    /// An AWS service asked us to slow down, or has no capacity now.
    Throttled,
    /// An AWS service failed or could not be reached.
    Service,
    /// Another worker holds the lease or the claim of this object.
    Busy,
    /// Our lease ran out or was taken over while we worked.
    LeaseLost,
    /// Too little time is left to finish.
    Deadline,
    /// The process was asked to stop (SIGTERM).
    Interrupted,
    /// A setting is missing or makes no sense.
    Settings,
    /// A secret exists but does not hold what we need.
    SecretInvalid,
    /// An event or request that cannot be understood.
    EventInvalid,
}

impl ErrorKind {
    /// The stable name used in logs, reports, the ledger and as the Lambda error type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Failover => "failover",
            Self::Capacity => "capacity",
            Self::Unreachable => "unreachable",
            Self::TlsRefused => "tls_refused",
            Self::Credentials => "credentials",
            Self::Privilege => "privilege",
            Self::TableMismatch => "table_mismatch",
            Self::DataRefused => "data_refused",
            Self::DatabaseFull => "database_full",
            Self::Internal => "internal",
            Self::CommitUnknown => "commit_unknown",
            Self::FileBroken => "file_broken",
            Self::KeyRefused => "key_refused",
            Self::SourceChanged => "source_changed",
            Self::SourceMissing => "source_missing",
            Self::DestinationTaken => "destination_taken",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Service => "service",
            Self::Busy => "busy",
            Self::LeaseLost => "lease_lost",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
            Self::Settings => "settings",
            Self::SecretInvalid => "secret_invalid",
            Self::EventInvalid => "event_invalid",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where in a file something was found. All numbers but `byte` count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The data record, the header not counted; 0 means the header.
    pub record: u64,
    /// The line of the file on which the record starts; 0 when it is not known, and then `byte` is not either.
    pub line: u64,
    /// The offset of the record's first byte in the decoded file.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.record == 0 {
            write!(formatter, "header, line {}, byte {}", self.line, self.byte)
        } else if self.line == 0 {
            // The database only tells which record it refuses.
            write!(formatter, "record {}", self.record)
        } else {
            write!(formatter, "record {}, line {}, byte {}", self.record, self.line, self.byte)
        }
    }
}

/// The core's error.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    object: Option<Box<str>>,
    position: Option<Position>,
    column: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a lowercase message that names the thing and says what to do when the user can do something.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), object: None, position: None, column: None, source: None }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the object, as `s3://bucket/key`. An object that is already named stays.
    #[must_use]
    pub fn for_object(mut self, object: impl fmt::Display) -> Self {
        self.object.get_or_insert_with(|| object.to_string().into_boxed_str());
        self
    }

    /// Says where in the file. A position that is already known stays.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Names the column. A column that is already named stays.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column.get_or_insert_with(|| column.into());
        self
    }

    /// What this error means.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without object, position and source.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where in the file, when it is known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The column's name, when it is known.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(formatter, "{object}: ")?;
        }
        formatter.write_str(&self.message)?;
        match (&self.position, &self.column) {
            (Some(position), Some(column)) => write!(formatter, " ({position}, column {column})"),
            (Some(position), None) => write!(formatter, " ({position})"),
            (None, Some(column)) => write!(formatter, " (column {column})"),
            (None, None) => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The whole chain of an error on one line, outermost first, for logs and reasons.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_object_message_and_place() {
        let error = Error::new(ErrorKind::FileBroken, "a quote is never closed")
            .at(Position { record: 2, line: 4, byte: 31 })
            .in_column("note")
            .for_object("s3://b/k");
        assert_eq!(error.to_string(), "s3://b/k: a quote is never closed (record 2, line 4, byte 31, column note)");
    }

    #[test]
    fn the_first_object_and_position_stay() {
        let error = Error::new(ErrorKind::Service, "x").for_object("first").for_object("second");
        assert_eq!(error.to_string(), "first: x");
    }

    #[test]
    fn the_chain_keeps_every_cause() {
        let inner = Error::new(ErrorKind::Unreachable, "connection refused");
        let outer = Error::new(ErrorKind::Service, "cannot read the secret").with_source(inner);
        assert_eq!(chain(&outer), "cannot read the secret: connection refused");
    }
}
