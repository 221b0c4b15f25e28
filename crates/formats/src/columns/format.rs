//! Spellings of values that only a setting can decide, converted to the spelling that every reader of this crate accepts.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;

use super::{Converted, FileValues};
use crate::batch::FieldKind;
use crate::schema::ColumnType;
use crate::schema::value::spelling::plain_number;

/// 2001-12-31T23:58:59Z: with it each part of a format is tried.
const EXAMPLE_SECOND: i64 = 1_009_843_139;

/// The first year that a date may have, as for dates without a format.
const FIRST_YEAR: i16 = 1000;

/// How a file spells the values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueFormat {
    /// Dates or times in the conversion specifiers of `strptime`, such as `%d/%m/%Y`.
    Time(String),
    /// Seconds since 1970-01-01T00:00:00Z, with at most microseconds.
    EpochSeconds,
    /// Milliseconds since 1970-01-01T00:00:00Z, with at most microseconds.
    EpochMilliseconds,
    /// Numbers with other separators, or with a currency or unit.
    Number(NumberFormat),
}

/// How a file spells numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberFormat {
    /// The character before the fraction: `.` or `,`.
    pub decimal: char,
    /// The character between groups of three digits, if any.
    pub thousands: Option<char>,
    /// Texts before or after the number that do not belong to it, such as `€` or `%`.
    pub remove: Vec<String>,
}

impl ValueFormat {
    /// Whether values of this kind are converted. A number that is not a text has no other spelling.
    pub(super) fn applies_to(&self, kind: FieldKind, values: FileValues) -> bool {
        let is_text = values == FileValues::Texts || kind == FieldKind::String;
        match (kind, self) {
            (FieldKind::Nested, _) => false,
            (FieldKind::Plain | FieldKind::String, Self::Number(_)) => is_text,
            (FieldKind::Plain | FieldKind::String, Self::Time(_) | Self::EpochSeconds | Self::EpochMilliseconds) => {
                true
            }
        }
    }

    /// Converts a value; `None` if it does not have this format.
    pub(super) fn convert<'a>(&self, value: &'a [u8]) -> Option<Converted<'a>> {
        let text = std::str::from_utf8(value).ok()?;
        match self {
            Self::Time(format) => time(format, text),
            Self::EpochSeconds => epoch(text, 1_000_000),
            Self::EpochMilliseconds => epoch(text, 1_000),
            Self::Number(format) => format.convert(text).map(|number| Cow::Owned(number.into_bytes())),
        }
    }

    /// The type of all values with this format; `None` for numbers, whose digits decide.
    pub(super) fn column_type(&self) -> Option<ColumnType> {
        match self {
            Self::Time(format) => {
                let parsed = BrokenDownTime::parse(format, Self::example_of(format)?).ok()?;
                Some(match (parsed.offset().is_some(), parsed.hour().is_some()) {
                    (true, _) => ColumnType::Instant,
                    (false, true) => ColumnType::DateTime,
                    (false, false) => ColumnType::Date,
                })
            }
            Self::EpochSeconds | Self::EpochMilliseconds => Some(ColumnType::Instant),
            Self::Number(_) => None,
        }
    }

    fn example_of(format: &str) -> Option<String> {
        let example = Timestamp::from_second(EXAMPLE_SECOND).ok()?.to_zoned(TimeZone::UTC);
        strtime::format(format, &example).ok()
    }

    /// A format of dates or times.
    ///
    /// # Errors
    /// When a date cannot be read with it.
    pub fn time(format: &str) -> Result<Self, String> {
        let example =
            Timestamp::from_second(EXAMPLE_SECOND).map_err(|error| error.to_string())?.to_zoned(TimeZone::UTC);
        let written = strtime::format(format, &example).map_err(|error| error.to_string())?;
        let Ok(parsed) = BrokenDownTime::parse(format, &written) else {
            return Err("a date that is written with it cannot be read again".to_owned());
        };
        if parsed.to_date().ok() != Some(example.date()) {
            return Err("it does not contain year, month and day, such as %d/%m/%Y".to_owned());
        }
        // An hour of a twelve-hour clock needs %p, and minutes need hours. The name of a time zone would be lost.
        let has_time = parsed.minute().is_some() || parsed.second().is_some();
        let is_whole = parsed.hour().map_or(!has_time, |hour| hour == example.hour());
        match is_whole && parsed.iana_time_zone().is_none() {
            true => Ok(Self::Time(format.to_owned())),
            false => Err("it does not contain the whole time of day, such as %H:%M or %I:%M %p".to_owned()),
        }
    }
}

impl fmt::Display for ValueFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(format) => formatter.write_str(format),
            Self::EpochSeconds => formatter.write_str("epoch-seconds"),
            Self::EpochMilliseconds => formatter.write_str("epoch-milliseconds"),
            Self::Number(number) => {
                write!(formatter, "decimal = {:?}", number.decimal.to_string())?;
                match number.thousands {
                    Some(thousands) => write!(formatter, ", thousands = {:?}", thousands.to_string()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Converts a date, a date with a time of day, or one with an offset, by what the format contains.
fn time(format: &str, text: &str) -> Option<Converted<'static>> {
    let parsed = BrokenDownTime::parse(format, text.trim()).ok()?;
    // `%Y` also accepts fewer digits, and would read the year 24 as 0024.
    parsed.to_date().ok().filter(|date| date.year() >= FIRST_YEAR)?;
    let converted = if parsed.offset().is_some() {
        parsed.to_timestamp().ok()?.to_string()
    } else if parsed.hour().is_some() {
        parsed.to_datetime().ok()?.to_string()
    } else {
        parsed.to_date().ok()?.to_string()
    };
    Some(Cow::Owned(converted.into_bytes()))
}

/// Converts a number of seconds or milliseconds to the time in UTC. A unit has `micros` microseconds.
fn epoch(text: &str, micros: i64) -> Option<Converted<'static>> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || (digits.contains('.') && fraction.is_empty()) {
        return None;
    }
    // Digits beyond microseconds are accepted only if they are zeros.
    let places = micros.ilog10() as usize;
    let (kept, rest) = fraction.split_at(fraction.len().min(places));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let kept = format!("{kept:0<places$}");
    let fraction: i64 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let total = whole.parse::<i64>().ok()?.checked_mul(micros)?.checked_add(fraction)?;
    let time = Timestamp::from_microsecond(if negative { -total } else { total }).ok()?;
    Some(Cow::Owned(time.to_string().into_bytes()))
}

impl NumberFormat {
    /// The number with a point and without anything else; `None` if the text is not a number of this format.
    fn convert(&self, text: &str) -> Option<String> {
        let (sign, number) = self.without_affixes(text)?;
        let (number, exponent) = match number.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, Some(exponent)),
            None => (number, None),
        };
        let (whole, fraction) = match number.split_once(self.decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let is_separator = |character: char| self.thousands.is_some_and(|wanted| are_alike(wanted, character));
        let whole = match whole.contains(is_separator) {
            true => without_groups(whole, is_separator)?,
            false => whole.to_owned(),
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let has_digits = !whole.is_empty() || fraction.is_some_and(|digits| !digits.is_empty());
        if !has_digits || !is_digits(&whole) || !fraction.is_none_or(is_digits) {
            return None;
        }
        let whole = if whole.is_empty() { "0" } else { &whole };
        let fraction = fraction.filter(|digits| !digits.is_empty()).map(|digits| format!(".{digits}"));
        let digits = format!("{whole}{}", fraction.unwrap_or_default());
        // A decimal cannot hold the sign of zero.
        let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let number = if is_zero { digits } else { format!("{sign}{digits}") };
        match exponent {
            // As a spreadsheet shows a long number: 1,23E+05.
            Some(exponent) => {
                let mut plain = Vec::new();
                let is_number = plain_number(format!("{number}e{exponent}").as_bytes(), &mut plain);
                String::from_utf8(plain).ok().filter(|_| is_number)
            }
            None => Some(number),
        }
    }

    /// The sign and the digits without the texts to remove. A minus may be on either side of them, and a plus before them. Parentheses
    /// around the number are a minus, as in accounting.
    fn without_affixes<'a>(&self, text: &'a str) -> Option<(&'static str, &'a str)> {
        let mut rest = text.trim();
        let mut sign = None;
        loop {
            let before = rest;
            let in_parentheses = || rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let number = rest.strip_prefix('-').or_else(|| rest.strip_suffix('-')).or_else(in_parentheses);
            if let Some(number) = number.filter(|_| sign.is_none()) {
                sign = Some("-");
                rest = number;
            } else if let Some(number) = rest.strip_prefix('+').filter(|_| sign.is_none()) {
                sign = Some("");
                rest = number;
            }
            for affix in &self.remove {
                rest = rest.strip_prefix(affix.as_str()).unwrap_or(rest);
                rest = rest.strip_suffix(affix.as_str()).unwrap_or(rest);
            }
            rest = rest.trim();
            if rest == before {
                return Some((sign.unwrap_or_default(), rest)).filter(|(_, number)| !number.is_empty());
            }
        }
    }
}

/// Whether two separators of thousands look alike: the spaces, also those that do not break a line, and the apostrophes.
fn are_alike(one: char, other: char) -> bool {
    const ALIKE: [&[char]; 2] = [&[' ', '\u{a0}', '\u{2009}', '\u{202f}'], &['\'', '\u{2019}']];
    one == other || ALIKE.iter().any(|group| group.contains(&one) && group.contains(&other))
}

/// The digits of a number in groups of three; `None` if the groups have other lengths.
fn without_groups(whole: &str, is_separator: impl Fn(char) -> bool) -> Option<String> {
    let mut groups = whole.split(is_separator);
    let first = groups.next().filter(|first| (1..=3).contains(&first.len()))?;
    let mut digits = first.to_owned();
    for group in groups {
        if group.len() != 3 {
            return None;
        }
        digits.push_str(group);
    }
    Some(digits)
}
