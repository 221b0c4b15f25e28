//! Explains a missing privilege. The server's message names the object but not the privilege, so the catalog is queried.

use std::error::Error as _;

use super::connect::Connection;
use super::failure::ServerError;
use super::table::{quoted, quoted_table};
use crate::destination::denial::{
    MISSING_DATABASE, MissingGrant, WantedTable, add, explained, statements, wanted_tables,
};
use crate::destination::{Credentials, DestinationOptions};
use crate::error::{Error, Result};
use crate::ledger::{LedgerConnection, Value};

/// User and database, and what is missing on the database (needs $1).
const ON_DATABASE: &str = "SELECT quote_ident(current_user)::text, quote_ident(current_database())::text, \
     (SELECT string_agg(p, ', ') FROM unnest(string_to_array($1, ',')) p \
      WHERE NOT has_database_privilege(current_database(), p))";

/// The schema of a table, and what is missing on both. The schema is $1 or the first of the search path, the table $2 (needs $3).
///
/// A new table needs CREATE on its schema, unless it is only read. The catalog shows tables of schemas that the user may not use.
const ON_TABLE: &str = "SELECT quote_ident(n.nspname)::text, \
     (SELECT string_agg(p, ', ') FROM unnest(CASE WHEN c.oid IS NULL AND $3 <> 'SELECT' THEN ARRAY['USAGE', 'CREATE'] ELSE ARRAY['USAGE'] END) p \
      WHERE NOT has_schema_privilege(n.oid, p)), \
     (SELECT string_agg(p, ', ') FROM unnest(string_to_array($3, ',')) p WHERE NOT has_table_privilege(c.oid, p)) \
     FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2::text \
     WHERE n.nspname = COALESCE(NULLIF($1::text, ''), current_schema()::text, NULLIF($4::text, ''), 'public')";

/// The action of the queries.
const CONTEXT: &str = "cannot read the privileges of the user";

/// Adds the missing privileges on these tables and on the database, and their GRANTs, to an error of the server. Runs outside of any
/// transaction.
pub(super) async fn explain(
    connection: &mut Connection,
    wanted: &[WantedTable],
    of_database: &str,
    error: Error,
) -> Error {
    let server = error.source().and_then(|source| source.downcast_ref::<ServerError>());
    let denied_schema = server.and_then(ServerError::denied_schema).unwrap_or_default().to_owned();
    let is_schema_missing = server.is_some_and(ServerError::names_no_schema);
    match missing(connection, &denied_schema, wanted, of_database).await {
        Ok((_, missing)) if missing.is_empty() && is_schema_missing => error.advised(MISSING_DATABASE),
        Ok((user, missing)) => explained(error, &user, &missing),
        Err(_) => error,
    }
}

/// Returns the statement that lets a user log in to a database.
pub(super) fn login_grant(credentials: &Credentials) -> String {
    format!("GRANT CONNECT ON DATABASE {} TO {};", quoted(&credentials.database), quoted(&credentials.user))
}

/// See [`crate::destination::engine::LoadConnection::missing_grants`].
pub(super) async fn missing_grants(connection: &mut Connection, options: &DestinationOptions) -> Result<String> {
    let mut wanted = wanted_tables(None, options);
    // A table of any other name.
    wanted.push(WantedTable { table: "".into(), privileges: &[] });
    let (user, missing) = missing(connection, "", &wanted, "TEMPORARY").await?;
    Ok(statements(&user, &missing))
}

/// Returns the user, and what it lacks on schemas, tables and the database.
async fn missing(
    connection: &mut Connection,
    denied_schema: &str,
    wanted: &[WantedTable],
    of_database: &str,
) -> Result<(String, Vec<MissingGrant>)> {
    let rows = connection.query(CONTEXT, ON_DATABASE, &[of_database.into()]).await?;
    let Some(row) = rows.first() else { return Ok((String::new(), Vec::new())) };
    let (user, database) = (row.text(0)?, row.text(1)?);
    let (mut schemas, mut tables) = (Vec::new(), Vec::new());
    for WantedTable { table, privileges } in wanted {
        let (privileges, schema) = (privileges.join(","), table.schema().unwrap_or_default());
        let names = [schema, table.own_name(), privileges.as_str(), denied_schema];
        let rows = connection.query(CONTEXT, ON_TABLE, &names.map(Value::from)).await?;
        let Some(row) = rows.first() else { continue };
        let schema = row.text(0)?;
        if let Some(privileges) = some(row.optional_text(1)?) {
            let object = format!("the schema {schema}");
            add(&mut schemas, MissingGrant { privileges, object, object_sql: format!("SCHEMA {schema}") });
        }
        if let Some(privileges) = some(row.optional_text(2)?) {
            let sql = quoted_table(table);
            add(&mut tables, MissingGrant { privileges, object: format!("the table {sql}"), object_sql: sql });
        }
    }
    let mut missing = [schemas, tables].concat();
    if let Some(privileges) = some(row.optional_text(2)?) {
        let object = format!("the database {database}");
        missing.push(MissingGrant { privileges, object, object_sql: format!("DATABASE {database}") });
    }
    Ok((user, missing))
}

fn some(privileges: Option<String>) -> Option<String> {
    privileges.filter(|privileges| !privileges.is_empty())
}
