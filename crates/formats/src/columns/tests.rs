use rstest::rstest;

use super::*;
use crate::schema::infer::Inference;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn load(name: &str, source: &str) -> ColumnRule {
    let action = ColumnAction::Load { column_type: None, format: None, default: None };
    ColumnRule { name: name.to_owned(), source: source.to_owned(), action }
}

fn with_default(name: &str, default: &str) -> ColumnRule {
    let action = ColumnAction::Load { column_type: None, format: None, default: Some(default.to_owned()) };
    ColumnRule { action, ..load(name, name) }
}

fn ignored(source: &str) -> ColumnRule {
    ColumnRule { action: ColumnAction::Ignore, ..load(source, source) }
}

fn batch(rows: &[&[Option<&str>]]) -> Batch {
    let mut batch = Batch::new(rows[0].len());
    for (index, row) in rows.iter().enumerate() {
        row.iter().for_each(|field| batch.push_field(field.map(str::as_bytes)));
        batch.end_row(Position { record: index as u64 + 1, line: 0, byte: 0 });
    }
    batch
}

fn rows(batch: &Batch) -> Vec<Vec<Option<String>>> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    (0..batch.rows()).map(|row| (0..batch.width()).map(|column| batch.field(row, column).map(text)).collect()).collect()
}

#[test]
fn columns_are_renamed_ignored_and_filled() {
    let rules = ColumnRules::new(vec![load("order_no", "ORDER ID"), ignored("note"), with_default("country", "NO")]);
    let file = names(&["Order ID", "note", "total", "Country"]);
    assert_eq!(rules.names(&file).unwrap(), ["country", "order_no", "total"]);
    assert!(!rules.keep_columns() && ColumnRules::new(vec![load("total", "total")]).keep_columns());
    let ruled = rules.apply(
        &file,
        &batch(&[&[Some("1"), Some("x"), None, Some("SE")], &[Some("2"), None, None, None]]),
        FileValues::Texts,
    );
    let row = |fields: [Option<&str>; 3]| fields.map(|field| field.map(str::to_owned)).to_vec();
    assert_eq!(
        rows(&ruled.unwrap()),
        [row([Some("SE"), Some("1"), None]), row([Some("NO"), Some("2"), None])],
        "a missing field gets the default of its column's rule"
    );
}

#[test]
fn missing_column_with_a_default_is_added_in_the_same_place() {
    let rules = ColumnRules::new(vec![with_default("country", "NO")]);
    let narrow = rules.apply(&names(&["a"]), &batch(&[&[Some("1")]]), FileValues::Texts).unwrap();
    assert_eq!(rows(&narrow), [[Some("NO".to_owned()), Some("1".to_owned())]]);
    // A JSON file can show the column later.
    let wide = rules.apply(&names(&["a", "country"]), &batch(&[&[Some("1"), Some("SE")]]), FileValues::Texts).unwrap();
    assert_eq!(rows(&wide), [[Some("SE".to_owned()), Some("1".to_owned())]]);
}

#[test]
fn two_columns_with_the_same_name_are_an_error() {
    let rules = ColumnRules::new(vec![load("total", "sum")]);
    let error = rules.names(&names(&["sum", "Total"])).unwrap_err();
    assert_eq!(error.column(), Some("total"), "{error}");
    assert!(rules.names(&names(&["sum", "other"])).is_ok());
}

fn converted(format: &ValueFormat, value: &str) -> Option<String> {
    format.convert(value.as_bytes()).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap())
}

#[rstest]
#[case("%d/%m/%Y", "13/01/2024", Some("2024-01-13"))]
#[case("%d/%m/%Y", "01/13/2024", None)]
#[case("%d/%m/%Y", "13/01/2024 10:00", None)]
#[case("%d.%m.%y", "01.02.24", Some("2024-02-01"))]
#[case("%m/%d/%Y %H:%M", "01/13/2024 08:05", Some("2024-01-13T08:05:00"))]
#[case("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700", Some("2000-10-10T20:55:36Z"))]
fn dates_are_read_by_their_format(#[case] format: &str, #[case] value: &str, #[case] expected: Option<&str>) {
    let format = ValueFormat::time(format).unwrap();
    assert_eq!(converted(&format, value).as_deref(), expected);
}

#[rstest]
#[case("%H:%M")]
#[case("dd/mm/yyyy")]
#[case("%Y-%q")]
#[case::twelve_hours("%d/%m/%Y %I:%M")]
#[case::minutes_without_hours("%d/%m/%Y %M")]
#[case::time_zone("%d/%m/%Y %H:%M %Q")]
fn format_without_a_date_is_not_accepted(#[case] format: &str) {
    assert!(ValueFormat::time(format).is_err());
}

#[rstest]
#[case(ValueFormat::EpochSeconds, "1704067200", Some("2024-01-01T00:00:00Z"))]
#[case(ValueFormat::EpochSeconds, "1704067200.25", Some("2024-01-01T00:00:00.25Z"))]
#[case(ValueFormat::EpochSeconds, "-1", Some("1969-12-31T23:59:59Z"))]
#[case(ValueFormat::EpochSeconds, "1.0000001", None)]
#[case(ValueFormat::EpochSeconds, "1e9", None)]
#[case(ValueFormat::EpochSeconds, "", None)]
#[case(ValueFormat::EpochSeconds, "1.", None)]
#[case(ValueFormat::EpochSeconds, "99999999999999999", None)]
#[case(ValueFormat::EpochMilliseconds, "1704067200123", Some("2024-01-01T00:00:00.123Z"))]
#[case(ValueFormat::EpochMilliseconds, "1704067200123.4560", Some("2024-01-01T00:00:00.123456Z"))]
fn epochs_become_times(#[case] format: ValueFormat, #[case] value: &str, #[case] expected: Option<&str>) {
    assert_eq!(converted(&format, value).as_deref(), expected);
}

#[rstest]
#[case("1.234.567,89", Some("1234567.89"))]
#[case("1234,5", Some("1234.5"))]
#[case("-12 €", Some("-12"))]
#[case("€ -1.000", Some("-1000"))]
#[case("0,5%", Some("0.5"))]
#[case("1.234,50-", Some("-1234.50"))]
#[case("(50,00)", Some("-50.00"))]
#[case("(€50,00)", Some("-50.00"))]
#[case("€ (50)", Some("-50"))]
#[case("-5-", None)]
#[case("(-5)", None)]
#[case("(5", None)]
#[case("1,234.5", None)]
#[case("12.34", None)]
#[case("1.2345,0", None)]
#[case("1,", Some("1"))]
#[case(",5", Some("0.5"))]
#[case("-,25", Some("-0.25"))]
#[case("+3,50", Some("3.50"))]
#[case("1,23E+05", Some("123000"))]
#[case("-2,5e-3", Some("-0.0025"))]
#[case("-0,00", Some("0.00"))]
#[case("007", Some("007"))]
#[case(",", None)]
#[case("+-1", None)]
#[case("1e", None)]
#[case("e5", None)]
#[case("--1", None)]
#[case("€", None)]
#[case("12 kg", None)]
fn numbers_are_read_by_their_separators(#[case] value: &str, #[case] expected: Option<&str>) {
    let remove = names(&["€", "%"]);
    let format = ValueFormat::Number(NumberFormat { decimal: ',', thousands: Some('.'), remove });
    assert_eq!(converted(&format, value).as_deref(), expected);
}

/// They look alike, and most programs write the space that does not break a line.
#[test]
fn spaces_and_apostrophes_between_thousands_are_alike() {
    let read = |thousands, value: &str| {
        let format = NumberFormat { decimal: ',', thousands: Some(thousands), remove: Vec::new() };
        converted(&ValueFormat::Number(format), value)
    };
    for value in ["1 234 567,5", "1\u{a0}234\u{a0}567,5", "1\u{202f}234\u{202f}567,5", "1\u{2009}234 567,5"] {
        assert_eq!(read(' ', value).as_deref(), Some("1234567.5"), "{value}");
    }
    assert_eq!(read('\'', "1\u{2019}234,5").as_deref(), Some("1234.5"));
    assert_eq!(read(' ', "1'234"), None);
    assert_eq!(read(' ', "1\u{a0}2345"), None);
}

/// `%Y` alone would read the year 24 as 0024.
#[test]
fn years_have_four_digits() {
    let format = ValueFormat::time("%d.%m.%Y").unwrap();
    assert_eq!(converted(&format, "31.01.2024").as_deref(), Some("2024-01-31"));
    for value in ["31.01.24", "31.01.0024", "31.01.999"] {
        assert_eq!(converted(&format, value), None, "{value}");
    }
    assert_eq!(converted(&ValueFormat::time("%d.%m.%y").unwrap(), "31.01.24").as_deref(), Some("2024-01-31"));
}

#[test]
fn rules_without_a_column_are_named() {
    let rules = ColumnRules::new(vec![load("total", "sum"), load("other", "x"), ignored("note")]);
    assert_eq!(rules.unmatched(&names(&["id", "total"])), ["other"]);
}

#[test]
fn value_in_another_format_is_an_error_without_the_value() {
    let action = ColumnAction::Load { column_type: None, format: Some(ValueFormat::EpochSeconds), default: None };
    let rules = ColumnRules::new(vec![ColumnRule { action, ..load("at", "ts") }]);
    let error =
        rules.apply(&names(&["ts"]), &batch(&[&[Some("1")], &[Some("secret")]]), FileValues::Texts).unwrap_err();
    assert_eq!((error.position().map(|position| position.record), error.column()), (Some(2), Some("at")));
    assert!(error.to_string().contains("epoch-seconds") && !error.to_string().contains("secret"), "{error}");
    let nulls = rules.apply(&names(&["ts"]), &batch(&[&[None], &[Some("NULL")]]), FileValues::Texts).unwrap();
    assert_eq!(rows(&nulls), [[None], [Some("NULL".to_owned())]], "null tokens stay what they are");
}

fn schema(values: &[&str]) -> Schema {
    let rows: Vec<[Option<&str>; 1]> = values.iter().map(|value| [Some(*value)]).collect();
    let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| &row[..]).collect();
    let mut inference = Inference::new(names(&["zip"]));
    inference.observe(&batch(&rows));
    inference.finish()
}

fn typed(column_type: ColumnType) -> ColumnRules {
    let action = ColumnAction::Load { column_type: Some(column_type), format: None, default: None };
    ColumnRules::new(vec![ColumnRule { action, ..load("zip", "zip") }])
}

#[test]
fn types_of_the_rules_replace_inferred_ones() {
    let mut text = schema(&["123", "4567"]);
    typed(ColumnType::Text).set_types(&mut text).unwrap();
    assert_eq!(text.columns[0].column_type, ColumnType::Text);
    let mut decimal = schema(&["12", "3"]);
    typed(ColumnType::Decimal { precision: 10, scale: 2 }).set_types(&mut decimal).unwrap();
    assert_eq!(decimal.columns[0].column_type, ColumnType::Decimal { precision: 10, scale: 2 });
    let error = typed(ColumnType::Integer).set_types(&mut schema(&["1", "x"])).unwrap_err();
    assert!(error.column() == Some("zip") && error.message().contains("record 2"), "{error}");
}

/// The plan shows that the table settings decide, also if they agree with the values.
#[test]
fn reason_of_a_type_names_the_table_settings() {
    let reason = |rules: &ColumnRules, values: &[&str]| {
        let mut schema = schema(values);
        rules.set_types(&mut schema).unwrap();
        let reason = schema.columns.remove(0).type_reason;
        (reason.forced_by_record, reason.reason)
    };
    let named = |values| reason(&typed(ColumnType::Text), values);
    assert_eq!(named(&["123"]), (None, "the table settings name it".to_owned()));
    assert_eq!(named(&["x"]), (None, "the table settings name it".to_owned()));
    let format = Some(ValueFormat::Number(NumberFormat { decimal: ',', thousands: None, remove: Vec::new() }));
    let action = ColumnAction::Load { column_type: None, format, default: None };
    let written = ColumnRules::new(vec![ColumnRule { action, ..load("zip", "zip") }]);
    let (_, text) = reason(&written, &["1.5"]);
    assert_eq!(text, "the value in record 1 is not a 64-bit integer, with the format in the table settings");
    let (_, text) = reason(&ColumnRules::new(vec![with_default("zip", "0")]), &["1", "0"]);
    assert_eq!(text, "all 2 values are 64-bit integers, with the default in the table settings");
    let (_, text) = reason(&ColumnRules::new(vec![load("zip", "zip")]), &["1", "0"]);
    assert_eq!(text, "all 2 values are 64-bit integers");
}

/// Otherwise the null tokens would be text, and the column could not hold the dates of later files.
#[test]
fn format_names_the_type_of_a_column_without_values() {
    let column = |format: ValueFormat, values: &[&str]| {
        let mut schema = schema(values);
        let action = ColumnAction::Load { column_type: None, format: Some(format), default: None };
        let rules = ColumnRules::new(vec![ColumnRule { action, ..load("zip", "zip") }]);
        rules.set_types(&mut schema).unwrap();
        schema.columns.remove(0)
    };
    for (format, expected) in [
        ("%d/%m/%Y", ColumnType::Date),
        ("%d/%m/%Y %H:%M", ColumnType::DateTime),
        ("%d/%m/%Y %H:%M %z", ColumnType::Instant),
    ] {
        let found = column(ValueFormat::time(format).unwrap(), &["NULL", "N/A"]);
        assert_eq!((found.column_type, found.has_nulls), (expected, true), "{format}");
    }
    assert_eq!(column(ValueFormat::EpochSeconds, &["NULL"]).column_type, ColumnType::Instant);
    // The digits decide about numbers, and values of other kinds keep their type.
    let number = NumberFormat { decimal: ',', thousands: None, remove: Vec::new() };
    assert_eq!(column(ValueFormat::Number(number), &["NULL"]).column_type, ColumnType::Text);
    assert_eq!(column(ValueFormat::time("%d/%m/%Y").unwrap(), &["x"]).column_type, ColumnType::Text);
}

#[test]
fn boolean_rule_reads_the_words_that_a_boolean_column_accepts() {
    let values = ["yes", "N", "on", "0", "tRue", "False", " y"];
    let rows: Vec<[Option<&str>; 1]> = values.iter().map(|value| [Some(*value)]).collect();
    let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| &row[..]).collect();
    let file = names(&["zip"]);
    let apply = |rules: &ColumnRules, batch: &Batch| rules.apply(&file, batch, FileValues::Texts).unwrap();
    let rules = typed(ColumnType::Boolean);
    let ruled = apply(&rules, &batch(&rows));
    let texts: Vec<String> = self::rows(&ruled).into_iter().flatten().flatten().collect();
    assert_eq!(texts, ["true", "false", "true", "false", "tRue", "False", "true"]);
    let types = |ruled: &Batch| {
        let mut inference = Inference::new(file.clone());
        inference.observe(ruled);
        let mut schema = inference.finish();
        rules.set_types(&mut schema).map(|()| schema.columns[0].column_type)
    };
    assert_eq!(types(&ruled).unwrap(), ColumnType::Boolean);
    let other = apply(&rules, &batch(&[&[Some("yes")], &[Some("ja")]]));
    assert!(types(&other).unwrap_err().message().contains("record 2"));
    let declared = rules.declared(&[("zip".to_owned(), ColumnType::Integer)]).unwrap();
    assert_eq!(declared, [("zip".to_owned(), None)], "a number of Parquet is converted too");
}

#[test]
fn rule_decides_a_doubt_about_numbers() {
    let doubtful = || {
        let mut inference = Inference::new(names(&["zip"])).with_decimal_commas();
        inference.observe(&batch(&[&[Some("1.500")], &[Some("2.750")]]));
        inference.finish()
    };
    assert_eq!(doubtful().columns[0].column_type, ColumnType::Text);
    let decimal = ColumnType::Decimal { precision: 10, scale: 3 };
    let format = Some(ValueFormat::Number(NumberFormat { decimal: '.', thousands: None, remove: Vec::new() }));
    let action = ColumnAction::Load { column_type: None, format, default: None };
    let written = ColumnRules::new(vec![ColumnRule { action, ..load("zip", "zip") }]);
    let inferred = ColumnType::Decimal { precision: 4, scale: 3 };
    for (rules, expected) in
        [(typed(decimal), decimal), (typed(ColumnType::Text), ColumnType::Text), (written, inferred)]
    {
        let mut schema = doubtful();
        rules.set_types(&mut schema).unwrap();
        assert_eq!(schema.columns[0].column_type, expected, "{rules:?}");
        assert!(rules.decide_type("zip") && !rules.decide_type("other"));
    }
    let error = typed(ColumnType::Integer).set_types(&mut doubtful()).unwrap_err();
    assert!(error.message().contains("may separate thousands"), "{error}");
}

#[test]
fn names_are_found_as_people_write_them() {
    let rules = ColumnRules::new(vec![load("total", "total_amount"), ignored("internal_note")]);
    let file = names(&["Total Amount", "Internal-Note", "other"]);
    assert_eq!(rules.names(&file).unwrap(), ["total", "other"]);
    let ambiguous = names(&["Total Amount", "total.amount"]);
    assert_eq!(rules.names(&ambiguous).unwrap(), ambiguous, "a rule that may mean two columns applies to none");
}

#[test]
fn typed_numbers_keep_their_value() {
    let format = ValueFormat::Number(NumberFormat { decimal: ',', thousands: Some('.'), remove: Vec::new() });
    let action = ColumnAction::Load { column_type: None, format: Some(format), default: None };
    let rules = ColumnRules::new(vec![ColumnRule { action, ..load("total", "total") }]);
    let mut typed = Batch::new(1);
    for kind in [FieldKind::Plain, FieldKind::String] {
        typed.push_kind(kind, b"5.000");
        typed.end_row(Position::default());
    }
    let file = names(&["total"]);
    let text =
        |values| rows(&rules.apply(&file, &typed, values).unwrap()).concat().into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(text(FileValues::Typed), ["5.000", "5000"]);
    assert_eq!(text(FileValues::Texts), ["5000", "5000"]);
}

#[test]
fn rules_name_all_columns_of_a_file_without_header_or_none() {
    let file = names(&["col_1", "col_2"]);
    assert!(ColumnRules::default().check_positions(&file).is_ok());
    let lost = ColumnRules::new(vec![load("total", "total")]).check_positions(&file).unwrap_err();
    assert!(lost.column() == Some("total") && lost.message().contains("col_1 to col_2"), "{lost}");
    let error = ColumnRules::new(vec![ignored("col_2")]).check_positions(&file).unwrap_err();
    assert_eq!(error.column(), Some("col_1"), "{error}");
    assert!(ColumnRules::new(vec![ignored("col_2"), load("id", "col_1")]).check_positions(&file).is_ok());
}
