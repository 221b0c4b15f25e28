//! Types chosen from every value of a file: each column starts as anything and only ever loses types.
//!
//! The families (truth values, numbers, dates, dates with times, instants) share no spelling, so a column is settled into
//! one by its first value and becomes text at the first value of another. The usual value then costs one strict parse.
//! Where the file tells strings and nested values apart from the rest ([`FieldKind`]), its word counts: a string is a date,
//! a time or text and never a number, and only what is nested is JSON.

mod numbers;

use numbers::{NumberKind, Numbers};

use super::value::number::Number;
use super::value::{is_null_token, parse_boolean, time};
use super::{Candidates, Column, ColumnType, Schema, TypeReason};
use crate::{Batch, FieldKind};

/// Watches all values of a file and then says what its columns are.
#[derive(Debug)]
pub struct Inference {
    columns: Vec<ColumnState>,
    rows: u64,
    null_tokens: bool,
}

impl Inference {
    /// Starts with the columns' final names (see [`super::header::column_names`]), in file order.
    pub fn new(names: Vec<String>) -> Self {
        Self { columns: names.into_iter().map(ColumnState::new).collect(), rows: 0, null_tokens: true }
    }

    /// Takes null tokens for values like any other: the file says in another way what is missing.
    #[must_use]
    pub fn without_null_tokens(mut self) -> Self {
        self.null_tokens = false;
        self.columns.iter_mut().for_each(|column| column.null_tokens = false);
        self
    }

    /// Starts with columns whose types the file itself declares. A column of which some value is not of its type is text.
    pub fn declared(columns: impl IntoIterator<Item = (String, ColumnType)>) -> Self {
        let column = |(name, column_type)| ColumnState {
            family: if column_type == ColumnType::Text { Family::Text } else { Family::Open },
            declared: Some(column_type),
            ..ColumnState::new(name)
        };
        Self { columns: columns.into_iter().map(column).collect(), rows: 0, null_tokens: true }.without_null_tokens()
    }

    /// Looks at every value of a batch. It is as wide as the one before, or wider: then it has new columns at its end, which
    /// all rows so far lack. Their names are known at the end, see [`Inference::finish_as`].
    pub fn observe(&mut self, batch: &Batch) {
        debug_assert!(batch.width() >= self.columns.len(), "a batch that is narrower than the one before");
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

    /// Whether the values so far would still make a table with the columns of this schema, which has others behind them. Only for a
    /// file that declares no types.
    pub fn makes_the_columns_of(&self, schema: &Schema) -> bool {
        self.columns
            .iter()
            .zip(&schema.columns)
            .all(|(seen, made)| seen.family.column_type().with_headroom() == made.column_type.with_headroom())
    }

    /// The schema, once every batch was seen, with the columns' names as they turned out to be.
    pub fn finish_as(mut self, names: Vec<String>) -> Schema {
        debug_assert!(names.len() >= self.columns.len(), "a column without a name");
        self.columns.resize_with(names.len(), || ColumnState::new(String::new()));
        for (column, name) in self.columns.iter_mut().zip(names) {
            column.name = name;
        }
        self.finish()
    }

    /// The schema, once every batch was seen. A column without any value is text.
    pub fn finish(self) -> Schema {
        Schema { columns: self.columns.into_iter().map(ColumnState::finish).collect() }
    }
}

#[derive(Debug)]
struct ColumnState {
    name: String,
    family: Family,
    /// The type that the file declares.
    declared: Option<ColumnType>,
    values: u64,
    has_missing: bool,
    has_null_tokens: bool,
    /// Whether null tokens mean that there is no value.
    null_tokens: bool,
    /// A value is the empty string, which only text can tell from NULL.
    has_empty: bool,
    /// A value is a string in a file that writes strings apart.
    has_strings: bool,
    max_bytes: u64,
    /// The record whose value cost the column its last type, and what that value is or is not.
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
        if self.family.holds(text, kind) {
            self.values += 1;
        } else if self.null_tokens && kind == FieldKind::Plain && is_null_token(text) {
            self.has_null_tokens = true;
            self.has_empty |= text.is_empty();
        } else {
            self.values += 1;
            self.narrow(text, kind, record());
        }
    }

    /// A value that the column as it is does not hold: the first one, or one that costs a type.
    #[cold]
    fn narrow(&mut self, text: &[u8], kind: FieldKind, record: u64) {
        let before = self.family;
        self.family = before.widened_to(text, kind);
        self.forced = before.loss(&self.family, text, kind).map(|loss| (record, loss));
    }

    fn finish(mut self) -> Column {
        if self.has_empty && matches!(self.family, Family::Open) {
            self.family = Family::Text;
        }
        let column_type = match self.declared {
            Some(declared) if self.family.is_all(declared) => {
                self.forced = None;
                declared
            }
            Some(_) => {
                if !matches!(self.family, Family::Text) {
                    // What cost the column a narrower type says nothing of the declared one.
                    self.forced = None;
                }
                self.family = Family::Text;
                ColumnType::Text
            }
            None => self.family.column_type(),
        };
        // In a text column a null token is a text like any other.
        let has_nulls = self.has_missing || (self.has_null_tokens && column_type != ColumnType::Text);
        let type_reason = TypeReason { forced_by_record: self.forced.map(|(record, _)| record), reason: self.reason() };
        let candidates = self.family.candidates();
        Column {
            name: self.name,
            column_type,
            has_nulls,
            null_tokens: self.null_tokens && !self.has_strings,
            max_bytes: self.max_bytes,
            candidates,
            type_reason,
        }
    }

    fn reason(&self) -> String {
        match (self.declared, self.forced) {
            (Some(ColumnType::Text), _) => return "the file says so".to_owned(),
            (Some(_), None) if !matches!(self.family, Family::Text) => return "the file says so".to_owned(),
            (Some(_), None) => return "a value is not of the type that the file says".to_owned(),
            (Some(_) | None, _) => {}
        }
        if let Some((record, loss)) = self.forced {
            return format!("record {} is {loss}", with_thousands(record));
        }
        let kind = match &self.family {
            Family::Open | Family::Text if self.has_null_tokens && self.values == 0 => {
                return "every value is a null token".to_owned();
            }
            Family::Open | Family::Text => return "no record has a value".to_owned(),
            Family::Boolean => "true or false",
            Family::Number(_) => "a 64-bit integer",
            Family::Date => "a date",
            Family::DateTime => "a date with a time of day",
            Family::Instant => "a date with a time of day and an offset",
            Family::Json => "a nested JSON value",
        };
        format!("every value is {kind}, {} in all", with_thousands(self.values))
    }
}

/// What all values of a column so far are.
#[derive(Debug, Clone, Copy)]
enum Family {
    /// There was no value yet.
    Open,
    Boolean,
    Number(Numbers),
    Date,
    DateTime,
    Instant,
    Json,
    Text,
}

impl Family {
    /// Whether the next value leaves the column the type it has.
    #[inline]
    fn holds(&mut self, text: &[u8], kind: FieldKind) -> bool {
        match self {
            Self::Open => false,
            Self::Boolean => kind != FieldKind::String && parse_boolean(text).is_some(),
            Self::Number(numbers) => {
                kind != FieldKind::String
                    && (numbers.hold_short(text)
                        || Number::scan(text).is_some_and(|number| numbers.acquire_lease(&number)))
            }
            Self::Date => time::parse_date(text).is_some(),
            Self::DateTime => time::parse_date_time(text).is_some(),
            Self::Instant => time::parse_instant(text).is_some(),
            Self::Json => kind == FieldKind::Nested,
            Self::Text => true,
        }
    }

    /// The family once a value that it does not hold has come.
    fn widened_to(self, text: &[u8], kind: FieldKind) -> Self {
        match self {
            Self::Open => Self::of(text, kind),
            Self::Number(_) if kind == FieldKind::String => Self::Text,
            Self::Number(numbers) => {
                Number::scan(text).map_or(Self::Text, |number| Self::numbers(numbers.with(&number)))
            }
            // Dates and dates with times are kept apart too: midnight is not the same as no time of day.
            Self::Boolean | Self::Date | Self::DateTime | Self::Instant | Self::Json | Self::Text => Self::Text,
        }
    }

    /// What one value is.
    fn of(text: &[u8], kind: FieldKind) -> Self {
        let number = if kind == FieldKind::Plain { Number::scan(text) } else { None };
        if let Some(number) = number {
            Self::numbers(Numbers::ANY.with(&number))
        } else if kind == FieldKind::Nested {
            Self::Json
        } else if kind == FieldKind::Plain && parse_boolean(text).is_some() {
            Self::Boolean
        } else if time::parse_date(text).is_some() {
            Self::Date
        } else if time::parse_date_time(text).is_some() {
            Self::DateTime
        } else if time::parse_instant(text).is_some() {
            Self::Instant
        } else {
            Self::Text
        }
    }

    /// Numbers that no kind of number holds all of are text.
    fn numbers(numbers: Numbers) -> Self {
        if numbers.kind() == NumberKind::None { Self::Text } else { Self::Number(numbers) }
    }

    /// What to say of the value that led from this family to `after`; nothing when no narrower type was lost.
    fn loss(&self, after: &Self, text: &[u8], kind: FieldKind) -> Option<&'static str> {
        match (self, after) {
            (_, Self::Number(numbers)) => match numbers.kind() {
                NumberKind::Integer | NumberKind::None => None,
                NumberKind::Decimal => Some("not a 64-bit integer"),
                NumberKind::Double => Some("not an exact decimal of at most 38 digits"),
            },
            (Self::Open, Self::Text) if kind == FieldKind::String => Some("a string that is no date"),
            (Self::Open | Self::Number(_), _) if kind == FieldKind::Plain && Number::scan(text).is_some() => {
                Some("a number that neither a decimal nor a double column holds exactly")
            }
            (Self::Open, Self::Text) => Some("neither a number, a date nor true or false"),
            (Self::Boolean, _) => Some("neither true nor false"),
            (Self::Number(_), _) => Some("not a number"),
            (Self::Date, _) => Some("not a date"),
            (Self::DateTime, _) => Some("not a date with a time of day"),
            (Self::Instant, _) => Some("not a date with a time of day and an offset"),
            (Self::Json, _) => Some("not a nested JSON value"),
            (Self::Open | Self::Text, _) => None,
        }
    }

    /// The narrowest type that holds every value.
    fn column_type(&self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Number(numbers) => numbers.column_type(),
            Self::Date => ColumnType::Date,
            Self::DateTime => ColumnType::DateTime,
            Self::Instant => ColumnType::Instant,
            Self::Json => ColumnType::Json,
            Self::Open | Self::Text => ColumnType::Text,
        }
    }

    /// Whether every value is of a type.
    fn is_all(&self, column_type: ColumnType) -> bool {
        match (self, column_type) {
            (Self::Open, _)
            | (Self::Boolean, ColumnType::Boolean)
            | (Self::Date, ColumnType::Date)
            | (Self::DateTime, ColumnType::DateTime)
            | (Self::Instant, ColumnType::Instant)
            | (Self::Json, ColumnType::Json)
            | (Self::Text, ColumnType::Text) => true,
            (Self::Number(numbers), ColumnType::Integer) => numbers.integer,
            (Self::Number(numbers), ColumnType::Double) => numbers.double,
            (Self::Number(numbers), ColumnType::Decimal { precision, scale }) => numbers
                .decimal
                .is_some_and(|(whole, fraction)| fraction <= scale && whole <= precision.saturating_sub(scale)),
            (
                Self::Boolean | Self::Number(_) | Self::Date | Self::DateTime | Self::Instant | Self::Json | Self::Text,
                _,
            ) => false,
        }
    }

    fn candidates(&self) -> Candidates {
        let numbers = match self {
            Self::Open => Numbers::ANY,
            Self::Number(numbers) => *numbers,
            Self::Boolean | Self::Date | Self::DateTime | Self::Instant | Self::Json | Self::Text => Numbers::NONE,
        };
        Candidates {
            boolean: matches!(self, Self::Open | Self::Boolean),
            integer: numbers.integer,
            decimal: numbers.decimal,
            double: numbers.double,
            date: matches!(self, Self::Open | Self::Date),
            date_time: matches!(self, Self::Open | Self::DateTime),
            instant: matches!(self, Self::Open | Self::Instant),
        }
    }
}

/// `10001` as `10,001`.
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
