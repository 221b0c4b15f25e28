//! Finds out what a load of a scanned file would find and change. Reads only.

use spillway_formats::Batch;

use super::Redshift;
use super::column::{TableColumn, columns_query, encode};
use super::key::{needs_primary_key, primary_key_query};
use super::ledger::queries;
use super::plan::{Plan, TableRows, stored_name};
use crate::destination::database::claim_of;
use crate::destination::inspect::filled;
use crate::destination::{
    FileClaim, FileSchema, FoundTable, Inspection, LedgerEntry, LedgerState, OperationCounts, RowChecker, TypeChange,
};
use crate::error::{Error, Result};

/// See [`crate::destination::Destination::inspect`].
pub(super) async fn inspect(redshift: &Redshift, file: &FileClaim, schema: FileSchema<'_>) -> Result<Inspection> {
    let has_ledger = redshift.has_ledger().await?;
    let loaded = if has_ledger { loaded_source(redshift, file).await? } else { None };
    let (needs_no_load, earlier_load_mode) = match &loaded {
        Some(entry) => (Some(entry.state), entry.other_load_mode(redshift.options.load_mode.name()).map(str::to_owned)),
        None if has_ledger => (content_state(redshift, file, schema).await?, None),
        None => (None, None),
    };
    let mut sqls = vec![columns_query(&file.table)];
    if needs_primary_key(&redshift.options.load_mode) {
        sqls.push(primary_key_query(&file.table));
    }
    let mut found = queries(redshift.client(), "cannot read the table's columns", &sqls).await?.into_iter();
    let (columns, primary_key) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
    let Plan { columns, create_table, ignored } = redshift.plan(file, schema, &TableRows { columns, primary_key })?;
    let table = match create_table {
        _ if columns.is_empty() => FoundTable::NotNeeded,
        Some(create_sql) => FoundTable::Missing { create_sql, columns: filled(&columns), similar: None },
        None => FoundTable::Existing { columns: filled(&columns), add_sql: Vec::new(), ignored },
    };
    let values = Box::new(Checker { columns, scratch: Vec::new(), out: Vec::new() });
    Ok(Inspection { needs_no_load, earlier_load_mode, table, table_rows: None, values })
}

/// The ledger's entry of a source that needs no load.
async fn loaded_source(redshift: &Redshift, file: &FileClaim) -> Result<Option<LedgerEntry>> {
    redshift.ledger().inspect_loaded(&mut redshift.session(), &file.source.id).await
}

/// The state that a load would record for a new source that needs no load.
async fn content_state(redshift: &Redshift, file: &FileClaim, schema: FileSchema<'_>) -> Result<Option<LedgerState>> {
    let (ledger, mut session) = (redshift.ledger(), redshift.session());
    if let Some(entry) = ledger.find_duplicate(&mut session, &claim_of(file, schema.body())).await? {
        return Ok(Some(entry.state));
    }
    let claims_table = redshift.options.claims_table() && !schema.schema().columns.is_empty();
    let is_superseded = claims_table && ledger.has_newer(&mut session, &stored_name(&file.table), &file.source).await?;
    Ok(is_superseded.then_some(LedgerState::Superseded))
}

struct Checker {
    columns: Vec<TableColumn>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl RowChecker for Checker {
    fn check(&mut self, rows: &Batch) -> Vec<Error> {
        let Self { columns, scratch, out } = self;
        let mut errors = Vec::new();
        for row in 0..rows.rows() {
            let position = rows.position(row);
            for column in columns.iter() {
                out.clear();
                errors.extend(encode(column, rows.field(row, column.field), scratch, position, out).err());
            }
        }
        errors
    }

    fn check_operations(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn operations(&self) -> Option<OperationCounts> {
        None
    }

    fn widen(&mut self, _: &Error) -> Option<TypeChange> {
        None
    }
}
