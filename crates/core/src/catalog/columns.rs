//! Which catalog column each column of a file goes to, and how types are called in Glue.
//!
//! Pure. A table's columns are only ever appended and never change their type: a file whose column does not fit gets a
//! column of its own beside it (`amount__string`), so that no file hides or breaks the rows of an earlier one.

use std::collections::HashSet;

use crate::config::FallbackFormat;
use crate::schema::fallback::FallbackColumn;
use crate::schema::{Column, ColumnType, Schema};

/// The partition key of every fallback table.
pub(super) const PARTITION_KEY: &str = "dt";

/// In CSV tables the first column: which of the record's columns are NULL, for the SerDe knows no NULL.
///
/// It stands first because columns are appended to a table, and the last one would not stay the last.
pub(super) const NULLS_COLUMN: &str = "spillway_nulls";

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CatalogColumn {
    pub(super) name: String,
    pub(super) glue_type: String,
}

/// Where a file's columns go, and which columns the table lacks for that, in the order they are appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) columns: Vec<FallbackColumn>,
    pub(super) added: Vec<CatalogColumn>,
}

/// The columns a table of this format has before any file's.
fn leading_columns(format: FallbackFormat) -> Vec<CatalogColumn> {
    match format {
        FallbackFormat::Parquet => Vec::new(),
        FallbackFormat::Csv => vec![CatalogColumn { name: NULLS_COLUMN.to_owned(), glue_type: "string".to_owned() }],
    }
}

/// Finds a place for every column of a file in a table that has the columns `existing` (none: a new table).
pub(super) fn assign(schema: &Schema, existing: &[CatalogColumn], format: FallbackFormat) -> Assignment {
    let mut table = existing.to_vec();
    if table.is_empty() {
        table = leading_columns(format);
    }
    let bases: Vec<String> = schema.columns.iter().map(|column| catalog_name(&column.name)).collect();
    let mut usage: HashSet<String> = HashSet::from([PARTITION_KEY.to_owned(), NULLS_COLUMN.to_owned()]);
    let mut columns = Vec::with_capacity(schema.columns.len());
    for (column, base) in schema.columns.iter().zip(&bases) {
        let found = fitting_column(&table, column, base, &bases, &usage, format);
        let (place, stored_type) = found.unwrap_or_else(|| {
            let stored_type = new_type(column, format);
            let name = free_name(&table, base, stored_type, &bases, &usage);
            table.push(CatalogColumn { name, glue_type: glue_type(stored_type) });
            (table.len() - 1, stored_type)
        });
        let name = table[place].name.clone();
        usage.insert(name.clone());
        columns.push(FallbackColumn { name, file_type: column.column_type, stored_type, place });
    }
    Assignment { columns, added: table.split_off(existing.len()) }
}

/// Finds room for columns that were assigned before (by an attempt that ended early), or `None` when the table has one
/// of them with another type or, in CSV, in another place.
pub(super) fn assign_again(
    columns: &[FallbackColumn],
    existing: &[CatalogColumn],
    format: FallbackFormat,
) -> Option<Assignment> {
    let mut table = existing.to_vec();
    if table.is_empty() {
        table = leading_columns(format);
    }
    let mut placed = columns.to_vec();
    let mut missing: Vec<&mut FallbackColumn> = Vec::new();
    for column in &mut placed {
        match table.iter().position(|candidate| candidate.name == column.name) {
            Some(place) => {
                if table[place].glue_type != glue_type(column.stored_type) {
                    return None;
                }
                if format == FallbackFormat::Csv && place != column.place {
                    return None;
                }
                column.place = place;
            }
            None => missing.push(column),
        }
    }
    missing.sort_by_key(|column| column.place);
    for column in missing {
        let place = table.len();
        if format == FallbackFormat::Csv && place != column.place {
            return None;
        }
        column.place = place;
        table.push(CatalogColumn { name: column.name.clone(), glue_type: glue_type(column.stored_type) });
    }
    Some(Assignment { columns: placed, added: table.split_off(existing.len()) })
}

/// The place and type of a column that is there and takes every value: one of the same name, or one that was added
/// beside it for an earlier file.
fn fitting_column(
    table: &[CatalogColumn],
    column: &Column,
    base: &str,
    bases: &[String],
    usage: &HashSet<String>,
    format: FallbackFormat,
) -> Option<(usize, ColumnType)> {
    let beside = format!("{base}__");
    let is_beside = |name: &String| name.starts_with(&beside) && !bases.contains(name);
    let same_name = table.iter().position(|candidate| candidate.name == base);
    let others = table.iter().enumerate().filter(|(_, candidate)| is_beside(&candidate.name)).map(|(place, _)| place);
    same_name.into_iter().chain(others).find_map(|place| {
        let candidate = &table[place];
        if usage.contains(&candidate.name) {
            return None;
        }
        stored_as(&candidate.glue_type, column, format).map(|stored_type| (place, stored_type))
    })
}

/// A name no column has: the file's own, else with the type behind it, else with a number too.
fn free_name(
    table: &[CatalogColumn],
    base: &str,
    stored_type: ColumnType,
    bases: &[String],
    usage: &HashSet<String>,
) -> String {
    let is_taken = |name: &str| usage.contains(name) || table.iter().any(|candidate| candidate.name == name);
    if !is_taken(base) {
        return base.to_owned();
    }
    let typed = format!("{base}__{}", type_in_a_name(stored_type));
    let numbered = (2..).map(|number: u64| format!("{typed}_{number}"));
    std::iter::once(typed.clone())
        .chain(numbered)
        .find(|name| !is_taken(name) && !bases.contains(name))
        .expect("numbers do not end")
}

/// The name in Glue: lower case, and without what breaks Hive's comma-separated column lists or is no text to Glue.
fn catalog_name(name: &str) -> String {
    let is_unsafe = |character: char| character.is_control() || character == ',';
    name.to_lowercase().replace(is_unsafe, "_")
}

/// How a new column for this one is stored.
fn new_type(column: &Column, format: FallbackFormat) -> ColumnType {
    match format {
        // Glue has no JSON: it is a string there, which Athena's JSON functions read.
        FallbackFormat::Parquet if column.column_type == ColumnType::Json => ColumnType::Text,
        FallbackFormat::Parquet => column.column_type.with_headroom(),
        FallbackFormat::Csv => ColumnType::Text,
    }
}

/// The name of a type in Glue.
fn glue_type(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Integer => "bigint".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Double => "double".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::DateTime | ColumnType::Instant => "timestamp".to_owned(),
        ColumnType::Json | ColumnType::Text => "string".to_owned(),
    }
}

/// The name of a type as a part of a column's name.
fn type_in_a_name(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Decimal { precision, scale } => format!("decimal_{precision}_{scale}"),
        ColumnType::Boolean
        | ColumnType::Integer
        | ColumnType::Double
        | ColumnType::Date
        | ColumnType::DateTime
        | ColumnType::Instant
        | ColumnType::Json
        | ColumnType::Text => glue_type(column_type),
    }
}

/// How a file's column is stored in a Glue column of this type, or `None` when a value would not survive. Types that we
/// never make (somebody else's table) take nothing.
fn stored_as(glue_type: &str, column: &Column, format: FallbackFormat) -> Option<ColumnType> {
    if glue_type == "string" {
        return Some(ColumnType::Text);
    }
    // Text that could be a number stays text: only a column without any value may take another type.
    let is_open = column.column_type != ColumnType::Text || column.max_bytes == 0;
    if format == FallbackFormat::Csv || !is_open {
        return None;
    }
    let candidates = column.candidates;
    match glue_type {
        "boolean" => candidates.boolean.then_some(ColumnType::Boolean),
        "bigint" => candidates.integer.then_some(ColumnType::Integer),
        "double" => candidates.double.then_some(ColumnType::Double),
        "date" => candidates.date.then_some(ColumnType::Date),
        "timestamp" if candidates.date_time => Some(ColumnType::DateTime),
        "timestamp" => candidates.instant.then_some(ColumnType::Instant),
        decimal => {
            let (precision, scale) = decimal_digits(decimal)?;
            let (whole, fraction) = candidates.decimal?;
            let fits = fraction <= scale && whole <= precision - scale;
            fits.then_some(ColumnType::Decimal { precision, scale })
        }
    }
}

/// Precision and scale of `decimal(p,s)`.
fn decimal_digits(glue_type: &str) -> Option<(u8, u8)> {
    let digits = glue_type.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = digits.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    (scale <= precision && precision <= 38).then_some((precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Candidates, TypeReason};

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
            max_bytes: 5,
            candidates,
            type_reason,
        }
    }

    fn schema(columns: &[(&str, ColumnType)]) -> Schema {
        Schema { columns: columns.iter().map(|(name, column_type)| column(name, *column_type)).collect() }
    }

    fn table(columns: &[(&str, &str)]) -> Vec<CatalogColumn> {
        let column = |(name, glue_type): &(&str, &str)| CatalogColumn {
            name: (*name).to_owned(),
            glue_type: (*glue_type).to_owned(),
        };
        columns.iter().map(column).collect()
    }

    /// What an assignment says, one line a column: `name: stored @ place`, then what is added.
    fn told(assignment: &Assignment) -> (Vec<String>, Vec<String>) {
        let told =
            |column: &FallbackColumn| format!("{}: {} @{}", column.name, glue_type(column.stored_type), column.place);
        let columns = assignment.columns.iter().map(told).collect();
        let added = assignment.added.iter().map(|column| format!("{} {}", column.name, column.glue_type)).collect();
        (columns, added)
    }

    const MONEY: ColumnType = ColumnType::Decimal { precision: 12, scale: 2 };

    #[test]
    fn a_new_table_has_the_files_columns_in_lower_case() {
        let schema = schema(&[("Id", ColumnType::Integer), ("Amount", MONEY), ("at", ColumnType::Instant)]);
        let (columns, added) = told(&assign(&schema, &[], FallbackFormat::Parquet));
        assert_eq!(columns, ["id: bigint @0", "amount: decimal(18,2) @1", "at: timestamp @2"]);
        assert_eq!(added, ["id bigint", "amount decimal(18,2)", "at timestamp"]);
    }

    #[test]
    fn a_column_that_fits_is_used_and_one_that_does_not_gets_a_neighbour() {
        let existing = table(&[("id", "double"), ("amount", "bigint"), ("note", "string"), ("old", "bigint")]);
        let schema = schema(&[
            ("note", ColumnType::Integer),
            ("amount", MONEY),
            ("id", ColumnType::Integer),
            ("new", ColumnType::Date),
        ]);
        let (columns, added) = told(&assign(&schema, &existing, FallbackFormat::Parquet));
        let expected = ["note: string @2", "amount__decimal_18_2: decimal(18,2) @4", "id: double @0", "new: date @5"];
        assert_eq!(columns, expected);
        assert_eq!(added, ["amount__decimal_18_2 decimal(18,2)", "new date"]);
    }

    #[test]
    fn a_neighbour_that_was_added_before_is_used_again() {
        let existing = table(&[("amount", "bigint"), ("amount__string", "string")]);
        let (columns, added) =
            told(&assign(&schema(&[("amount", ColumnType::Text)]), &existing, FallbackFormat::Parquet));
        assert_eq!(columns, ["amount__string: string @1"]);
        assert!(added.is_empty());
    }

    #[test]
    fn a_neighbour_never_takes_the_name_of_another_column_of_the_file() {
        let existing = table(&[("amount", "bigint")]);
        let schema = schema(&[("amount", ColumnType::Text), ("amount__string", ColumnType::Text)]);
        let (columns, _) = told(&assign(&schema, &existing, FallbackFormat::Parquet));
        assert_eq!(columns, ["amount__string_2: string @1", "amount__string: string @2"]);
    }

    #[test]
    fn a_decimal_needs_room_on_both_sides_of_the_point() {
        for (glue_type, expected) in [
            ("decimal(12,2)", "amount: decimal(12,2) @0"),
            ("decimal(14,3)", "amount: decimal(14,3) @0"),
            ("decimal(12,3)", "amount__decimal_18_2: decimal(18,2) @1"),
            ("decimal(12,1)", "amount__decimal_18_2: decimal(18,2) @1"),
            ("int", "amount__decimal_18_2: decimal(18,2) @1"),
        ] {
            let existing = table(&[("amount", glue_type)]);
            let (columns, _) = told(&assign(&schema(&[("amount", MONEY)]), &existing, FallbackFormat::Parquet));
            assert_eq!(columns, [expected], "{glue_type}");
        }
    }

    #[test]
    fn json_is_a_string_and_gets_a_neighbour_where_another_type_stands() {
        let schema = schema(&[("tags", ColumnType::Json), ("size", ColumnType::Json)]);
        let (columns, _) = told(&assign(&schema, &table(&[("size", "bigint")]), FallbackFormat::Parquet));
        assert_eq!(columns, ["tags: string @1", "size__string: string @2"]);
    }

    #[test]
    fn the_partition_key_is_no_name_for_a_column() {
        let (columns, _) = told(&assign(&schema(&[("DT", ColumnType::Date)]), &[], FallbackFormat::Parquet));
        assert_eq!(columns, ["dt__date: date @0"]);
    }

    #[test]
    fn names_glue_or_hive_cannot_hold_are_changed_and_stay_apart() {
        let schema = schema(&[("a,b", ColumnType::Text), ("a\nb", ColumnType::Text), ("Ä ö", ColumnType::Text)]);
        let (columns, _) = told(&assign(&schema, &[], FallbackFormat::Parquet));
        assert_eq!(columns, ["a_b: string @0", "a_b__string: string @1", "ä ö: string @2"]);
    }

    #[test]
    fn csv_tables_begin_with_the_nulls_and_hold_only_strings() {
        let schema = schema(&[("id", ColumnType::Integer), ("spillway_nulls", ColumnType::Text)]);
        let (columns, added) = told(&assign(&schema, &[], FallbackFormat::Csv));
        assert_eq!(columns, ["id: string @1", "spillway_nulls__string: string @2"]);
        assert_eq!(added, ["spillway_nulls string", "id string", "spillway_nulls__string string"]);
    }

    #[test]
    fn text_is_never_squeezed_into_a_type_unless_there_is_no_value() {
        let existing = table(&[("code", "bigint")]);
        let mut empty = column("code", ColumnType::Text);
        empty.candidates.integer = true;
        let full = Schema { columns: vec![empty.clone()] };
        empty.max_bytes = 0;
        let empty = Schema { columns: vec![empty] };
        assert_eq!(told(&assign(&full, &existing, FallbackFormat::Parquet)).0, ["code__string: string @1"]);
        assert_eq!(told(&assign(&empty, &existing, FallbackFormat::Parquet)).0, ["code: bigint @0"]);
    }

    #[test]
    fn assigning_again_keeps_what_an_earlier_attempt_chose() {
        let first =
            assign(&schema(&[("id", ColumnType::Integer), ("x", ColumnType::Text)]), &[], FallbackFormat::Parquet);
        let same = assign_again(&first.columns, &first.added, FallbackFormat::Parquet).unwrap();
        assert_eq!((same.columns, same.added.len()), (first.columns.clone(), 0));

        let grown = assign_again(&first.columns, &table(&[("id", "bigint")]), FallbackFormat::Parquet).unwrap();
        assert_eq!(told(&grown).1, ["x string"]);
        assert_eq!(assign_again(&first.columns, &table(&[("id", "string")]), FallbackFormat::Parquet), None);
    }

    #[test]
    fn csv_columns_that_would_change_their_place_are_not_assigned_again() {
        let first = assign(&schema(&[("id", ColumnType::Integer)]), &[], FallbackFormat::Csv);
        let moved = table(&[("spillway_nulls", "string"), ("other", "string")]);
        assert_eq!(assign_again(&first.columns, &moved, FallbackFormat::Csv), None);
        assert!(assign_again(&first.columns, &[], FallbackFormat::Csv).is_some());
    }
}
