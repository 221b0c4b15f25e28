//! Refuses files of changes in load modes that would load them as rows, and names the settings for them.

use spillway_formats::schema::{Column, ColumnType, Schema};

use crate::destination::column::mismatch;
use crate::destination::options::LoadMode;
use crate::error::Result;

/// The usual name of a column of operations.
const OPERATION: &str = "op";

/// The length of the longest spelling of an operation.
const LONGEST_SPELLING: u64 = 6;

/// Whether a load mode stores one row per key, so that a row for a deletion would be wrong.
fn stores_one_row_per_key(mode: &LoadMode) -> bool {
    match mode {
        LoadMode::Merge { .. } | LoadMode::Mirror(_) => true,
        // The rows of a history of changes, or of the last changes, include the deletions.
        LoadMode::Append | LoadMode::Replace | LoadMode::Changes(_) => false,
    }
}

/// Fails if the records are changes (`JSON_VALUES=changes`), and the load mode would store those that delete a row.
pub(super) fn reject_records_of_changes(mode: &LoadMode, schema: &Schema) -> Result<()> {
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
pub(in crate::destination) fn reject_operations(mode: &LoadMode, lacking: &[&Column]) -> Result<()> {
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
pub(in crate::destination) fn advice(missing: &[&Column]) -> Option<String> {
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
pub(super) fn envelope_advice(columns: &[&Column]) -> Option<&'static str> {
    let has = |name: &str| columns.iter().any(|column| column.name == name);
    let is_object =
        |name: &str| columns.iter().any(|column| column.name == name && column.column_type == ColumnType::Json);
    let is_change = has("op") && has("before") && has("after") && (is_object("before") || is_object("after"));
    (is_change || has("schema") && is_object("payload")).then_some(
        "the records of the file are changes (of Debezium or spillway diff), not rows; set JSON_VALUES=changes, LOAD_MODE=changes and \
         MERGE_KEY",
    )
}
