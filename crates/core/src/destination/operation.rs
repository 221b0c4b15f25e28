//! The operation of each row in a file of changes (`LOAD_MODE=changes`): whether it stores or deletes the row with its key.
//!
//! The table has no column for the operation, so the staging table gets one.

use std::sync::Arc;

use futures_util::StreamExt;
use spillway_formats::schema::Schema;

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
    pub(super) fn of(mode: &LoadMode, schema: &Schema) -> Result<Option<Self>> {
        let LoadMode::Changes(Changes { operation_column: name, .. }) = mode else { return Ok(None) };
        if schema.columns.is_empty() {
            return Ok(None);
        }
        let exact = schema.columns.iter().position(|column| column.name == *name);
        let in_any_case = || schema.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        let Some(operation) = exact.or_else(in_any_case) else {
            return Err(mismatch(name, format!("the file has no column {name}, which OPERATION_COLUMN names")));
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
mod tests {
    use futures_util::TryStreamExt;
    use spillway_formats::Batch;
    use spillway_formats::schema::infer::Inference;

    use super::*;

    fn mode(name: &str) -> LoadMode {
        LoadMode::Changes(Changes { key: Vec::new(), operation_column: name.to_owned() })
    }

    fn schema(names: &[&str]) -> Schema {
        Inference::new(names.iter().map(|name| (*name).to_owned()).collect()).finish()
    }

    fn batch(rows: &[[Option<&str>; 3]]) -> Batch {
        let mut batch = Batch::new(3);
        for row in rows {
            row.iter().for_each(|field| batch.push_field(field.map(str::as_bytes)));
            batch.end_row(Position { record: 7, ..Position::default() });
        }
        batch
    }

    async fn moved(rows: &[[Option<&str>; 3]]) -> Result<Vec<Vec<Option<String>>>> {
        let stream = futures_util::stream::iter([Ok(batch(rows))]).boxed();
        let batches: Vec<Batch> = moved_to_end(stream, (1, "op".to_owned()), None).try_collect().await?;
        let text = |batch: &Batch, row, column| {
            batch.field(row, column).map(|field| String::from_utf8_lossy(field).into_owned())
        };
        let rows = |batch: &Batch| {
            (0..batch.rows()).map(|row| (0..batch.width()).map(|column| text(batch, row, column)).collect()).collect()
        };
        Ok(batches.iter().flat_map(|batch| -> Vec<Vec<Option<String>>> { rows(batch) }).collect())
    }

    #[test]
    fn column_is_found_in_any_case_and_left_out() {
        let changes = ChangedRows::of(&mode("op"), &schema(&["id", "Op", "note"])).unwrap().unwrap();
        assert_eq!(changes.operation, 1);
        let names: Vec<&str> = changes.schema.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "note"]);
        for names in [&["id", "note"][..], &["op"]] {
            let error = ChangedRows::of(&mode("op"), &schema(names)).err().unwrap();
            assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("op")));
        }
        assert!(ChangedRows::of(&mode("op"), &schema(&[])).unwrap().is_none());
        assert!(ChangedRows::of(&LoadMode::Append, &schema(&["op"])).unwrap().is_none());
    }

    #[tokio::test]
    async fn operation_moves_to_the_end_in_one_spelling() {
        let rows = [[Some("1"), Some("D"), None], [None, Some("Insert"), Some("x")], [Some(""), Some("u"), Some("y")]];
        let text = |text: &str| Some(text.to_owned());
        let expected = [[text("1"), None, text("d")], [None, text("x"), text("c")], [text(""), text("y"), text("u")]];
        assert_eq!(moved(&rows).await.unwrap(), expected);
        for unknown in [None, Some(""), Some("t"), Some("dd")] {
            let error = moved(&[[Some("1"), unknown, None]]).await.unwrap_err();
            assert_eq!((error.kind(), error.position().map(|at| at.record)), (ErrorKind::FileBroken, Some(7)));
            assert!(!error.to_string().contains("dd"), "{error}");
        }
    }
}
