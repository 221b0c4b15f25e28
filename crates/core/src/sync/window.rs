//! The window of a sync, and the time of a key: the parts of its pattern that name a year, a day or an hour.

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::pattern::KeyParts;

/// The parts of a pattern that name a time of their own.
const DATE_PARTS: [&str; 3] = ["year", "dt", "date"];

/// The parts that make such a time more exact.
const FINER_PARTS: [&str; 5] = ["month", "day", "hour", "minute", "hhmm"];

/// A period of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its start, inclusive.
    pub(crate) start: Timestamp,
    /// Its end, exclusive.
    pub(crate) end: Timestamp,
}

/// The period of the files that a sync looks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Its start, inclusive; `None` for all earlier files.
    pub from: Option<Timestamp>,
    /// Its end, exclusive; `None` for all later files.
    pub to: Option<Timestamp>,
}

impl Window {
    /// Whether a period has a moment in common with the window.
    pub(crate) fn overlaps(&self, span: Span) -> bool {
        self.from.is_none_or(|from| from < span.end) && self.to.is_none_or(|to| span.start < to)
    }

    /// Whether a whole period is in the window.
    pub(crate) fn covers(&self, span: Span) -> bool {
        self.from.is_none_or(|from| from <= span.start) && self.to.is_none_or(|to| span.end <= to)
    }

    /// Whether a moment is in the window.
    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to)
    }

    /// Whether the window has neither a start nor an end.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a part of a pattern belongs to a time.
pub(crate) fn is_time_part(name: &str) -> bool {
    DATE_PARTS.contains(&name) || FINER_PARTS.contains(&name)
}

/// When a file counts as written, for its place in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyTime {
    /// The key contains this period.
    Span(Span),
    /// The pattern names a time, but the text in the key cannot be read as a time. Such a file is in every window.
    Unreadable,
    /// The pattern names no time, so S3's `LastModified` counts.
    LastModified,
}

impl KeyTime {
    /// The time of a key.
    pub(crate) fn of(key: &KeyParts) -> Self {
        if !key.parts.iter().any(|(name, _)| DATE_PARTS.contains(&name.as_str())) {
            return Self::LastModified;
        }
        span(&key.parts).map_or(Self::Unreadable, Self::Span)
    }
}

/// The period that the parts of a key, or of the beginning of a key, name in UTC; `None` if they cannot be read as a time.
pub(crate) fn span(parts: &[(String, String)]) -> Option<Span> {
    let part = |wanted: &str| parts.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str());
    let day = match part("dt").or(part("date")) {
        Some(text) => date(text)?,
        None => {
            let year = i16::try_from(number(part("year")?, 4..=4)?).ok()?;
            let Some(month) = part("month") else {
                return between(Date::new(year, 1, 1).ok()?, |day| day.checked_add(1.year()).ok());
            };
            let month = i8::try_from(number(month, 1..=2)?).ok()?;
            let Some(day) = part("day") else {
                return between(Date::new(year, month, 1).ok()?, |day| day.checked_add(1.month()).ok());
            };
            Date::new(year, month, i8::try_from(number(day, 1..=2)?).ok()?).ok()?
        }
    };
    match (part("hhmm"), part("hour")) {
        (Some(text), _) => {
            let text = number(text, 4..=4)?;
            time_of_day(day, text / 100, Some(text % 100))
        }
        (None, Some(hour)) => {
            let minute = part("minute").map(|text| number(text, 1..=2).ok_or(())).transpose().ok()?;
            time_of_day(day, number(hour, 1..=2)?, minute)
        }
        (None, None) => between(day, |day| day.checked_add(1.day()).ok()),
    }
}

/// A number of decimal digits alone, and of as many as allowed.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u16> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// A date such as `2026-11-20` or `20261120`.
fn date(text: &str) -> Option<Date> {
    let (year, month, day) = match text.len() {
        10 if text.is_ascii() && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' => {
            (&text[..4], &text[5..7], &text[8..])
        }
        8 if text.is_ascii() => (&text[..4], &text[4..6], &text[6..]),
        _ => return None,
    };
    let year = i16::try_from(number(year, 4..=4)?).ok()?;
    let (month, day) = (number(month, 2..=2)?, number(day, 2..=2)?);
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// The hour or the minute of a day.
fn time_of_day(day: Date, hour: u16, minute: Option<u16>) -> Option<Span> {
    let (hour, first) = (i8::try_from(hour).ok()?, i8::try_from(minute.unwrap_or(0)).ok()?);
    let time = jiff::civil::Time::new(hour, first, 0, 0).ok()?;
    let start = in_utc(day.to_datetime(time))?;
    let seconds = if minute.is_some() { 60 } else { 3600 };
    Some(Span { start, end: start.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()? })
}

fn between(first: Date, end: impl Fn(Date) -> Option<Date>) -> Option<Span> {
    let midnight = |day: Date| in_utc(day.at(0, 0, 0, 0));
    Some(Span { start: midnight(first)?, end: midnight(end(first)?)? })
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parts(text: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| pair.split_once('=').map(|(name, text)| (name.to_owned(), text.to_owned())).unwrap();
        text.split(' ').filter(|word| !word.is_empty()).map(pair).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("year=2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")]
    #[case("year=2026 month=12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")]
    #[case("year=2028 month=2", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z")]
    #[case("day=9 month=2 year=2026", "2026-02-09T00:00:00Z", "2026-02-10T00:00:00Z")]
    #[case("year=2026 month=11 day=30 hour=23", "2026-11-30T23:00:00Z", "2026-12-01T00:00:00Z")]
    #[case("year=2026 month=11 day=30 hour=7 minute=5", "2026-11-30T07:05:00Z", "2026-11-30T07:06:00Z")]
    #[case("year=2026 month=01 day=10 hhmm=0830", "2026-01-10T08:30:00Z", "2026-01-10T08:31:00Z")]
    #[case("dt=2026-11-20", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")]
    #[case("date=20261120 hour=00", "2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z")]
    fn parts_name_a_period_in_utc(#[case] text: &str, #[case] start: &str, #[case] end: &str) {
        assert_eq!(span(&parts(text)), Some(Span { start: at(start), end: at(end) }));
    }

    #[rstest]
    #[case("year=26", KeyTime::Unreadable)]
    #[case("year=2026 month=13", KeyTime::Unreadable)]
    #[case("year=2026 month=02 day=30", KeyTime::Unreadable)]
    #[case("year=2026 month=02 day=03 hhmm=2460", KeyTime::Unreadable)]
    #[case("year=2026 month=02 day=03 hhmm=930", KeyTime::Unreadable)]
    #[case("dt=2026-1-2", KeyTime::Unreadable)]
    #[case("dt=latest", KeyTime::Unreadable)]
    #[case("dt=é26-11-2", KeyTime::Unreadable)]
    #[case("month=11 day=20", KeyTime::LastModified)]
    #[case("tenant=acme", KeyTime::LastModified)]
    #[case("", KeyTime::LastModified)]
    fn other_texts_name_no_period(#[case] text: &str, #[case] expected: KeyTime) {
        assert_eq!(KeyTime::of(&KeyParts { table: "t".into(), parts: parts(text) }), expected);
    }

    #[test]
    fn window_has_an_inclusive_start_and_an_exclusive_end() {
        let day = span(&parts("dt=2026-11-20")).unwrap();
        let window = |from: &str, to: &str| Window { from: Some(at(from)), to: Some(at(to)) };
        let whole = window("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z");
        assert!(whole.covers(day) && whole.overlaps(day));
        assert!(whole.contains(day.start) && !whole.contains(day.end));
        let evening = window("2026-11-20T23:59:59Z", "2026-11-22T00:00:00Z");
        assert!(evening.overlaps(day) && !evening.covers(day));
        assert!(!window("2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z").overlaps(day));
        assert!(!window("2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z").overlaps(day));
        let everything = Window::default();
        assert!(everything.is_everything() && everything.covers(day) && everything.contains(day.start));
        assert!(!whole.is_everything());
    }
}
