//! Explains a missing privilege. The server's message names the object but not the privilege, so the catalog is queried.

use std::error::Error as _;

use super::connect::Connection;
use super::failure::ServerError;
use super::table::{quoted, quoted_table};
use crate::destination::denial::{MissingGrant, explained};
use crate::destination::{DestinationOptions, LoadMode};
use crate::error::{Error, Result};
use crate::ledger::{LedgerConnection, Row, Value};
use crate::table_name::TableName;

/// The privileges that a load needs on the ledger.
const OF_LEDGER: &str = "SELECT,INSERT,UPDATE";

/// User, database, and what is missing on the schema ($1), the table ($2, needs $3), the ledger ($4, needs $5) and the database ($6).
const MISSING: &str = "SELECT quote_ident(current_user)::text, quote_ident(current_database())::text, \
     (SELECT string_agg(p, ', ') FROM unnest(ARRAY['USAGE', 'CREATE']) p \
      WHERE NOT (SELECT bool_and(has_schema_privilege(oid, p)) FROM pg_namespace WHERE nspname = $1)), \
     (SELECT string_agg(p, ', ') FROM unnest(string_to_array($3, ',')) p \
      WHERE NOT has_table_privilege(to_regclass(NULLIF($2, '')), p)), \
     (SELECT string_agg(p, ', ') FROM unnest(string_to_array($5, ',')) p \
      WHERE NOT has_table_privilege(to_regclass(NULLIF($4, '')), p)), \
     (SELECT string_agg(p, ', ') FROM unnest(string_to_array($6, ',')) p \
      WHERE NOT has_database_privilege(current_database(), p))";

/// Adds the missing privileges of a load and their GRANT to an error of the server. Runs outside of any transaction.
pub(super) async fn explain(
    connection: &mut Connection,
    table: &TableName,
    options: &DestinationOptions,
    error: Error,
) -> Error {
    let message = error.source().and_then(|source| source.downcast_ref::<ServerError>());
    let schema = message.and_then(ServerError::denied_schema).unwrap_or_default().to_owned();
    let (table, ledger) = (quoted_table(table), quoted(&options.ledger_table));
    let (of_table, of_database) = wanted(&options.load_mode);
    // The name of a table in a schema without privileges cannot be resolved.
    let names =
        if schema.is_empty() { [table.as_str(), of_table, ledger.as_str(), OF_LEDGER, of_database] } else { [""; 5] };
    let params: Vec<Value<'_>> = [schema.as_str()].into_iter().chain(names).map(Value::from).collect();
    let context = "cannot read the privileges of the user";
    let Ok(rows) = connection.query(context, MISSING, &params).await else { return error };
    match rows.first().map(|row| missing(row, &schema, &table, &ledger)) {
        Some(Ok((user, missing))) => explained(error, &user, &missing),
        Some(Err(_)) | None => error,
    }
}

/// Returns the privileges that a load mode needs on the table, and those on the database, separated by commas.
fn wanted(mode: &LoadMode) -> (&'static str, &'static str) {
    match mode {
        LoadMode::Append => ("INSERT", ""),
        LoadMode::Replace => ("INSERT,DELETE", ""),
        LoadMode::Merge { .. } => ("SELECT,INSERT,UPDATE", "TEMPORARY"),
        LoadMode::Mirror(_) | LoadMode::Changes(_) => ("SELECT,INSERT,UPDATE,DELETE", "TEMPORARY"),
    }
}

fn missing(row: &Row, schema: &str, table: &str, ledger: &str) -> Result<(String, Vec<MissingGrant>)> {
    let (user, database) = (row.text(0)?, row.text(1)?);
    let schema = quoted(schema);
    let objects = [
        (2, format!("the schema {schema}"), format!("SCHEMA {schema}")),
        (3, format!("the table {table}"), table.to_owned()),
        (4, format!("the table {ledger}"), ledger.to_owned()),
        (5, format!("the database {database}"), format!("DATABASE {database}")),
    ];
    let mut missing = Vec::new();
    for (index, object, object_sql) in objects {
        if let Some(privileges) = row.optional_text(index)?.filter(|privileges| !privileges.is_empty()) {
            missing.push(MissingGrant { privileges, object, object_sql });
        }
    }
    Ok((user, missing))
}
