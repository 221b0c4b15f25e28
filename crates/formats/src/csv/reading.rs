//! One reading of the first text of a file: its delimiter, the meaning of its backslashes, and the records that result.

use memchr::memmem;

use super::delimiter;
use super::dialect::{Backslash, CsvDialect};
use super::division::{Division, Sample, Syntax};
use super::state::{BACKSLASH, NO_BYTE};
use crate::Result;

/// A reading of a sample.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) syntax: Syntax,
    pub(super) backslash: Backslash,
    pub(super) division: Division<'a>,
}

impl<'a> Reading<'a> {
    /// Reads a sample from its first record, with this delimiter or else the one that is detected.
    ///
    /// A backslash is an escape only if the records are broken without escapes, and none is with them.
    ///
    /// # Errors
    /// When the delimiter is ambiguous.
    pub(super) fn of(sample: Sample<'a>, dialect: &CsvDialect, delimiter: Option<u8>) -> Result<Self> {
        let configured = dialect.escape.filter(|escape| Some(*escape) != dialect.quote);
        let syntax = Syntax {
            delimiter: delimiter.unwrap_or(NO_BYTE),
            quote: dialect.quote.unwrap_or(NO_BYTE),
            escape: configured.unwrap_or(NO_BYTE),
            comment: dialect.comment.unwrap_or(NO_BYTE),
        };
        let reading = Self::with(sample, syntax, Backslash::Data)?;
        let has_meaning =
            dialect.escape.is_some() || [delimiter, dialect.quote, dialect.comment].contains(&Some(BACKSLASH));
        if has_meaning || memmem::find(sample.text, &[BACKSLASH, syntax.quote]).is_none() || reading.division.is_sound()
        {
            return Ok(reading);
        }
        let escaped = Self::with(sample, Syntax { escape: BACKSLASH, ..syntax }, Backslash::Escape);
        let is_escaped = |reading: &Self| {
            let shows_escape = memmem::find(reading.division.complete_records(), &[BACKSLASH, syntax.quote]).is_some();
            shows_escape && reading.division.is_sound() && reading.division.is_escaped_well()
        };
        Ok(escaped.ok().filter(is_escaped).unwrap_or(reading))
    }

    /// Reads a sample by a syntax, of which only the delimiter may be missing.
    fn with(sample: Sample<'a>, mut syntax: Syntax, backslash: Backslash) -> Result<Self> {
        if syntax.delimiter == NO_BYTE {
            syntax.delimiter = delimiter::detect(sample, syntax)?;
        }
        Ok(Self { syntax, backslash, division: Division::of(sample, syntax, usize::MAX) })
    }
}
