//! The crate's error: a kind, a message, the place in the file, and the source.
//!
//! Messages never contain a row value; the place is given as record, line, byte and column name.

use std::error::Error as StdError;
use std::fmt;

use crate::batch::Position;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the caller's reader, of any type.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Where the fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is broken, exceeds a limit, or uses something unsupported.
    Invalid,
    /// A broken invariant, or an object that this crate wrote and that has changed since.
    Internal,
    /// The caller's reader failed; its error is the source.
    Read,
}

/// An error of a decoder, an encoder or a detection.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    position: Option<Position>,
    column: Option<String>,
    is_of_one_record: bool,
    source: Option<BoxError>,
}

impl Error {
    /// An error with a lowercase message that says what failed and, if possible, what the user can do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None, column: None, is_of_one_record: false, source: None }
    }

    /// The error of a caller's reader. [`Error::into_source`] returns it unchanged.
    pub fn read(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Read, "the file cannot be read").with_source(source)
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the position, unless the error has one.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Sets the column's name, unless the error has one.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column.get_or_insert_with(|| column.into());
        self
    }

    /// Notes that a limit for bad records could reject the record alone.
    #[must_use]
    pub(crate) fn of_one_record(mut self) -> Self {
        self.is_of_one_record = true;
        self
    }

    /// Whether a limit for bad records could reject the record alone.
    pub fn is_of_one_record(&self) -> bool {
        self.is_of_one_record
    }

    /// Where the fault lies.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without position, column and source.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The position in the file, if known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The column's name, if known.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// The cause, by value.
    pub fn into_source(self) -> Option<BoxError> {
        self.source
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_shows_position_and_column() {
        let error = Error::new(ErrorKind::Invalid, "a quote is never closed")
            .at(Position { record: 2, line: 4, byte: 31 })
            .at(Position::default())
            .in_column("note");
        assert_eq!(error.to_string(), "a quote is never closed (record 2, line 4, byte 31, column note)");
    }
}
