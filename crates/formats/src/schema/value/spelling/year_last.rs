//! Dates that end with their year: `13/01/2024`, `1.2.2024 09:30`. The text alone does not say which number is the day.
//!
//! The order of a column is known only if every value of its file was read, see [`crate::schema::infer`].

use serde::{Deserialize, Serialize};

use super::moment::{after_separator, split_clock, split_number};
use crate::schema::value::time::{MICROS_PER_DAY, parse_date};

/// The order of day and month in dates that end with their year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayOrder {
    /// `31/12/2024`.
    DayFirst,
    /// `12/31/2024`.
    MonthFirst,
}

/// A date that ends with its year, by both orders. At least one of them results in a date that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) struct YearLast {
    /// The character between the numbers.
    pub(in crate::schema) separator: u8,
    /// Days since 1970-01-01, if the first number is the day.
    pub(in crate::schema) day_first: Option<i32>,
    /// Days since 1970-01-01, if the first number is the month.
    pub(in crate::schema) month_first: Option<i32>,
    /// Microseconds since midnight, if a time of day follows the date.
    pub(in crate::schema) of_day: Option<i64>,
}

impl YearLast {
    /// Parses one or two digits, one or two digits and four digits, with the same separator (`/`, `.` or `-`) between them.
    /// A time of day without an offset may follow.
    pub(in crate::schema) fn parse(text: &[u8]) -> Option<Self> {
        let (first, rest) = split_number(text)?;
        let (separator, rest) = rest.split_first().filter(|(byte, _)| matches!(byte, b'/' | b'.' | b'-'))?;
        let (second, rest) = split_number(rest)?;
        let (year, rest) = rest.strip_prefix(&[*separator])?.split_first_chunk::<4>()?;
        let of_day = match rest {
            [] => None,
            rest => match split_clock(after_separator(rest)?)? {
                (of_day, []) => Some(of_day),
                _ => return None,
            },
        };
        let (day_first, month_first) = (days(*year, second, first), days(*year, first, second));
        (day_first.is_some() || month_first.is_some()).then_some(Self {
            separator: *separator,
            day_first,
            month_first,
            of_day,
        })
    }

    /// The days since 1970-01-01 by one order.
    fn days(self, order: DayOrder) -> Option<i32> {
        match order {
            DayOrder::DayFirst => self.day_first,
            DayOrder::MonthFirst => self.month_first,
        }
    }
}

/// A date of this order in days since 1970-01-01, also with the time 00:00 or spaces around it.
pub fn ordered_date(text: &[u8], order: DayOrder) -> Option<i32> {
    let date = YearLast::parse(text.trim_ascii())?;
    date.days(order).filter(|_| date.of_day.unwrap_or(0) == 0)
}

/// A date of this order, with or without a time, in microseconds since 1970-01-01 00:00:00. A date is its midnight.
pub fn ordered_date_time(text: &[u8], order: DayOrder) -> Option<i64> {
    let date = YearLast::parse(text.trim_ascii())?;
    Some(i64::from(date.days(order)?) * MICROS_PER_DAY + date.of_day.unwrap_or(0))
}

fn days(year: [u8; 4], month: [u8; 2], day: [u8; 2]) -> Option<i32> {
    let mut date = *b"0000-00-00";
    date[..4].copy_from_slice(&year);
    date[5..7].copy_from_slice(&month);
    date[8..].copy_from_slice(&day);
    parse_date(&date)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::schema::value::time::{write_date, write_date_time};

    fn written(days: Option<i32>) -> Option<String> {
        let mut text = Vec::new();
        write_date(days?, &mut text);
        Some(String::from_utf8(text).unwrap())
    }

    #[rstest]
    #[case("13/01/2024", Some("2024-01-13"), None)]
    #[case("01/13/2024", None, Some("2024-01-13"))]
    #[case("1.2.2024", Some("2024-02-01"), Some("2024-01-02"))]
    #[case("29-02-2024", Some("2024-02-29"), None)]
    #[case("05/05/2024 00:00:00.000", Some("2024-05-05"), Some("2024-05-05"))]
    #[case("13/01/2024 09:30", None, None)]
    #[case("13/13/2024", None, None)]
    #[case("30/02/2024", None, None)]
    #[case("13/01.2024", None, None)]
    #[case("13/01/24", None, None)]
    #[case("13/01/20240", None, None)]
    #[case("013/01/2024", None, None)]
    #[case("13/01/0999", None, None)]
    #[case("13/01/2024Z", None, None)]
    #[case(" 13/01/2024", Some("2024-01-13"), None)]
    #[case("13/01 /2024", None, None)]
    #[case("13 01 2024", None, None)]
    fn date_has_one_value_for_each_order(
        #[case] text: &str,
        #[case] day_first: Option<&str>,
        #[case] month_first: Option<&str>,
    ) {
        let text = text.as_bytes();
        assert_eq!(written(ordered_date(text, DayOrder::DayFirst)).as_deref(), day_first);
        assert_eq!(written(ordered_date(text, DayOrder::MonthFirst)).as_deref(), month_first);
    }

    #[rstest]
    #[case("13.01.2024", Some("2024-01-13 00:00:00"))]
    #[case("13.01.2024 9:30", Some("2024-01-13 09:30:00"))]
    #[case("13.01.2024T09:30:05.250000000", Some("2024-01-13 09:30:05.250000"))]
    #[case("13.01.2024 09:30:00.1234567", None)]
    #[case("13.01.2024 09:30 PM", None)]
    #[case("13.01.2024 09:30+02:00", None)]
    #[case("01.13.2024 09:30", None)]
    fn time_may_follow(#[case] text: &str, #[case] expected: Option<&str>) {
        let micros = ordered_date_time(text.as_bytes(), DayOrder::DayFirst);
        let written = micros.map(|micros| {
            let mut text = Vec::new();
            write_date_time(micros, &mut text);
            String::from_utf8(text).unwrap()
        });
        assert_eq!(written.as_deref(), expected);
    }

    proptest! {
        #[test]
        fn written_date_is_read_by_its_order_only_if_the_other_differs(
            year in 1000..=9999i32, month in 1..=12u32, day in 1..=31u32, separator in "[/.-]", is_padded in any::<bool>(),
        ) {
            let two = |number: u32| if is_padded { format!("{number:02}") } else { number.to_string() };
            let (day_text, month_text) = (two(day), two(month));
            let text = format!("{day_text}{separator}{month_text}{separator}{year}");
            let swapped = format!("{month_text}{separator}{day_text}{separator}{year}");
            let iso = format!("{year:04}-{month:02}-{day:02}");
            let expected = parse_date(iso.as_bytes());
            prop_assert_eq!(ordered_date(text.as_bytes(), DayOrder::DayFirst), expected);
            prop_assert_eq!(ordered_date(swapped.as_bytes(), DayOrder::MonthFirst), expected);
            if day > 12 {
                prop_assert_eq!(ordered_date(text.as_bytes(), DayOrder::MonthFirst), None);
            }
        }
    }
}
