//! The families of types. No text parses as a value of two families, so a column belongs to one family only.

use memchr::memchr;

use super::numbers::{NumberKind, Numbers};
use super::ordered_dates::OrderedDates;
use crate::FieldKind;
use crate::schema::value::number::Number;
use crate::schema::value::spelling::DayOrder;
use crate::schema::value::{is_usual_boolean, parse_boolean, time};
use crate::schema::{Candidates, ColumnType};

/// The family of all values of a column so far.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    /// No value so far.
    Open,
    Boolean {
        /// Whether a value is not in lower, upper or title case.
        is_odd: bool,
    },
    Number(Numbers),
    Date,
    DateTime,
    Instant {
        /// Whether a value has a space or the word UTC before its offset.
        is_odd: bool,
    },
    /// Dates that end with their year. They are text until the order of day and month is certain.
    Ordered(OrderedDates),
    Json,
    Text,
    /// Declared bytes, all of which are text so far.
    Bytes,
    /// Declared bytes, of which a value is not text.
    Binary,
}

impl Family {
    /// The family of a column of a declared type before its first value.
    pub(super) fn declared(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Text => Self::Text,
            ColumnType::Binary => Self::Bytes,
            ColumnType::Boolean
            | ColumnType::Integer
            | ColumnType::Decimal { .. }
            | ColumnType::Double
            | ColumnType::Date
            | ColumnType::DateTime
            | ColumnType::Instant
            | ColumnType::Json => Self::Open,
        }
    }

    /// Whether the next value keeps the type of the column. A number is added to the numbers so far.
    #[inline]
    pub(super) fn accepts(&mut self, text: &[u8], kind: FieldKind) -> bool {
        match self {
            Self::Open => false,
            Self::Boolean { is_odd } => {
                if kind == FieldKind::String || is_usual_boolean(text) {
                    return kind != FieldKind::String;
                }
                let is_boolean = parse_boolean(text).is_some();
                *is_odd |= is_boolean;
                is_boolean
            }
            Self::Number(numbers) => {
                kind != FieldKind::String
                    && (numbers.try_add_short(text)
                        || match Number::scan(text) {
                            Some(number) => numbers.try_add(&number),
                            None => numbers.try_add_odd(text),
                        })
            }
            Self::Date => time::parse_date(text).is_some(),
            Self::DateTime => time::parse_date_time(text).is_some(),
            Self::Instant { is_odd } => {
                if time::parse_instant(text).is_some() {
                    return true;
                }
                let is_spaced = time::parse_spaced_instant(text).is_some();
                *is_odd |= is_spaced;
                is_spaced
            }
            Self::Ordered(dates) => dates.try_add(text),
            Self::Json => kind == FieldKind::Nested,
            Self::Text | Self::Binary => true,
            Self::Bytes => is_text(text),
        }
    }

    /// The family after a value that this family does not accept.
    pub(super) fn widened_by(self, text: &[u8], kind: FieldKind) -> Self {
        match self {
            Self::Open => Self::of(text, kind),
            Self::Number(_) if kind == FieldKind::String => Self::Text,
            Self::Number(numbers) => {
                Number::scan_any(text).map_or(Self::Text, |number| Self::numbers(numbers.with_any(&number)))
            }
            Self::Bytes | Self::Binary => Self::Binary,
            // Dates and dates with times have no common type: a date is not the same as its midnight.
            Self::Boolean { .. }
            | Self::Date
            | Self::DateTime
            | Self::Instant { .. }
            | Self::Ordered(_)
            | Self::Json
            | Self::Text => Self::Text,
        }
    }

    /// The family of one value.
    fn of(text: &[u8], kind: FieldKind) -> Self {
        let number = if kind == FieldKind::Plain { Number::scan_any(text) } else { None };
        if let Some(number) = number {
            Self::numbers(Numbers::ANY.with_any(&number))
        } else if kind == FieldKind::Nested {
            Self::Json
        } else if kind == FieldKind::Plain && parse_boolean(text).is_some() {
            Self::Boolean { is_odd: !is_usual_boolean(text) }
        } else if time::parse_date(text).is_some() {
            Self::Date
        } else if time::parse_date_time(text).is_some() {
            Self::DateTime
        } else if time::parse_instant(text).is_some() {
            Self::Instant { is_odd: false }
        } else if time::parse_spaced_instant(text).is_some() {
            Self::Instant { is_odd: true }
        } else {
            OrderedDates::of(text).map_or(Self::Text, Self::Ordered)
        }
    }

    /// Whether a text is a value of a type with spaces around it.
    fn is_spaced(text: &[u8], kind: FieldKind) -> bool {
        let trimmed = text.trim_ascii();
        trimmed.len() < text.len() && !trimmed.is_empty() && !matches!(Self::of(trimmed, kind), Self::Text)
    }

    /// The family of numbers; text if no single type holds all of them.
    fn numbers(numbers: Numbers) -> Self {
        if numbers.kind() == NumberKind::None { Self::Text } else { Self::Number(numbers) }
    }

    /// Why a value changed this family to `after`: the end of a sentence that starts with "the value in record N is". `None` if the column
    /// lost no narrower type.
    pub(super) fn loss(&self, after: &Self, text: &[u8], kind: FieldKind) -> Option<&'static str> {
        match (self, after) {
            (_, Self::Number(numbers)) => match numbers.kind() {
                NumberKind::Integer | NumberKind::None => None,
                NumberKind::Decimal => Some("not a 64-bit integer"),
                NumberKind::Double if has_exponent(text) => Some("a number with an exponent"),
                NumberKind::Double => Some("not an exact decimal of at most 38 digits"),
            },
            (Self::Open | Self::Number(_), _) if kind == FieldKind::Plain && has_leading_zeros(text) => {
                Some("a number with leading zeros, which a number column does not keep")
            }
            (Self::Open, Self::Text) if kind == FieldKind::String => Some("a string that is not a date"),
            (Self::Open, Self::Text) if Self::is_spaced(text, kind) => {
                Some("a number, a date or a boolean with spaces around it")
            }
            (Self::Open | Self::Number(_), _) if kind == FieldKind::Plain && Number::scan_any(text).is_some() => {
                Some("a number that neither a decimal nor a double column holds exactly")
            }
            (Self::Open, Self::Text) => Some("not a number, a date or a boolean"),
            (Self::Boolean { .. }, _) => Some("neither true nor false"),
            (Self::Number(_), _) => Some("not a number"),
            (Self::Date, _) => Some("not a date"),
            (Self::DateTime, _) => Some("not a date with a time of day"),
            (Self::Instant { .. }, _) => Some("not a date with a time of day and an offset"),
            (Self::Ordered(_), _) => Some("not a date that is written like those before it"),
            (Self::Json, _) => Some("not a nested JSON value"),
            (Self::Bytes, _) => Some("not UTF-8 text without NUL"),
            (Self::Open | Self::Text | Self::Binary, _) => None,
        }
    }

    /// Whether any value is spelled in a way that only the type explains.
    pub(super) fn has_other_spellings(&self) -> bool {
        match self {
            Self::Boolean { is_odd } => *is_odd,
            Self::Number(numbers) => numbers.lacks_digits,
            Self::Ordered(dates) => dates.order().is_some(),
            Self::Instant { is_odd } => *is_odd,
            Self::Open | Self::Date | Self::DateTime | Self::Json | Self::Text | Self::Bytes | Self::Binary => false,
        }
    }

    /// The narrowest type that holds every value.
    pub(super) fn column_type(&self) -> ColumnType {
        match self {
            Self::Boolean { .. } => ColumnType::Boolean,
            Self::Number(numbers) => numbers.column_type(),
            Self::Date => ColumnType::Date,
            Self::DateTime => ColumnType::DateTime,
            Self::Instant { .. } => ColumnType::Instant,
            Self::Ordered(dates) => dates.column_type(),
            Self::Json => ColumnType::Json,
            Self::Open | Self::Text | Self::Bytes => ColumnType::Text,
            Self::Binary => ColumnType::Binary,
        }
    }

    /// The order of day and month, if it is not the usual one of year, month and day.
    pub(super) fn day_order(&self) -> Option<DayOrder> {
        match self {
            Self::Ordered(dates) => dates.order(),
            Self::Open
            | Self::Boolean { .. }
            | Self::Number(_)
            | Self::Date
            | Self::DateTime
            | Self::Instant { .. }
            | Self::Json
            | Self::Text
            | Self::Bytes
            | Self::Binary => None,
        }
    }

    /// Whether every value is a value of `column_type`.
    pub(super) fn fits(&self, column_type: ColumnType) -> bool {
        match (self, column_type) {
            (Self::Open, _)
            | (Self::Boolean { .. }, ColumnType::Boolean)
            | (Self::Date, ColumnType::Date)
            | (Self::DateTime, ColumnType::DateTime)
            | (Self::Instant { .. }, ColumnType::Instant)
            | (Self::Json, ColumnType::Json)
            | (Self::Text | Self::Bytes, ColumnType::Text)
            | (Self::Bytes | Self::Binary, ColumnType::Binary) => true,
            (Self::Ordered(dates), column_type) => column_type == dates.column_type(),
            (Self::Number(numbers), ColumnType::Integer) => numbers.integer,
            (Self::Number(numbers), ColumnType::Double) => numbers.double,
            (Self::Number(numbers), ColumnType::Decimal { precision, scale }) => numbers
                .decimal
                .is_some_and(|(whole, fraction)| fraction <= scale && whole <= precision.saturating_sub(scale)),
            (
                Self::Boolean { .. }
                | Self::Number(_)
                | Self::Date
                | Self::DateTime
                | Self::Instant { .. }
                | Self::Json
                | Self::Text
                | Self::Bytes
                | Self::Binary,
                _,
            ) => false,
        }
    }

    /// All types that hold every value.
    pub(super) fn candidates(&self) -> Candidates {
        let numbers = match self {
            Self::Open => Numbers::ANY,
            Self::Number(numbers) => *numbers,
            Self::Boolean { .. }
            | Self::Date
            | Self::DateTime
            | Self::Instant { .. }
            | Self::Ordered(_)
            | Self::Json
            | Self::Text
            | Self::Bytes
            | Self::Binary => Numbers::NONE,
        };
        let ordered = if let Self::Ordered(dates) = self { dates.column_type() } else { ColumnType::Text };
        Candidates {
            boolean: matches!(self, Self::Open | Self::Boolean { .. }),
            integer: numbers.integer,
            decimal: numbers.decimal,
            double: numbers.double,
            date: matches!(self, Self::Open | Self::Date) || ordered == ColumnType::Date,
            date_time: matches!(self, Self::Open | Self::DateTime) || ordered == ColumnType::DateTime,
            instant: matches!(self, Self::Open | Self::Instant { .. }),
        }
    }
}

/// Whether a number has an exponent.
fn has_exponent(number: &[u8]) -> bool {
    number.iter().any(|byte| matches!(byte, b'e' | b'E'))
}

/// Whether a text is digits, the first of which is a zero before another one.
fn has_leading_zeros(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.len() > 1 && digits[0] == b'0' && digits.iter().all(u8::is_ascii_digit)
}

/// Whether bytes are text in every engine: UTF-8, and without NUL, which PostgreSQL cannot store in text.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && memchr(0, bytes).is_none()
}
