//! Spellings that mean one value, and spellings that are not accepted.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::schema::ColumnType;
use crate::schema::value::{Value, parse, write_text};

fn plain(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let is_number = plain_number(text.as_bytes(), &mut out);
    assert!(is_number || out.is_empty(), "{text}");
    is_number.then(|| String::from_utf8(out).unwrap())
}

/// The text of a moment, as it would be written strictly.
fn strict(value: Value<'_>) -> String {
    let mut out = Vec::new();
    write_text(&value, &mut out);
    String::from_utf8(out).unwrap()
}

#[rstest]
#[case("0.5", &[".5", "+.5", "5e-1", "0.50", "00.5", "+0.5", "50e-2", ".05e1"])]
#[case("-0.25", &["-.25", "-.250", "-25e-2", "-2.5E-1"])]
#[case("5", &["5.", " 5", "5 ", "\t5 ", "+5", "5.0", "5.000", "5e0", "0.5e1", "500e-2", "05.0", ".0005e+4"])]
#[case("1000", &["1e3", "1.0e3", "+1000", "1000.", "10E02"])]
#[case("15", &["1.50e1", "1.5e1"])]
#[case("7.5", &["007.50", "7.50"])]
#[case("0", &["0.0", "+0", "0e9", "00.0", ".0", "-0", "-0.00", "-.0", "-0e5"])]
#[case("12345678901234567890.123", &["1234567890123456789.0123e1", "+12345678901234567890.1230"])]
#[case("0.001", &["1e-3", ".001"])]
fn number_is_written_in_plain_digits(#[case] expected: &str, #[case] spellings: &[&str]) {
    for text in spellings {
        assert_eq!(plain(text).as_deref(), Some(expected), "{text}");
    }
}

#[rstest]
#[case(&["", "+", "-", ".", "-.", "+-5", "--5", "e5", ".e5", "5e", "5e+", "1,5", "1.000,5", "1 000", "1_000", "$5", "5%", "0x10", "1.2.3"])]
#[case(&["007", "00", "-007", "+007", "007.", "007e2", "inf", "NaN", "Infinity", "١"])]
#[case(&["1e500", "1e-500", "1e99999999999999999999"])]
fn other_text_is_not_a_number(#[case] texts: &[&str]) {
    for text in texts {
        assert_eq!(plain(text), None, "{text}");
    }
}

#[test]
fn whole_number_has_only_zeros_after_the_point() {
    let whole = |text: &str| {
        let mut out = b"x".to_vec();
        let is_whole = whole_number(text.as_bytes(), &mut out);
        is_whole.then(|| String::from_utf8_lossy(&out[1..]).into_owned()).or((out == b"x").then(String::new))
    };
    for (text, expected) in
        [("1.0", "1"), ("-7.00", "-7"), ("1.50e1", "15"), ("+5", "5"), ("0.000", "0"), ("1234.000", "1234")]
    {
        assert_eq!(whole(text).as_deref(), Some(expected), "{text}");
    }
    for text in ["1.5", "1.000", "-12.000", "999.000", "1e-1", ".5", "007", "1,000"] {
        assert_eq!(whole(text).as_deref(), Some(""), "{text}");
    }
}

#[test]
fn long_number_is_not_truncated() {
    let digits = "123456789".repeat(2000);
    assert_eq!(plain(&format!("+{digits}")), Some(digits));
}

#[test]
fn float_of_17_digits_is_the_float() {
    for (text, expected) in [
        ("0.10000000000000001", Some(0.1)),
        ("4.9406564584124654e-324", Some(5e-324)),
        ("1.7976931348623157e+308", Some(f64::MAX)),
        ("-2.2000000000000002", Some(-2.2)),
        ("+.5", Some(0.5)),
        ("0.10000000000000000", Some(0.1)),
        // Two texts of the same length are equally near to the float.
        ("1125899906842624.2", Some(2f64.powi(50) + 0.25)),
        ("1125899906842624.3", Some(2f64.powi(50) + 0.25)),
        ("1125899906842624.4", None),
        // Other digits than those of a float.
        ("0.100000000000000001", None),
        ("0.1000000000000000055511151231257827", None),
        ("9007199254740993", None),
        ("1e400", None),
        ("1,5", None),
    ] {
        assert_eq!(double(text.as_bytes()), expected, "{text}");
    }
    for (text, expected) in [
        ("0.100000001", Some(0.1)),
        ("0.10000000149011612", Some(0.1)),
        ("16777216.0", Some(16_777_216.0)),
        ("3.4028235e38", Some(f32::MAX)),
        ("16777217", None),
        ("0.123456789", None),
        ("1e39", None),
    ] {
        assert_eq!(single(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn booleans_are_words_or_one_and_zero() {
    for text in ["true", "TRUE", "tRue", " t", "true ", "t", "T", "yes", "Yes", "y", "on", "ON", "1", "1.0", "+1"] {
        assert_eq!(boolean(text.as_bytes()), Some(true), "{text}");
    }
    for text in ["false", "False", "f", "F", "no", "NO", "n", "off", "0", "0.0"] {
        assert_eq!(boolean(text.as_bytes()), Some(false), "{text}");
    }
    for text in ["", "tr", "2", "-1", "01", "ja", "oui", "wahr", "x", "t f", "enabled"] {
        assert_eq!(boolean(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn uuid_has_32_hex_digits() {
    let bytes = uuid(b"6f9619ff-8b86-d011-b42d-00cf4fc964ff");
    assert_eq!(bytes.map(|bytes| (bytes[0], bytes[15])), Some((0x6f, 0xff)));
    for text in [
        "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}",
        "6f9619ff8b86d011b42d00cf4fc964ff",
        "{6F9619FF8B86D011B42D00CF4FC964FF}",
    ] {
        assert_eq!(uuid(text.as_bytes()), bytes, "{text}");
    }
    for text in [
        "",
        "6f9619ff",
        "{6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "6f9619ff-8b86-d011-b42d-00cf4fc964ff}",
        "6f9619ff8b86-d011-b42d-00cf4fc9-64ff",
        "6f9619ff-8b86-d011-b42d-00cf4fc964fg",
    ] {
        assert_eq!(uuid(text.as_bytes()), None, "{text}");
    }
}

#[rstest]
#[case("2024-01-15", &["20240115", "2024/01/15", "2024/1/15", "2024-1-15", "2024-01-15 00:00", "2024-01-15 00:00:00",
    "2024-01-15T00:00:00", "2024-01-15T00:00:00.000", "2024/1/15 0:00", "20240115 00:00:00.000000000"])]
#[case("2024-02-09", &["2024/2/9", "2024-2-9", "2024/02/9"])]
#[case("2024-02-29", &["20240229", " 2024-02-29", "2024-02-29 ", "\t2024/2/29 0:00 "])]
fn date_has_its_year_first(#[case] expected: &str, #[case] spellings: &[&str]) {
    for text in spellings {
        assert_eq!(date(text.as_bytes()).map(|days| strict(Value::Date { days })).as_deref(), Some(expected), "{text}");
    }
}

#[rstest]
#[case(&["", "01/02/2024", "1/2/2024", "15.01.2024", "01-02-2024", "240115", "2024115", "202401150", "2024-01", "2024/01-15"])]
#[case(&["20230229", "2024/13/01", "2024/0/1", "2024-1-32", "0999/1/1", "12102010", "15012024", "01152024", "2024.01.15"])]
#[case(&["2024-01-15 00:00:01", "2024-01-15 12:00", "2024-01-15T00:00:00Z", "2024-01-15 00:00:00+00", "2024-01-15 00:00:00.001"])]
#[case(&["2024-01-15T", "2024 -01-15", "2024-01-15 24:00:00", "2024-01-1500:00", "2024/001/15"])]
fn other_text_is_not_a_date(#[case] texts: &[&str]) {
    for text in texts {
        assert_eq!(date(text.as_bytes()), None, "{text}");
    }
}

#[rstest]
#[case("2024-01-15 09:30:00", &["2024/1/15 9:30", "2024-01-15 9:30:00", "20240115T09:30:00", "2024-01-15 09:30:00.000000000",
    "2024-01-15 10:30:00 +01", "2024-01-15 02:30:00 -0700", "2024-01-15 09:30:00 UTC", "2024-01-15 09:30:00 Z", "2024-01-15t09:30:00z",
    "2024-01-15 09:30:00 +00:00", "2024-01-15 09:30:00UTC", " 2024-01-15 09:30:00 "])]
#[case("2024-01-15 09:30:00.250000", &["2024-01-15 09:30:00.2500000", "2024-01-15 09:30:00.250000000+00", "2024-01-15 09:30:00.25 Z"])]
#[case("2024-01-15 00:00:00", &["20240115", "2024/1/15", "2024-01-15"])]
fn date_time_is_in_utc(#[case] expected: &str, #[case] spellings: &[&str]) {
    for text in spellings {
        let micros = date_time(text.as_bytes());
        assert_eq!(micros.map(|micros| strict(Value::DateTime { micros })).as_deref(), Some(expected), "{text}");
    }
}

#[rstest]
#[case(&["2024-01-15 09:30:00.1234567", "2024-01-15 09:30:00.000000001", "2024-01-15 09:30:00,5", "2024-01-15 09:30:00."])]
#[case(&["2024-01-15 09:30 :00", "2024-01-15 09:30:00  Z", "2024-01-15 09:30:00 CET", "2024-01-15 09:30:00 PM", "2024-01-15 9:30 AM"])]
#[case(&["01/02/2024 09:30", "2024-01-15 9:3", "2024-01-15 24:00", "2024-01-15 09:60", "2024-01-15 09:30:60", "2024-01-15 09"])]
#[case(&["20240115093000", "1705311000", "2024-01-15Z", "2024-01-15 09:30:00 +1", "2024-01-15 09:30:00 +16:00", "9999-12-31 23:30:00 -01:00"])]
fn other_text_is_not_a_date_time(#[case] texts: &[&str]) {
    for text in texts {
        assert_eq!(date_time(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn time_of_day_may_have_one_digit_for_the_hour() {
    for (text, seconds) in
        [("8:05:00", 29_100), ("08:05", 29_100), (" 8:05:00 ", 29_100), ("23:59:59.000000000", 86_399), ("0:00", 0)]
    {
        assert_eq!(time_of_day(text.as_bytes()), Some(seconds * 1_000_000), "{text}");
    }
    for text in ["", "8", "25:10:00", "24:00", "8:5", "805", "8:05:00 PM", "-8:05:00", "8:05:00.1234567", "008:05"] {
        assert_eq!(time_of_day(text.as_bytes()), None, "{text}");
    }
}

/// The digits of a decimal, written in one of the accepted spellings.
fn spelled_number(unscaled: i64, scale: usize, form: u8, zeros: usize) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 {
        "-"
    } else if form.is_multiple_of(2) {
        "+"
    } else {
        ""
    };
    let zeros = "0".repeat(zeros);
    match form / 2 % 4 {
        0 if !fraction.is_empty() => format!("{sign}{}.{fraction}{zeros}", whole.trim_start_matches('0')),
        1 => format!("{sign}{}e-{scale}", unscaled.unsigned_abs()),
        2 if !fraction.is_empty() => format!("{sign}{zeros}{whole}.{fraction}"),
        _ => format!("{sign}{whole}.{fraction}{zeros}"),
    }
}

proptest! {
    #[test]
    fn spelled_number_has_its_value(unscaled in any::<i64>(), scale in 0usize..12, form in any::<u8>(), zeros in 0usize..12) {
        let unscaled = if unscaled == 0 { 1 } else { unscaled };
        let text = spelled_number(unscaled, scale, form, zeros);
        let plain = plain(&text);
        prop_assert!(plain.is_some(), "{}", text);
        let column_type = ColumnType::Decimal { precision: 38, scale: scale as u8 };
        let expected = Value::Decimal { unscaled: unscaled.into(), scale: scale as u8 };
        prop_assert_eq!(parse(column_type, plain.as_deref().map(str::as_bytes)), Some(expected), "{}", text);
    }

    #[test]
    fn plain_number_is_spelled_strictly(text in "[-+]?[0-9]{0,4}[.]?[0-9]{0,4}(e[-+]?[0-9])?") {
        if let Some(plain) = plain(&text) {
            // An independent reading of both texts.
            prop_assert_eq!(plain.parse::<f64>().unwrap(), text.parse::<f64>().unwrap(), "{} {}", text, plain);
            let column_type = ColumnType::Decimal { precision: 38, scale: 18 };
            prop_assert!(parse(column_type, Some(plain.as_bytes())).is_some(), "{} {}", text, plain);
        }
    }

    #[test]
    fn float_of_17_or_fewer_digits_is_read_back(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite() && value != 0.0);
        for text in [format!("{value:.16e}"), format!("{value:e}"), strict(Value::Double(value))] {
            prop_assert_eq!(double(text.as_bytes()), Some(value), "{}", text);
        }
        let value = f32::from_bits(bits as u32);
        prop_assume!(value.is_finite() && value != 0.0);
        for text in [format!("{value:.8e}"), format!("{value:e}"), strict(Value::Double(value.into()))] {
            prop_assert_eq!(single(text.as_bytes()), Some(value), "{}", text);
        }
    }

    #[test]
    fn spelled_date_time_has_its_value(micros in -30_610_224_000_000_000i64..253_402_300_800_000_000, form in any::<u8>()) {
        let text = strict(Value::DateTime { micros });
        let (day, time) = text.split_once(' ').unwrap();
        let day = match form % 3 {
            0 => day.replace('-', ""),
            1 => day.replace("-0", "-").replace('-', "/"),
            _ => day.to_owned(),
        };
        let time = if (form / 3).is_multiple_of(2) { time.to_owned() } else { time.strip_prefix('0').unwrap_or(time).to_owned() };
        let zeros = if time.contains('.') { "000" } else { "" };
        let offset = ["", "Z", " UTC", " +00", "+0000"][usize::from(form / 6) % 5];
        let separator = if form > 127 { 'T' } else { ' ' };
        let spelled = format!("{day}{separator}{time}{zeros}{offset}");
        prop_assert_eq!(date_time(spelled.as_bytes()), Some(micros), "{}", spelled);
        prop_assert_eq!(date_time(day.as_bytes()), Some(micros - micros.rem_euclid(86_400_000_000)), "{}", day);
        let is_midnight = micros.rem_euclid(86_400_000_000) == 0;
        prop_assert_eq!(date(format!("{day} {time}").as_bytes()).is_some(), is_midnight);
    }

    #[test]
    fn day_or_month_first_is_not_accepted(day in 1u8..=31, month in 1u8..=12, year in 1900u16..2100, pad in any::<bool>()) {
        let (first, second) = if pad { (format!("{day:02}"), format!("{month:02}")) } else { (day.to_string(), month.to_string()) };
        for separator in ["/", "-", ".", ""] {
            let (european, american) = ([&first, &second], [&second, &first]);
            for [left, right] in [european, american] {
                let text = format!("{left}{separator}{right}{separator}{year}");
                prop_assert_eq!(date(text.as_bytes()), None, "{}", text);
                prop_assert_eq!(date_time(text.as_bytes()), None, "{}", text);
            }
        }
    }

    #[test]
    fn separated_thousands_are_not_accepted(whole in 1u32..1000, thousand in 0u32..1000) {
        for separator in [",", " ", "'", "_", "\u{a0}"] {
            let text = format!("{whole}{separator}{thousand:03}");
            prop_assert_eq!(plain(&text), None, "{}", text);
            prop_assert_eq!(double(text.as_bytes()), None, "{}", text);
        }
    }

    #[test]
    fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        let _ = (plain_number(&bytes, &mut out), double(&bytes), single(&bytes), boolean(&bytes), uuid(&bytes));
        let _ = (date(&bytes), date_time(&bytes), time_of_day(&bytes));
    }
}
