//! Assigns the columns of a file to catalog columns, and names types in Glue. Pure.
//!
//! Columns are only appended and never change their type. A file column that does not fit gets an additional catalog
//! column (`amount__string`), so that no file hides or breaks the rows of an earlier one.

use std::collections::HashSet;

use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};
use spillway_formats::schema::{Column, ColumnType, Schema};

/// The partition key of every fallback table.
pub(super) const PARTITION_KEY: &str = "dt";

/// The first column of CSV tables: lists the record's NULL columns, because the CSV SerDe has no NULL.
///
/// It is the first one because new columns are appended at the end.
pub(super) const NULLS_COLUMN: &str = "spillway_nulls";

/// A column of a Glue table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CatalogColumn {
    pub(super) name: String,
    pub(super) glue_type: String,
}

/// The catalog columns of a file, and the columns to append to the table, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) columns: Vec<FallbackColumn>,
    pub(super) added: Vec<CatalogColumn>,
}

/// The columns that a table of this format has before the columns of files.
fn leading_columns(format: FallbackFormat) -> Vec<CatalogColumn> {
    match format {
        FallbackFormat::Parquet => Vec::new(),
        FallbackFormat::Csv => vec![CatalogColumn { name: NULLS_COLUMN.to_owned(), glue_type: "string".to_owned() }],
    }
}

/// Assigns every column of a file to a column of a table; an empty `existing` means a new table.
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

/// Assigns columns again that an interrupted attempt has assigned before.
///
/// Returns `None` when the table has one of them with another type or, in CSV, at another position.
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

/// The index and type of an existing column that can store every value of a file column.
///
/// Its name is the same, or it is an additional column of an earlier file.
fn fitting_column(
    table: &[CatalogColumn],
    column: &Column,
    base: &str,
    bases: &[String],
    usage: &HashSet<String>,
    format: FallbackFormat,
) -> Option<(usize, ColumnType)> {
    let additional_prefix = format!("{base}__");
    let is_additional = |name: &String| name.starts_with(&additional_prefix) && !bases.contains(name);
    let same_name = table.iter().position(|candidate| candidate.name == base);
    let others =
        table.iter().enumerate().filter(|(_, candidate)| is_additional(&candidate.name)).map(|(place, _)| place);
    same_name.into_iter().chain(others).find_map(|place| {
        let candidate = &table[place];
        if usage.contains(&candidate.name) {
            return None;
        }
        stored_as(&candidate.glue_type, column, format).map(|stored_type| (place, stored_type))
    })
}

/// A free column name: the file's own, or with the type appended, or with type and number.
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
    let typed = format!("{base}__{}", type_name_part(stored_type));
    let numbered = (2..).map(|number: u64| format!("{typed}_{number}"));
    std::iter::once(typed.clone())
        .chain(numbered)
        .find(|name| !is_taken(name) && !bases.contains(name))
        .expect("the numbers are unlimited")
}

/// The column name in Glue: lower case, without control characters and commas.
///
/// Hive stores column lists separated by commas, and Glue refuses control characters.
fn catalog_name(name: &str) -> String {
    let is_unsafe = |character: char| character.is_control() || character == ',';
    name.to_lowercase().replace(is_unsafe, "_")
}

/// The type of a new catalog column for a file column.
fn new_type(column: &Column, format: FallbackFormat) -> ColumnType {
    match format {
        // Glue has no JSON type. Athena's JSON functions read strings.
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

/// The name of a type within a column name.
fn type_name_part(column_type: ColumnType) -> String {
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

/// The type in which a Glue column stores a file column, or `None` when a value would change.
///
/// Types that Spillway never creates store nothing; another program's table may have them.
fn stored_as(glue_type: &str, column: &Column, format: FallbackFormat) -> Option<ColumnType> {
    if glue_type == "string" {
        return Some(ColumnType::Text);
    }
    // Text that could be a number stays text. Only a text column without values may be stored as another type.
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
        let (columns, added) = describe(&assign(&schema, &[], FallbackFormat::Parquet));
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
        let (columns, added) = describe(&assign(&schema, &existing, FallbackFormat::Parquet));
        let expected = ["note: string @2", "amount__decimal_18_2: decimal(18,2) @4", "id: double @0", "new: date @5"];
        assert_eq!(columns, expected);
        assert_eq!(added, ["amount__decimal_18_2 decimal(18,2)", "new date"]);
    }

    #[test]
    fn an_additional_column_is_used_again() {
        let existing = table(&[("amount", "bigint"), ("amount__string", "string")]);
        let (columns, added) =
            describe(&assign(&schema(&[("amount", ColumnType::Text)]), &existing, FallbackFormat::Parquet));
        assert_eq!(columns, ["amount__string: string @1"]);
        assert!(added.is_empty());
    }

    #[test]
    fn an_additional_column_avoids_the_names_of_the_file() {
        let existing = table(&[("amount", "bigint")]);
        let schema = schema(&[("amount", ColumnType::Text), ("amount__string", ColumnType::Text)]);
        let (columns, _) = describe(&assign(&schema, &existing, FallbackFormat::Parquet));
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
            let (columns, _) = describe(&assign(&schema(&[("amount", MONEY)]), &existing, FallbackFormat::Parquet));
            assert_eq!(columns, [expected], "{glue_type}");
        }
    }

    #[test]
    fn json_is_stored_as_a_string() {
        let schema = schema(&[("tags", ColumnType::Json), ("size", ColumnType::Json)]);
        let (columns, _) = describe(&assign(&schema, &table(&[("size", "bigint")]), FallbackFormat::Parquet));
        assert_eq!(columns, ["tags: string @1", "size__string: string @2"]);
    }

    #[test]
    fn a_file_column_never_gets_the_name_of_the_partition_key() {
        let (columns, _) = describe(&assign(&schema(&[("DT", ColumnType::Date)]), &[], FallbackFormat::Parquet));
        assert_eq!(columns, ["dt__date: date @0"]);
    }

    #[test]
    fn invalid_names_are_replaced_and_stay_distinct() {
        let schema = schema(&[("a,b", ColumnType::Text), ("a\nb", ColumnType::Text), ("Ä ö", ColumnType::Text)]);
        let (columns, _) = describe(&assign(&schema, &[], FallbackFormat::Parquet));
        assert_eq!(columns, ["a_b: string @0", "a_b__string: string @1", "ä ö: string @2"]);
    }

    #[test]
    fn csv_tables_start_with_the_nulls_column_and_contain_only_strings() {
        let schema = schema(&[("id", ColumnType::Integer), ("spillway_nulls", ColumnType::Text)]);
        let (columns, added) = describe(&assign(&schema, &[], FallbackFormat::Csv));
        assert_eq!(columns, ["id: string @1", "spillway_nulls__string: string @2"]);
        assert_eq!(added, ["spillway_nulls string", "id string", "spillway_nulls__string string"]);
    }

    #[test]
    fn text_is_stored_as_another_type_only_without_values() {
        let existing = table(&[("code", "bigint")]);
        let mut empty = column("code", ColumnType::Text);
        empty.candidates.integer = true;
        let full = Schema { columns: vec![empty.clone()] };
        empty.max_bytes = 0;
        let empty = Schema { columns: vec![empty] };
        assert_eq!(describe(&assign(&full, &existing, FallbackFormat::Parquet)).0, ["code__string: string @1"]);
        assert_eq!(describe(&assign(&empty, &existing, FallbackFormat::Parquet)).0, ["code: bigint @0"]);
    }

    #[test]
    fn assigning_again_keeps_the_columns_of_an_earlier_attempt() {
        let first =
            assign(&schema(&[("id", ColumnType::Integer), ("x", ColumnType::Text)]), &[], FallbackFormat::Parquet);
        let same = assign_again(&first.columns, &first.added, FallbackFormat::Parquet).unwrap();
        assert_eq!((same.columns, same.added.len()), (first.columns.clone(), 0));

        let grown = assign_again(&first.columns, &table(&[("id", "bigint")]), FallbackFormat::Parquet).unwrap();
        assert_eq!(describe(&grown).1, ["x string"]);
        assert_eq!(assign_again(&first.columns, &table(&[("id", "string")]), FallbackFormat::Parquet), None);
    }

    #[test]
    fn csv_columns_at_another_position_are_not_assigned_again() {
        let first = assign(&schema(&[("id", ColumnType::Integer)]), &[], FallbackFormat::Csv);
        let moved = table(&[("spillway_nulls", "string"), ("other", "string")]);
        assert_eq!(assign_again(&first.columns, &moved, FallbackFormat::Csv), None);
        assert!(assign_again(&first.columns, &[], FallbackFormat::Csv).is_some());
    }
}
