//! Prepares the table of a load: creates what is missing, and checks that the table can store the file.

use std::borrow::Cow;

use tracing::info;

use super::changes::{add_columns, create_table, note};
use super::column::{
    EmptyColumns, Lacking, NullFill, TableColumn, find, find_lacking, leave_out_empty, match_columns, mismatch,
    quoted_list,
};
use super::engine::Request;
use super::extra::json_column;
use super::matching::{Match, matches};
use super::merge::mark_key;
use super::operation::{ChangedRows, reject_operations};
use super::widen::{WiderColumn, WiderType};
use super::{DestinationOptions, FileSchema, LoadMode, ScanReason, UnknownColumns};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Dialect;
use crate::table_name::TableName;
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
    fn has_table(&mut self, table: &TableName) -> impl Future<Output = Result<bool>> + Send;

    /// Fails if a table that [`Self::has_table`] does not find may only be hidden, because the user lacks a privilege.
    ///
    /// # Errors
    /// [`ErrorKind::Privilege`].
    fn check_absent(&mut self, table: &TableName) -> impl Future<Output = Result<()>> + Send;

    /// Returns the name of another table of the same schema that differs from this one only in letter case, if there is one.
    fn similar_table(&mut self, table: &TableName) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Returns the statement that creates the table.
    ///
    /// # Errors
    /// When the file's columns cannot have a table.
    fn create_sql(&self, table: &TableName, columns: &[Column], mode: &LoadMode) -> Result<String>;

    /// Returns the statements that add nullable columns.
    ///
    /// # Errors
    /// When the table cannot have such a column.
    fn add_sql(&self, table: &TableName, columns: &[&Column]) -> Result<Vec<String>>;

    /// Returns the columns of a table that is created for the file, in the file's order.
    fn new_columns(&self, columns: &[Column], mode: &LoadMode) -> Vec<TableColumn<Self::Storage>>;

    /// Creates the table, unless another worker has created it at the same moment.
    fn create_table(
        &mut self,
        table: &TableName,
        columns: &[Column],
        mode: &LoadMode,
    ) -> impl Future<Output = Result<Creation>> + Send;

    /// Rejects a table with a feature that would make a load in this mode wrong.
    fn reject_unsupported(&mut self, table: &TableName, mode: &LoadMode) -> impl Future<Output = Result<()>> + Send;

    /// Returns the merge key over the wanted columns, or the primary key where none are wanted.
    fn read_key(&mut self, table: &TableName, wanted: &[String]) -> impl Future<Output = Result<Self::Key>> + Send;

    /// Returns the names of the key's columns, as the table spells them.
    fn key_columns(key: &Self::Key) -> &[String];

    /// Returns the columns of the table, in table order.
    fn read_columns(
        &mut self,
        table: &TableName,
    ) -> impl Future<Output = Result<Vec<TableColumn<Self::Storage>>>> + Send;

    /// Adds nullable columns, except for those that another worker has added at the same moment. `added` gets the columns that
    /// this worker has added, also if a later one cannot be added.
    fn add_columns<'a>(
        &mut self,
        table: &TableName,
        columns: &[&'a Column],
        added: &mut Vec<&'a Column>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Changes columns of the table to types that hold their old values and those of the file, where such a type exists and
    /// the column does not have it yet. Returns a description of each change.
    ///
    /// No other worker can change the same columns in between, so a type never becomes narrower.
    fn widen_columns(
        &mut self,
        table: &TableName,
        columns: &[WiderColumn<'_>],
    ) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Returns the changes that [`TableConnection::widen_columns`] would make now. Reads only.
    fn wider_types(
        &mut self,
        table: &TableName,
        columns: &[WiderColumn<'_>],
    ) -> impl Future<Output = Result<Vec<WiderType<Self::Storage>>>> + Send;

    /// Runs one statement of [`TableConnection::wider_types`].
    fn change_type(&mut self, sql: &str) -> impl Future<Output = Result<()>> + Send;
}

/// The result of a statement that creates a table or columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    /// This worker has created them.
    Created,
    /// Nothing was created: another worker has created the table, or one of the columns, at the same moment.
    Exists,
}

/// The result of [`prepare`].
pub(super) enum Prepared<Storage, Key> {
    /// The table can store the file's rows.
    Ready {
        /// The table's columns in the file's order. Empty for a file without columns.
        columns: Vec<TableColumn<Storage>>,
        /// The key, in a load mode with one.
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
    let changed = ChangedRows::of(&request.options.load_mode, request.schema.schema())?;
    let request = &changed.as_ref().map_or(*request, |changed| changed.request(request));
    let Request { file, schema, options } = *request;
    let (table, mode) = (&file.table, &options.load_mode);
    let exists = connection.has_table(table).await?;
    if schema.schema().columns.is_empty() {
        return Ok(Prepared::Ready { columns: Vec::new(), key: None });
    }
    if !exists {
        reject_operations(mode, &schema.schema().columns.iter().collect::<Vec<_>>())?;
        match schema {
            FileSchema::Provisional { .. } => return Ok(Prepared::NeedsScan(ScanReason::TableMissing)),
            FileSchema::Final { schema, .. } => create_table(connection, request, schema).await?,
        }
    }
    connection.reject_unsupported(table, mode).await?;
    let key = match mode.key() {
        Some(wanted) => Some(connection.read_key(table, wanted).await?),
        None => None,
    };
    let key_columns = key.as_ref().map_or(&[][..], C::key_columns);
    let mut table_columns = connection.read_columns(table).await?;
    if widen(connection, request, &table_columns, key_columns).await? {
        table_columns = connection.read_columns(table).await?;
    }
    let lacking = find_lacking(table, &table_columns, schema, options.unknown_columns)?;
    reject_operations(mode, lacking.columns())?;
    match add_lacking(connection, request, &table_columns, lacking).await? {
        Added::Nothing => {}
        Added::Columns => table_columns = connection.read_columns(table).await?,
        Added::NeedsScan => return Ok(Prepared::NeedsScan(ScanReason::ColumnsMissing)),
    }
    match columns_to_send(request, &table_columns, key_columns)? {
        Some(mut columns) => {
            if let Some(changed) = &changed {
                changed.add_column(connection, &mut columns);
            }
            Ok(Prepared::Ready { columns, key })
        }
        None => Ok(Prepared::NeedsScan(ScanReason::ColumnEmpty)),
    }
}

/// Returns the columns of a new table: those of the file, and the JSON column for unknown columns of later files.
pub(super) fn columns_of_new_table<'a>(columns: &'a [Column], options: &DestinationOptions) -> Cow<'a, [Column]> {
    let has_extra = columns.iter().any(|column| column.name.eq_ignore_ascii_case(&options.extra_column));
    match options.unknown_columns {
        UnknownColumns::Json if !has_extra => {
            Cow::Owned(columns.iter().cloned().chain([json_column(&options.extra_column)]).collect())
        }
        UnknownColumns::Json | UnknownColumns::Refuse | UnknownColumns::Add | UnknownColumns::Ignore => {
            Cow::Borrowed(columns)
        }
    }
}

/// The result of adding columns to a table.
enum Added {
    Nothing,
    Columns,
    /// Only a scan finds out what must be added.
    NeedsScan,
}

/// Adds the columns that the table must have for the file.
async fn add_lacking<C: TableConnection>(
    connection: &mut C,
    request: &Request<'_>,
    table_columns: &[TableColumn<C::Storage>],
    lacking: Lacking<'_>,
) -> Result<Added> {
    let Request { file, options, .. } = *request;
    let table = &file.table;
    let names = |columns: &[&Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ");
    match lacking {
        Lacking::Nothing => Ok(Added::Nothing),
        Lacking::Add(columns) => {
            add_columns(connection, request, &columns).await?;
            Ok(Added::Columns)
        }
        Lacking::Ignore(columns) => {
            info!(%table, columns = names(&columns), "columns that the table lacks are not loaded");
            Ok(Added::Nothing)
        }
        Lacking::Json(columns) => {
            let extra = &options.extra_column;
            info!(%table, columns = names(&columns), extra, "columns that the table lacks are kept as JSON");
            if find(table_columns, extra).is_some() {
                return Ok(Added::Nothing);
            }
            add_columns(connection, request, &[&json_column(extra)]).await?;
            Ok(Added::Columns)
        }
        Lacking::NeedsScan => Ok(Added::NeedsScan),
    }
}

/// Widens the columns that a failed try has named. Returns whether any may have another type now.
async fn widen<C: TableConnection>(
    connection: &mut C,
    request: &Request<'_>,
    table_columns: &[TableColumn<C::Storage>],
    key_columns: &[String],
) -> Result<bool> {
    let wider = request.file.table_changes.wider();
    if wider.is_empty() || request.schema.body().is_none() {
        return Ok(false);
    }
    let table = &request.file.table;
    let mut columns = changeable_columns(request, table_columns, key_columns)?;
    columns.retain(|column| wider.contains(&column.name));
    let changes = connection.widen_columns(table, &columns).await?;
    changes.into_iter().for_each(|change| note(request, change));
    // Another worker may have changed the columns before.
    Ok(!columns.is_empty())
}

/// Returns the columns of the table that may get a wider type for the file.
///
/// The columns of a merge key keep their types, because another type may compare keys in another way.
pub(super) fn changeable_columns<'a, S>(
    request: &Request<'a>,
    table_columns: &[TableColumn<S>],
    key_columns: &[String],
) -> Result<Vec<WiderColumn<'a>>> {
    let schema = request.schema.schema();
    let found = matches(&request.file.table, table_columns, schema)?;
    let columns = schema.columns.iter().zip(found).filter_map(|(file, found)| match found {
        Match::Column(index) => Some(WiderColumn { name: table_columns[index].name.clone(), file }),
        Match::Missing | Match::Ambiguous(_) => None,
    });
    Ok(columns.filter(|column| !key_columns.contains(&column.name)).collect())
}

/// Returns the table's columns that receive a field of the file, in the order of the file. `None` if only a scan finds out
/// whether the file has a value for one of them.
pub(super) fn columns_to_send<S: Clone>(
    request: &Request<'_>,
    table_columns: &[TableColumn<S>],
    key_columns: &[String],
) -> Result<Option<Vec<TableColumn<S>>>> {
    let (table, schema) = (&request.file.table, request.schema);
    let mut columns = match_columns(table, table_columns, schema.schema(), request.options.contract())?;
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
    let is_merge = request.options.load_mode.key().is_some();
    let sets_rows_aside = request.file.value_rejects.is_some();
    for column in columns {
        match column.null_fill {
            NullFill::NextNumber | NullFill::Trigger | NullFill::TriggerIfSent if is_merge => {
                column.null_fill = NullFill::Nothing
            }
            NullFill::Trigger | NullFill::TriggerIfSent if sets_rows_aside => column.null_fill = NullFill::Nothing,
            NullFill::Nothing | NullFill::NextNumber | NullFill::Trigger | NullFill::TriggerIfSent => {}
        }
    }
}

/// Returns a statement that fails if the table exists, so that its response tells who has created the table.
pub(super) fn failing_if_exists(create_sql: &str) -> String {
    match create_sql.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
        Some(rest) => format!("CREATE TABLE {rest}"),
        None => create_sql.to_owned(),
    }
}

/// Returns a CREATE TABLE statement. Columns of the primary key are NOT NULL, and all others are nullable, because a
/// later file may have missing values.
pub(super) fn create_statement<D: Dialect>(
    table: &TableName,
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
    let table = quoted_table::<D>(table);
    let sql = format!("CREATE TABLE IF NOT EXISTS {table} ({definitions}) {}", D::TABLE_OPTIONS);
    sql.trim_end().to_owned()
}

/// Returns the quoted name of a table, after that of its schema if it has one.
pub(super) fn quoted_table<D: Dialect>(table: &TableName) -> String {
    table.parts().map(D::quoted).collect::<Vec<_>>().join(".")
}

/// Returns the definition of a nullable column.
pub(super) fn nullable_definition<D: Dialect>(column: &Column, type_sql: impl Fn(&Column) -> String) -> String {
    format!("{} {} NULL", D::quoted(&column.name), type_sql(column))
}

/// The error for a table whose rows would be deleted, and are referenced by a foreign key with a cascading delete.
pub(super) fn cascading_foreign_key(table: &str, constraint: &str, child: &str) -> Error {
    let message = format!(
        "rows of table {table} cannot be deleted: the foreign key {constraint} of table {child} would change that table's \
         rows too; change it to ON DELETE RESTRICT, or use another LOAD_MODE"
    );
    Error::new(ErrorKind::TableMismatch, message)
}
