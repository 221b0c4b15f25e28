//! Assigns the columns of a file to catalog columns. Does no I/O.
//!
//! Columns are only appended and never change their type. A file column that does not fit gets an additional catalog
//! column (`amount__string`), so that no file hides or breaks the rows of an earlier one.

mod glue_type;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};
use spillway_formats::schema::{Column, ColumnType, Schema};

use glue_type::type_name_part;
pub(super) use glue_type::{glue_type, new_type, stored_as};

/// The partition key of every fallback table.
pub(super) const PARTITION_KEY: &str = "dt";

/// The first column of the CSV tables of earlier versions: lists the record's NULL columns, because the CSV SerDe has no NULL.
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
pub(super) fn assign(schema: &Schema, existing: &[CatalogColumn]) -> Assignment {
    let mut table = existing.to_vec();
    let bases: Vec<String> = schema.columns.iter().map(|column| catalog_name(&column.name)).collect();
    let mut used: HashSet<String> = HashSet::from([PARTITION_KEY.to_owned(), NULLS_COLUMN.to_owned()]);
    let mut columns = Vec::with_capacity(schema.columns.len());
    for (column, base) in schema.columns.iter().zip(&bases) {
        let found = fitting_column(&table, column, base, &bases, &used);
        let (place, stored_type) = found.unwrap_or_else(|| {
            let stored_type = new_type(column);
            let name = free_name(&table, base, stored_type, &bases, &used);
            table.push(CatalogColumn { name, glue_type: glue_type(stored_type) });
            (table.len() - 1, stored_type)
        });
        let name = table[place].name.clone();
        used.insert(name.clone());
        // The text of the file, null tokens included.
        let file_type = if column.has_other_spellings { ColumnType::Text } else { column.column_type };
        columns.push(FallbackColumn { name, file_type, stored_type, place });
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
    used: &HashSet<String>,
) -> Option<(usize, ColumnType)> {
    let additional_prefix = format!("{base}__");
    let is_additional = |name: &String| name.starts_with(&additional_prefix) && !bases.contains(name);
    let same_name = table.iter().position(|candidate| candidate.name == base);
    let others =
        table.iter().enumerate().filter(|(_, candidate)| is_additional(&candidate.name)).map(|(place, _)| place);
    same_name.into_iter().chain(others).find_map(|place| {
        let candidate = &table[place];
        if used.contains(&candidate.name) {
            return None;
        }
        stored_as(&candidate.glue_type, column).map(|stored_type| (place, stored_type))
    })
}

/// A free column name: the file's own, or with the type appended, or with type and number.
fn free_name(
    table: &[CatalogColumn],
    base: &str,
    stored_type: ColumnType,
    bases: &[String],
    used: &HashSet<String>,
) -> String {
    let is_taken = |name: &str| used.contains(name) || table.iter().any(|candidate| candidate.name == name);
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
/// Hive stores column lists separated by commas, and Glue rejects control characters.
pub(crate) fn catalog_name(name: &str) -> String {
    let is_unsafe = |character: char| character.is_control() || character == ',';
    name.to_lowercase().replace(is_unsafe, "_")
}
