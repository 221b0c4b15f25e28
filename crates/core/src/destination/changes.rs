//! Changes of a table's definition for one file: makes them, and keeps those that a failed try has requested and those that
//! were made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::info;

use super::LoadMode;
use super::column::TableColumn;
use super::engine::Request;
use super::table::{Creation, TableConnection, columns_of_new_table};
use crate::error::Result;
use crate::ledger::reported;
use crate::table_name::TableName;
use spillway_formats::schema::{Column, Schema};

/// Number of columns that a change names.
const NAMED_COLUMNS: usize = 100;

/// The changes for one file. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct TableChanges(Arc<Mutex<Changes>>);

#[derive(Debug, Default)]
struct Changes {
    wider: Vec<String>,
    /// The changes that stay, whatever happens to the rows.
    made: Vec<String>,
    /// The change in the transaction of the rows.
    in_transaction: Option<String>,
    /// What to say about a new table beside another one of nearly the same name.
    similar_table: Option<String>,
}

impl TableChanges {
    /// Requests a wider type for a column, whose values do not fit. Returns `false` if that was requested before.
    pub fn request_wider(&self, column: &str) -> bool {
        let mut changes = self.changes();
        let is_new = changes.wider.iter().all(|other| other != column);
        if is_new {
            changes.wider.push(column.to_owned());
        }
        is_new
    }

    /// Returns the descriptions of the changes that were made. They name columns and types, and contain no values.
    pub fn made(&self) -> Vec<String> {
        let changes = self.changes();
        changes.made.iter().chain(&changes.in_transaction).cloned().collect()
    }

    /// Returns the changes that a report lists, at most 1,000 characters in all.
    pub fn reported(&self) -> Vec<String> {
        reported(self.made())
    }

    /// Returns what to say about a new table whose name differs from that of another one only in letter case.
    pub fn similar_table_hint(&self) -> Option<String> {
        self.changes().similar_table.clone()
    }

    /// Removes the change of a transaction that was not committed.
    pub fn roll_back(&self) {
        let mut changes = self.changes();
        if changes.in_transaction.take().is_some() {
            changes.similar_table = None;
        }
    }

    /// Notes that the load creates `table`, and that `similar` existed before.
    pub(super) fn record_similar_table(&self, table: &TableName, similar: Option<&str>) {
        self.changes().similar_table = similar.map(|similar| similar_table_hint(table, similar));
    }

    /// The columns that need a wider type.
    pub(super) fn wider(&self) -> Vec<String> {
        self.changes().wider.clone()
    }

    /// Notes a change that was made outside of any transaction.
    pub(super) fn record(&self, change: String) {
        self.changes().made.push(change);
    }

    /// Notes a change in the transaction of the rows. If the transaction is rolled back, the table is as before.
    pub(super) fn record_in_transaction(&self, change: String) {
        self.changes().in_transaction = Some(change);
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to say about a new table whose name differs from that of `similar` only in letter case.
pub(crate) fn similar_table_hint(table: &TableName, similar: &str) -> String {
    format!(
        "table {table} is new, although the database has the table {similar}, whose name differs only in letter case; if the rows \
         belong there, load files with exactly that name"
    )
}

/// Creates the table of a file, and notes that unless another worker has created it at the same moment.
pub(super) async fn create_table<C: TableConnection>(
    connection: &mut C,
    request: &Request<'_>,
    schema: &Schema,
) -> Result<()> {
    let (columns, mode) = (columns_of_new_table(&schema.columns, request.options), &request.options.load_mode);
    // Before the table exists: a server that does not tell such names apart may store this one in another case.
    let similar = connection.similar_table(&request.file.table).await?;
    if connection.create_table(&request.file.table, &columns, mode).await? == Creation::Created {
        note(request, created(&connection.new_columns(&columns, mode)));
        request.file.table_changes.record_similar_table(&request.file.table, similar.as_deref());
    }
    Ok(())
}

/// Adds columns, and notes those that this worker has added.
pub(super) async fn add_columns<C: TableConnection>(
    connection: &mut C,
    request: &Request<'_>,
    columns: &[&Column],
) -> Result<()> {
    let mut added = Vec::new();
    let result = connection.add_columns(&request.file.table, columns, &mut added).await;
    if !added.is_empty() {
        let added: Vec<Column> = added.into_iter().cloned().collect();
        let columns = definitions(&connection.new_columns(&added, &LoadMode::Append));
        note(request, format!("added {columns}"));
    }
    result
}

/// Logs a change of the table, and keeps it for the report and the ledger.
pub(super) fn note(request: &Request<'_>, change: String) {
    log_change(request, &change);
    request.file.table_changes.record(change);
}

/// The same for a change in the transaction of the rows.
pub(super) fn note_in_transaction(request: &Request<'_>, change: String) {
    log_change(request, &change);
    request.file.table_changes.record_in_transaction(change);
}

fn log_change(request: &Request<'_>, change: &str) {
    info!(table = %request.file.table, change, "the table was changed for the file");
}

/// Describes a new table.
pub(super) fn created<S>(columns: &[TableColumn<S>]) -> String {
    format!("created the table with {}", definitions(columns))
}

/// Returns the names and types of columns. A long list names only the first ones.
fn definitions<S>(columns: &[TableColumn<S>]) -> String {
    let definition = |column: &TableColumn<S>| format!("{} {}", column.name, column.type_text);
    let named: Vec<String> = columns.iter().take(NAMED_COLUMNS).map(definition).collect();
    let noun = if columns.len() == 1 { "column" } else { "columns" };
    let rest = match columns.len().saturating_sub(NAMED_COLUMNS) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("the {noun} {}{rest}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::column::nullable_column;

    #[test]
    fn only_the_change_in_the_transaction_is_rolled_back() {
        let changes = TableChanges::default();
        changes.record("added".to_owned());
        changes.record_similar_table(&"Orders".into(), Some("orders"));
        changes.clone().record_in_transaction("created".to_owned());
        assert_eq!(changes.made(), ["added", "created"]);
        assert!(changes.similar_table_hint().is_some_and(|hint| hint.contains("Orders") && hint.contains("orders")));
        changes.roll_back();
        assert_eq!((changes.made(), changes.similar_table_hint()), (vec!["added".to_owned()], None));
    }

    #[test]
    fn long_list_of_columns_names_the_first_ones() {
        let columns = |count| (0..count).map(|_| nullable_column("INT", ())).collect::<Vec<_>>();
        assert_eq!(created(&columns(1)), "created the table with the column c INT");
        assert_eq!(definitions(&columns(2)), "the columns c INT, c INT");
        let long = definitions(&columns(NAMED_COLUMNS + 3));
        assert!(long.ends_with("c INT, c INT and 3 more"), "{long}");
    }
}
