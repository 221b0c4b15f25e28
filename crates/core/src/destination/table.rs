//! Prepares the table of a load: creates what is missing, and checks that the table can store the file.

use tracing::info;

use super::column::{
    EmptyColumns, MissingColumns, NullFill, TableColumn, find_missing, leave_out_empty, match_columns, mismatch,
    quoted_list,
};
use super::engine::Request;
use super::merge::mark_key;
use super::{FileSchema, LoadMode, ScanReason};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Dialect;
use spillway_formats::schema::Column;

/// A connection that reads and changes the definition of a table. All changes are outside of any transaction.
pub(super) trait TableConnection: Send {
    /// How the engine stores a column's values.
    type Storage: Clone + Send + Sync;

    /// The key of a merge.
    type Key: Send + Sync;

    /// Whether the table exists.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when it is a view, or cannot keep committed rows.
    fn has_table(&mut self, table: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Returns the statement that creates the table.
    ///
    /// # Errors
    /// When the file's columns cannot have a table.
    fn create_sql(&self, table: &str, columns: &[Column], mode: &LoadMode) -> Result<String>;

    /// Returns the statements that add nullable columns.
    ///
    /// # Errors
    /// When the table cannot have such a column.
    fn add_sql(&self, table: &str, columns: &[&Column]) -> Result<Vec<String>>;

    /// Returns the columns of a table that is created for the file, in the file's order.
    fn new_columns(&self, columns: &[Column], mode: &LoadMode) -> Vec<TableColumn<Self::Storage>>;

    /// Creates the table, unless another worker has created it at the same moment.
    fn create_table(
        &mut self,
        table: &str,
        columns: &[Column],
        mode: &LoadMode,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Rejects a table with a feature that would make a load in this mode wrong.
    fn reject_unsupported(&mut self, table: &str, mode: &LoadMode) -> impl Future<Output = Result<()>> + Send;

    /// Returns the merge key over the wanted columns, or the primary key where none are wanted.
    fn read_key(&mut self, table: &str, wanted: &[String]) -> impl Future<Output = Result<Self::Key>> + Send;

    /// Returns the names of the key's columns, as the table spells them.
    fn key_columns(key: &Self::Key) -> &[String];

    /// Returns the columns of the table, in table order.
    fn read_columns(&mut self, table: &str) -> impl Future<Output = Result<Vec<TableColumn<Self::Storage>>>> + Send;

    /// Adds nullable columns, except for those that another worker has added at the same moment.
    fn add_columns(&mut self, table: &str, columns: &[&Column]) -> impl Future<Output = Result<()>> + Send;
}

/// The result of [`prepare`].
pub(super) enum Prepared<Storage, Key> {
    /// The table can store the file's rows.
    Ready {
        /// The table's columns in the file's order. Empty for a file without columns.
        columns: Vec<TableColumn<Storage>>,
        /// The merge key, in that load mode.
        key: Option<Key>,
    },
    /// The table or columns must be created from a final schema.
    NeedsScan(ScanReason),
}

/// Checks the table, and creates it and its missing columns from a final schema. Sends no DDL when nothing is missing.
///
/// A file without columns needs no table, so none is created for it.
pub(super) async fn prepare<C: TableConnection>(
    connection: &mut C,
    request: &Request<'_>,
) -> Result<Prepared<C::Storage, C::Key>> {
    let Request { file, schema, options } = *request;
    let (table, mode) = (file.table.as_str(), &options.load_mode);
    let exists = connection.has_table(table).await?;
    if schema.schema().columns.is_empty() {
        return Ok(Prepared::Ready { columns: Vec::new(), key: None });
    }
    if !exists {
        match schema {
            FileSchema::Provisional { .. } => return Ok(Prepared::NeedsScan(ScanReason::TableMissing)),
            FileSchema::Final { schema, .. } => connection.create_table(table, &schema.columns, mode).await?,
        }
    }
    connection.reject_unsupported(table, mode).await?;
    let key = match mode {
        LoadMode::Append | LoadMode::Replace => None,
        LoadMode::Merge { key } => Some(connection.read_key(table, key).await?),
    };
    let mut table_columns = connection.read_columns(table).await?;
    match find_missing(table, &table_columns, schema, options.unknown_columns)? {
        MissingColumns::Nothing => {}
        MissingColumns::Add(columns) => {
            connection.add_columns(table, &columns).await?;
            table_columns = connection.read_columns(table).await?;
        }
        MissingColumns::Ignore(columns) => {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            info!(table, columns = names.join(", "), "columns that the table lacks are not loaded");
        }
        MissingColumns::NeedsScan => return Ok(Prepared::NeedsScan(ScanReason::ColumnsMissing)),
    }
    let key_columns = key.as_ref().map_or(&[][..], C::key_columns);
    match columns_to_send(request, &table_columns, key_columns)? {
        Some(columns) => Ok(Prepared::Ready { columns, key }),
        None => Ok(Prepared::NeedsScan(ScanReason::ColumnEmpty)),
    }
}

/// Returns the table's columns that receive a field of the file, in the order of the file. `None` if only a scan finds out
/// whether the file has a value for one of them.
pub(super) fn columns_to_send<S: Clone>(
    request: &Request<'_>,
    table_columns: &[TableColumn<S>],
    key_columns: &[String],
) -> Result<Option<Vec<TableColumn<S>>>> {
    let (table, schema) = (request.file.table.as_str(), request.schema);
    let mut columns = match_columns(table, table_columns, schema.schema(), request.options.unknown_columns)?;
    mark_key(table, key_columns, &mut columns)?;
    reject_nulls_early(request, &mut columns);
    if leave_out_empty(&mut columns, schema) == EmptyColumns::NeedsScan {
        return Ok(None);
    }
    if let ([], [first, ..]) = (columns.as_slice(), schema.schema().columns.as_slice()) {
        let message = format!("table {table} computes every column of the file");
        return Err(mismatch(&first.name, message));
    }
    Ok(Some(columns))
}

/// Rejects NULL in a NOT NULL column before it is sent, where that is better than leaving it to the server.
///
/// A merge would set the column of known rows to NULL. And Spillway can set aside one row, but the server rejects all.
fn reject_nulls_early<S>(request: &Request<'_>, columns: &mut [TableColumn<S>]) {
    let is_merge = matches!(request.options.load_mode, LoadMode::Merge { .. });
    let sets_rows_aside = request.file.value_rejects.is_some();
    for column in columns {
        match column.null_fill {
            NullFill::NextNumber | NullFill::Trigger if is_merge => column.null_fill = NullFill::Nothing,
            NullFill::Trigger if sets_rows_aside => column.null_fill = NullFill::Nothing,
            NullFill::Nothing | NullFill::NextNumber | NullFill::Trigger => {}
        }
    }
}

/// Returns a CREATE TABLE statement. Columns of the primary key are NOT NULL, and all others are nullable, because a
/// later file may have missing values.
pub(super) fn create_statement<D: Dialect>(
    table: &str,
    columns: &[Column],
    key: &[&Column],
    type_sql: impl Fn(&Column) -> String,
    key_type_sql: impl Fn(&Column) -> String,
) -> String {
    let in_key = |column: &Column| key.iter().any(|other| other.name == column.name);
    let definition = |column: &Column| match in_key(column) {
        true => format!("{} {} NOT NULL", D::quoted(&column.name), key_type_sql(column)),
        false => nullable_definition::<D>(column, &type_sql),
    };
    let mut definitions: Vec<String> = columns.iter().map(definition).collect();
    if !key.is_empty() {
        let key_list = quoted_list::<D>(key.iter().map(|column| &column.name));
        definitions.push(format!("PRIMARY KEY ({key_list})"));
    }
    let definitions = definitions.join(", ");
    let sql = format!("CREATE TABLE IF NOT EXISTS {} ({definitions}) {}", D::quoted(table), D::TABLE_OPTIONS);
    sql.trim_end().to_owned()
}

/// Returns the definition of a nullable column.
pub(super) fn nullable_definition<D: Dialect>(column: &Column, type_sql: impl Fn(&Column) -> String) -> String {
    format!("{} {} NULL", D::quoted(&column.name), type_sql(column))
}

/// The error for a replaced table whose old rows are referenced by a foreign key with a cascading delete.
pub(super) fn cascading_foreign_key(table: &str, constraint: &str, child: &str) -> Error {
    let message = format!(
        "table {table} cannot be replaced: the foreign key {constraint} of table {child} would change that table's \
         rows when the old rows are deleted; change it to ON DELETE RESTRICT, or use another LOAD_MODE"
    );
    Error::new(ErrorKind::TableMismatch, message)
}
