//! Finds out what a load of a scanned file would find and change. Reads only.

use spillway_formats::Batch;

use super::Redshift;
use super::column::{TableColumn, columns_query, encode};
use super::ledger::queries;
use super::load::Plan;
use crate::destination::database::claim_of;
use crate::destination::inspect::filled;
use crate::destination::{
    FileClaim, FileSchema, FoundTable, Inspection, LedgerState, OperationCounts, RowChecker, TypeChange,
};
use crate::error::{Error, Result};

/// See [`crate::destination::Destination::inspect`].
pub(super) async fn inspect(redshift: &Redshift, file: &FileClaim, schema: FileSchema<'_>) -> Result<Inspection> {
    let needs_no_load = match redshift.has_ledger().await? {
        true => state(redshift, file, schema).await?,
        false => None,
    };
    let sqls = [columns_query(&file.table)];
    let found = queries(redshift.client(), "cannot read the table's columns", &sqls).await?.swap_remove(0);
    let Plan { columns, create_table, ignored } = redshift.plan(file, schema, &found)?;
    let table = match create_table {
        _ if columns.is_empty() => FoundTable::NotNeeded,
        Some(create_sql) => FoundTable::Missing { create_sql, columns: filled(&columns) },
        None => FoundTable::Existing { columns: filled(&columns), add_sql: Vec::new(), ignored },
    };
    let values = Box::new(Checker { columns, scratch: Vec::new(), out: Vec::new() });
    // Only append is possible.
    Ok(Inspection { needs_no_load, earlier_load_mode: None, table, table_rows: None, values })
}

/// The state that a load would find or record if the file needs no load.
async fn state(redshift: &Redshift, file: &FileClaim, schema: FileSchema<'_>) -> Result<Option<LedgerState>> {
    let (ledger, mut session) = (redshift.ledger(), redshift.session());
    if let Some(entry) = ledger.inspect_loaded(&mut session, &file.source.id).await? {
        return Ok(Some(entry.state));
    }
    let duplicate = ledger.find_duplicate(&mut session, &claim_of(file, schema.body())).await?;
    Ok(duplicate.map(|entry| entry.state))
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
