//! Finds out what a load of a scanned file would find and change in the database. Reads only.
//!
//! It uses the same steps as a load: the same columns, the same statements, the same check of each value. What only the server
//! can check is not checked: unique keys, foreign keys, CHECK constraints, triggers, and values of types that the server parses.

use std::marker::PhantomData;

use spillway_formats::Batch;
use spillway_formats::schema::{Column, Schema};

use super::changes::similar_table_hint;
use super::column::{Lacking, NullFill, TableColumn, check_missing, find, find_lacking};
use super::engine::{LoadConnection, Request};
use super::extra::json_column;
use super::operation::{ChangedRows, OperationChecker, OperationCounts, reject_operations};
use super::table::{changeable_columns, columns_of_new_table, columns_to_send, quoted_table};
use super::widen::WiderType;
use super::{
    ChangedTypes, DestinationOptions, LedgerEntry, LedgerState, LoadMode, Product, UnknownColumns, mysql, postgres,
};
use crate::error::{Error, Result};
use crate::table_name::TableName;

/// What a load would find and change.
pub struct Inspection {
    /// The state that the load would find or record if the file needs no load: loaded, duplicate or superseded.
    pub needs_no_load: Option<LedgerState>,
    /// The load mode of the earlier load, if the file needs no load because of one with another mode.
    pub earlier_load_mode: Option<String>,
    /// The table.
    pub table: FoundTable,
    /// The number of rows of the table, for a mirror of the whole table; at most ten million.
    pub table_rows: Option<u64>,
    /// Checks the file's rows against the columns.
    pub values: Box<dyn RowChecker>,
}

impl Inspection {
    /// The result for a table that does not exist.
    fn of_new_table(table: FoundTable, values: Box<dyn RowChecker>) -> Self {
        Self { needs_no_load: None, earlier_load_mode: None, table, table_rows: None, values }
    }
}

/// The largest number of rows of a table that are counted: the count must not take long.
const MAX_COUNTED_ROWS: u64 = 10_000_000;

/// The table of a load, and its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundTable {
    /// The file has no columns, so it needs no table.
    NotNeeded,
    /// The load would create the table.
    Missing {
        /// The statement.
        create_sql: String,
        /// The columns of the new table that receive values.
        columns: Vec<FilledColumn>,
        /// What to say about another table whose name differs only in letter case.
        similar: Option<String>,
    },
    /// The table exists.
    Existing {
        /// The columns that receive values.
        columns: Vec<FilledColumn>,
        /// The statements that add columns.
        add_sql: Vec<String>,
        /// The file's columns that are not loaded, because the table lacks them.
        ignored: Vec<String>,
    },
}

/// A column of the table that receives the values of a column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledColumn {
    /// The name, as the table spells it.
    pub name: String,
    /// The type in SQL.
    pub type_text: String,
    /// The index of the file's column.
    pub field: usize,
}

/// Checks rows against the columns of a table, as a load does before it sends them.
pub trait RowChecker: Send {
    /// Returns an error with position and column for each value that does not fit, in the order of the rows.
    fn check(&mut self, rows: &Batch) -> Vec<Error>;

    /// Checks and counts the operations of a file of changes. Does nothing in other load modes.
    ///
    /// # Errors
    /// The error of a load of these rows.
    fn check_operations(&mut self, rows: &Batch) -> Result<()>;

    /// Returns the operations of the rows so far; `None` in other load modes.
    fn operations(&self) -> Option<OperationCounts>;

    /// Gives a column the wider type that a load would give it because of such an error. `None` if it keeps its type.
    fn widen(&mut self, error: &Error) -> Option<TypeChange>;
}

/// A change of a column to a wider type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeChange {
    /// The column, as the table spells it.
    pub column: String,
    /// The new type in SQL.
    pub type_text: String,
    /// The statement.
    pub sql: String,
}

struct ColumnChecker<C: LoadConnection> {
    columns: Vec<TableColumn<C::Storage>>,
    /// The wider types that the columns may get.
    wider: Vec<WiderType<C::Storage>>,
    operations: Option<OperationChecker>,
    scratch: Vec<u8>,
    connection: PhantomData<fn() -> C>,
}

impl<C: LoadConnection> ColumnChecker<C> {
    fn new(columns: Vec<TableColumn<C::Storage>>, operations: Option<OperationChecker>) -> Box<Self> {
        Box::new(Self { columns, wider: Vec::new(), operations, scratch: Vec::new(), connection: PhantomData })
    }

    fn without_columns() -> Box<Self> {
        Self::new(Vec::new(), None)
    }
}

impl<C: LoadConnection> RowChecker for ColumnChecker<C> {
    fn check(&mut self, rows: &Batch) -> Vec<Error> {
        let Self { columns, scratch, .. } = self;
        let mut errors = Vec::new();
        for row in 0..rows.rows() {
            let position = rows.position(row);
            for column in columns.iter() {
                errors.extend(C::check_value(column, rows.field(row, column.field), scratch, position).err());
            }
        }
        errors
    }

    fn check_operations(&mut self, rows: &Batch) -> Result<()> {
        self.operations.as_mut().map_or(Ok(()), |operations| operations.check(rows))
    }

    fn operations(&self) -> Option<OperationCounts> {
        self.operations.as_ref().map(|operations| operations.counts)
    }

    fn widen(&mut self, error: &Error) -> Option<TypeChange> {
        let name = error.column().filter(|_| error.needs_other_type())?;
        let index = self.wider.iter().position(|wider| wider.column == name)?;
        let WiderType { column, type_text, storage, sql, .. } = self.wider.swap_remove(index);
        let changed = self.columns.iter_mut().find(|other| other.name == column)?;
        changed.storage = storage;
        changed.type_text.clone_from(&type_text);
        // The rows are read again.
        self.operations.iter_mut().for_each(|operations| operations.counts = OperationCounts::default());
        Some(TypeChange { column, type_text, sql })
    }
}

/// Returns what a load on this connection would find and change.
///
/// # Errors
/// The error with which the load would fail before it sends a row.
pub(super) async fn inspect<C: LoadConnection>(connection: &mut C, request: &Request<'_>) -> Result<Inspection> {
    let loaded = loaded_source(connection, request).await?;
    let (table, values) = match (found_table(connection, request).await, &loaded) {
        (Ok(found), _) => found,
        // A load of this source does not look at the table.
        (Err(_), Some(_)) => (FoundTable::NotNeeded, ColumnChecker::<C>::without_columns()),
        (Err(error), None) => return Err(error),
    };
    let needs_no_load = match &loaded {
        Some(entry) => Some(entry.state),
        None => content_state(connection, request).await?,
    };
    let table_rows = match (&table, needs_no_load) {
        // Without the count, a plan only predicts less.
        (FoundTable::Existing { .. }, None) => count_rows(connection, request).await.unwrap_or_default(),
        _ => None,
    };
    let load_mode = request.options.load_mode.name();
    let earlier_load_mode = loaded.and_then(|entry| entry.other_load_mode(load_mode).map(str::to_owned));
    Ok(Inspection { needs_no_load, earlier_load_mode, table, table_rows, values })
}

/// Counts the rows that a mirror of the whole table compares with those of the file. `None` in other load modes.
async fn count_rows<C: LoadConnection>(connection: &mut C, request: &Request<'_>) -> Result<Option<u64>> {
    match &request.options.load_mode {
        LoadMode::Mirror(mirror) if mirror.scope.is_empty() => {}
        LoadMode::Append | LoadMode::Replace | LoadMode::Merge { .. } | LoadMode::Mirror(_) | LoadMode::Changes(_) => {
            return Ok(None);
        }
    }
    let table = quoted_table::<C::Dialect>(&request.file.table);
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {MAX_COUNTED_ROWS}) counted");
    let rows = connection.query("cannot count the rows of the table", &sql, &[]).await?;
    rows.first().map(|row| row.count(0)).transpose()
}

/// The ledger's entry of a source that needs no load. Takes no lock.
async fn loaded_source<C: LoadConnection>(connection: &mut C, request: &Request<'_>) -> Result<Option<LedgerEntry>> {
    let ledger = request.ledger();
    if !ledger.exists(connection).await? {
        return Ok(None);
    }
    ledger.inspect_loaded(connection, &request.file.source.id).await
}

/// The state of a new source that needs no load, because its content is loaded or a newer file has replaced the table. Takes no
/// lock.
async fn content_state<C: LoadConnection>(connection: &mut C, request: &Request<'_>) -> Result<Option<LedgerState>> {
    let Request { file, schema, options } = request;
    let ledger = request.ledger();
    if !ledger.exists(connection).await? {
        return Ok(None);
    }
    let content_id = schema.body().and_then(|body| body.content_id.as_deref());
    if let Some(content_id) = content_id
        && ledger.has_content(connection, content_id).await?
    {
        return Ok(Some(LedgerState::Duplicate));
    }
    let claims_table = options.claims_table() && !schema.schema().columns.is_empty();
    let is_superseded = claims_table && ledger.has_newer(connection, &file.table, &file.source).await?;
    Ok(is_superseded.then_some(LedgerState::Superseded))
}

async fn found_table<C: LoadConnection>(
    connection: &mut C,
    request: &Request<'_>,
) -> Result<(FoundTable, Box<ColumnChecker<C>>)> {
    let changed = ChangedRows::of(&request.options.load_mode, request.schema.schema())?;
    let request = &changed.as_ref().map_or(*request, |changed| changed.request(request));
    let Request { file, schema, options } = *request;
    let (table, mode, file_columns) = (&file.table, &options.load_mode, &schema.schema().columns);
    let exists = connection.has_table(table).await?;
    if !exists {
        connection.check_absent(table).await?;
    }
    if file_columns.is_empty() {
        return Ok((FoundTable::NotNeeded, ColumnChecker::without_columns()));
    }
    let operations = changed.as_ref().map(|changed| changed.checker(mode));
    if !exists {
        reject_operations(mode, &file_columns.iter().collect::<Vec<_>>())?;
        let create_sql = connection.create_sql(table, &columns_of_new_table(file_columns, options), mode)?;
        let mut columns = connection.new_columns(file_columns, mode);
        changed.iter().for_each(|changed| changed.restore_fields(&mut columns));
        let similar = connection.similar_table(table).await?;
        let similar = similar.map(|similar| similar_table_hint(table, &similar));
        return Ok((
            FoundTable::Missing { create_sql, columns: filled(&columns), similar },
            ColumnChecker::new(columns, operations),
        ));
    }
    connection.reject_unsupported(table, mode).await?;
    let key = match mode.key() {
        Some(wanted) => Some(connection.read_key(table, wanted).await?),
        None => None,
    };
    let table_columns = connection.read_columns(table).await?;
    let names = |columns: &[&Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let lacking = find_lacking(table, &table_columns, schema, options.unknown_columns)?;
    reject_operations(mode, lacking.columns())?;
    let extra = json_column(&options.extra_column);
    let (added, ignored) = match &lacking {
        Lacking::Nothing | Lacking::NeedsScan => (Vec::new(), Vec::new()),
        Lacking::Add(columns) => (columns.clone(), Vec::new()),
        Lacking::Ignore(columns) => (Vec::new(), names(columns)),
        Lacking::Json(_) if find(&table_columns, &options.extra_column).is_none() => (vec![&extra], Vec::new()),
        Lacking::Json(_) => (Vec::new(), Vec::new()),
    };
    let add_sql = if added.is_empty() { Vec::new() } else { connection.add_sql(table, &added)? };
    // A new column has a type that fits all values of the file, so only the other columns are compared.
    let only_known = DestinationOptions { unknown_columns: UnknownColumns::Ignore, ..options.clone() };
    let known = if added.is_empty() { *request } else { Request { options: &only_known, ..*request } };
    let key_columns = key.as_ref().map_or(&[][..], C::key_columns);
    let mut columns = match added.len() == file_columns.len() {
        true => {
            check_missing(table, &table_columns, &[], options.contract())?;
            Vec::new()
        }
        false => columns_to_send(&known, &table_columns, key_columns)?.unwrap_or_default(),
    };
    if C::HAS_STAGING_TABLES && request.size_bytes() > options.atomic_max_bytes {
        // As in a load through a staging table, which would number the rows from 1.
        columns.iter_mut().for_each(|column| column.null_fill = NullFill::Nothing);
    }
    let wider = match options.changed_types {
        ChangedTypes::Widen => {
            let changeable = changeable_columns(request, &table_columns, key_columns)?;
            connection.wider_types(table, &changeable).await?
        }
        ChangedTypes::Refuse => Vec::new(),
    };
    if let LoadMode::Mirror(mirror) = mode {
        mirror.scope_columns(table, &columns)?;
    }
    changed.iter().for_each(|changed| changed.restore_fields(&mut columns));
    let table = FoundTable::Existing { columns: filled(&columns), add_sql, ignored };
    // The JSON object of unknown columns is not a field of the file.
    columns.retain(|column| column.extra.is_none());
    Ok((table, Box::new(ColumnChecker { wider, ..*ColumnChecker::new(columns, operations) })))
}

pub(super) fn filled<S>(columns: &[TableColumn<S>]) -> Vec<FilledColumn> {
    let column = |column: &TableColumn<S>| FilledColumn {
        name: column.name.clone(),
        type_text: column.type_text.clone(),
        field: column.field,
    };
    columns.iter().map(column).collect()
}

/// Returns what a load would do with a new table, without a database.
///
/// # Errors
/// When the file cannot have a table, for example because `MERGE_KEY` names no column of the file.
pub fn inspect_new(product: Product, table: &TableName, schema: &Schema, mode: &LoadMode) -> Result<Inspection> {
    let changed = ChangedRows::of(mode, schema)?;
    let columns = &changed.as_ref().map_or(schema, ChangedRows::schema).columns;
    if columns.is_empty() {
        let values = ColumnChecker::<mysql::connect::Connection>::without_columns();
        return Ok(Inspection::of_new_table(FoundTable::NotNeeded, values));
    }
    reject_operations(mode, &columns.iter().collect::<Vec<_>>())?;
    let operations = changed.as_ref().map(|changed| changed.checker(mode));
    let (create_sql, filled, values): (String, Vec<FilledColumn>, Box<dyn RowChecker>) = match product {
        Product::MySql | Product::MariaDb => {
            let create_sql = mysql::table::create_table_statement(table, columns, mode, product == Product::MariaDb)?;
            let mut new = mysql::table::new_columns(columns, mode, product == Product::MariaDb);
            changed.iter().for_each(|changed| changed.restore_fields(&mut new));
            let filled = filled(&new);
            let values = ColumnChecker::<mysql::connect::Connection>::new(new, operations);
            (create_sql, filled, values as Box<dyn RowChecker>)
        }
        Product::Postgres => {
            let create_sql = postgres::table::create_table_statement(table, columns, mode)?;
            let mut new = postgres::table::new_columns(columns, mode);
            changed.iter().for_each(|changed| changed.restore_fields(&mut new));
            (create_sql, filled(&new), ColumnChecker::<postgres::connect::Connection>::new(new, operations))
        }
    };
    let table = FoundTable::Missing { create_sql, columns: filled, similar: None };
    Ok(Inspection::of_new_table(table, values))
}
