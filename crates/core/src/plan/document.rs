//! The result of a dry run, as it is printed. It contains no value of the file.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::destination::{FilledColumn, FoundTable, OperationCounts, TypeChange};
use crate::error::{Error, Result, chain};
use crate::pipeline::TableConfig;
use crate::plan::routing::RoutePlan;
use crate::plan::row_changes::{DeletesPlan, not_checked};
use crate::plan::{Place, is_result};
use crate::policy::{Action, Purpose, hint, operator_hint, policy};
use crate::reader::{ScanResult, hint::joined};
use spillway_formats::reject::Reject;
use spillway_formats::schema::{Column, ColumnType};

/// The number of rejected records and values that are listed.
pub(super) const FIRST: usize = 10;

/// What a load of a file would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The file, as the user named it, or the object.
    pub file: String,
    /// The stored size.
    pub size_bytes: u64,
    /// The decompressed size, if the file was read to its end.
    pub decoded_bytes: Option<u64>,
    /// The outcome of the load.
    pub outcome: PlannedOutcome,
    /// The load mode of the earlier load, for a file that was loaded before with another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier_load_mode: Option<String>,
    /// The reason why the file would not be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PlannedError>,
    /// The format, if it is known.
    pub format: Option<FormatPlan>,
    /// The rows that would be parsed, with the rejected ones.
    pub rows_parsed: u64,
    /// The rows that would be rejected.
    pub rows_rejected: u64,
    /// The columns of the file.
    pub columns: Vec<ColumnPlan>,
    /// The bad records of the file.
    pub rejects: Rejects,
    /// The table and its change.
    pub table: Option<TablePlan>,
    /// The values that do not fit the table; `None` if they were not compared.
    pub values: Option<ValuesPlan>,
    /// The process that would load the file in a deployed stack.
    pub route: Option<RoutePlan>,
    /// What the user may have meant with a file for a new table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The outcome of a planned load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedOutcome {
    /// The rows are stored.
    Loaded,
    /// The file, or its content, was loaded before.
    AlreadyLoaded,
    /// A newer file has replaced the table.
    Superseded,
    /// An object in S3 is rejected and moved to the failed prefix.
    Rejected,
    /// The rows of an object in S3 are written to the fallback.
    FellBack,
    /// The load fails. A local file has no other place for its rows.
    Failed,
}

impl PlannedOutcome {
    /// Whether the load needs no attention.
    pub fn is_good(self) -> bool {
        match self {
            Self::Loaded | Self::AlreadyLoaded | Self::Superseded => true,
            Self::Rejected | Self::FellBack | Self::Failed => false,
        }
    }
}

/// Why a file would not be loaded.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedError {
    /// The kind, see `docs/errors.md`.
    pub kind: &'static str,
    /// The message with its causes.
    pub message: String,
    /// The number of the record, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What the user can do.
    pub hint: &'static str,
}

/// The format of a file.
#[derive(Debug, Clone, Serialize)]
pub struct FormatPlan {
    /// `csv`, `json` or `parquet`.
    pub name: &'static str,
    /// What decided it.
    pub decided_by: String,
    /// `gzip` or `zstd`.
    pub compression: Option<&'static str>,
    /// The encoding of the text; `None` for Parquet.
    pub encoding: Option<&'static str>,
    /// The dialect of a CSV file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvPlan>,
    /// The key that `JSON_RECORDS` may name, for a document that was read as one record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_hint: Option<String>,
}

/// The dialect of a CSV file.
#[derive(Debug, Clone, Serialize)]
pub struct CsvPlan {
    /// The delimiter.
    pub delimiter: String,
    /// What decided it.
    pub delimiter_decided_by: String,
    /// The quote character, or `none`.
    pub quote: String,
    /// How a quote within a field is written.
    pub escape: String,
    /// What decided it.
    pub escape_decided_by: String,
    /// Whether the first record contains the column names.
    pub has_header: bool,
    /// The lines above the header that are skipped.
    pub skipped_lines: Option<usize>,
    /// Whether each record ends with one more delimiter.
    pub has_trailing_delimiter: bool,
}

/// A column of the file.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// The name.
    pub name: String,
    /// The type of its values, such as `decimal(9,2)`.
    #[serde(rename = "type")]
    pub column_type: String,
    /// Whether a value is missing.
    pub has_nulls: bool,
    /// The length of the longest value.
    pub max_bytes: u64,
    /// The record whose value decided the type, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by_record: Option<u64>,
    /// Why the column has its type.
    pub reason: String,
    /// The column of the table; `None` if it is not loaded or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_column: Option<String>,
    /// Its type in SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_type: Option<String>,
}

/// The bad records of a file.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rejects {
    /// Their number.
    pub count: u64,
    /// The first of them.
    pub first: Vec<RejectedRecord>,
}

/// A record that does not fit, without its values.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedRecord {
    /// The number of the record, from 1.
    pub record: u64,
    /// The number of its first line, from 1.
    pub line: u64,
    /// The column, if it is one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The reason.
    pub reason: String,
}

/// The table of a load.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// The name.
    pub name: String,
    /// `append`, `replace`, `merge`, `mirror` or `changes`.
    pub load_mode: &'static str,
    /// Whether the table exists; `None` if the file needs no table. Without a database, the table is new.
    pub exists: Option<bool>,
    /// The statements that create or change it.
    pub sql: Vec<String>,
    /// The columns of the table that get a wider type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wider_columns: Vec<String>,
    /// The file's columns that are not loaded.
    pub ignored_columns: Vec<String>,
    /// What is known about the rows of the table that the load would delete; `None` if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<DeletesPlan>,
    /// The operations of the file's rows, with `changes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<OperationCounts>,
    /// What the load mode does and the plan does not predict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_checked: Vec<String>,
}

/// The values that do not fit the columns of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ValuesPlan {
    /// The rows with such a value.
    pub rows: u64,
    /// The values.
    pub values: u64,
    /// Their number in each column.
    pub by_column: BTreeMap<String, u64>,
    /// The first of them.
    pub first: Vec<RejectedRecord>,
}

impl Plan {
    pub(super) fn new(file: &str, size_bytes: u64) -> Self {
        Self {
            file: file.to_owned(),
            size_bytes,
            decoded_bytes: None,
            outcome: PlannedOutcome::Loaded,
            error: None,
            format: None,
            rows_parsed: 0,
            rows_rejected: 0,
            columns: Vec::new(),
            rejects: Rejects::default(),
            table: None,
            values: None,
            route: None,
            hint: None,
            earlier_load_mode: None,
        }
    }

    pub(super) fn add_scan(&mut self, scan: &ScanResult) {
        let rejected = scan.rejects.len() as u64;
        self.decoded_bytes = Some(scan.decoded_bytes);
        self.rows_parsed = scan.rows + rejected;
        self.rows_rejected = rejected;
        self.columns = scan.schema.columns.iter().map(ColumnPlan::of).collect();
        let first = scan.rejects.iter().take(FIRST).map(RejectedRecord::of_reject).collect();
        self.rejects = Rejects { count: rejected, first };
    }

    pub(super) fn add_table(&mut self, config: &TableConfig, table: FoundTable) {
        let (exists, columns, sql, ignored_columns) = match table {
            FoundTable::NotNeeded => (None, Vec::new(), Vec::new(), Vec::new()),
            FoundTable::Missing { create_sql, columns, similar } => {
                self.hint = joined(self.hint.take().into_iter().chain(similar));
                (Some(false), columns, vec![create_sql], Vec::new())
            }
            FoundTable::Existing { columns, add_sql, ignored } => (Some(true), columns, add_sql, ignored),
        };
        for FilledColumn { name, type_text, field } in columns {
            if let Some(column) = self.columns.get_mut(field) {
                (column.table_column, column.table_type) = (Some(name), Some(type_text));
            }
        }
        let load_mode = config.destination.load_mode.name();
        let (name, wider_columns) = (config.name.to_string(), Vec::new());
        let not_checked = if exists == Some(true) { not_checked(&config.destination.load_mode) } else { Vec::new() };
        let (deletes, operations) = (None, None);
        self.table = Some(TablePlan {
            name,
            load_mode,
            exists,
            sql,
            wider_columns,
            ignored_columns,
            deletes,
            operations,
            not_checked,
        });
    }

    /// Adds a change of a column of the table, which a load makes before it adds columns.
    pub(super) fn add_type_change(&mut self, TypeChange { column, type_text, sql }: TypeChange) {
        let is_changed = |planned: &&mut ColumnPlan| planned.table_column.as_ref() == Some(&column);
        if let Some(planned) = self.columns.iter_mut().find(is_changed) {
            planned.table_type = Some(type_text);
        }
        if let Some(table) = &mut self.table {
            table.sql.insert(table.wider_columns.len(), sql);
            table.wider_columns.push(column);
        }
    }

    /// # Errors
    /// When the load would fail because of a value.
    pub(super) fn add_values(
        &mut self,
        operations: Option<OperationCounts>,
        (values, rejected): (ValuesPlan, Result<u64>),
    ) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.operations = operations;
        }
        self.values = Some(values);
        self.rows_rejected += rejected?;
        Ok(())
    }

    /// Adds the error of the load.
    ///
    /// # Errors
    /// Returns the error if it does not show what a load would do, such as an outage.
    pub(super) fn fail(&mut self, error: Error, place: Place) -> Result<()> {
        if !is_result(error.kind()) {
            return Err(error);
        }
        let policy = policy(error.kind());
        self.outcome = match (place, policy.action) {
            (Place::Local, _) | (Place::S3, Action::Fail) => PlannedOutcome::Failed,
            (Place::S3, Action::Reject) => PlannedOutcome::Rejected,
            (Place::S3, Action::FallBack) => PlannedOutcome::FellBack,
        };
        self.error = Some(PlannedError {
            kind: error.kind().name(),
            message: chain(&error),
            record: error.position().map(|position| position.record),
            column: error.column().map(str::to_owned),
            hint: match place {
                Place::Local => hint(&error, Purpose::Load)
                    .unwrap_or("make the change that the message names, then run the command again"),
                Place::S3 => operator_hint(&error),
            },
        });
        Ok(())
    }
}

impl ColumnPlan {
    fn of(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            column_type: type_name(column.column_type),
            has_nulls: column.has_nulls,
            max_bytes: column.max_bytes,
            decided_by_record: column.type_reason.forced_by_record,
            reason: column.type_reason.reason.clone(),
            table_column: None,
            table_type: None,
        }
    }
}

impl RejectedRecord {
    pub(super) fn of(error: &Error) -> Self {
        let position = error.position().unwrap_or_default();
        Self {
            record: position.record,
            line: position.line,
            column: error.column().map(str::to_owned),
            reason: error.message().to_owned(),
        }
    }

    fn of_reject(reject: &Reject) -> Self {
        Self {
            record: reject.position.record,
            line: reject.position.line,
            column: reject.column.clone(),
            reason: reject.reason.clone(),
        }
    }
}

/// The name of a type, for people.
fn type_name(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Integer => "integer".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Double => "double".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::DateTime => "date and time".to_owned(),
        ColumnType::Instant => "date and time with offset".to_owned(),
        ColumnType::Json => "json".to_owned(),
        ColumnType::Text => "text".to_owned(),
        ColumnType::Binary => "binary".to_owned(),
    }
}
