//! The states of the record reader.

/// A quote, escape or comment character that the dialect does not have. This byte never occurs in valid UTF-8.
pub(super) const NO_BYTE: u8 = 0xff;
/// The escape that is detected.
pub(super) const BACKSLASH: u8 = b'\\';

/// The part of a record that the next byte belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// At the start of a line, before a record.
    RecordStart,
    /// After a delimiter.
    FieldStart,
    /// In an unquoted field, after its first byte.
    Unquoted,
    /// Between quotes.
    Quoted,
    /// After a quote that closes the field, unless another quote follows.
    AfterQuote,
    /// After `crs` CRs, which are a line end if LF follows. `is_empty_line` if nothing was before them on the line.
    AfterCr { crs: u64, is_empty_line: bool },
    /// In a bad record after its fault, up to the end of its line.
    BadRecord,
    /// In a comment, or in a line above the header that is skipped.
    SkippedLine,
    /// In an unquoted field that may contain escapes.
    Escapable,
    /// Between quotes, after an escape.
    AfterEscapeInQuotes,
    /// In an unquoted field, after an escape.
    AfterEscape,
    /// After `\N` at the start of an unquoted field, which is a null token if the field ends here.
    NullToken,
}

/// The escape character of a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// A setting names it. It makes every next character literal.
    Configured(u8),
    /// The first records have backslashes in quotes, before quotes and backslashes only.
    Detected,
}

/// Whether records can be read without a look at escapes and comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complexity {
    /// The dialect has neither.
    Plain,
    /// The dialect has an escape or a comment character.
    Special,
}

impl Escape {
    /// The escape character.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Configured(byte) => byte,
            Self::Detected => BACKSLASH,
        }
    }
}
