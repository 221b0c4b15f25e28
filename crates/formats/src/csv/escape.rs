//! Fields with escapes. A dialect without an escape character never gets here.

use memchr::memchr2;

use super::record::RecordReader;
use super::rows::FieldEnd;
use super::search::ends_field;
use super::state::{BACKSLASH, Escape, State};
use crate::{Error, Result};

impl RecordReader {
    /// Reads within quotes, up to an escape or a quote.
    pub(super) fn read_escaped_quoted(&mut self, text: &[u8], escape: Escape) -> Result<usize> {
        let end = memchr2(self.quote, escape.byte(), text);
        let part = &text[..end.unwrap_or(text.len())];
        self.rows.append(part);
        self.cursor.offset += part.len() as u64;
        self.cursor.count_lines(part);
        let Some(end) = end else { return Ok(part.len()) };
        self.check_size()?;
        self.cursor.offset += 1;
        self.state = if text[end] == self.quote { State::AfterQuote } else { State::AfterEscapeInQuotes };
        Ok(end + 1)
    }

    /// Reads the byte after an escape in quotes.
    pub(super) fn after_escape_in_quotes(&mut self, byte: u8) -> Result<usize> {
        self.check_size()?;
        if self.escape == Some(Escape::Detected) && byte != self.quote && byte != BACKSLASH {
            return Err(self.contradicts_escape("has a backslash before another character"));
        }
        self.append_literally(byte);
        self.state = State::Quoted;
        Ok(1)
    }

    /// Reads an unquoted field, up to an escape or the end of the field.
    pub(super) fn read_escapable(&mut self, text: &[u8]) -> Result<usize> {
        let escape = self.escape.map(Escape::byte);
        let end = text.iter().position(|byte| Some(*byte) == escape || ends_field(*byte, self.delimiter));
        let part = &text[..end.unwrap_or(text.len())];
        self.rows.append(part);
        self.cursor.offset += part.len() as u64;
        let Some(end) = end else { return Ok(part.len()) };
        self.check_size()?;
        if Some(text[end]) == escape {
            self.cursor.offset += 1;
            self.state = State::AfterEscape;
        } else {
            self.end_field(FieldEnd::Unquoted)?;
            self.after_field(text[end])?;
        }
        Ok(end + 1)
    }

    /// Reads the byte after an escape outside quotes.
    ///
    /// Programs disagree on a backslash there if quoted fields have escapes. Before an ordinary character it is data,
    /// and escapes such as `\0` are not decoded.
    pub(super) fn after_escape(&mut self, byte: u8) -> Result<usize> {
        self.check_size()?;
        if self.escape == Some(Escape::Detected) {
            if ends_field(byte, self.delimiter) || byte == self.quote || byte == BACKSLASH {
                return Err(self.contradicts_escape(
                    "has a backslash outside quotes before a delimiter, quote, backslash or line end",
                ));
            }
            self.rows.append(&[BACKSLASH]);
            self.state = State::Escapable;
            return Ok(0);
        }
        if byte == b'N' && self.escape == Some(Escape::Configured(BACKSLASH)) && self.rows.is_open_field_empty() {
            self.cursor.offset += 1;
            self.state = State::NullToken;
        } else {
            self.append_literally(byte);
            self.state = State::Escapable;
        }
        Ok(1)
    }

    /// Decides by the next byte whether `\N` is the whole field, and so a null token.
    pub(super) fn after_null_token(&mut self, byte: u8) -> usize {
        if ends_field(byte, self.delimiter) {
            self.append_null_token();
        } else {
            self.rows.append(b"N");
        }
        self.state = State::Escapable;
        0
    }

    /// Appends `\N`, which is data to this reader. The types decide whether it is NULL.
    pub(super) fn append_null_token(&mut self) {
        self.rows.append(b"\\N");
    }

    /// Rejects a doubled quote in a file whose quotes are escaped by backslashes.
    #[inline]
    pub(super) fn check_doubled_quote(&self) -> Result<()> {
        match self.escape {
            Some(Escape::Detected) => Err(self.contradicts_escape("has a doubled quote")),
            Some(Escape::Configured(_)) | None => Ok(()),
        }
    }

    /// The error for a file that ends after an escape outside quotes.
    #[cold]
    pub(super) fn ends_after_escape(&self) -> Error {
        match self.escape {
            Some(Escape::Detected) => self.contradicts_escape("has a backslash outside quotes at the end of the file"),
            Some(Escape::Configured(_)) | None => self.invalid("the file ends after an escape character (CSV_ESCAPE)"),
        }
    }

    fn append_literally(&mut self, byte: u8) {
        self.rows.append(&[byte]);
        self.cursor.offset += 1;
        self.cursor.count_lines(&[byte]);
    }

    #[cold]
    fn contradicts_escape(&self, what: &str) -> Error {
        let field = self.rows.open_field();
        self.invalid(format!(
            "field {field} {what}, but in the first records backslashes escape only quotes and backslashes, in quotes; \
             set CSV_ESCAPE to \\ if they escape every character"
        ))
    }
}
