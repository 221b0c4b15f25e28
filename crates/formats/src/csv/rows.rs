//! Fields as a header and batches of rows. Checks that every record has as many fields as the header.
//!
//! Its errors have no position; the record reader adds it.

use std::collections::VecDeque;

use super::{CsvDialect, delimiter};
use crate::{Batch, Error, ErrorKind, Position, Result};

/// How a field ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldEnd {
    /// Empty and unquoted.
    Missing,
    /// Not empty and unquoted.
    Unquoted,
    /// With its closing quote.
    Quoted,
}

/// Collects fields.
#[derive(Debug)]
pub(super) struct Rows {
    delimiter: u8,
    /// Whether the delimiter was detected; otherwise a setting names it.
    is_delimiter_detected: bool,
    has_header: bool,
    null_values: Option<Vec<Vec<u8>>>,
    max_columns: usize,
    header: Option<Vec<Vec<u8>>>,
    /// Whether each field of the header was quoted; empty after the header.
    is_header_quoted: Vec<bool>,
    /// The most fields to keep of a record: those of the header, or the most that a header may have.
    width: usize,
    /// Number of complete fields of the open record.
    fields: usize,
    batch: Batch,
    ready: VecDeque<Batch>,
}

impl Rows {
    pub(super) fn new(dialect: &CsvDialect, max_columns: usize) -> Self {
        Self {
            delimiter: dialect.delimiter.unwrap_or(b','),
            is_delimiter_detected: false,
            has_header: dialect.has_header,
            null_values: dialect.null_values.clone(),
            max_columns,
            header: None,
            is_header_quoted: Vec::new(),
            width: max_columns,
            fields: 0,
            batch: Batch::default(),
            ready: VecDeque::new(),
        }
    }

    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
        self.is_delimiter_detected = true;
    }

    #[inline]
    pub(super) fn header(&self) -> Option<&[Vec<u8>]> {
        self.header.as_deref()
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// The number of the open field, from 1.
    pub(super) fn open_field(&self) -> usize {
        self.fields + 1
    }

    /// Appends to the open field. Fields beyond the width are only counted.
    #[inline]
    pub(super) fn append(&mut self, part: &[u8]) {
        if self.fields < self.width {
            self.batch.append_to_field(part);
        }
    }

    /// Ends a field.
    #[inline]
    pub(super) fn end_field(&mut self, end: FieldEnd) -> Result<()> {
        if self.fields < self.width {
            let is_null = match &self.null_values {
                Some(values) if end == FieldEnd::Unquoted && (self.header.is_some() || !self.has_header) => {
                    values.iter().any(|value| value == self.batch.open_field())
                }
                Some(_) | None => false,
            };
            if is_null {
                self.batch.clear_open_field();
            }
            self.batch.end_field(is_null || end == FieldEnd::Missing);
        }
        self.fields += 1;
        if self.header.is_none() {
            self.check_header_field(end)?;
        }
        Ok(())
    }

    /// Ends the record that started at `start`. The first one is the header.
    #[inline]
    pub(super) fn end_record(&mut self, start: Position) -> Result<()> {
        if self.header.is_none() {
            self.end_header()?;
            if self.has_header {
                return Ok(());
            }
        }
        if self.fields != self.width {
            let first = self.first_record_name();
            let message = format!("{} fields expected, as in the {first}, but {} found", self.width, self.fields);
            return Err(invalid(message));
        }
        self.fields = 0;
        self.batch.end_row(start);
        if self.batch.is_full() {
            self.end_batch();
        }
        Ok(())
    }

    /// Drops the open record.
    pub(super) fn discard_record(&mut self) {
        self.batch.discard_open_row();
        self.fields = 0;
    }

    /// Ends the batch. It can be taken then.
    pub(super) fn end_batch(&mut self) {
        if !self.batch.is_empty() {
            let next = self.batch.next();
            self.ready.push_back(std::mem::replace(&mut self.batch, next));
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let batches = self.ready.iter().chain([&self.batch]);
        batches.map(Batch::memory_bytes).sum::<usize>() + self.is_header_quoted.capacity()
    }

    #[cold]
    fn check_header_field(&mut self, end: FieldEnd) -> Result<()> {
        if self.fields > self.max_columns {
            let message = format!("the {} has more than {} columns", self.first_record_name(), self.max_columns);
            return Err(invalid(message));
        }
        self.is_header_quoted.push(end == FieldEnd::Quoted);
        Ok(())
    }

    #[cold]
    fn end_header(&mut self) -> Result<()> {
        if !self.has_header {
            self.is_header_quoted = Vec::new();
            self.width = self.fields;
            self.batch.widen(self.width);
            self.header = Some(vec![Vec::new(); self.width]);
            return Ok(());
        }
        let header = self.batch.take_open_row();
        // A delimiter that a setting names is used if it divides the header at all.
        if self.is_delimiter_detected || header.len() == 1 {
            delimiter::check_header(self.delimiter, &header, &self.is_header_quoted)?;
        }
        self.is_header_quoted = Vec::new();
        self.width = header.len();
        self.fields = 0;
        self.batch = Batch::new(self.width);
        self.header = Some(header);
        Ok(())
    }

    fn first_record_name(&self) -> &'static str {
        if self.has_header { "header" } else { "first record" }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
