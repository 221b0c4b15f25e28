//! Chooses the types of columns from every value of a file. A column starts with all types, and values only remove types.
//!
//! The types form families (booleans, numbers, dates, dates with times, instants). No text parses as a value of two
//! families. So the first value decides the family of a column, and at the first value of another family the column
//! becomes text. Most values are parsed only once.
//!
//! If the file distinguishes strings and nested values ([`FieldKind`]), this limits the families: a string is a date, a
//! date-time (with or without an offset) or text, but never a number. Only nested values are JSON.
//!
//! A column of dates that end with their year (`13/01/2024`) has a date type only if exactly one order of day and month fits
//! every value. The schema then names this order.
//!
//! Bytes that the file does not declare as text are text if every value is UTF-8 without NUL, because old writers do not
//! declare their strings as text.

mod family;
mod numbers;
mod ordered_dates;

use family::Family;

use super::value::spelling::DayOrder;
use super::value::{is_null_token, is_usual_null_token};
use super::{Column, ColumnType, Schema, TypeReason};
use crate::{Batch, FieldKind};

/// Infers the schema of one file from its batches.
#[derive(Debug)]
pub struct Inference {
    columns: Vec<ColumnState>,
    rows: u64,
    null_tokens: bool,
    names: NameSource,
}

/// Where the names of the columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameSource {
    File,
    Positions,
}

impl Inference {
    /// Starts with the final names of the columns (see [`super::header::column_names`]), in the order of the file.
    pub fn new(names: Vec<String>) -> Self {
        let columns = names.into_iter().map(ColumnState::new).collect();
        Self { columns, rows: 0, null_tokens: true, names: NameSource::File }
    }

    /// Marks the names as positions, because the file has no header.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.names = NameSource::Positions;
        self
    }

    /// Treats null tokens as ordinary values, because the file marks missing values in another way.
    #[must_use]
    pub fn without_null_tokens(mut self) -> Self {
        self.null_tokens = false;
        self.columns.iter_mut().for_each(|column| column.null_tokens = false);
        self
    }

    /// Starts with the types that the file declares, if it does. A column with a value of another type becomes text, and bytes that
    /// are all UTF-8 become text too.
    pub fn declared(columns: impl IntoIterator<Item = (String, Option<ColumnType>)>) -> Self {
        let column = |(name, declared): (String, Option<ColumnType>)| ColumnState {
            family: declared.map_or(Family::Open, Family::declared),
            declared,
            ..ColumnState::new(name)
        };
        let columns = columns.into_iter().map(column).collect();
        Self { columns, rows: 0, null_tokens: true, names: NameSource::File }.without_null_tokens()
    }

    /// Adds the values of a batch.
    ///
    /// The batch may be wider than the one before: the new columns are at its end, and missing in all earlier rows. Their names
    /// are passed to [`Inference::finish_as`].
    pub fn observe(&mut self, batch: &Batch) {
        debug_assert!(batch.width() >= self.columns.len(), "a batch is narrower than the one before");
        let (has_missing, null_tokens) = (self.rows > 0, self.null_tokens);
        self.columns.resize_with(batch.width().max(self.columns.len()), || ColumnState {
            has_missing,
            null_tokens,
            ..ColumnState::new(String::new())
        });
        self.rows += batch.rows() as u64;
        for (index, column) in self.columns.iter_mut().enumerate() {
            for row in 0..batch.rows() {
                match batch.field(row, index) {
                    None => column.has_missing = true,
                    Some(text) => column.observe(text, batch.kind(row, index), || batch.position(row).record),
                }
            }
        }
    }

    /// Whether a table created for the values so far would have the columns of `schema`, which may have more columns at its
    /// end. Only for a file that does not declare types.
    pub fn would_create_columns_of(&self, schema: &Schema) -> bool {
        self.columns
            .iter()
            .zip(&schema.columns)
            .all(|(seen, column)| seen.family.column_type().with_headroom() == column.column_type.with_headroom())
    }

    /// The schema after all batches, with the final names of the columns.
    pub fn finish_as(mut self, names: Vec<String>) -> Schema {
        debug_assert!(names.len() >= self.columns.len(), "a column has no name");
        self.columns.resize_with(names.len(), || ColumnState::new(String::new()));
        for (column, name) in self.columns.iter_mut().zip(names) {
            column.name = name;
        }
        self.finish()
    }

    /// The schema after all batches. A column without values is text.
    pub fn finish(self) -> Schema {
        let unnamed = match self.names {
            NameSource::File => 0,
            NameSource::Positions => self.columns.len(),
        };
        Schema { columns: self.columns.into_iter().map(ColumnState::finish).collect(), unnamed, is_of_changes: false }
    }
}

/// The values of one column so far.
#[derive(Debug)]
struct ColumnState {
    name: String,
    family: Family,
    /// The type that the file declares, if it does.
    declared: Option<ColumnType>,
    /// The number of values that are neither missing nor null tokens.
    values: u64,
    has_missing: bool,
    has_null_tokens: bool,
    /// Whether a null token is spelled in an unusual way.
    has_odd_null_tokens: bool,
    /// Whether null tokens mean NULL.
    null_tokens: bool,
    /// Whether a value is the empty string, which only a text column distinguishes from NULL.
    has_empty: bool,
    /// Whether a value is a string in a file that distinguishes strings.
    has_strings: bool,
    max_bytes: u64,
    /// The record whose value removed the last narrower type, and the reason.
    forced: Option<(u64, &'static str)>,
}

impl ColumnState {
    fn new(name: String) -> Self {
        Self {
            name,
            family: Family::Open,
            declared: None,
            values: 0,
            has_missing: false,
            has_null_tokens: false,
            has_odd_null_tokens: false,
            null_tokens: true,
            has_empty: false,
            has_strings: false,
            max_bytes: 0,
            forced: None,
        }
    }

    #[inline]
    fn observe(&mut self, text: &[u8], kind: FieldKind, record: impl Fn() -> u64) {
        self.max_bytes = self.max_bytes.max(text.len() as u64);
        self.has_strings |= kind == FieldKind::String;
        if self.family.accepts(text, kind) {
            self.values += 1;
        } else if self.null_tokens && kind == FieldKind::Plain && is_null_token(text) {
            self.has_null_tokens = true;
            self.has_odd_null_tokens |= !is_usual_null_token(text);
            self.has_empty |= text.is_empty();
        } else {
            self.values += 1;
            self.observe_misfit(text, kind, record());
        }
    }

    /// Adds a value that the family does not accept: the first value, or one that removes a type.
    #[cold]
    fn observe_misfit(&mut self, text: &[u8], kind: FieldKind, record: u64) {
        let before = self.family;
        self.family = before.widened_by(text, kind);
        self.forced = before.loss(&self.family, text, kind).map(|loss| (record, loss));
    }

    fn finish(mut self) -> Column {
        if self.has_empty && matches!(self.family, Family::Open) {
            self.family = Family::Text;
        }
        let column_type = match self.declared {
            Some(ColumnType::Binary) => self.family.column_type(),
            Some(declared) if self.family.fits(declared) => {
                self.forced = None;
                declared
            }
            Some(_) => {
                if !matches!(self.family, Family::Text) {
                    // A lost narrower type does not explain why the declared type does not fit.
                    self.forced = None;
                }
                self.family = Family::Text;
                ColumnType::Text
            }
            None => self.family.column_type(),
        };
        // In a text column a null token is ordinary text.
        let has_nulls = self.has_missing || (self.has_null_tokens && column_type != ColumnType::Text);
        let type_reason = TypeReason { forced_by_record: self.forced.map(|(record, _)| record), reason: self.reason() };
        // A column without values fits every type, whatever the file declares.
        let is_open = self.declared.is_some() && self.values == 0;
        let candidates = if is_open { Family::Open.candidates() } else { self.family.candidates() };
        let is_odd = self.has_odd_null_tokens || self.family.has_other_spellings();
        Column {
            name: self.name,
            column_type,
            has_nulls,
            null_tokens: self.null_tokens && !self.has_strings,
            is_binary: self.declared == Some(ColumnType::Binary),
            has_other_spellings: is_odd && column_type != ColumnType::Text,
            day_order: self.family.day_order(),
            max_bytes: self.max_bytes,
            candidates,
            type_reason,
        }
    }

    fn reason(&self) -> String {
        match (self.declared, self.forced) {
            (Some(ColumnType::Binary), _) => {}
            (Some(ColumnType::Text), _) => return "the file declares it".to_owned(),
            (Some(_), None) if !matches!(self.family, Family::Text) => return "the file declares it".to_owned(),
            (Some(_), None) => return "a value does not have the type that the file declares".to_owned(),
            (Some(_) | None, _) => {}
        }
        if let Some((record, loss)) = self.forced {
            return format!("the value in record {} is {loss}", with_thousands(record));
        }
        let (one, many) = match &self.family {
            Family::Open | Family::Text if self.has_null_tokens && self.values == 0 => {
                return "every value is a null token".to_owned();
            }
            Family::Open | Family::Text => return "no record has a value".to_owned(),
            Family::Bytes if self.values == 0 => return "no record has a value".to_owned(),
            Family::Boolean { .. } => ("a boolean", "booleans"),
            Family::Number(_) => ("a 64-bit integer", "64-bit integers"),
            Family::Date => ("a date", "dates"),
            Family::DateTime => ("a date with a time of day", "dates with a time of day"),
            Family::Instant => ("a date with a time of day and an offset", "dates with a time of day and an offset"),
            Family::Ordered(dates) => return ordered_dates_reason(dates.order()),
            Family::Json => ("a nested JSON value", "nested JSON values"),
            Family::Bytes | Family::Binary => ("UTF-8 text", "UTF-8 text"),
        };
        match self.values {
            1 => format!("the only value is {one}"),
            values => format!("all {} values are {many}", with_thousands(values)),
        }
    }
}

/// Why dates that end with their year have a date type, or are text.
fn ordered_dates_reason(order: Option<DayOrder>) -> String {
    let reason = match order {
        Some(DayOrder::DayFirst) => "only the day first makes every value a valid date",
        Some(DayOrder::MonthFirst) => "only the month first makes every value a valid date",
        None => {
            "every value is a date, but no value shows whether the day or the month comes first; a format in the table \
             settings decides"
        }
    };
    reason.to_owned()
}

/// Formats 10001 as `10,001`.
fn with_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
