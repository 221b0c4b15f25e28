//! The operation of each row in a file of changes (`LOAD_MODE=changes`): whether it stores or deletes the row with its key.
//!
//! The table has no column for the operation, so the staging table gets one.

mod advice;

use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;
use spillway_formats::Batch;
use spillway_formats::schema::{Column, Schema};

pub(crate) use self::advice::changes_hint;
pub(super) use self::advice::{advice, reject_operations};
use self::advice::{envelope_advice, reject_records_of_changes};
use super::FileSchema;
use super::column::{TableColumn, find, mismatch};
use super::engine::Request;
use super::extra::{ExtraFields, text_column};
use super::options::{Changes, LoadMode};
use super::table::TableConnection;
use crate::batch::BatchStream;
use crate::error::{Error, ErrorKind, Position, Result};

/// The staged operation of a row to insert, or to update if its key exists.
pub(super) const STORE: &str = "c";
/// The staged operation of a row whose key should exist.
pub(super) const UPDATE: &str = "u";
/// The staged operation of a row to delete.
pub(super) const DELETE: &str = "d";

/// The spellings of the operations: those of Debezium, AWS DMS and `spillway diff`.
const SPELLINGS: [(&str, &str); 11] = [
    ("c", STORE),
    ("r", STORE),
    ("i", STORE),
    ("insert", STORE),
    ("create", STORE),
    ("read", STORE),
    ("load", STORE),
    ("u", UPDATE),
    ("update", UPDATE),
    ("d", DELETE),
    ("delete", DELETE),
];

/// A file of changes without its column of operations.
pub(super) struct ChangedRows {
    /// The columns of the rows.
    schema: Schema,
    /// The index of the column of operations in the file.
    operation: usize,
}

impl ChangedRows {
    /// Finds the column of operations; `None` in other load modes, and for a file without columns.
    ///
    /// # Errors
    /// When the file lacks the column, or when its records are changes and the load mode would store its deleted rows.
    pub(super) fn of(mode: &LoadMode, schema: &Schema) -> Result<Option<Self>> {
        let LoadMode::Changes(Changes { operation_column: name, .. }) = mode else {
            reject_records_of_changes(mode, schema)?;
            return Ok(None);
        };
        if schema.columns.is_empty() {
            return Ok(None);
        }
        let exact = schema.columns.iter().position(|column| column.name == *name);
        let in_any_case = || schema.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        let all: Vec<&Column> = schema.columns.iter().collect();
        if let Some(advice) = envelope_advice(&all) {
            return Err(mismatch(name, advice.to_owned()));
        }
        let Some(operation) = exact.or_else(in_any_case) else {
            let message = format!(
                "the file has no column {name}, which LOAD_MODE=changes needs for the operation of each row; set OPERATION_COLUMN \
                 to the name of that column, or LOAD_MODE=merge for files without operations"
            );
            return Err(mismatch(name, message));
        };
        let mut schema = schema.clone();
        schema.columns.remove(operation);
        schema.unnamed -= usize::from(operation < schema.unnamed);
        if schema.columns.is_empty() {
            return Err(mismatch(name, format!("the file has no column other than {name}")));
        }
        Ok(Some(Self { schema, operation }))
    }

    /// The same request, for the rows without their operations.
    pub(super) fn request<'a>(&'a self, request: &Request<'a>) -> Request<'a> {
        let schema = match request.schema {
            FileSchema::Final { body, .. } => FileSchema::Final { schema: &self.schema, body },
            FileSchema::Provisional { may_create_table, .. } => {
                FileSchema::Provisional { schema: &self.schema, may_create_table }
            }
        };
        Request { schema, ..*request }
    }

    /// Checks and counts the operations of the file's rows. `mode` is that of [`Self::of`].
    pub(super) fn checker(&self, mode: &LoadMode) -> OperationChecker {
        OperationChecker { field: self.operation, column: mode.operation_column(), counts: OperationCounts::default() }
    }

    /// The columns of the rows.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Adds the staged column of operations. It comes after the others, and after the JSON column for unknown ones.
    pub(super) fn add_column<C: TableConnection>(&self, connection: &C, columns: &mut Vec<TableColumn<C::Storage>>) {
        let mut name = "spillway_operation".to_owned();
        while find(columns, &name).is_some() {
            name.push('_');
        }
        let extra = columns.iter().filter(|column| column.extra.is_some()).count();
        let new = connection.new_columns(&[text_column(&name)], &LoadMode::Append);
        columns.extend(new.into_iter().map(|column| TableColumn {
            field: self.schema.columns.len() + extra,
            operation: Some(self.operation),
            ..column
        }));
    }

    /// Changes the index of each column's field from that of a row without its operation to that in the file.
    pub(super) fn restore_fields<S>(&self, columns: &mut [TableColumn<S>]) {
        columns.iter_mut().filter(|column| column.field >= self.operation).for_each(|column| column.field += 1);
    }
}

/// Moves the operation, which has this index and name in the file, to the end of each row, and writes it in one spelling.
///
/// # Errors
/// In the stream: [`ErrorKind::FileBroken`] for an unknown operation.
pub(super) fn moved_to_end<'a>(
    rows: BatchStream<'a>,
    (operation, name): (usize, String),
    extra: Option<Arc<ExtraFields>>,
) -> BatchStream<'a> {
    rows.map(move |batch| {
        let batch = batch?;
        let mut rows = batch.without(operation);
        if let Some(extra) = &extra {
            rows = extra.widened(&rows)?;
        }
        let (mut row, mut error) = (0, None);
        let moved = rows.widened(1, |wide, position| {
            match canonical(batch.field(row, operation), position) {
                Ok(operation) => wide.push_field(Some(operation.as_bytes())),
                Err(unknown) => {
                    wide.push_field(None);
                    error.get_or_insert(unknown.in_column(&name));
                }
            }
            row += 1;
        });
        error.map_or(Ok(moved), Err)
    })
    .boxed()
}

/// The rows of a file of changes by operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OperationCounts {
    /// Rows to insert, or to update if their key exists.
    pub stores: u64,
    /// Rows to update.
    pub updates: u64,
    /// Rows to delete.
    pub deletes: u64,
}

/// Checks and counts the operations of a file of changes, without a load.
#[derive(Debug)]
pub(super) struct OperationChecker {
    /// The index of the column of operations in the file.
    field: usize,
    /// Its name in the settings.
    column: String,
    pub(super) counts: OperationCounts,
}

impl OperationChecker {
    /// Counts the operations of these rows.
    ///
    /// # Errors
    /// The error of a load of these rows: that of the first unknown operation.
    pub(super) fn check(&mut self, rows: &Batch) -> Result<()> {
        for row in 0..rows.rows() {
            let operation = canonical(rows.field(row, self.field), rows.position(row));
            match operation.map_err(|unknown| unknown.in_column(&self.column))? {
                DELETE => self.counts.deletes += 1,
                UPDATE => self.counts.updates += 1,
                _ => self.counts.stores += 1,
            }
        }
        Ok(())
    }
}

fn canonical(field: Option<&[u8]>, position: Position) -> Result<&'static str> {
    let text = field.and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let known = SPELLINGS.iter().find(|(spelling, _)| text.eq_ignore_ascii_case(spelling));
    known.map(|(_, operation)| *operation).ok_or_else(|| {
        let message =
            "the operation (OPERATION_COLUMN) is unknown; use c, r, i, u, d, insert, create, read, load, update or delete";
        Error::new(ErrorKind::FileBroken, message).at(position)
    })
}

#[cfg(test)]
mod tests;
