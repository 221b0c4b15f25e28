//! Spellings that are values, spellings that are not, and round trips.

use jiff::civil;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DECIMAL: ColumnType = ColumnType::Decimal { precision: 10, scale: 3 };

fn read(column_type: ColumnType, text: &str) -> Option<Value<'_>> {
    parse(column_type, Some(text.as_bytes()))
}

fn canonical(value: Value<'_>) -> String {
    let mut out = Vec::new();
    write_canonical(&value, &mut out);
    String::from_utf8(out).unwrap()
}

fn text_of(value: &Value<'_>) -> String {
    let mut out = Vec::new();
    write_text(value, &mut out);
    String::from_utf8(out).unwrap()
}

#[rstest]
#[case(ColumnType::Boolean, "TRUE", "1")]
#[case(ColumnType::Boolean, "False", "0")]
#[case(ColumnType::Boolean, "tRUE", "1")]
#[case(ColumnType::Integer, "0", "0")]
#[case(ColumnType::Integer, "-9223372036854775808", "-9223372036854775808")]
#[case(ColumnType::Integer, "9223372036854775807", "9223372036854775807")]
#[case(DECIMAL, "12", "12.000")]
#[case(DECIMAL, "-0.5", "-0.500")]
#[case(DECIMAL, ".5", "0.500")]
#[case(DECIMAL, "-.25", "-0.250")]
#[case(DECIMAL, "5.", "5.000")]
#[case(DECIMAL, "0.0050000", "0.005")]
#[case(DECIMAL, "9999999.999", "9999999.999")]
#[case(ColumnType::Decimal { precision: 38, scale: 0 }, "99999999999999999999999999999999999999", "99999999999999999999999999999999999999")]
#[case(ColumnType::Decimal { precision: 31, scale: 30 }, "0.000000000000000000000000000001", "0.000000000000000000000000000001")]
#[case(ColumnType::Double, "1e-07", "1e-7")]
#[case(ColumnType::Double, "0.1", "0.1")]
#[case(ColumnType::Double, "-.25", "-0.25")]
#[case(ColumnType::Double, ".5e1", "5")]
#[case(ColumnType::Double, "5.e-1", "0.5")]
#[case(ColumnType::Double, "-.0", "-0.0")]
#[case(ColumnType::Double, "1.50", "1.5")]
#[case(ColumnType::Double, "1E+16", "1e+16")]
#[case(ColumnType::Double, "-0.0", "-0.0")]
#[case(ColumnType::Double, "1.7976931348623157e308", "1.7976931348623157e+308")]
#[case(ColumnType::Double, "5e-324", "5e-324")]
#[case(ColumnType::Double, "9007199254740993.0e0", "")]
#[case(ColumnType::Date, "2024-02-29", "2024-02-29")]
#[case(ColumnType::Date, "1000-01-01", "1000-01-01")]
#[case(ColumnType::Date, "9999-12-31", "9999-12-31")]
#[case(ColumnType::DateTime, "2024-02-29T13:05", "2024-02-29 13:05:00")]
#[case(ColumnType::DateTime, "2024-02-29 13:05:00.123456", "2024-02-29 13:05:00.123456")]
#[case(ColumnType::DateTime, "1066-10-14 23:59:59.5", "1066-10-14 23:59:59.500000")]
#[case(ColumnType::Instant, "2024-03-01T00:30:00+01:00", "2024-02-29 23:30:00")]
#[case(ColumnType::Instant, "2024-02-29T23:30:00.25Z", "2024-02-29 23:30:00.250000")]
#[case(ColumnType::Instant, "2024-02-29 23:30-0530", "2024-03-01 05:00:00")]
#[case(ColumnType::Instant, "2024-02-29 23:30:00+00", "2024-02-29 23:30:00")]
#[case(ColumnType::Text, "C:\\new\t=cmd|", "C:\\new\t=cmd|")]
#[case(ColumnType::Text, "NULL", "NULL")]
#[case(ColumnType::Text, "", "")]
fn value_is_written_as_the_database_accepts_it(
    #[case] column_type: ColumnType,
    #[case] text: &str,
    #[case] written: &str,
) {
    let value = read(column_type, text);
    assert_eq!(value.map(canonical).unwrap_or_default(), written, "{text}");
    if let Some(value) = value {
        assert_eq!(read(column_type, &text_of(&value)), Some(value), "round trip of {text}");
    }
}

#[rstest]
#[case(ColumnType::Boolean, &["t", "1", "0", "yes", "truee", " true"])]
#[case(ColumnType::Integer, &["-", "+1", "-0", "00", "007", " 1", "1 ", "1_000", "1,000", "1.0", "1.", "1e3", "0x10", "9223372036854775808",
    "-9223372036854775809", "99999999999999999999999", "١"])]
#[case(DECIMAL, &[".", "-.", "-.0", "-0.", "00.5", "-00.5", "+0.5", "-0.0", "-0", "1e2", "0.1234", "12345678", "1.2.3", "1,5", "$1.50"])]
#[case(ColumnType::Double, &["inf", "Infinity", "-NaN", "1e400", "-1e400", "1e", "1e+", "e5", ".e5", ".", "1e-400", "-0", "0x1p3",
    "0.1000000000000000055511151231257827", "9007199254740993", "12345678901234567890123", "1e99999999999999999999"])]
#[case(ColumnType::Date, &["0000-00-00", "0999-12-31", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "2024-1-01",
    "10000-01-01", "2024/01/01", "20240101", "2024-01-01 ", "2024-01-01 00:00:00", "29-02-2024"])]
#[case(ColumnType::DateTime, &["2024-01-01", "2024-01-01 24:00", "2024-01-01 24:00:00", "2024-01-01 12:60", "2024-01-01 12:00:60",
    "2024-01-01 12:00:00.", "2024-01-01 12:00:00.1234567", "2024-01-01t12:00", "2024-01-01  12:00", "2024-01-01 12:00Z", "2024-01-01 9:00",
    "2023-02-29 12:00", "2024-01-01 12", "2024-01-01 12:00:00,5", "12:00"])]
#[case(ColumnType::Instant, &["2024-01-01 12:00", "2024-01-01Z", "2024-01-01 12:00z", "2024-01-01 12:00+1", "2024-01-01 12:00 +01:00",
    "2024-01-01 12:00+16:00", "2024-01-01 12:00+01:60", "9999-12-31T23:30:00-01:00", "1000-01-01T00:30:00+01:00", "2024-01-01 12:00 UTC"])]
fn other_spellings_are_not_values_of_the_type(#[case] column_type: ColumnType, #[case] texts: &[&str]) {
    for text in texts {
        assert_eq!(read(column_type, text), None, "{column_type:?} {text:?}");
    }
}

#[test]
fn null_tokens_are_null_except_in_text() {
    for token in [
        "NULL", "NA", "N/A", "NaN", "\\N", "null", "Null", "na", "n/a", "nan", "None", "NONE", "nil", "#N/A", "<NA>",
        "<na>",
    ] {
        for column_type in [ColumnType::Boolean, ColumnType::Integer, DECIMAL, ColumnType::Double, ColumnType::Instant]
        {
            assert_eq!(read(column_type, token), Some(Value::Null), "{token}");
        }
        assert_eq!(read(ColumnType::Text, token), Some(Value::Text(token)));
    }
    for other in ["-", " ", "\\n", "nul", "none ", "no", "nothing", "#NUM!", "-nan", "undefined", "?", "<>"] {
        assert_eq!(read(ColumnType::Integer, other), None, "{other}");
    }
    assert!(NULL_WORDS.iter().all(|word| is_null_token(word.as_bytes())));
    assert_eq!(parse(ColumnType::Text, None), Some(Value::Null));
    assert_eq!(parse(ColumnType::Date, None), Some(Value::Null));
}

#[test]
fn text_that_is_not_utf8_is_not_a_value() {
    assert_eq!(parse(ColumnType::Text, Some(b"caf\xe9")), None);
}

#[test]
fn calendar_agrees_with_jiff_in_the_first_and_last_400_years() {
    let epoch = civil::date(1970, 1, 1);
    for (first, last) in [((1000, 1, 1), (1400, 3, 1)), ((9599, 12, 1), (9999, 12, 31))] {
        let mut day = civil::date(first.0, first.1, first.2);
        let end = civil::date(last.0, last.1, last.2);
        let mut days = (day - epoch).get_days();
        loop {
            let text = day.to_string();
            assert_eq!(read(ColumnType::Date, &text), Some(Value::Date { days }));
            assert_eq!(canonical(Value::Date { days }), text);
            if day == end {
                break;
            }
            day = day.tomorrow().unwrap();
            days += 1;
        }
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for column_type in [
            ColumnType::Boolean, ColumnType::Integer, DECIMAL, ColumnType::Double, ColumnType::Date, ColumnType::DateTime,
            ColumnType::Instant, ColumnType::Text,
        ] {
            let _ = parse(column_type, Some(&bytes));
        }
    }

    #[test]
    fn missing_digits_beside_a_point_are_zero(digits in "[0-9]{1,12}", after in any::<bool>(), minus in any::<bool>()) {
        let sign = if minus { "-" } else { "" };
        let digits = if after { digits } else { digits.trim_start_matches('0').to_owned() };
        prop_assume!(!digits.is_empty());
        let (short, whole) = match after {
            true => (format!("{sign}.{digits}"), format!("{sign}0.{digits}")),
            false => (format!("{sign}{digits}."), format!("{sign}{digits}.0")),
        };
        for column_type in [ColumnType::Double, ColumnType::Decimal { precision: 20, scale: 12 }, ColumnType::Integer] {
            prop_assert_eq!(read(column_type, &short), read(column_type, &whole), "{} {:?}", short, column_type);
        }
    }

    #[test]
    fn floats_survive_a_round_trip(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let text = text_of(&Value::Double(value));
        let Some(Value::Double(back)) = read(ColumnType::Double, &text) else { panic!("{text} is rejected") };
        prop_assert_eq!(back.to_bits(), value.to_bits());
    }

    #[test]
    fn float_holds_every_short_decimal(mantissa in 0u64..1_000_000_000_000_000, scale in 0usize..15) {
        // The fast path must agree with the slow one.
        let padded = format!("{mantissa:016}");
        let (whole, fraction) = padded.split_at(16 - scale);
        let whole = whole.trim_start_matches('0');
        let text = format!("{}{}{fraction}", if whole.is_empty() { "0" } else { whole }, if scale > 0 { "." } else { "" });
        let value: f64 = text.parse().unwrap();
        let number = Number::scan(text.as_bytes()).unwrap();
        prop_assert!(number.fits_double());
        prop_assert_eq!(number.double(), Some(value));
        let shortest = format!("{value}");
        let trimmed = if scale > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        prop_assert_eq!(shortest, trimmed);
    }

    #[test]
    fn zeros_around_a_float_are_ignored(bits in any::<u64>(), before in 0usize..30, after in 0usize..30) {
        let value = f64::from_bits(bits).abs();
        prop_assume!(value.is_finite());
        let digits = format!("{value:e}");
        let (digits, exponent) = digits.split_once('e').unwrap();
        let exponent: i64 = exponent.parse().unwrap();
        let plain = digits.replace('.', "");
        // If two shortest texts are equally near to the float, the strict reading accepts only one of them.
        let exact = format!("{value:.60e}").replace('.', "");
        let beyond = exact.split_once('e').unwrap().0[plain.len()..].trim_end_matches('0');
        prop_assume!(beyond != "5");
        // The same number as 0.000ddd000e and as ddd000e.
        let front = format!("0.{}{plain}{}e{}", "0".repeat(before), "0".repeat(after), exponent + 1 + before as i64);
        let back = format!("{plain}{}e{}", "0".repeat(after), exponent + 1 - plain.len() as i64 - after as i64);
        for text in [front, back] {
            let expected = if value == 0.0 && text.starts_with("00") { None } else { Some(Value::Double(value)) };
            prop_assert_eq!(read(ColumnType::Double, &text), expected, "{}", text);
        }
        // A text with one more digit is another number, but has the same nearest float.
        if plain.len() == 17 {
            let text = format!("{digits}1e{exponent}");
            prop_assert_eq!(read(ColumnType::Double, &text), None);
        }
    }

    #[test]
    fn decimals_survive_a_round_trip(unscaled in -99_999_999_999_999_999_999_999_999_999_999_999_999i128..=99_999_999_999_999_999_999_999_999_999_999_999_999, scale in 0u8..=30) {
        let value = Value::Decimal { unscaled, scale };
        let text = text_of(&value);
        prop_assert_eq!(read(ColumnType::Decimal { precision: 38, scale }, &text), Some(value), "{}", text);
    }

    #[test]
    fn instants_survive_a_round_trip(micros in -30_610_224_000_000_000i64..253_402_300_800_000_000) {
        for value in [Value::Instant { micros }, Value::DateTime { micros }] {
            let column_type = if matches!(value, Value::Instant { .. }) { ColumnType::Instant } else { ColumnType::DateTime };
            let text = text_of(&value);
            prop_assert_eq!(read(column_type, &text), Some(value));
        }
    }
}
