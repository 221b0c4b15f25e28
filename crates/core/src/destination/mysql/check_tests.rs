//! Tables of values for each column type: the sent text, and the rejected values.

use rstest::rstest;

use super::super::column::column_of;
use super::*;
use crate::destination::column::NullFill;
use crate::destination::documented_spellings::{accepted, rejected};
use crate::error::ErrorKind;
use spillway_formats::schema::value::spelling::DayOrder;

/// Returns the text that is sent, `NULL!` for NULL, and `None` for a rejected value.
fn sent(type_text: &str, value: &str) -> Option<String> {
    let mut scratch = Vec::new();
    let position = Position { record: 7, line: 8, byte: 90 };
    let checked = check(&column_of(type_text), Some(value.as_bytes()), &mut scratch, position).ok()?;
    let bytes = match checked {
        Encoded::Null => return Some("NULL!".into()),
        Encoded::Bytes(bytes) => bytes,
        Encoded::Scratch => &scratch,
    };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[rstest]
#[case("tinyint(4)", &["-128", "127", "0", "1.0", "+1", "1e2", "-7.00", "-0"], &["128", "-129", "1.5", "1.000", "007", "1 0", "1e3", "t", "yes"])]
#[case("tinyint(1)", &["-128", "127", "1.0"], &["128", "2.5", "x", "tr"])]
#[case("tinyint(3) unsigned", &["255"], &["256", "-1"])]
#[case("int(11)", &["-2147483648", "2147483647"], &["2147483648", "abc"])]
#[case("bigint(20)", &["9223372036854775807", "-9223372036854775808"], &["9223372036854775808"])]
#[case("bigint(20) unsigned", &["18446744073709551615", "9223372036854775808.0"], &["18446744073709551616", "-1", "9223372036854775808.5"])]
#[case("decimal(5,2)", &["999.99", "-999.99", "1.500", "0", "0.01", ".5", "-.25", "5.", "+5", "1.5e2", "007.50"],
    &["1000", "0.001", "1,5", "01", "1e3", "1e-3", "1.5.0"])]
#[case("decimal(65,30)", &["12345678901234567890123456789012345.123456789012345678901234567891", "1.2345678901234567890123456789e9"], &["1e40"])]
#[case("decimal(4,1) unsigned", &["1.5"], &["-1.5"])]
#[case("double", &["0.1", "1e300", "-2.5", ".5", "+5.", "0.10000000000000001"], &["1e400", "0.10000000000000000001", "x"])]
#[case("float", &["0.5", "16777216", "0.1", "-.5"], &["16777217", "0.123456789"])]
#[case("float(7,2)", &["12345.5"], &["1.125", "123456"])]
#[case("date", &["2024-02-29"], &["2023-02-29", "0000-00-00", "01/02/2024", "2024-01-01 00:00:01"])]
#[case("time(3)", &["10:11:12", "8:05:00", "25:10:00", "-100:00:00.125", "838:59:59", "-838:59:59.000", "838:59:58.999"],
    &["1011", "10:11", "839:00:00", "-839:00:00", "838:59:59.001", "1000:00:00", "10:11:12.1234", "24:60:00"])]
#[case("year(4)", &["1999", "0000", "2024.0"], &["99", "1900", "2156", "2024.5"])]
#[case("char(3)", &["abc", "äöü", ""], &["abcd", "ab "])]
#[case("varchar(3)", &["äöü", "ab "], &["äöüß"])]
#[case("tinytext", &["x"], &[])]
#[case("binary(2)", &["ab"], &["a", "abc"])]
#[case("varbinary(2)", &["a"], &["abc", "äö"])]
#[case("enum('a','it''s')", &["a", "it's"], &["A", "1", "", "b"])]
#[case("set('a','b','c')", &["", "a", "a,c"], &["c,a", "a,a", "d", "a,"])]
#[case("bit(3)", &["7", "0"], &["8", "-1"])]
#[case("json", &["{\"a\": 1}", "7", "\"x\"", "[18446744073709551615, -9223372036854775808, 1e300, 0.1]"],
    &["", "NULL", "{", "{\"a\": 1} x", "[1e400]", "[18446744073709551616]", "[0.1000000000000000055]", "{\"a\": [{\"b\": 1, \"b\": 2}]}"])]
fn value_is_sent_unchanged_or_rejected(#[case] type_text: &str, #[case] good: &[&str], #[case] bad: &[&str]) {
    for value in good {
        let text = sent(type_text, value);
        let same_number = text.as_deref().and_then(|text| text.parse::<f64>().ok()) == value.parse().ok();
        assert!(text.as_deref() == Some(value) || (text.is_some() && same_number), "{type_text} {value:?}: {text:?}");
    }
    for value in bad {
        assert_eq!(sent(type_text, value), None, "{type_text} {value:?}");
    }
}

#[rstest]
#[case("datetime(6)", "2024-01-02T03:04:05.123456", Some("2024-01-02 03:04:05.123456"))]
#[case("datetime(6)", "2024-01-02T03:04:05+02:00", Some("2024-01-02 01:04:05"))]
#[case("datetime", "2024-01-02", Some("2024-01-02 00:00:00"))]
#[case("datetime", "2024/1/2 3:04", Some("2024-01-02 03:04:00"))]
#[case("datetime(6)", "2024-01-02 03:04:05.123456000", Some("2024-01-02 03:04:05.123456"))]
#[case("datetime(6)", "2024-01-02 03:04:05.1234567", None)]
#[case("datetime", "2024-01-02 03:04:05 -0700", Some("2024-01-02 10:04:05"))]
#[case("timestamp", "2024-01-02 03:04:05 UTC", Some("2024-01-02 03:04:05"))]
#[case("date", "20240115", Some("2024-01-15"))]
#[case("date", "2024/2/9", Some("2024-02-09"))]
#[case("date", "2024-01-15T00:00:00.000", Some("2024-01-15"))]
#[case("datetime", "2024-01-02 03:04:05.5", None)]
#[case("datetime(3)", "2024-01-02 03:04:05.1234", None)]
#[case("timestamp", "2038-01-19 03:14:07", Some("2038-01-19 03:14:07"))]
#[case("timestamp", "2038-01-19 03:14:08", None)]
#[case("timestamp", "1970-01-01 00:00:00", None)]
#[case("tinyint(1)", "true", Some("1"))]
#[case("float", "0.100000001", Some("0.1"))]
#[case("float", "0.10000000149011612", Some("0.1"))]
#[case("tinyint(1)", "T", Some("1"))]
#[case("tinyint(1)", "no", Some("0"))]
#[case("tinyint(1)", "Off", Some("0"))]
#[case("tinyint(4)", "tRUE", Some("1"))]
#[case("tinyint(4)", "t", None)]
#[case("bigint(20) unsigned", "18446744073709551615.0", Some("18446744073709551615"))]
#[case("uuid", "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}", Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff"))]
#[case("uuid", "6f9619ff8b86d011b42d00cf4fc964ff", Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff"))]
#[case("uuid", "6F9619FF-8B86-D011-B42D-00CF4FC964FF", Some("6F9619FF-8B86-D011-B42D-00CF4FC964FF"))]
#[case("uuid", "none", Some("NULL!"))]
#[case("bit(1)", "FALSE", Some("0"))]
#[case("decimal(6,1)", "1.5e3", Some("1500"))]
#[case("int(11)", "NA", Some("NULL!"))]
#[case("int(11)", "none", Some("NULL!"))]
#[case("date", "#N/A", Some("NULL!"))]
#[case("varchar(5)", "null", Some("null"))]
#[case("varchar(5)", "NA", Some("NA"))]
#[case("varchar(5)", "\\N", Some("\\N"))]
fn value_is_sent_in_form_of_column(#[case] type_text: &str, #[case] value: &str, #[case] expected: Option<&str>) {
    assert_eq!(sent(type_text, value).as_deref(), expected);
}

/// The type of a documented kind of column.
fn type_of(column: &str) -> &'static str {
    match column {
        "whole number" => "int(11)",
        "decimal" => "decimal(9,4)",
        "float" => "double",
        "date" => "date",
        "date and time" => "datetime(6)",
        "time" | "duration" => "time(6)",
        "boolean" => "tinyint(1)",
        "UUID" => "uuid",
        other => panic!("{other}"),
    }
}

#[test]
fn documented_spellings_are_accepted() {
    for row in accepted() {
        let expected = match row.stored {
            "true" => "1",
            "false" => "0",
            stored => stored,
        };
        for text in row.spellings {
            let sent = sent(type_of(row.column), text).unwrap_or_else(|| panic!("{} {text}", row.column));
            // The server accepts a time with one digit for the hour.
            let sent = if row.column == "time" { format!("{sent:0>8}") } else { sent };
            assert_eq!(sent, expected, "{} {text}", row.column);
        }
    }
}

#[test]
fn documented_ambiguous_spellings_are_rejected() {
    for row in rejected() {
        for text in row.spellings {
            assert_eq!(sent(type_of(row.column), text), None, "{} {text}", row.column);
        }
    }
}

#[test]
fn bytes_need_a_binary_column_or_utf8() {
    let stored = |type_text: &str, value: &'static [u8]| {
        let mut column = column_of(type_text);
        column.is_binary = true;
        let checked = check(&column, Some(value), &mut Vec::new(), Position::default());
        checked.is_ok_and(|encoded| encoded == Encoded::Bytes(value))
    };
    for type_text in ["varbinary(4)", "blob", "longblob", "binary(4)"] {
        assert!(stored(type_text, b"\\x41") && stored(type_text, b"\xff\0\xfe\x80"), "{type_text}");
    }
    assert!(!stored("binary(4)", b"\xff") && !stored("varbinary(2)", b"\xff\xff\xff"));
    for type_text in ["varchar(9)", "text", "char(9)"] {
        assert!(stored(type_text, b"\\x41") && !stored(type_text, b"\xff"), "{type_text}");
    }
}

#[test]
fn date_that_ends_with_its_year_needs_a_proved_order() {
    let stored = |type_text: &str, value: &str, day_order| {
        let column = TableColumn { day_order, ..column_of(type_text) };
        let mut scratch = Vec::new();
        check(&column, Some(value.as_bytes()), &mut scratch, Position::default()).ok()?;
        Some(String::from_utf8(scratch).unwrap())
    };
    let (day, month) = (Some(DayOrder::DayFirst), Some(DayOrder::MonthFirst));
    for (type_text, value, order, expected) in [
        ("date", "02/01/2024", day, Some("2024-01-02")),
        ("date", "02/01/2024", month, Some("2024-02-01")),
        ("date", "2024-01-02", month, Some("2024-01-02")),
        ("date", "02/01/2024", None, None),
        ("date", "13/01/2024", month, None),
        ("date", "13/01/2024 09:30", day, None),
        ("datetime(6)", "13.1.2024 09:30", day, Some("2024-01-13 09:30:00")),
        ("datetime(6)", "13.1.2024", day, Some("2024-01-13 00:00:00")),
        ("datetime", "13.1.2024 09:30:00.5", day, None),
        ("timestamp", "1/13/2024 9:30", month, Some("2024-01-13 09:30:00")),
        // Text keeps the spelling of the file.
        ("varchar(20)", "02/01/2024", day, Some("")),
    ] {
        assert_eq!(stored(type_text, value, order).as_deref(), expected, "{type_text} {value} {order:?}");
    }
}

#[test]
fn rejection_names_record_and_column_without_value() {
    let position = Position { record: 7, line: 8, byte: 90 };
    let error = check(&column_of("int(11)"), Some(b"top secret"), &mut Vec::new(), position).unwrap_err();
    assert_eq!((error.kind(), error.position(), error.column()), (ErrorKind::DataRefused, Some(position), Some("c")));
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn null_token_is_text_where_file_has_real_nulls() {
    for type_text in ["int(11)", "date", "decimal(5,2)", "double", "datetime(6)", "bit(3)", "year(4)", "time"] {
        let mut column = column_of(type_text);
        column.null_tokens = false;
        for token in ["", "NULL", "NaN"] {
            let checked = check(&column, Some(token.as_bytes()), &mut Vec::new(), Position::default());
            assert_eq!(checked.unwrap_err().kind(), ErrorKind::DataRefused, "{type_text} {token:?}");
        }
        assert_eq!(check(&column, None, &mut Vec::new(), Position::default()).unwrap(), Encoded::Null);
    }
}

#[test]
fn missing_value_needs_nullable_column() {
    let mut column = column_of("int(11)");
    let check_none = |column: &TableColumn| check(column, None, &mut Vec::new(), Position::default());
    assert_eq!(check_none(&column).unwrap(), Encoded::Null);
    column.in_merge_key = true;
    assert_eq!(check_none(&column).unwrap_err().kind(), ErrorKind::DataRefused);
    (column.in_merge_key, column.nullable) = (false, false);
    column.has_default = true;
    assert_eq!(check_none(&column).unwrap_err().kind(), ErrorKind::DataRefused);
    column.null_fill = NullFill::NextNumber;
    assert_eq!(check_none(&column).unwrap(), Encoded::Null);
    assert_eq!(check(&column, Some(b"none"), &mut Vec::new(), Position::default()).unwrap(), Encoded::Null);
}

#[test]
fn zeros_that_a_time_column_does_not_store_are_not_sent() {
    assert_eq!(sent("time(6)", "20:59:18.218535000").as_deref(), Some("20:59:18.218535"));
    assert_eq!(sent("time", "-20:59:18.000").as_deref(), Some("-20:59:18"));
    assert_eq!(sent("time(3)", "20:59:18.210").as_deref(), Some("20:59:18.210"));
    assert_eq!(sent("time(3)", "20:59:18.2185"), None);
}

#[rstest]
#[case("time", "10:11:12.5", "has a finer fraction of a second than the column")]
#[case("time(6)", "839:00:00", "is out of the range of TIME (-838:59:59 to 838:59:59)")]
#[case("time(6)", "838:59:59.5", "is out of the range of TIME (-838:59:59 to 838:59:59)")]
#[case("time(6)", "10:11", "is not a time (HH:MM:SS)")]
#[case("datetime(6)", "2024-01-02 03:04:05.1234567", "has a finer fraction of a second than the column")]
#[case("double", "-1e400", "is out of the range of a float")]
#[case("float", "1e39", "is out of the range of a 32-bit float")]
#[case("float", "-1e400", "is out of the range of a float")]
#[case("float", "1e-60", "is too close to zero for a 32-bit float")]
#[case("float", "16777217", "has more digits than a 32-bit float stores")]
#[case("double", "infinity", "is not a number that a float stores exactly")]
fn reason_is_the_one_that_applies(#[case] type_text: &str, #[case] text: &str, #[case] reason: &str) {
    let checked = check(&column_of(type_text), Some(text.as_bytes()), &mut Vec::new(), Position::default());
    let message = checked.unwrap_err().to_string();
    assert!(message.contains(&format!("the value {reason};")), "{message}");
}
