//! The plan of a load: the columns that receive values, and the statement that creates a missing table.

use super::Redshift;
use super::column::{Storage, TableColumn, new_columns, read_columns};
use super::key::key_columns;
use super::sql::create_table;
use crate::destination::column::{Lacking, find_lacking, mismatch};
use crate::destination::engine::Request;
use crate::destination::merge::new_key;
use crate::destination::operation::{ChangedRows, reject_operations};
use crate::destination::table::columns_to_send;
use crate::destination::{FileClaim, FileSchema, LoadMode};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Row;
use crate::table_name::TableName;
use spillway_formats::schema::{Column, Schema};

/// What a load does to its table.
#[derive(Debug)]
pub(super) struct Plan {
    /// The columns that receive values. Empty for a file without columns.
    pub(super) columns: Vec<TableColumn>,
    /// The statement that creates a missing table.
    pub(super) create_table: Option<String>,
    /// The file's columns that are not loaded, because the table lacks them.
    pub(super) ignored: Vec<String>,
}

/// What the catalog says about the table of a load.
#[derive(Debug)]
pub(super) struct TableRows {
    /// The rows of [`super::column::columns_query`]. Empty if there is no such table.
    pub(super) columns: Vec<Row>,
    /// The rows of [`super::key::primary_key_query`]. Empty in load modes that do not need them.
    pub(super) primary_key: Vec<Row>,
}

impl Redshift {
    /// Plans the load.
    pub(super) fn plan(&self, file: &FileClaim, schema: FileSchema<'_>, found: &TableRows) -> Result<Plan> {
        let (table, columns, mode) = (&file.table, &schema.schema().columns, &self.options.load_mode);
        check_mode(mode)?;
        // Fails for records of changes, which only LOAD_MODE=changes applies.
        ChangedRows::of(mode, schema.schema())?;
        if columns.is_empty() {
            return Ok(Plan { columns: Vec::new(), create_table: None, ignored: Vec::new() });
        }
        if found.columns.is_empty() {
            reject_operations(mode, &columns.iter().collect::<Vec<_>>())?;
            let columns = new_columns(columns, &new_key(table, columns, mode)?)?;
            let sql = create_table(table, &columns, &self.options.redshift_keys);
            return Ok(Plan { columns, create_table: Some(sql), ignored: Vec::new() });
        }
        let table_columns = read_columns(table, &found.columns)?;
        let key = key_columns(table, mode, &table_columns, &found.primary_key)?;
        let request = Request { file, schema, options: &self.options };
        let lacking = find_lacking(table, &table_columns, schema, self.options.unknown_columns)?;
        reject_operations(mode, lacking.columns())?;
        let names = |columns: Vec<&Column>| columns.into_iter().map(|column| column.name.clone()).collect();
        let ignored = match lacking {
            Lacking::Ignore(columns) => names(columns),
            Lacking::Nothing | Lacking::Add(_) | Lacking::Json(_) | Lacking::NeedsScan => Vec::new(),
        };
        let columns = columns_to_send(&request, &table_columns, &key)?.unwrap_or_default();
        let columns = without_unsupported(table, columns, schema.schema())?;
        Ok(Plan { columns, create_table: None, ignored })
    }
}

/// Returns the name of the table as Redshift stores it: `Orders` and `orders` are one table.
pub(super) fn stored_name(table: &TableName) -> TableName {
    let name = table.own_name().to_ascii_lowercase();
    match table.schema() {
        Some(schema) => TableName::in_schema(&schema.to_ascii_lowercase(), &name),
        None => TableName::from(name.as_str()),
    }
}

/// Fails for a load mode that Spillway does not have in Redshift. The settings are checked when they are read.
fn check_mode(mode: &LoadMode) -> Result<()> {
    match mode {
        LoadMode::Append | LoadMode::Replace | LoadMode::Merge { .. } => Ok(()),
        LoadMode::Mirror(_) | LoadMode::Changes(_) => {
            let message = format!("LOAD_MODE={} needs another database than Redshift", mode.name());
            Err(Error::new(ErrorKind::Settings, message))
        }
    }
}

/// Returns the columns without those of types that COPY is not used for.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the file has a value for one of them, or when none is left.
fn without_unsupported(table: &TableName, mut columns: Vec<TableColumn>, schema: &Schema) -> Result<Vec<TableColumn>> {
    let is_unsupported = |column: &TableColumn| matches!(column.storage, Storage::Unsupported(_));
    let is_empty = |column: &TableColumn| schema.columns.get(column.field).is_some_and(|column| column.is_empty());
    let has_other = columns.iter().any(|column| !is_unsupported(column));
    if let Some(column) = columns.iter().find(|column| is_unsupported(column) && !(has_other && is_empty(column))) {
        let message = format!(
            "Spillway does not copy values into columns of the type {}, as {} of table {table}",
            column.type_text, column.name
        );
        return Err(mismatch(&column.name, message));
    }
    columns.retain(|column| !is_unsupported(column));
    Ok(columns)
}
