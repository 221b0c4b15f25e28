//! Assignments of file columns to new and existing tables.

use super::*;
use spillway_formats::schema::{Candidates, TypeReason};

fn column(name: &str, column_type: ColumnType) -> Column {
    let candidates = Candidates {
        boolean: column_type == ColumnType::Boolean,
        integer: column_type == ColumnType::Integer,
        decimal: match column_type {
            ColumnType::Integer => Some((5, 0)),
            ColumnType::Decimal { precision, scale } => Some((precision - scale, scale)),
            _ => None,
        },
        double: matches!(column_type, ColumnType::Integer | ColumnType::Double),
        date: column_type == ColumnType::Date,
        date_time: column_type == ColumnType::DateTime,
        instant: column_type == ColumnType::Instant,
    };
    let type_reason = TypeReason { forced_by_record: None, reason: String::new() };
    Column {
        name: name.to_owned(),
        column_type,
        has_nulls: false,
        null_tokens: true,
        is_binary: column_type == ColumnType::Binary,
        has_other_spellings: false,
        day_order: None,
        max_bytes: 5,
        candidates,
        type_reason,
    }
}

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema {
        columns: columns.iter().map(|(name, column_type)| column(name, *column_type)).collect(),
        ..Schema::default()
    }
}

fn table(columns: &[(&str, &str)]) -> Vec<CatalogColumn> {
    let column = |(name, glue_type): &(&str, &str)| CatalogColumn {
        name: (*name).to_owned(),
        glue_type: (*glue_type).to_owned(),
    };
    columns.iter().map(column).collect()
}

/// An assignment as text: `name: type @index` for each column, then the appended columns.
fn describe(assignment: &Assignment) -> (Vec<String>, Vec<String>) {
    let line =
        |column: &FallbackColumn| format!("{}: {} @{}", column.name, glue_type(column.stored_type), column.place);
    let columns = assignment.columns.iter().map(line).collect();
    let added = assignment.added.iter().map(|column| format!("{} {}", column.name, column.glue_type)).collect();
    (columns, added)
}

const MONEY: ColumnType = ColumnType::Decimal { precision: 12, scale: 2 };

#[test]
fn a_new_table_has_the_columns_of_the_file_in_lower_case() {
    let schema = schema(&[("Id", ColumnType::Integer), ("Amount", MONEY), ("at", ColumnType::Instant)]);
    let (columns, added) = describe(&assign(&schema, &[]));
    assert_eq!(columns, ["id: bigint @0", "amount: decimal(18,2) @1", "at: timestamp @2"]);
    assert_eq!(added, ["id bigint", "amount decimal(18,2)", "at timestamp"]);
}

#[test]
fn a_fitting_column_is_used_and_another_type_gets_an_additional_column() {
    let existing = table(&[("id", "double"), ("amount", "bigint"), ("note", "string"), ("old", "bigint")]);
    let schema = schema(&[
        ("note", ColumnType::Integer),
        ("amount", MONEY),
        ("id", ColumnType::Integer),
        ("new", ColumnType::Date),
    ]);
    let (columns, added) = describe(&assign(&schema, &existing));
    let expected = ["note: string @2", "amount__decimal_18_2: decimal(18,2) @4", "id: double @0", "new: date @5"];
    assert_eq!(columns, expected);
    assert_eq!(added, ["amount__decimal_18_2 decimal(18,2)", "new date"]);
}

#[test]
fn an_additional_column_is_used_again() {
    let existing = table(&[("amount", "bigint"), ("amount__string", "string")]);
    let (columns, added) = describe(&assign(&schema(&[("amount", ColumnType::Text)]), &existing));
    assert_eq!(columns, ["amount__string: string @1"]);
    assert!(added.is_empty());
}

#[test]
fn an_additional_column_avoids_the_names_of_the_file() {
    let existing = table(&[("amount", "bigint")]);
    let schema = schema(&[("amount", ColumnType::Text), ("amount__string", ColumnType::Text)]);
    let (columns, _) = describe(&assign(&schema, &existing));
    assert_eq!(columns, ["amount__string_2: string @1", "amount__string: string @2"]);
}

#[test]
fn a_decimal_needs_enough_digits_before_and_after_the_point() {
    for (glue_type, expected) in [
        ("decimal(12,2)", "amount: decimal(12,2) @0"),
        ("decimal(14,3)", "amount: decimal(14,3) @0"),
        ("decimal(12,3)", "amount__decimal_18_2: decimal(18,2) @1"),
        ("decimal(12,1)", "amount__decimal_18_2: decimal(18,2) @1"),
        ("int", "amount__decimal_18_2: decimal(18,2) @1"),
    ] {
        let existing = table(&[("amount", glue_type)]);
        let (columns, _) = describe(&assign(&schema(&[("amount", MONEY)]), &existing));
        assert_eq!(columns, [expected], "{glue_type}");
    }
}

#[test]
fn json_is_stored_as_a_string() {
    let schema = schema(&[("tags", ColumnType::Json), ("size", ColumnType::Json)]);
    let (columns, _) = describe(&assign(&schema, &table(&[("size", "bigint")])));
    assert_eq!(columns, ["tags: string @1", "size__string: string @2"]);
}

#[test]
fn bytes_are_stored_as_binary() {
    let file = schema(&[("raw", ColumnType::Binary), ("size", ColumnType::Binary), ("note", ColumnType::Binary)]);
    let existing = table(&[("size", "bigint"), ("note", "string")]);
    let (columns, added) = describe(&assign(&file, &existing));
    assert_eq!(columns, ["raw: binary @2", "size__binary: binary @3", "note__binary: binary @4"]);
    assert_eq!(added, ["raw binary", "size__binary binary", "note__binary binary"]);
}

#[test]
fn bytes_that_are_text_fit_string_and_binary() {
    let mut file = schema(&[("raw", ColumnType::Text)]);
    file.columns[0].is_binary = true;
    for (existing, expected) in [
        (&[][..], "raw: string @0"),
        (&[("raw", "string")][..], "raw: string @0"),
        (&[("raw", "binary")][..], "raw: binary @0"),
    ] {
        assert_eq!(describe(&assign(&file, &table(existing))).0, [expected]);
    }
    file.columns[0].is_binary = false;
    assert_eq!(describe(&assign(&file, &table(&[("raw", "binary")]))).0, ["raw__string: string @1"]);
}

#[test]
fn a_file_column_never_gets_the_name_of_the_partition_key() {
    let (columns, _) = describe(&assign(&schema(&[("DT", ColumnType::Date)]), &[]));
    assert_eq!(columns, ["dt__date: date @0"]);
}

#[test]
fn invalid_names_are_replaced_and_stay_distinct() {
    let schema = schema(&[("a,b", ColumnType::Text), ("a\nb", ColumnType::Text), ("Ä ö", ColumnType::Text)]);
    let (columns, _) = describe(&assign(&schema, &[]));
    assert_eq!(columns, ["a_b: string @0", "a_b__string: string @1", "ä ö: string @2"]);
}

#[test]
fn no_column_of_a_file_gets_the_name_of_the_nulls_column() {
    let (columns, _) = describe(&assign(&schema(&[("spillway_nulls", ColumnType::Text)]), &[]));
    assert_eq!(columns, ["spillway_nulls__string: string @0"]);
}

#[test]
fn text_is_stored_as_another_type_only_without_values() {
    let existing = table(&[("code", "bigint")]);
    let mut empty = column("code", ColumnType::Text);
    empty.candidates.integer = true;
    let full = Schema { columns: vec![empty.clone()], ..Schema::default() };
    empty.max_bytes = 0;
    let empty = Schema { columns: vec![empty], ..Schema::default() };
    assert_eq!(describe(&assign(&full, &existing)).0, ["code__string: string @1"]);
    assert_eq!(describe(&assign(&empty, &existing)).0, ["code: bigint @0"]);
}

#[test]
fn assigning_again_keeps_the_columns_of_an_earlier_attempt() {
    let first = assign(&schema(&[("id", ColumnType::Integer), ("x", ColumnType::Text)]), &[]);
    let same = assign_again(&first.columns, &first.added, FallbackFormat::Parquet).unwrap();
    assert_eq!((same.columns, same.added.len()), (first.columns.clone(), 0));

    let grown = assign_again(&first.columns, &table(&[("id", "bigint")]), FallbackFormat::Parquet).unwrap();
    assert_eq!(describe(&grown).1, ["x string"]);
    assert_eq!(assign_again(&first.columns, &table(&[("id", "string")]), FallbackFormat::Parquet), None);
}

/// The columns of a CSV object that an earlier version wrote.
#[test]
fn csv_columns_at_another_position_are_not_assigned_again() {
    let column = FallbackColumn {
        name: "id".to_owned(),
        file_type: ColumnType::Integer,
        stored_type: ColumnType::Text,
        place: 1,
    };
    let again = |existing: &[CatalogColumn]| assign_again(std::slice::from_ref(&column), existing, FallbackFormat::Csv);
    assert_eq!(again(&table(&[("spillway_nulls", "string"), ("other", "string")])), None);
    assert_eq!(describe(&again(&[]).unwrap()).1, ["spillway_nulls string", "id string"]);
}

#[test]
fn column_with_other_spellings_keeps_its_text() {
    let existing = table(&[("amount", "decimal(18,2)")]);
    let mut amount = column("amount", ColumnType::Decimal { precision: 3, scale: 2 });
    amount.candidates.decimal = Some((1, 2));
    let schema = |column: &Column| Schema { columns: vec![column.clone()], ..Schema::default() };
    amount.has_other_spellings = true;
    for existing in [&existing[..], &[]] {
        let assigned = assign(&schema(&amount), existing).columns.remove(0);
        assert_eq!((assigned.file_type, assigned.stored_type), (ColumnType::Text, ColumnType::Text));
    }
}
