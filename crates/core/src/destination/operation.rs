//! The operation of each row in a file of changes (`LOAD_MODE=changes`): whether it stores or deletes the row with its key.
//!
//! The table has no column for the operation, so the staging table gets one.

use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;
use spillway_formats::Batch;
use spillway_formats::schema::{Column, ColumnType, Schema};

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

/// The usual name of a column of operations.
const OPERATION: &str = "op";

/// The length of the longest spelling of an operation.
const LONGEST_SPELLING: u64 = 6;

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

/// Whether a load mode stores one row per key, so that a row for a deletion would be wrong.
fn stores_one_row_per_key(mode: &LoadMode) -> bool {
    match mode {
        LoadMode::Merge { .. } | LoadMode::Mirror(_) => true,
        // The rows of a history of changes, or of the last changes, include the deletions.
        LoadMode::Append | LoadMode::Replace | LoadMode::Changes(_) => false,
    }
}

/// Fails if the records are changes (`JSON_VALUES=changes`), and the load mode would store those that delete a row.
fn reject_records_of_changes(mode: &LoadMode, schema: &Schema) -> Result<()> {
    if !schema.is_of_changes || !stores_one_row_per_key(mode) {
        return Ok(());
    }
    let message = format!(
        "the records of the file are changes (JSON_VALUES=changes), and LOAD_MODE={} would store deleted rows; set LOAD_MODE=changes",
        mode.name()
    );
    Err(mismatch(OPERATION, message).with_advice())
}

/// Fails if a column that the table lacks seems to have operations, and the load mode would store the rows that they delete.
///
/// A table that has the column has it on purpose, for example to mark deleted rows.
pub(super) fn reject_operations(mode: &LoadMode, lacking: &[&Column]) -> Result<()> {
    let is_operation = |column: &&&Column| {
        let is_in_key = mode.key().is_some_and(|key| key.iter().any(|name| name.eq_ignore_ascii_case(&column.name)));
        column.name.eq_ignore_ascii_case(OPERATION)
            && column.column_type == ColumnType::Text
            && column.max_bytes <= LONGEST_SPELLING
            && !is_in_key
    };
    let Some(column) = lacking.iter().find(is_operation).filter(|_| stores_one_row_per_key(mode)) else {
        return Ok(());
    };
    let message = format!(
        "the table has no column {0}, which seems to be the operation of each row (insert, update or delete); LOAD_MODE={1} would \
         store deleted rows: set LOAD_MODE=changes and OPERATION_COLUMN={0}, or, if {0} is data, add the column to the table first",
        column.name,
        mode.name()
    );
    Err(mismatch(&column.name, message).with_advice())
}

/// Returns the settings that are meant with columns that a table lacks, if they are those of a file of changes.
pub(super) fn advice(missing: &[&Column]) -> Option<String> {
    if let Some(advice) = envelope_advice(missing) {
        return Some(advice.to_owned());
    }
    let operation = missing.iter().find(|column| column.name.eq_ignore_ascii_case(OPERATION))?;
    Some(format!(
        "if {0} has the operation of each row (insert, update or delete), set LOAD_MODE=changes, OPERATION_COLUMN={0} and MERGE_KEY",
        operation.name
    ))
}

/// Returns what the user may have meant with a file whose records are changes, and not rows.
pub(crate) fn changes_hint(schema: &Schema) -> Option<String> {
    let columns: Vec<&Column> = schema.columns.iter().collect();
    envelope_advice(&columns).map(str::to_owned)
}

/// Returns the settings for records that are changes of Debezium or of `spillway diff`, and not rows.
fn envelope_advice(columns: &[&Column]) -> Option<&'static str> {
    let has = |name: &str| columns.iter().any(|column| column.name == name);
    let is_object =
        |name: &str| columns.iter().any(|column| column.name == name && column.column_type == ColumnType::Json);
    let is_change = has("op") && has("before") && has("after") && (is_object("before") || is_object("after"));
    (is_change || has("schema") && is_object("payload")).then_some(
        "the records of the file are changes (of Debezium or spillway diff), not rows; set JSON_VALUES=changes, LOAD_MODE=changes and \
         MERGE_KEY",
    )
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

    #[test]
    fn deletions_are_not_merged_as_rows() {
        let merge = |key: &str| LoadMode::Merge { key: vec![key.to_owned()] };
        let changes = Schema { is_of_changes: true, ..schema(&["op", "id"]) };
        let error = ChangedRows::of(&merge("id"), &changes).err().unwrap().to_string();
        assert!(error.contains("JSON_VALUES=changes") && error.contains("LOAD_MODE=merge"), "{error}");
        for stored in [LoadMode::Append, LoadMode::Replace] {
            assert!(ChangedRows::of(&stored, &changes).unwrap().is_none(), "{stored:?}");
        }
        let file = columns(&[("id", ColumnType::Integer), ("Op", ColumnType::Text)]);
        let lacking: Vec<&Column> = file.iter().collect();
        assert!(reject_operations(&merge("id"), &lacking).unwrap_err().to_string().contains("OPERATION_COLUMN=Op"));
        for allowed in [merge("op"), LoadMode::Append, LoadMode::Replace, mode("op")] {
            reject_operations(&allowed, &lacking).unwrap();
        }
        // Longer texts and numbers are no operations.
        let long = Column { max_bytes: 7, ..file[1].clone() };
        let number = Column { column_type: ColumnType::Integer, ..file[1].clone() };
        reject_operations(&merge("id"), &[&long, &number]).unwrap();
    }

    /// Columns with these names and types.
    fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let columns = schema(&names).columns.into_iter().zip(columns);
        columns.map(|(column, (_, column_type))| Column { column_type: *column_type, ..column }).collect()
    }

    #[test]
    fn columns_of_changes_name_the_settings() {
        use ColumnType::{Json, Text};
        let advice = |list: &[(&str, ColumnType)]| {
            let columns = columns(list);
            super::advice(&columns.iter().collect::<Vec<_>>())
        };
        let envelopes = [
            &[("op", Text), ("before", Text), ("after", Json), ("seq", Text)][..],
            &[("before", Json), ("after", Text), ("op", Text)],
            &[("schema", Json), ("payload", Json)],
        ];
        for envelope in envelopes {
            let text = advice(envelope).unwrap();
            assert!(text.contains("JSON_VALUES=changes, LOAD_MODE=changes"), "{text}");
            let schema = Schema { columns: columns(envelope), ..schema(&[]) };
            let error = ChangedRows::of(&mode("op"), &schema).err().unwrap();
            assert!(error.to_string().contains("JSON_VALUES=changes"), "{error}");
        }
        assert!(advice(&[("id", Text), ("Op", Text)]).unwrap().contains("OPERATION_COLUMN=Op"));
        for other in [&[("before", Text), ("after", Text)][..], &[("payload", Json)], &[("operation", Text)]] {
            assert_eq!(advice(other), None);
        }
        let error = ChangedRows::of(&mode("kind"), &schema(&["id", "op"])).err().unwrap().to_string();
        assert!(error.contains("no column kind") && error.contains("OPERATION_COLUMN"), "{error}");
    }

    #[test]
    fn operations_are_counted_until_an_unknown_one() {
        let mut checker = ChangedRows { schema: schema(&[]), operation: 1 }.checker(&mode("op"));
        let rows = |operations: [&'static str; 3]| batch(&operations.map(|operation| [None, Some(operation), None]));
        checker.check(&rows(["I", "update", "d"])).unwrap();
        checker.check(&rows(["c", "D", "delete"])).unwrap();
        assert_eq!(checker.counts, OperationCounts { stores: 2, updates: 1, deletes: 3 });
        let error = checker.check(&rows(["c", "x", "c"])).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::FileBroken, Some("op")));
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
