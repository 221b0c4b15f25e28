//! The columns of a table, and how a file's columns are matched to them. Each engine adds how it stores values.

use std::sync::Arc;

use super::extra::ExtraFields;
use super::matching::{Match, matches};
use super::options::Contract;
use super::{FileSchema, MissingColumns, UnknownColumns, operation};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Dialect;
use crate::reader::hint;
use spillway_formats::schema::value::spelling::DayOrder;
use spillway_formats::schema::{Column, Schema};

/// A column of the table. `Storage` is how the engine stores its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableColumn<Storage> {
    /// The name, as the table spells it.
    pub(super) name: String,
    /// The type in SQL, for messages and for staging tables.
    pub(super) type_text: String,
    /// How values are stored.
    pub(super) storage: Storage,
    /// The collation, on engines that need its name.
    pub(super) collation: Option<String>,
    /// The column is part of the merge key, so every row needs a value.
    pub(super) in_merge_key: bool,
    /// NULL is allowed.
    pub(super) nullable: bool,
    /// The column has a default value.
    pub(super) has_default: bool,
    /// The server generates a number for rows that do not have this column.
    pub(super) auto_increment: bool,
    /// The server computes the value, so a file cannot contain one.
    pub(super) generated: bool,
    /// Statements that name no columns do not see the column.
    pub(super) invisible: bool,
    /// What replaces NULL although the column is NOT NULL.
    pub(super) null_fill: NullFill,
    /// The file's null tokens mean NULL here, unless the column is text.
    pub(super) null_tokens: bool,
    /// The file declares bytes that are not text. They may be UTF-8 in spite of that.
    pub(super) is_binary: bool,
    /// The order of day and month that the file's values have proved, if its dates end with their year.
    pub(super) day_order: Option<DayOrder>,
    /// The index of the file's field that is stored in the column.
    pub(super) field: usize,
    /// The file's unknown columns, if this column keeps them. They become the field after the file's own.
    pub(super) extra: Option<Arc<ExtraFields>>,
    /// The index of the operations in the file, if this is their staged column. The table does not have it.
    pub(super) operation: Option<usize>,
}

/// What replaces a NULL that is sent for a column that is NOT NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NullFill {
    /// The server rejects NULL.
    Nothing,
    /// The next number of an AUTO_INCREMENT column.
    NextNumber,
    /// A BEFORE INSERT trigger may do so. Only the server knows.
    Trigger,
    /// The same, but the file must have the column: the server warns about a column that is not sent.
    TriggerIfSent,
}

/// Returns the quoted names of columns, separated by commas.
pub(super) fn quoted_list<'a, D: Dialect>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| D::quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Returns the quoted names of the table's columns, separated by commas.
pub(super) fn column_list<D: Dialect, S>(columns: &[TableColumn<S>]) -> String {
    quoted_list::<D>(columns.iter().map(|column| &column.name))
}

/// The file's columns that the table does not have.
pub(super) enum Lacking<'a> {
    /// The table has all columns.
    Nothing,
    /// These must be added.
    Add(Vec<&'a Column>),
    /// These are not loaded.
    Ignore(Vec<&'a Column>),
    /// These are kept in the JSON column for unknown columns.
    Json(Vec<&'a Column>),
    /// Columns must be added, and only a scan of the whole file can decide their types.
    NeedsScan,
}

impl<'a> Lacking<'a> {
    /// The columns, if they are known.
    pub(super) fn columns(&self) -> &[&'a Column] {
        match self {
            Self::Nothing | Self::NeedsScan => &[],
            Self::Add(columns) | Self::Ignore(columns) | Self::Json(columns) => columns,
        }
    }
}

/// Returns the file's columns that the table does not have.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when columns are missing that may not be added.
pub(super) fn find_lacking<'a, S>(
    table: &str,
    columns: &[TableColumn<S>],
    schema: FileSchema<'a>,
    unknown_columns: UnknownColumns,
) -> Result<Lacking<'a>> {
    let found = matches(table, columns, schema.schema())?;
    let mut missing: Vec<&Column> = Vec::new();
    for (column, found) in schema.schema().columns.iter().zip(found) {
        match (found, unknown_columns) {
            (Match::Column(_), _) => {}
            (Match::Missing, _) | (Match::Ambiguous(_), UnknownColumns::Add) => missing.push(column),
            // A name that may mean a column of the table is not unknown, so its values must not be dropped.
            (Match::Ambiguous(reason), _) => {
                let message = format!("{reason}; rename columns, or set UNKNOWN_COLUMNS=add to add the file's column");
                return Err(mismatch(&column.name, message));
            }
        }
    }
    match (unknown_columns, schema) {
        _ if missing.is_empty() => Ok(Lacking::Nothing),
        (UnknownColumns::Ignore, _) if missing.len() < schema.schema().columns.len() => Ok(Lacking::Ignore(missing)),
        (UnknownColumns::Json, _) if missing.len() < schema.schema().columns.len() => Ok(Lacking::Json(missing)),
        (UnknownColumns::Ignore | UnknownColumns::Json, _) => {
            Err(mismatch(&missing[0].name, format!("table {table} has none of the file's columns")))
        }
        (UnknownColumns::Refuse, _) => Err(unknown_columns_rejected(table, &missing, schema.schema().columns.len())),
        (UnknownColumns::Add, FileSchema::Provisional { .. }) => Ok(Lacking::NeedsScan),
        (UnknownColumns::Add, FileSchema::Final { .. }) => Ok(Lacking::Add(missing)),
    }
}

fn unknown_columns_rejected(table: &str, missing: &[&Column], columns: usize) -> Error {
    if let ([only], 1) = (missing, columns)
        && only.name.chars().any(hint::may_be_delimiter)
    {
        let message = format!(
            "the file has one column, whose name contains a character that is often a delimiter, and table {table} has no such column; if \
             it is the delimiter of the file, correct CSV_DELIMITER"
        );
        return Error::new(ErrorKind::TableMismatch, message).with_advice();
    }
    if hint::are_like_values(missing.iter().map(|column| column.name.as_str())) {
        let message = format!(
            "table {table} lacks {} of the file's columns; their names look like data: if the file has no header, set CSV_HEADER to false",
            missing.len()
        );
        return Error::new(ErrorKind::TableMismatch, message).with_advice();
    }
    let names: Vec<&str> = missing.iter().take(20).map(|column| column.name.as_str()).collect();
    let advice = operation::advice(missing);
    let advice = advice.unwrap_or_else(|| "add them, or set UNKNOWN_COLUMNS to add, ignore or json".to_owned());
    let message =
        format!("table {table} lacks {} of the file's columns: {}; {advice}", missing.len(), names.join(", "));
    Error::new(ErrorKind::TableMismatch, message).with_advice()
}

/// Returns the table's columns in the order of the file's columns, without unknown columns. The JSON column that keeps those
/// comes last.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the table lacks a column of the file, computes one that has a value in the file, or
/// requires another one.
pub(super) fn match_columns<S: Clone>(
    table: &str,
    columns: &[TableColumn<S>],
    schema: &Schema,
    contract: Contract<'_>,
) -> Result<Vec<TableColumn<S>>> {
    let mut matched: Vec<TableColumn<S>> = Vec::with_capacity(schema.columns.len());
    let found = matches(table, columns, schema)?;
    let mut unknown = Vec::new();
    for (field, (wanted, found)) in schema.columns.iter().zip(found).enumerate() {
        let Match::Column(index) = found else {
            match contract.unknown {
                UnknownColumns::Ignore => {}
                UnknownColumns::Json => unknown.push((field, wanted)),
                UnknownColumns::Refuse | UnknownColumns::Add => {
                    return Err(mismatch(&wanted.name, format!("table {table} has no column {}", wanted.name)));
                }
            }
            continue;
        };
        let column = &columns[index];
        if column.generated && !wanted.is_empty() {
            let message = format!("table {table} computes column {}, so the file cannot contain it", column.name);
            return Err(mismatch(&column.name, message));
        }
        let (null_tokens, is_binary, day_order) = (wanted.null_tokens, wanted.is_binary, wanted.day_order);
        matched.push(TableColumn { null_tokens, is_binary, day_order, field, ..column.clone() });
    }
    if !unknown.is_empty() {
        matched.push(extra_column(table, columns, &matched, contract.extra)?);
        if let Some(last) = matched.last_mut() {
            (last.field, last.extra) = (schema.columns.len(), Some(Arc::new(ExtraFields::new(unknown))));
        }
    }
    check_missing(table, columns, &matched, contract)?;
    Ok(matched)
}

/// Returns the column that keeps unknown columns.
fn extra_column<S: Clone>(
    table: &str,
    columns: &[TableColumn<S>],
    matched: &[TableColumn<S>],
    name: &str,
) -> Result<TableColumn<S>> {
    let column = find(columns, name)
        .ok_or_else(|| mismatch(name, format!("table {table} has no column {name}, which EXTRA_COLUMN names")))?;
    if column.generated || matched.iter().any(|other| other.name == column.name) {
        let message = format!(
            "column {name} of table {table} cannot keep unknown columns, because the file or the table fills it; set \
             EXTRA_COLUMN to another name"
        );
        return Err(mismatch(name, message));
    }
    Ok(TableColumn { null_tokens: false, is_binary: false, ..column.clone() })
}

/// Fails if the file lacks a column that the table requires, or any column with [`MissingColumns::Refuse`].
pub(super) fn check_missing<S>(
    table: &str,
    columns: &[TableColumn<S>],
    matched: &[TableColumn<S>],
    contract: Contract<'_>,
) -> Result<()> {
    let is_in_file = |column: &TableColumn<S>| matched.iter().any(|other| other.name == column.name);
    let is_filled = |column: &TableColumn<S>| {
        column.nullable || column.has_default || column.generated || column.null_fill == NullFill::Trigger
    };
    if let Some(TableColumn { name, .. }) = columns.iter().find(|column| !is_filled(column) && !is_in_file(column)) {
        let message = format!("the file has no column {name}, which table {table} requires (NOT NULL, no default)");
        return Err(mismatch(name, message));
    }
    // A file cannot contain columns that the server or Spillway fills.
    let is_own = |column: &TableColumn<S>| {
        let is_extra = contract.unknown == UnknownColumns::Json && column.name.eq_ignore_ascii_case(contract.extra);
        column.generated || column.auto_increment || is_extra
    };
    let missing = columns.iter().find(|column| !is_own(column) && !is_in_file(column));
    match (contract.missing, missing) {
        (MissingColumns::Refuse, Some(TableColumn { name, .. })) => {
            let message = format!(
                "the file has no column {name} of table {table}, and MISSING_COLUMNS is refuse; add it to the file, or set \
                 MISSING_COLUMNS to default"
            );
            Err(mismatch(name, message))
        }
        (MissingColumns::Default | MissingColumns::Refuse, _) => Ok(()),
    }
}

/// Returns the error for a file that does not fit the table.
pub(super) fn mismatch(column: &str, message: String) -> Error {
    Error::new(ErrorKind::TableMismatch, message).in_column(column)
}

/// Returns the column of this name, or else the first one that differs only in letter case.
pub(super) fn find<'a, S>(columns: &'a [TableColumn<S>], name: &str) -> Option<&'a TableColumn<S>> {
    position(columns, name).map(|index| &columns[index])
}

/// Returns the index of the column of this name, or else of the first one that differs only in letter case. No file has
/// two such columns.
pub(super) fn position<S>(columns: &[TableColumn<S>], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name).or_else(|| {
        let lower = name.to_lowercase();
        columns.iter().position(|column| column.name.to_lowercase() == lower)
    })
}

/// Whether the columns without any value in the file are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EmptyColumns {
    /// They are known, and those that the server fills were removed.
    LeftOut,
    /// Some have no value in the first rows, and only a scan finds out whether any row has one.
    NeedsScan,
}

/// Removes the columns that the server fills and that have no value in any row of the file: columns that the table
/// computes, and NOT NULL columns with a default. COPY and LOAD DATA cannot request the default for single rows.
///
/// At least one column is kept if the server accepts it.
pub(super) fn leave_out_empty<S>(columns: &mut Vec<TableColumn<S>>, schema: FileSchema<'_>) -> EmptyColumns {
    let wanted = &schema.schema().columns;
    let is_filled = |column: &TableColumn<S>| {
        let by_default = column.has_default && !column.nullable && !column.in_merge_key;
        (by_default || column.generated) && wanted.get(column.field).is_some_and(Column::is_empty)
    };
    match schema {
        FileSchema::Provisional { .. } => {
            // A NULL in an AUTO_INCREMENT column is as good as no column. A trigger would see NULL in place of the default.
            let needs_scan = |column: &TableColumn<S>| is_filled(column) && column.null_fill != NullFill::NextNumber;
            if columns.iter().any(needs_scan) { EmptyColumns::NeedsScan } else { EmptyColumns::LeftOut }
        }
        FileSchema::Final { .. } => {
            let no_other = columns.iter().all(is_filled);
            columns.retain(|column| !is_filled(column) || (no_other && !column.generated));
            EmptyColumns::LeftOut
        }
    }
}

impl<S> TableColumn<S> {
    /// Returns a nullable column without a default.
    pub(super) fn nullable(name: &str, type_text: &str, storage: S) -> Self {
        Self {
            name: name.to_owned(),
            type_text: type_text.to_owned(),
            storage,
            collation: None,
            in_merge_key: false,
            nullable: true,
            has_default: false,
            auto_increment: false,
            generated: false,
            null_fill: NullFill::Nothing,
            null_tokens: true,
            is_binary: false,
            day_order: None,
            field: 0,
            extra: None,
            operation: None,
            invisible: false,
        }
    }
}

/// Returns the columns of a table that is created for a file. `describe` returns the type and the storage of a column;
/// the columns of `key` are the primary key.
pub(super) fn new_columns<S>(
    columns: &[Column],
    key: &[&Column],
    describe: impl Fn(&Column, KeyPart) -> (String, S),
) -> Vec<TableColumn<S>> {
    let new = |(field, column): (usize, &Column)| {
        let in_merge_key = key.iter().any(|other| other.name == column.name);
        let (type_text, storage) = describe(column, if in_merge_key { KeyPart::Key } else { KeyPart::Other });
        let (null_tokens, is_binary, day_order) = (column.null_tokens, column.is_binary, column.day_order);
        let nullable = TableColumn::nullable(&column.name, &type_text, storage);
        TableColumn { in_merge_key, nullable: !in_merge_key, null_tokens, is_binary, day_order, field, ..nullable }
    };
    columns.iter().enumerate().map(new).collect()
}

/// Whether a new column is part of the primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPart {
    Key,
    Other,
}

/// Returns a nullable column with the name `c`.
#[cfg(test)]
pub(super) fn nullable_column<S>(type_text: &str, storage: S) -> TableColumn<S> {
    TableColumn::nullable("c", type_text, storage)
}

#[cfg(test)]
mod tests;
