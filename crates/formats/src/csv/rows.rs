//! Fields as a header and batches of rows. Checks that every record has as many fields as the header.
//!
//! Its errors have no position; the record reader adds it.

use std::collections::VecDeque;

use memchr::memmem;

use super::dialect::{BlankRecords, CsvDialect, ExtraField, ExtraFieldPlace, RepeatedHeaders, ShortRecords};
use super::state::BACKSLASH;
use crate::numbers::counted;
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

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordEnd {
    /// The record is the header or a row.
    Complete,
    /// The record has only delimiters, or repeats the header, and was dropped.
    Blank,
}

/// Collects fields into the header, and then into batches of rows.
#[derive(Debug)]
pub(super) struct Rows {
    has_header: bool,
    null_values: Option<Vec<Vec<u8>>>,
    blank_records: BlankRecords,
    repeated_headers: RepeatedHeaders,
    short_records: ShortRecords,
    extra_field: ExtraField,
    extra_field_place: ExtraFieldPlace,
    /// The quote, if a backslash before it is data.
    unescaped_quote: Option<u8>,
    max_columns: usize,
    header: Option<Vec<Vec<u8>>>,
    /// The most fields to keep of a record: those of the header, or the most that a header may have.
    width: usize,
    /// The number of fields of a record that is complete without further checks; `usize::MAX` if all records need them.
    plain_width: usize,
    /// Whether a field of the open record beyond the last column has a value.
    has_value_beyond: bool,
    /// Whether a field of the open record contained a configured null value.
    has_null_value: bool,
    /// Number of complete fields of the open record.
    fields: usize,
    batch: Batch,
    ready: VecDeque<Batch>,
}

impl Rows {
    pub(super) fn new(dialect: &CsvDialect, max_columns: usize) -> Self {
        Self {
            has_header: dialect.has_header,
            null_values: dialect.null_values.clone(),
            blank_records: dialect.blank_records,
            repeated_headers: dialect.repeated_headers,
            short_records: dialect.short_records,
            extra_field: ExtraField::Absent,
            extra_field_place: dialect.extra_field,
            unescaped_quote: None,
            max_columns,
            header: None,
            width: max_columns,
            plain_width: max_columns,
            has_value_beyond: false,
            has_null_value: false,
            fields: 0,
            batch: Batch::default(),
            ready: VecDeque::new(),
        }
    }

    /// Sets the detected dialect, before the first record.
    pub(super) fn follow(&mut self, dialect: &CsvDialect) {
        self.extra_field = dialect.detected.unwrap_or_default().extra_field;
        self.unescaped_quote = if dialect.escape().is_none() { dialect.quote } else { None };
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

    /// Whether the open field is empty so far, or not kept.
    pub(super) fn is_open_field_empty(&self) -> bool {
        self.batch.open_field().is_empty()
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
                self.has_null_value = true;
            }
            self.batch.end_field(is_null || end == FieldEnd::Missing);
        } else {
            self.has_value_beyond |= end != FieldEnd::Missing;
        }
        self.fields += 1;
        if self.header.is_none() {
            self.check_header_field()?;
        }
        Ok(())
    }

    /// Ends the record that started at `start`. The first one is the header.
    #[inline]
    pub(super) fn end_record(&mut self, start: Position) -> Result<RecordEnd> {
        if self.header.is_none() {
            if self.is_dropped() {
                self.discard_record();
                return Ok(RecordEnd::Blank);
            }
            self.end_header();
            if self.has_header {
                return Ok(RecordEnd::Complete);
            }
        }
        if self.fields != self.plain_width && self.check_width(start)? == RecordEnd::Blank {
            return Ok(RecordEnd::Blank);
        }
        self.fields = 0;
        self.batch.end_row(start);
        if self.batch.is_full() {
            self.end_batch();
        }
        Ok(RecordEnd::Complete)
    }

    /// Checks a record with another number of fields than the header, or any record if the dialect requires it.
    #[inline(never)]
    fn check_width(&mut self, start: Position) -> Result<RecordEnd> {
        if self.is_dropped() || self.is_skipped_header() {
            self.discard_record();
            return Ok(RecordEnd::Blank);
        }
        let expected = self.width + usize::from(self.extra_field == ExtraField::Empty);
        let is_filled = self.short_records == ShortRecords::Fill && self.fields < expected;
        if !is_filled && (self.fields != expected || self.has_value_beyond) {
            return Err(self.wrong_width(expected, start));
        }
        for _ in self.fields..self.width {
            self.batch.push_field(None);
        }
        (self.has_value_beyond, self.has_null_value) = (false, false);
        Ok(RecordEnd::Complete)
    }

    #[cold]
    fn wrong_width(&self, expected: usize, start: Position) -> Error {
        let (first, hint) = (self.first_record_name(), self.escape_hint());
        invalid(match self.extra_field {
            ExtraField::Absent | ExtraField::Unnamed => {
                let unnamed = self.unnamed_hint(start);
                let expected = counted(self.width as u64, "field");
                format!("{expected} expected, as in the {first}, but {} found{hint}{unnamed}", self.fields)
            }
            ExtraField::Empty if self.fields == expected => {
                "the field after the last column is empty in the first records, but here it has a value; name the column \
                 in the header"
                    .to_owned()
            }
            ExtraField::Empty => format!(
                "{} and an empty one expected, as in the {first} and the first records, but {} found{hint}",
                counted(self.width as u64, "field"),
                self.fields
            ),
        })
    }

    /// What to say about a first record with one more field than the header.
    fn unnamed_hint(&self, start: Position) -> &'static str {
        let is_first = self.has_header && start.record == 1;
        match is_first && self.extra_field_place != ExtraFieldPlace::First && self.fields == self.width + 1 {
            true => {
                "; check the quotes, decimal commas and lines above the header; only if the first field of every record has no name in \
                 the header, set CSV_EXTRA_FIELD to first"
            }
            false => "",
        }
    }

    /// Whether the open record contains only delimiters, and the dialect skips such records.
    fn is_dropped(&self) -> bool {
        self.blank_records == BlankRecords::Skip
            && !self.has_value_beyond
            && !self.has_null_value
            && self.batch.is_open_row_missing()
    }

    /// Whether the open record is equal to the header, and the dialect skips such records.
    fn is_skipped_header(&self) -> bool {
        let Some(header) = self.header.as_deref().filter(|_| self.repeated_headers == RepeatedHeaders::Skip) else {
            return false;
        };
        self.has_header
            && self.fields == header.len()
            && header.iter().any(|name| !name.is_empty())
            && self.batch.open_row().take(header.len()).eq(header.iter().map(Vec::as_slice))
    }

    /// What to say in an error about a backslash in the open record that may escape a quote.
    #[cold]
    pub(super) fn escape_hint(&self) -> &'static str {
        let Some(quote) = self.unescaped_quote else { return "" };
        let may_escape =
            |field: &[u8]| field.ends_with(&[BACKSLASH]) || memmem::find(field, &[BACKSLASH, quote]).is_some();
        match self.batch.open_row().any(may_escape) {
            true => "; if a backslash escapes quotes in this file, set CSV_ESCAPE to it",
            false => "",
        }
    }

    /// Drops the open record.
    pub(super) fn discard_record(&mut self) {
        self.batch.discard_open_row();
        self.fields = 0;
        (self.has_value_beyond, self.has_null_value) = (false, false);
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
        batches.map(Batch::memory_bytes).sum::<usize>()
    }

    #[cold]
    fn check_header_field(&self) -> Result<()> {
        if self.fields > self.max_columns {
            let message = format!("the {} has more than {} columns", self.first_record_name(), self.max_columns);
            return Err(invalid(message));
        }
        Ok(())
    }

    #[cold]
    fn end_header(&mut self) {
        if self.has_header {
            let mut header = self.batch.take_open_row();
            if self.extra_field == ExtraField::Unnamed {
                header.insert(0, Vec::new());
            }
            self.width = header.len();
            self.fields = 0;
            self.batch = Batch::new(self.width);
            self.header = Some(header);
        } else {
            self.width = self.fields;
            self.batch.widen(self.width);
            self.header = Some(vec![Vec::new(); self.width]);
        }
        let keeps_all = self.blank_records == BlankRecords::Keep && self.repeated_headers == RepeatedHeaders::Keep;
        let is_plain = keeps_all && self.extra_field != ExtraField::Empty;
        self.plain_width = if is_plain { self.width } else { usize::MAX };
    }

    fn first_record_name(&self) -> &'static str {
        if self.has_header { "header" } else { "first record" }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
