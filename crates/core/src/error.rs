//! The error type: a kind, a message with its context, and the cause.
//!
//! `crate::policy` maps each kind to retry, outcome, alert and hint. Messages never contain row values or secrets; data
//! errors carry record, line, byte and column name instead.

use std::error::Error as StdError;
use std::fmt;

pub use spillway_formats::Position;

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! error_kinds {
    ($($(#[doc = $meaning:literal])+ $kind:ident = $name:literal;)+) => {
        /// The side that failed, and the meaning for the file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorKind {
            $($(#[doc = $meaning])+ $kind,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of `docs/errors.md`.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The stable name used in logs, reports, the ledger and as the Lambda error type.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// The meaning, in Markdown, as `docs/errors.md` shows it.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($meaning),+),)+
                }
            }
        }
    };
}

// The doc comment of each kind is its meaning in docs/errors.md.
error_kinds! {
    /// Another transaction holds the same rows: a deadlock, a lock wait timeout or a serialization failure.
    Conflict = "conflict";
    /// The database is failing over: it is read-only, shutting down, or closed the connection.
    Failover = "failover";
    /// The database has no free connection or memory.
    Capacity = "capacity";
    /// The worker cannot connect: the connection was refused, timed out, or the host name is unknown.
    Unreachable = "unreachable";
    /// The server does not offer TLS, or its certificate cannot be verified.
    TlsRefused = "tls_refused";
    /// The database rejects the user or the password.
    Credentials = "credentials";
    /// The user lacks a privilege that the load needs, or the database does not exist.
    Privilege = "privilege";
    /// The table cannot hold the file's columns, or does not support transactions.
    TableMismatch = "table_mismatch";
    /// A value does not fit its column. Spillway's check or the database found it.
    DataRefused = "data_refused";
    /// A full export is not plausible: it would delete too many rows, has a key twice, or has no single scope.
    ExportRefused = "export_refused";
    /// The database is out of storage, or a packet or transaction exceeds its limit.
    DatabaseFull = "database_full";
    /// A bug in Spillway: a statement that the server does not understand, or a broken invariant.
    Internal = "internal";
    /// COMMIT was sent, but no response arrived. The rows may or may not be stored.
    CommitUnknown = "commit_unknown";
    /// The file is invalid: its kind, its encoding, an unterminated quote, a wrong number of fields, or an exceeded limit.
    FileBroken = "file_broken";
    /// Three workers in a row died while they processed the file: they were killed, or ran out of memory or time.
    Poison = "poison";
    /// The object key does not yield a valid table name.
    KeyRefused = "key_refused";
    /// The object was overwritten while it was processed (HTTP 412).
    SourceChanged = "source_changed";
    /// The object does not exist, or does not exist any more.
    SourceMissing = "source_missing";
    /// The object is in an archive of S3 and cannot be read before it is restored. It is skipped.
    SourceArchived = "source_archived";
    /// Another object has the key that the file should move to. It is not overwritten.
    DestinationTaken = "destination_taken";
    /// S3, Glue, ECS, Secrets Manager or KMS denied access (HTTP 403).
    Forbidden = "forbidden";
    /// An AWS service asks for fewer requests, or has no capacity now.
    Throttled = "throttled";
    /// An AWS service failed or cannot be reached.
    Service = "service";
    /// Another worker holds the lease or the claim of this object.
    Busy = "busy";
    /// The lease expired, or another worker took it over.
    LeaseLost = "lease_lost";
    /// Too little time is left to finish.
    Deadline = "deadline";
    /// The process was asked to stop (SIGTERM or SIGINT).
    Interrupted = "interrupted";
    /// A setting is missing or invalid.
    Settings = "settings";
    /// The secret exists, but a field is missing or invalid.
    SecretInvalid = "secret_invalid";
    /// The event or request is not valid.
    EventInvalid = "event_invalid";
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// An error with its kind, message, context and cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    object: Option<Box<str>>,
    position: Option<Position>,
    column: Option<Box<str>>,
    needs_other_type: bool,
    is_of_one_record: bool,
    is_expected: bool,
    /// Boxed, because every result has the size of its error; `None` for [`Advice::OfKind`].
    advice: Option<Box<Advice>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Where the advice for the user of a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It is that of the error's kind.
    OfKind,
    /// The message contains it.
    InMessage,
    /// It is this one.
    Own(&'static str),
}

impl Error {
    /// An error with a message in lower case and without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            object: None,
            position: None,
            column: None,
            needs_other_type: false,
            is_of_one_record: false,
            is_expected: false,
            advice: None,
            source: None,
        }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the object, as `s3://bucket/key`, unless the error has one.
    #[must_use]
    pub fn for_object(mut self, object: impl fmt::Display) -> Self {
        self.object.get_or_insert_with(|| object.to_string().into_boxed_str());
        self
    }

    /// Adds the position in the file, unless the error has one.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Adds the name of the column, unless the error has one.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column.get_or_insert_with(|| column.into().into_boxed_str());
        self
    }

    /// Notes that nothing is wrong: the next try finds out that the file needs no load.
    #[must_use]
    pub(crate) fn expected(mut self) -> Self {
        self.is_expected = true;
        self
    }

    /// Notes that the message says what the user can do.
    #[must_use]
    pub fn with_advice(mut self) -> Self {
        self.advice = Some(Box::new(Advice::InMessage));
        self
    }

    /// Adds advice for the user of a command, in lower case and without a full stop.
    #[must_use]
    pub fn advised(mut self, advice: &'static str) -> Self {
        self.advice = Some(Box::new(Advice::Own(advice)));
        self
    }

    /// Where the advice for the user of a command is.
    pub(crate) fn advice(&self) -> Advice {
        self.advice.as_deref().copied().unwrap_or(Advice::OfKind)
    }

    /// Whether nothing is wrong, and the next try finds out that the file needs no load.
    pub(crate) fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// Moves the text of the cause into the message, because an explanation follows that is more useful.
    #[must_use]
    pub(crate) fn with_cause_in_message(mut self) -> Self {
        if let Some(source) = self.source.take() {
            self.message = format!("{} ({})", self.message, chain(&*source));
        }
        self
    }

    /// Adds an explanation to the message.
    #[must_use]
    pub(crate) fn explained(mut self, explanation: &str) -> Self {
        self.message = format!("{}: {explanation}", self.message);
        self
    }

    /// Adds another sentence to the message.
    #[must_use]
    pub(crate) fn continued(mut self, sentence: &str) -> Self {
        self.message = format!("{}; {sentence}", self.message);
        self
    }

    /// Notes that the value could be stored if its column had another type.
    #[must_use]
    pub(crate) fn because_of_type(mut self) -> Self {
        self.needs_other_type = true;
        self
    }

    /// Notes that a limit for bad records (`MAX_REJECTS`) could reject the record alone.
    #[must_use]
    pub(crate) fn of_one_record(mut self) -> Self {
        self.is_of_one_record = true;
        self
    }

    /// Notes that no limit for bad records can reject the record alone, because it cannot be copied from its file.
    #[must_use]
    pub(crate) fn of_whole_file(mut self) -> Self {
        self.is_of_one_record = false;
        self
    }

    /// Whether a limit for bad records could reject the record alone.
    pub(crate) fn is_of_one_record(&self) -> bool {
        self.is_of_one_record
    }

    /// Whether the value could be stored if its column had another type.
    pub(crate) fn needs_other_type(&self) -> bool {
        self.needs_other_type
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without object, position and cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The position in the file, if known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The name of the column, if known.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }
}

impl From<spillway_formats::Error> for Error {
    /// Converts an error of a decoder. An error of the store that a decoder passes on is returned unchanged.
    fn from(error: spillway_formats::Error) -> Self {
        let kind = match error.kind() {
            spillway_formats::ErrorKind::Invalid => ErrorKind::FileBroken,
            spillway_formats::ErrorKind::Internal | spillway_formats::ErrorKind::Read => ErrorKind::Internal,
        };
        let own = Self {
            kind,
            message: error.message().to_owned(),
            object: None,
            position: error.position(),
            column: error.column().map(Into::into),
            needs_other_type: false,
            is_of_one_record: error.is_of_one_record(),
            is_expected: false,
            advice: None,
            source: None,
        };
        match (error.kind(), error.into_source()) {
            (_, None) => own,
            (spillway_formats::ErrorKind::Read, Some(source)) => match source.downcast::<Self>() {
                Ok(original) => *original,
                Err(source) => own.with_source(source),
            },
            (spillway_formats::ErrorKind::Invalid | spillway_formats::ErrorKind::Internal, Some(source)) => {
                own.with_source(source)
            }
        }
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

/// The error and its causes on one line, for logs and reasons.
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
    fn an_error_shows_object_message_and_position() {
        let error = Error::new(ErrorKind::FileBroken, "a quote is never closed")
            .at(Position { record: 2, line: 4, byte: 31 })
            .in_column("note")
            .for_object("s3://b/k");
        assert_eq!(error.to_string(), "s3://b/k: a quote is never closed (record 2, line 4, byte 31, column note)");
    }

    #[test]
    fn the_first_object_is_kept() {
        let error = Error::new(ErrorKind::Service, "x").for_object("first").for_object("second");
        assert_eq!(error.to_string(), "first: x");
    }

    #[test]
    fn error_of_a_read_passes_through_a_decoder_unchanged() {
        let store = Error::new(ErrorKind::SourceChanged, "gone").for_object("s3://b/k");
        let error = Error::from(spillway_formats::Error::read(store).at(Position::default()));
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::SourceChanged, "s3://b/k: gone"));
    }

    #[test]
    fn error_of_a_decoder_keeps_its_position_and_cause() {
        let invalid = spillway_formats::Error::new(spillway_formats::ErrorKind::Invalid, "bad byte");
        let position = Position { record: 1, line: 2, byte: 3 };
        let error = Error::from(invalid.at(position).in_column("a").with_source("why"));
        assert_eq!(
            (error.kind(), error.position(), error.column()),
            (ErrorKind::FileBroken, Some(position), Some("a"))
        );
        assert_eq!(chain(&error), "bad byte (record 1, line 2, byte 3, column a): why");
    }

    #[test]
    fn the_chain_contains_every_cause() {
        let inner = Error::new(ErrorKind::Unreachable, "connection refused");
        let outer = Error::new(ErrorKind::Service, "cannot read the secret").with_source(inner);
        assert_eq!(chain(&outer), "cannot read the secret: connection refused");
    }
}
