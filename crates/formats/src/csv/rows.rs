//! Fields as a header and batches of rows: what every record must have in common is checked here.
//!
//! Errors have no position yet; the record reader knows it.

use std::collections::VecDeque;

use super::{CsvDialect, delimiter};
use crate::{Batch, Error, ErrorKind, Position, Result};

/// How a field has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldTerminator {
    /// With nothing in it, and no quotes.
    Missing,
    /// With something in it, and no quotes.
    Unquoted,
    /// With its closing quote.
    Quoted,
}

/// Collects fields.
#[derive(Debug)]
pub(super) struct Rows {
    delimiter: u8,
    /// Whether the file itself has shown the delimiter, not a setting or the file's name.
    delimiter_is_found: bool,
    has_header: bool,
    /// Unquoted fields that say nothing.
    null_values: Option<Vec<Vec<u8>>>,
    max_columns: usize,
    header: Option<Vec<Vec<u8>>>,
    /// For each field of the header whether it was quoted; only while the header is read.
    header_quotes: Vec<bool>,
    /// The most fields to keep of a record: those of the header, or what a header may have.
    width: usize,
    /// Fields of the open record that have ended.
    fields: usize,
    batch: Batch,
    ready: VecDeque<Batch>,
}

impl Rows {
    pub(super) fn new(dialect: &CsvDialect, max_columns: usize) -> Self {
        Self {
            delimiter: dialect.delimiter.unwrap_or(b','),
            delimiter_is_found: false,
            has_header: dialect.has_header,
            null_values: dialect.null_values.clone(),
            max_columns,
            header: None,
            header_quotes: Vec::new(),
            width: max_columns,
            fields: 0,
            batch: Batch::default(),
            ready: VecDeque::new(),
        }
    }

    /// Sets the delimiter that the file itself has shown.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
        self.delimiter_is_found = true;
    }

    #[inline]
    pub(super) fn header(&self) -> Option<&[Vec<u8>]> {
        self.header.as_deref()
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// The number, from 1, of the field that is being read.
    pub(super) fn open_field(&self) -> usize {
        self.fields + 1
    }

    /// Keeps a part of a field. Of fields beyond the width only the number counts.
    #[inline]
    pub(super) fn append(&mut self, part: &[u8]) {
        if self.fields < self.width {
            self.batch.append_to_field(part);
        }
    }

    /// Ends a field.
    #[inline]
    pub(super) fn end_field(&mut self, ending: FieldTerminator) -> Result<()> {
        if self.fields < self.width {
            let is_null = match &self.null_values {
                Some(tokens) if ending == FieldTerminator::Unquoted && (self.header.is_some() || !self.has_header) => {
                    tokens.iter().any(|token| token == self.batch.open_field())
                }
                Some(_) | None => false,
            };
            if is_null {
                self.batch.clear_open_field();
            }
            self.batch.end_field(is_null || ending == FieldTerminator::Missing);
        }
        self.fields += 1;
        if self.header.is_none() {
            self.check_header_field(ending)?;
        }
        Ok(())
    }

    /// Ends the record that began at `start`: the first one is the header.
    #[inline]
    pub(super) fn end_record(&mut self, start: Position) -> Result<()> {
        if self.header.is_none() {
            self.end_header()?;
            if self.has_header {
                return Ok(());
            }
        }
        if self.fields != self.width {
            let first = if self.has_header { "header" } else { "first record" };
            let message = format!("{} fields expected, as in the {first}, but {} found", self.width, self.fields);
            return Err(broken(message));
        }
        self.fields = 0;
        self.batch.end_row(start);
        if self.batch.is_full() {
            self.hand_on();
        }
        Ok(())
    }

    /// Takes the open record back, whatever it has so far.
    pub(super) fn discard_record(&mut self) {
        self.batch.discard_open_row();
        self.fields = 0;
    }

    /// Makes what there is a batch of its own.
    pub(super) fn hand_on(&mut self) {
        if !self.batch.is_empty() {
            let next = self.batch.next();
            self.ready.push_back(std::mem::replace(&mut self.batch, next));
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let batches = self.ready.iter().chain([&self.batch]);
        batches.map(Batch::held_bytes).sum::<usize>() + self.header_quotes.capacity()
    }

    #[cold]
    fn check_header_field(&mut self, ending: FieldTerminator) -> Result<()> {
        if self.fields > self.max_columns {
            let what = if self.has_header { "header" } else { "first record" };
            return Err(broken(format!("the {what} has more than {} columns", self.max_columns)));
        }
        self.header_quotes.push(ending == FieldTerminator::Quoted);
        Ok(())
    }

    #[cold]
    fn end_header(&mut self) -> Result<()> {
        if !self.has_header {
            self.header_quotes = Vec::new();
            self.width = self.fields;
            self.batch.widen(self.width);
            self.header = Some(vec![Vec::new(); self.width]);
            return Ok(());
        }
        let header = self.batch.take_open_row();
        // A delimiter that is set decides, as long as it divides the header at all.
        if self.delimiter_is_found || header.len() == 1 {
            delimiter::check_header(self.delimiter, &header, &self.header_quotes)?;
        }
        self.header_quotes = Vec::new();
        self.width = header.len();
        self.fields = 0;
        self.batch = Batch::new(self.width);
        self.header = Some(header);
        Ok(())
    }
}

fn broken(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
