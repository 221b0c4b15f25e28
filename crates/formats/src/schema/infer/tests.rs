//! Columns of values and the types chosen for them.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::schema::Column;
use crate::schema::value::spelling::{DayOrder, ordered_date, ordered_date_time};
use crate::schema::value::{Value, is_null_token, parse};
use crate::{FieldKind, Position};

/// A missing field. `""` in the tables below is an empty string.
const MISSING: &str = "(missing)";

fn column(values: &[&str]) -> Column {
    let mut inference = Inference::new(vec!["c".to_owned()]);
    // Small batches, so that the state between batches is tested.
    for (index, chunk) in values.chunks(3).enumerate() {
        let mut batch = Batch::new(1);
        for (row, value) in chunk.iter().enumerate() {
            batch.push_field((*value != MISSING).then_some(value.as_bytes()));
            let record = (index * 3 + row + 1) as u64;
            batch.end_row(Position { record, line: record + 1, byte: 0 });
        }
        inference.observe(&batch);
    }
    inference.finish().columns.remove(0)
}

fn type_name(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Values, their type, and whether the column has nulls.
const COLUMNS: &[(&[&str], &str, bool)] = &[
    // No values.
    (&[], "text", false),
    (&[MISSING, MISSING], "text", true),
    (&[""], "text", false),
    (&["NULL", "NA"], "text", false),
    (&["NULL", MISSING], "text", true),
    // Booleans.
    (&["true", "false"], "boolean", false),
    (&["TRUE", "False", "true"], "boolean", false),
    (&["true", "NULL", "false"], "boolean", true),
    (&["true", "1"], "text", false),
    (&["true", "yes"], "text", false),
    (&["tRUE", "FALSE"], "boolean", false),
    (&["t", "f"], "text", false),
    (&["yes", "no"], "text", false),
    (&["true", ""], "boolean", true),
    // Integers.
    (&["0", "1"], "integer", false),
    (&["1", "-7", MISSING, "300"], "integer", true),
    (&["9223372036854775807", "-9223372036854775808"], "integer", false),
    (&["00123", "00124"], "text", false),
    (&["1", "2", "003"], "text", false),
    (&["+1", "+2"], "text", false),
    (&["-0"], "text", false),
    (&["1_000"], "text", false),
    (&["1,000"], "text", false),
    (&[" 1"], "text", false),
    (&["1 "], "text", false),
    (&["1", "two"], "text", false),
    (&["1", ""], "integer", true),
    (&["+49 30 1234567", "+1-202-555-0100"], "text", false),
    (&["0301234567"], "text", false),
    (&["4930123456"], "integer", false),
    (&["0x1F"], "text", false),
    (&["٣"], "text", false),
    // Null tokens.
    (&["NA", "N/A", "NaN", "\\N", "NULL", "5"], "integer", true),
    (&["5", "NA", "six"], "text", false),
    (&["5", "null", "None", "nan", "n/a", "nil", "#N/A", "<NA>"], "integer", true),
    (&["none", "True"], "boolean", true),
    (&["5", "null", "six"], "text", false),
    (&["5", "nothing"], "text", false),
    (&["None", "nil"], "text", false),
    (&["5", "-"], "text", false),
    (&["1.5", "NaN"], "decimal(2,1)", true),
    (&["1e5", "NaN"], "double", true),
    (&["Namibia", "NA", MISSING], "text", true),
    (&["2024-01-01", "N/A"], "date", true),
    // Decimals.
    (&["9223372036854775808"], "decimal(19,0)", false),
    (&["18446744073709551616", "1"], "decimal(20,0)", false),
    (&["99999999999999999999999999999999999999"], "decimal(38,0)", false),
    (&["123456789012345678901234567890123456789"], "text", false),
    (&["10.50", "3.5", "200"], "decimal(5,2)", false),
    (&["0.5", "-0.25"], "decimal(3,2)", false),
    (&["1234567.8", "0.00001"], "decimal(12,5)", false),
    (&["0.000000000000000000000000000001"], "decimal(31,30)", false),
    (&["0.0000000000000000000000000000001"], "double", false),
    (&["12345678901234567890123456789012345678", "0.5"], "text", false),
    (&["100000000000000000000000000000000000000", "0.5"], "double", false),
    (&[".5"], "decimal(2,1)", false),
    (&["5."], "decimal(2,1)", false),
    (&[".5", "-.25", "3"], "decimal(3,2)", false),
    (&["5.", "1e3"], "double", false),
    (&["-.0", "1"], "double", false),
    (&[".5", "x"], "text", false),
    (&["x", ".5"], "text", false),
    (&["."], "text", false),
    (&["+.5"], "text", false),
    (&["00.5"], "text", false),
    (&["1,5"], "text", false),
    (&["$1.50"], "text", false),
    (&["1.5", "-0.0"], "double", false),
    (&["5", "5.0"], "decimal(2,1)", false),
    (&["3.14159265358979323846", "2.71"], "decimal(21,20)", false),
    (&["0.1000000000000000055511151231257827"], "text", false),
    // Doubles.
    (&["1e5", "2.5E-3"], "double", false),
    (&["1", "1e3"], "double", false),
    (&["1.5", "1e-07"], "double", false),
    (&["9007199254740992", "1e0"], "double", false),
    (&["9007199254740993", "1e0"], "text", false),
    (&["1e0", "9007199254740993"], "text", false),
    (&["1e400"], "text", false),
    (&["1.5", "-1e400"], "text", false),
    (&["1e-400"], "text", false),
    (&["inf", "1.5"], "text", false),
    (&["Infinity"], "text", false),
    (&["1.7976931348623157e308", "5e-324"], "double", false),
    (&["1e23"], "double", false),
    // Codes.
    (&["1E5", "12E34"], "text", false),
    (&["12345", "12E34"], "text", false),
    (&["1e5", "12E34"], "text", false),
    (&["1.5E5", "1E5"], "double", false),
    (&["1E5", "1E+06"], "double", false),
    (&["1E-5", "1E5"], "double", false),
    // Dates.
    (&["2024-02-29", "1999-12-31"], "date", false),
    (&["2023-02-29"], "text", false),
    (&["2024-02-28", "2023-02-29"], "text", false),
    (&["0000-00-00"], "text", false),
    (&["2024-01-01", "0000-00-00"], "text", false),
    (&["9999-12-31", "10000-01-01"], "text", false),
    (&["0999-01-01"], "text", false),
    (&["01/02/2024"], "text", false),
    (&["2024-1-1"], "text", false),
    (&["20240101"], "integer", false),
    (&["2024-01-01", MISSING], "date", true),
    (&["2024-01-01", ""], "date", true),
    (&["2024-01-01", "2024-01-01 00:00:00"], "text", false),
    (&["2024-01-01", "1"], "text", false),
    // Dates that end with their year.
    (&["13/01/2024", "01/02/2024"], "date", false),
    (&["1/2/2024", "2/13/2024", MISSING, "NA"], "date", true),
    (&["01.02.2024", "28.2.2024"], "date", false),
    (&["05-05-2024", "31-05-2024"], "date", false),
    (&["13/01/2024 10:00", "01/02/2024 9:30:15.5"], "datetime", false),
    (&["01/02/2024", "12/12/2024"], "text", false),
    (&["13/01/2024", "01/13/2024"], "text", false),
    (&["13/01/2024", "13.01.2024"], "text", false),
    (&["13/01/2024", "13/01/2024 10:00"], "text", false),
    (&["13/01/2024", "2024-01-13"], "text", false),
    (&["13/01/2024", "30/02/2024"], "text", false),
    (&["13/01/24"], "text", false),
    (&["13/01/2024 10:00 PM"], "text", false),
    (&["13/01/2024", "x"], "text", false),
    // Dates with times.
    (&["2024-01-01 10:00", "2024-01-01T10:00:00.123456"], "datetime", false),
    (&["2024-01-01 24:00:00"], "text", false),
    (&["2024-01-01 23:59:60"], "text", false),
    (&["2024-01-01 10:00:00.1234567"], "text", false),
    (&["10:00:00"], "text", false),
    (&["2024-01-01 10:00", "2024-01-01"], "text", false),
    // Instants.
    (&["2024-01-01T10:00:00Z", "2024-01-01 10:00:00.5+02:00"], "instant", false),
    (&["2024-01-01T10:00+0530", "2024-01-01T10:00-08"], "instant", false),
    (&["2024-01-01 10:00:00 UTC", "2024-01-01 10:00:00+02"], "instant", false),
    (&["2024-01-01 10:00 -08", "2024-01-01 10:00:00 +0530"], "instant", false),
    (&["2024-01-01 10:00:00 CET", "2024-01-01 10:00:00 UTC"], "text", false),
    (&["2024-01-01 10:00:00 UTC", "2024-01-01 10:00:00"], "text", false),
    (&["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], "text", false),
    (&["2024-01-01T10:00:00", "2024-01-01T10:00:00Z"], "text", false),
    (&["9999-12-31T23:00:00-02:00"], "text", false),
    (&["2024-01-01 10:00 Europe/Berlin"], "text", false),
    // Text.
    (&["=cmd|' /C calc'!A0", "@SUM(1)", "+1"], "text", false),
    (&["C:\\new\\t", "\\."], "text", false),
    (&["2024-01-01", "true", "1"], "text", false),
    (&["a\u{0}b"], "text", false),
];

#[test]
fn type_is_the_narrowest_that_holds_every_value() {
    for (values, expected, has_nulls) in COLUMNS {
        let column = column(values);
        assert_eq!((type_name(column.column_type).as_str(), column.has_nulls), (*expected, *has_nulls), "{values:?}");
    }
    assert!(COLUMNS.len() >= 60);
}

#[test]
fn order_of_values_does_not_change_the_type() {
    for (values, expected, has_nulls) in COLUMNS {
        let reversed: Vec<&str> = values.iter().rev().copied().collect();
        let column = column(&reversed);
        assert_eq!((type_name(column.column_type).as_str(), column.has_nulls), (*expected, *has_nulls), "{reversed:?}");
    }
}

#[rstest]
#[case("x", "text", "the value in record 10,001 is not a number")]
#[case("0.25", "decimal(7,2)", "the value in record 10,001 is not a 64-bit integer")]
#[case("9223372036854775808", "decimal(19,0)", "the value in record 10,001 is not a 64-bit integer")]
#[case("1e-3", "double", "the value in record 10,001 is a number with an exponent")]
#[case("007", "text", "the value in record 10,001 is a number with leading zeros, which a number column does not keep")]
#[case(
    "1e400",
    "text",
    "the value in record 10,001 is a number that neither a decimal nor a double column holds exactly"
)]
fn late_value_changes_the_type_and_is_named(#[case] last: &str, #[case] expected: &str, #[case] reason: &str) {
    let numbers: Vec<String> = (1..=10_000).map(|number| number.to_string()).collect();
    let mut values: Vec<&str> = numbers.iter().map(String::as_str).collect();
    values.push(last);
    values.extend(["10001", "10002"]);
    let column = column(&values);
    assert_eq!(type_name(column.column_type), expected);
    assert_eq!((column.type_reason.forced_by_record, column.type_reason.reason.as_str()), (Some(10_001), reason));
}

#[rstest]
#[case(&["1", "2"], None, "all 2 values are 64-bit integers")]
#[case(&["2024-01-01", "NULL"], None, "the only value is a date")]
#[case(&["a", "b"], Some(1), "the value in record 1 is not a number, a date or a boolean")]
#[case(&[" 2024-01-05 "], Some(1), "the value in record 1 is a number, a date or a boolean with spaces around it")]
#[case(&["12345", "12E34"], Some(2), "the value in record 2 may be a number with an exponent or a code; a type in the table settings decides")]
#[case(&["007", "008"], Some(1), "the value in record 1 is a number with leading zeros, which a number column does not keep")]
#[case(&["1e3"], Some(1), "the value in record 1 is a number with an exponent")]
#[case(&["true", "secret"], Some(2), "the value in record 2 is neither true nor false")]
#[case(&["2024-01-01", "secret"], Some(2), "the value in record 2 is not a date")]
#[case(&["2024-01-01 10:00", "secret"], Some(2), "the value in record 2 is not a date with a time of day")]
#[case(&["2024-01-01 10:00Z", "secret"], Some(2), "the value in record 2 is not a date with a time of day and an offset")]
#[case(&["01/02/2024", "NA"], None, "every value is a date, but no value shows whether the day or the month comes first; a format in the table settings decides")]
#[case(&["01/02/2024", "13/02/2024"], None, "only the day first makes every value a valid date")]
#[case(&["01/02/2024", "01/13/2024"], None, "only the month first makes every value a valid date")]
#[case(&["13/01/2024", "01/13/2024"], Some(2), "the value in record 2 is not a date that is written like those before it")]
#[case(&[MISSING], None, "no record has a value")]
#[case(&["NULL"], None, "every value is a null token")]
fn reason_contains_the_record_but_not_the_value(
    #[case] values: &[&str],
    #[case] record: Option<u64>,
    #[case] reason: &str,
) {
    let type_reason = column(values).type_reason;
    assert_eq!((type_reason.forced_by_record, type_reason.reason.as_str()), (record, reason));
}

/// The types of the columns of a file, and its doubts.
fn file(rows: &[&[&str]]) -> (Vec<String>, Vec<(usize, Doubt)>) {
    let mut inference = Inference::new((0..rows[0].len()).map(|index| format!("c{index}")).collect());
    for (index, row) in rows.iter().enumerate() {
        let mut batch = Batch::new(row.len());
        row.iter().for_each(|field| batch.push_field(Some(field.as_bytes())));
        batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
        inference.observe(&batch);
    }
    let doubts = inference.doubts();
    (inference.finish().columns.iter().map(|column| type_name(column.column_type)).collect(), doubts)
}

#[test]
fn point_may_separate_thousands_if_another_column_has_decimal_commas() {
    let (types, doubts) = file(&[&["1.500", "12,50"], &["2.750", "7"], &["12", "1.500,25"]]);
    assert_eq!((types, doubts), (vec!["text".to_owned(), "text".to_owned()], vec![(0, Doubt::Thousands)]));
    for (rows, expected) in [
        // A fraction of another length, a zero before the point, and four digits before it.
        (&[&["1.500", "12,50"][..], &["2.75", "7,25"]], "decimal(4,3)"),
        (&[&["1.500", "12,50"], &["0.750", "7,25"]], "decimal(4,3)"),
        (&[&["1.500", "12,50"], &["1234.750", "7,25"]], "decimal(7,3)"),
        (&[&["1.500", "12,50"], &["1234", "7,25"]], "decimal(7,3)"),
        // The comma may separate thousands.
        (&[&["1.500", "1,500"], &["2.750", "2,750"]], "decimal(4,3)"),
        (&[&["1.500", "a, b"], &["2.750", "12,50"]], "decimal(4,3)"),
    ] {
        let (types, doubts) = file(rows);
        assert_eq!(types[0], expected, "{rows:?}");
        assert!(doubts.iter().all(|(_, doubt)| *doubt != Doubt::Thousands), "{rows:?}");
    }
}

#[test]
fn doubts_without_an_effect_on_the_type_are_found() {
    for (rows, expected) in [
        (&[&["1.500", "x"][..], &["2.750", "y"]][..], &[(0, Doubt::PossibleThousands)][..]),
        (&[&["1.500", "2.5"], &["2.750", "3.5"]], &[]),
        (&[&["1e5", "x"], &["2", "y"]], &[(0, Doubt::PossibleCode)]),
        (&[&["1.10", "x"], &["1.9", "y"], &["2.0", "z"]], &[(0, Doubt::Fractions)]),
        (&[&["1.10", "x"], &["5", "y"], &["2.5", "z"]], &[]),
        (&[&["5", "x"], &["1.10", "y"], &["2.5", "z"]], &[]),
        (&[&["119.90", "x"], &["7.5", "y"]], &[]),
        (&[&["1.1", "1.10"], &["1.9", "1.90"], &["2.0", "2.00"]], &[]),
        (&[&["1", "2"], &["2", "3"], &["Total", "5"]], &[(0, Doubt::LastRecord)]),
        (&[&["1", "2"], &["x", "3"], &["Total", "5"]], &[]),
    ] {
        assert_eq!(file(rows).1, expected, "{rows:?}");
    }
}

#[test]
fn typed_numbers_leave_no_doubt() {
    let mut batch = Batch::new(2);
    for value in ["1.500", "12E34"] {
        batch.push_field(Some(value.as_bytes()));
    }
    batch.end_row(Position::default());
    let mut inference = Inference::new(vec!["a".to_owned(), "b".to_owned()]).with_typed_numbers().with_decimal_commas();
    inference.observe(&batch);
    assert_eq!(inference.doubts(), []);
    let types: Vec<_> = inference.finish().columns.iter().map(|column| type_name(column.column_type)).collect();
    assert_eq!(types, ["decimal(4,3)", "double"]);
}

#[test]
fn decimal_comma_after_the_first_rows_changes_the_columns() {
    let batch = |row: [&str; 2]| {
        let mut batch = Batch::new(2);
        row.iter().for_each(|field| batch.push_field(Some(field.as_bytes())));
        batch.end_row(Position::default());
        batch
    };
    let names = || vec!["a".to_owned(), "b".to_owned()];
    let mut first = Inference::new(names());
    first.observe(&batch(["1.500", "x"]));
    let schema = first.finish();
    let mut all = Inference::new(names());
    all.observe(&batch(["1.500", "x"]));
    assert!(all.would_create_columns_of(&schema));
    let mut all = Inference::new(names());
    all.observe(&batch(["1.500", "7,5"]));
    assert!(!all.would_create_columns_of(&schema), "the first column is text now");
}

#[test]
fn candidates_are_all_types_that_hold_the_values() {
    let integers = column(&["12", "-3"]).candidates;
    assert_eq!((integers.integer, integers.decimal, integers.double), (true, Some((2, 0)), true));
    assert!(!integers.boolean && !integers.date && !integers.date_time && !integers.instant);
    let large = column(&["9007199254740993"]).candidates;
    assert_eq!((large.integer, large.decimal, large.double), (true, Some((16, 0)), false));
    let nothing = column(&[MISSING, "NULL"]).candidates;
    assert!(
        nothing.boolean && nothing.integer && nothing.double && nothing.date && nothing.date_time && nothing.instant
    );
    let text = column(&["x"]).candidates;
    assert!(!text.integer && text.decimal.is_none() && !text.double);
}

#[test]
fn longest_value_is_measured_in_bytes() {
    assert_eq!(column(&["é", "abc", MISSING]).max_bytes, 3);
    assert_eq!(column(&["éé", "abc"]).max_bytes, 4);
}

#[test]
fn columns_are_independent() {
    let mut batch = Batch::new(3);
    for (record, row) in [["1", "x", MISSING], ["2.5", "y", "true"]].iter().enumerate() {
        for value in row {
            batch.push_field((*value != MISSING).then_some(value.as_bytes()));
        }
        batch.end_row(Position { record: record as u64 + 1, ..Position::default() });
    }
    let mut inference = Inference::new(["a", "b", "c"].map(str::to_owned).to_vec());
    inference.observe(&batch);
    let schema = inference.finish();
    let types: Vec<String> = schema.columns.iter().map(|column| type_name(column.column_type)).collect();
    assert_eq!(types, ["decimal(2,1)", "text", "boolean"]);
    assert_eq!(schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

/// The column of these fields and kinds.
fn column_of_kinds(fields: &[(FieldKind, &str)]) -> Column {
    let mut batch = Batch::new(1);
    for (index, (kind, text)) in fields.iter().enumerate() {
        batch.push_kind(*kind, text.as_bytes());
        batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
    }
    let mut inference = Inference::new(vec!["c".to_owned()]);
    inference.observe(&batch);
    inference.finish().columns.remove(0)
}

use FieldKind::{Nested, Plain, String as Quoted};

#[rstest]
#[case(&[(Nested, "{}"), (Nested, "[1]")], "json", "all 2 values are nested JSON values")]
#[case(&[(Plain, "{}"), (Plain, "[1]")], "text", "the value in record 1 is not a number, a date or a boolean")]
#[case(&[(Nested, "{}"), (Plain, "1")], "text", "the value in record 2 is not a nested JSON value")]
#[case(&[(Plain, "1"), (Nested, "{}")], "text", "the value in record 2 is not a number")]
#[case(&[(Nested, "{}"), (Quoted, "NULL")], "text", "the value in record 2 is not a nested JSON value")]
#[case(&[(Quoted, "1"), (Quoted, "2")], "text", "the value in record 1 is a string that is not a date")]
#[case(&[(Plain, "1"), (Quoted, "2")], "text", "the value in record 2 is not a number")]
#[case(&[(Plain, "true"), (Quoted, "true")], "text", "the value in record 2 is neither true nor false")]
#[case(&[(Quoted, "2024-01-01"), (Quoted, "2024-02-29")], "date", "all 2 values are dates")]
#[case(&[(Quoted, "2024-01-01T00:00Z")], "instant", "the only value is a date with a time of day and an offset")]
#[case(&[(Quoted, "2024-01-01"), (Quoted, "NA")], "text", "the value in record 2 is not a date")]
#[case(&[(Plain, "1"), (Quoted, "")], "text", "the value in record 2 is not a number")]
#[case(&[(Plain, "1"), (Plain, "-2.50")], "decimal(3,2)", "the value in record 2 is not a 64-bit integer")]
fn kind_of_a_field_limits_its_types(
    #[case] fields: &[(FieldKind, &str)],
    #[case] expected: &str,
    #[case] reason: &str,
) {
    let column = column_of_kinds(fields);
    assert_eq!((type_name(column.column_type).as_str(), column.type_reason.reason.as_str()), (expected, reason));
    assert_eq!((column.has_nulls, column.null_tokens), (false, !fields.iter().any(|(kind, _)| *kind == Quoted)));
}

#[test]
fn late_column_is_missing_in_earlier_rows() {
    let batch = |rows: &[&[&str]]| {
        let mut batch = Batch::new(rows[0].len());
        for row in rows {
            row.iter().for_each(|field| batch.push_field(Some(field.as_bytes())));
            batch.end_row(Position::default());
        }
        batch
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut inference = Inference::new(Vec::new());
    inference.observe(&batch(&[&["1", "x"]]));
    inference.observe(&batch(&[&["2", "y", "true"]]));
    let schema = inference.finish_as(names(&["a", "b", "c"]));
    let columns: Vec<(&str, String, bool)> = schema
        .columns
        .iter()
        .map(|column| (column.name.as_str(), type_name(column.column_type), column.has_nulls))
        .collect();
    let expected = [("a", "integer", false), ("b", "text", false), ("c", "boolean", true)];
    assert_eq!(columns, expected.map(|(name, kind, nulls)| (name, kind.to_owned(), nulls)));
}

#[rstest]
#[case(ColumnType::Double, &[(Plain, "1"), (Plain, "2")], "double", "the file declares it")]
#[case(ColumnType::Double, &[(Plain, "1.5"), (Quoted, "NaN")], "text", "the value in record 2 is not a number")]
#[case(ColumnType::Decimal { precision: 5, scale: 2 }, &[(Plain, "1.50")], "decimal(5,2)", "the file declares it")]
#[case(ColumnType::Decimal { precision: 5, scale: 2 }, &[(Plain, "1000.00")], "text", "a value does not have the type that the file declares")]
#[case(ColumnType::DateTime, &[(Plain, "2024-01-01 00:00:00")], "datetime", "the file declares it")]
#[case(ColumnType::DateTime, &[(Plain, "2024-01-01 00:00:00"), (Plain, "2024-01-01 00:00:00.000000001")], "text",
    "the value in record 2 is not a date with a time of day")]
#[case(ColumnType::Text, &[(Quoted, "1"), (Quoted, "NULL")], "text", "the file declares it")]
#[case(ColumnType::Boolean, &[], "boolean", "the file declares it")]
fn declared_type_is_kept_if_every_value_has_it(
    #[case] declared: ColumnType,
    #[case] fields: &[(FieldKind, &str)],
    #[case] expected: &str,
    #[case] reason: &str,
) {
    let mut batch = Batch::new(1);
    for (index, (kind, text)) in fields.iter().enumerate() {
        batch.push_kind(*kind, text.as_bytes());
        batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
    }
    let mut inference = Inference::declared([("c".to_owned(), Some(declared))]);
    inference.observe(&batch);
    let column = inference.finish().columns.remove(0);
    assert_eq!((type_name(column.column_type).as_str(), column.type_reason.reason.as_str()), (expected, reason));
    assert!(!column.null_tokens && !column.has_nulls);
}

#[rstest]
#[case::text(&[Some(&b"abc"[..]), Some("\u{e4}".as_bytes())], ColumnType::Text, "all 2 values are UTF-8 text")]
#[case::one_text(&[Some(&b"\\x41"[..]), None], ColumnType::Text, "the only value is UTF-8 text")]
#[case::late_bytes(&[Some(&b"abc"[..]), Some(&b"\xff"[..]), Some(&b"d"[..])], ColumnType::Binary, "the value in record 2 is not UTF-8 text without NUL")]
#[case::nul(&[Some(&b"a\0"[..])], ColumnType::Binary, "the value in record 1 is not UTF-8 text without NUL")]
#[case::no_values(&[None], ColumnType::Text, "no record has a value")]
fn declared_bytes_are_text_if_every_value_is(
    #[case] fields: &[Option<&[u8]>],
    #[case] expected: ColumnType,
    #[case] reason: &str,
) {
    let mut batch = Batch::new(1);
    for (index, field) in fields.iter().enumerate() {
        match field {
            Some(bytes) => batch.push_kind(Quoted, bytes),
            None => batch.push_field(None),
        }
        batch.end_row(Position { record: index as u64 + 1, ..Position::default() });
    }
    let mut inference = Inference::declared([("c".to_owned(), Some(ColumnType::Binary))]);
    inference.observe(&batch);
    let column = inference.finish().columns.remove(0);
    assert_eq!((column.column_type, column.type_reason.reason.as_str()), (expected, reason));
    assert!(column.is_binary && !column.null_tokens);
    assert_eq!(column.candidates.integer, fields.iter().all(Option::is_none));
}

#[test]
fn declared_text_without_values_fits_every_type() {
    for (field, is_open) in [(None, true), (Some(&b""[..]), false)] {
        let mut batch = Batch::new(1);
        batch.push_field(field);
        batch.end_row(Position::default());
        let mut inference = Inference::declared([("c".to_owned(), Some(ColumnType::Text))]);
        inference.observe(&batch);
        let column = inference.finish().columns.remove(0);
        assert_eq!(
            (column.column_type, column.candidates.integer, column.candidates.date),
            (ColumnType::Text, is_open, is_open)
        );
    }
}

/// A value as a column of its type reads it.
fn read<'a>(column: &Column, value: &'a str) -> Option<Value<'a>> {
    let bytes = value.as_bytes();
    parse(column.column_type, Some(bytes)).or_else(|| match column.column_type {
        ColumnType::Date => ordered_date(bytes, column.day_order?).map(|days| Value::Date { days }),
        ColumnType::DateTime => ordered_date_time(bytes, column.day_order?).map(|micros| Value::DateTime { micros }),
        _ => None,
    })
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,20}",
        "-?[0-9]{1,20}\\.[0-9]{1,12}",
        "-?[0-9]{0,3}\\.[0-9]{0,3}",
        "-?[0-9]\\.[0-9]{0,4}e-?[0-9]{1,3}",
        "[12][0-9]{3}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|\\+0[0-9])?)?",
        "[0-3]?[0-9]/[01]?[0-9]/2024( 10:[0-5]0)?",
        "(true|FALSE|tRuE|NULL|NA|none|nAn|\\(missing\\)|)",
        "[a-z0-9. -]{0,6}",
    ]
}

proptest! {
    /// The guarantee of this module: every value of a column parses as the type of the column.
    #[test]
    fn every_value_parses_as_the_chosen_type(values in proptest::collection::vec(field(), 0..6)) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let column = column(&values);
        for value in values.iter().filter(|value| **value != MISSING) {
            let read = read(&column, value);
            prop_assert!(read.is_some(), "{value:?} is not a {:?}", column.column_type);
            if read == Some(Value::Null) {
                prop_assert!(column.has_nulls && is_null_token(value.as_bytes()));
            }
            for (is_candidate, column_type) in [
                (column.candidates.integer, ColumnType::Integer),
                (column.candidates.double, ColumnType::Double),
                (column.candidates.date && column.day_order.is_none(), ColumnType::Date),
            ] {
                prop_assert!(!is_candidate || parse(column_type, Some(value.as_bytes())).is_some(), "{value:?} {column_type:?}");
            }
        }
    }

    /// Written dates get a date type only if one of them shows the order, and then have the values that were meant.
    #[test]
    fn order_of_dates_is_proved_or_they_are_text(
        days in proptest::collection::vec((1..=12u32, 1..=28u32), 1..6), order in prop_oneof![
            Just(DayOrder::DayFirst), Just(DayOrder::MonthFirst),
        ],
    ) {
        let texts: Vec<String> = days.iter().map(|(month, day)| match order {
            DayOrder::DayFirst => format!("{day:02}/{month:02}/2024"),
            DayOrder::MonthFirst => format!("{month:02}/{day:02}/2024"),
        }).collect();
        let column = column(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let is_shown = days.iter().any(|(_, day)| *day > 12);
        prop_assert_eq!(column.day_order, is_shown.then_some(order));
        prop_assert_eq!(column.column_type, if is_shown { ColumnType::Date } else { ColumnType::Text });
        for ((month, day), text) in days.iter().zip(&texts).filter(|_| is_shown) {
            let iso = format!("2024-{month:02}-{day:02}");
            prop_assert_eq!(read(&column, text), parse(ColumnType::Date, Some(iso.as_bytes())));
        }
    }
}
