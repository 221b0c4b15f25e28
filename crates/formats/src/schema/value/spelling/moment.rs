//! Other spellings of dates and times. The year always comes first, so it is certain which number is the month.

use crate::schema::value::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, MICROS_PER_SECOND};
use crate::schema::value::time::{in_range, parse_any_offset, parse_date};

/// A date in days since 1970-01-01: `20240115`, `2024/01/15`, `2024/1/5` or `2024-1-5`, also with the time 00:00.
///
/// Spaces around it do not matter. A date with another time is not accepted, because the time would be lost. Nor is one with an
/// offset, because the date depends on the time zone.
pub fn date(text: &[u8]) -> Option<i32> {
    let (days, rest) = split_date(text.trim_ascii())?;
    let is_midnight = rest.is_empty() || matches!(split_clock(after_separator(rest)?)?, (0, []));
    is_midnight.then_some(days)
}

/// A date, or a date with a time, in microseconds since 1970-01-01 00:00:00.
///
/// A date is its midnight. With an offset (`Z`, `UTC`, `±HH`, `±HHMM`, `±HH:MM`, also after a space) the result is in UTC.
/// Digits beyond microseconds must be zeros. Spaces around the text do not matter.
pub fn date_time(text: &[u8]) -> Option<i64> {
    let (days, rest) = split_date(text.trim_ascii())?;
    let midnight = i64::from(days) * MICROS_PER_DAY;
    if rest.is_empty() {
        return Some(midnight);
    }
    let (of_day, rest) = split_clock(after_separator(rest)?)?;
    match rest {
        [] => Some(midnight + of_day),
        offset => in_range(midnight + of_day - parse_any_offset(offset)?),
    }
}

/// A time of day in microseconds since midnight: `8:05`, `08:05:00` or `8:05:00.5`. Digits beyond microseconds must be zeros. Spaces around
/// the text do not matter.
pub fn time_of_day(text: &[u8]) -> Option<i64> {
    match split_clock(text.trim_ascii())? {
        (micros, []) => Some(micros),
        _ => None,
    }
}

/// Parses the date at the start of a text; returns its days and the rest of the text.
fn split_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day, rest) = match rest {
        [separator @ (b'-' | b'/'), rest @ ..] => {
            let (month, rest) = split_number(rest)?;
            let (day, rest) = split_number(rest.strip_prefix(&[*separator])?)?;
            (month, day, rest)
        }
        [m1, m2, d1, d2, rest @ ..] => ([*m1, *m2], [*d1, *d2], rest),
        _ => return None,
    };
    let mut date = *b"0000-00-00";
    date[..4].copy_from_slice(year);
    date[5..7].copy_from_slice(&month);
    date[8..].copy_from_slice(&day);
    Some((parse_date(&date)?, rest))
}

/// Parses a time of day at the start of a text; returns microseconds since midnight and the rest of the text.
pub(super) fn split_clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, rest) = split_number(text)?;
    let (minute, rest) = two_digits(rest.strip_prefix(b":")?)?;
    let hour = number(hour, 23)?;
    let micros = (hour * 60 + number(minute, 59)?) * MICROS_PER_MINUTE;
    let Some(rest) = rest.strip_prefix(b":") else {
        return Some((micros, rest));
    };
    let (second, rest) = two_digits(rest)?;
    let micros = micros + number(second, 59)? * MICROS_PER_SECOND;
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((micros, rest));
    };
    let (fraction, rest) = super::split_digits(rest);
    let is_exact = !fraction.is_empty() && fraction.iter().skip(6).all(|digit| *digit == b'0');
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    let value = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    is_exact.then_some((micros + value, rest))
}

/// The text after the separator of date and time.
pub(super) fn after_separator(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'T' | b't' | b' ', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// One or two digits at the start of a text, as two digits, and the rest.
pub(super) fn split_number(text: &[u8]) -> Option<([u8; 2], &[u8])> {
    match super::split_digits(text) {
        ([ones], rest) => Some(([b'0', *ones], rest)),
        ([tens, ones], rest) => Some(([*tens, *ones], rest)),
        _ => None,
    }
}

/// Exactly two digits at the start of a text, and the rest.
fn two_digits(text: &[u8]) -> Option<([u8; 2], &[u8])> {
    match super::split_digits(text) {
        ([tens, ones], rest) => Some(([*tens, *ones], rest)),
        _ => None,
    }
}

fn number(digits: [u8; 2], max: i64) -> Option<i64> {
    let number = i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0');
    (number <= max).then_some(number)
}
