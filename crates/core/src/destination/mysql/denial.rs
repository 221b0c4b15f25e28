//! Explains a missing privilege: the one that the server's message names, and all others that the load would lack after it.
//!
//! The server names one privilege at a time. The others are found in information_schema, which shows the privileges of the account but
//! not those of its roles.

use std::error::Error as _;

use mysql_async::ServerError;

use super::codes::{ER_COLUMNACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR};
use super::connect::Connection;
use super::table::quoted;
use crate::destination::denial::{MissingGrant, WantedTable, add, explained, statements};
use crate::destination::{Credentials, DestinationOptions, staging_name};
use crate::error::{Error, Result};

/// The codes of errors that name a missing privilege.
const DENIALS: [u16; 3] = [ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR];

/// The privilege for temporary tables, which can be granted only on a whole database.
const TEMPORARY: &str = "CREATE TEMPORARY TABLES";

/// What loads need on the whole database: tables of any name are created, loaded, changed, and dropped if they are staging tables.
const ON_DATABASE: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", TEMPORARY, "ALTER", "DROP"];

/// The privileges of an account on a table of a schema. An empty name means the schema itself.
const PRIVILEGES: &str = "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ? \
     UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = ? AND ? LIKE TABLE_SCHEMA \
     UNION SELECT PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES \
     WHERE GRANTEE = ? AND TABLE_SCHEMA = ? AND TABLE_NAME = ?";

/// Adds the missing privileges and their GRANTs to an error of the server. Other errors stay as they are.
pub(super) async fn explain(
    connection: &mut Connection,
    wanted: &[WantedTable],
    needs_temporary: bool,
    error: Error,
) -> Error {
    let Some(server) = error.source().and_then(|source| source.downcast_ref::<ServerError>()) else { return error };
    if !DENIALS.contains(&server.code) {
        return error;
    }
    // The session is in English. If the message has another form nevertheless, information_schema shows what is missing.
    let named = missing_grant(server.code, &server.message, &connection.database);
    let Ok(account) = account(connection).await else { return error };
    // Without the others, the message still has the one that the server names.
    let mut missing = missing_for(connection, &account, wanted, needs_temporary).await.unwrap_or_default();
    if let Some(named) = named {
        add(&mut missing, named);
    }
    explained(error, &quoted_account(&account), &missing)
}

/// Returns the statement that lets a user load into a database. The host is not known before the login.
pub(super) fn login_grant(credentials: &Credentials) -> String {
    let Credentials { user, database, .. } = credentials;
    let object_sql = format!("{}.*", quoted(database));
    let grant = MissingGrant { privileges: ON_DATABASE.join(", "), object: String::new(), object_sql };
    statements(&quoted_account(&format!("{user}@%")), &[grant])
}

/// See [`crate::destination::engine::LoadConnection::missing_grants`].
pub(super) async fn missing_grants(connection: &mut Connection, _: &DestinationOptions) -> Result<String> {
    let account = account(connection).await?;
    if has_role(connection).await {
        return Ok(String::new());
    }
    let database = connection.database.clone();
    let grants = lacking(connection, &account, (&database, ""), &ON_DATABASE).await?.map(|privileges| MissingGrant {
        privileges,
        object: format!("the database {}", quoted(&database)),
        object_sql: format!("{}.*", quoted(&database)),
    });
    Ok(statements(&quoted_account(&account), grants.as_slice()))
}

/// The account, such as `loader@%`. It may have another host than the user in a message of the server.
async fn account(connection: &mut Connection) -> Result<String> {
    let rows = connection.rows("cannot read the name of the account", "SELECT CURRENT_USER()", ()).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Whether the session has a role, whose privileges are unknown.
async fn has_role(connection: &mut Connection) -> bool {
    let role: Result<Vec<Option<String>>> = connection.rows("cannot read the role", "SELECT CURRENT_ROLE()", ()).await;
    // A server without roles does not know the function.
    role.is_ok_and(|rows| rows.into_iter().flatten().any(|role| role != "NONE"))
}

/// The privileges on tables that a user lacks; none if the session has a role.
async fn missing_for(
    connection: &mut Connection,
    account: &str,
    wanted: &[WantedTable],
    needs_temporary: bool,
) -> Result<Vec<MissingGrant>> {
    let mut missing = Vec::new();
    if has_role(connection).await {
        return Ok(missing);
    }
    for wanted in wanted {
        let (schema, name) = connection.schema_and_name(&wanted.table);
        // A table without any privilege for the user is not visible. A GRANT with CREATE is valid whether or not the table exists.
        let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
        let found: Vec<String> = connection.rows("cannot look for a table", sql, (&schema, &name)).await?;
        let is_for_load = wanted.privileges.contains(&"INSERT");
        let create: &[&str] = if found.is_empty() && is_for_load { &["CREATE"] } else { &[] };
        let privileges = [create, wanted.privileges].concat();
        if let Some(privileges) = lacking(connection, account, (&schema, &name), &privileges).await? {
            let sql = format!("{}.{}", quoted(&schema), quoted(&name));
            missing.push(MissingGrant { privileges, object: format!("the table {sql}"), object_sql: sql });
        }
    }
    let database = connection.database.clone();
    if needs_temporary && let Some(privileges) = lacking(connection, account, (&database, ""), &[TEMPORARY]).await? {
        let object = format!("the database {}", quoted(&database));
        missing.push(MissingGrant { privileges, object, object_sql: format!("{}.*", quoted(&database)) });
    }
    Ok(missing)
}

/// Returns those of the privileges that an account lacks, separated by commas; `None` if it has all.
async fn lacking(
    connection: &mut Connection,
    account: &str,
    (schema, table): (&str, &str),
    wanted: &[&str],
) -> Result<Option<String>> {
    // information_schema does not escape quotes.
    let grantee = match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => format!("'{account}'"),
    };
    let params = (&grantee, &grantee, schema, &grantee, schema, table);
    let found: Vec<String> = connection.rows("cannot read the privileges of the user", PRIVILEGES, params).await?;
    let lacks: Vec<&str> = wanted.iter().copied().filter(|wanted| found.iter().all(|has| has != wanted)).collect();
    Ok((!lacks.is_empty()).then(|| lacks.join(", ")))
}

/// Returns the privilege that a message names. `database` is the database of the session.
fn missing_grant(code: u16, message: &str, database: &str) -> Option<MissingGrant> {
    let whole_database = format!("{}.*", quoted(database));
    let grant = |privileges: &str, object: String, object_sql: String| MissingGrant {
        privileges: privileges.to_owned(),
        object,
        object_sql,
    };
    match code {
        // On an open connection, only the creation of a temporary table needs a privilege for the whole database.
        ER_DBACCESS_DENIED_ERROR => {
            Some(grant(TEMPORARY, format!("the database {}", quoted(database)), whole_database))
        }
        ER_TABLEACCESS_DENIED_ERROR | ER_COLUMNACCESS_DENIED_ERROR => {
            let (privileges, rest) = message.split_once(" command denied to user ")?;
            let (_, table) = rest.rsplit_once(" table ")?;
            let table = match table.strip_prefix('\'').and_then(|table| table.strip_suffix('\'')) {
                // MySQL names the table only.
                Some(name) => format!("{}.{}", quoted(database), quoted(name)),
                None => table.to_owned(),
            };
            // The next attempt has another staging table.
            match staging_name::is_in(&table) {
                true => Some(grant(privileges, format!("the database {}", quoted(database)), whole_database)),
                false => Some(grant(privileges, format!("the table {table}"), table)),
            }
        }
        _ => None,
    }
}

/// Returns an account, such as `loader@%`, as GRANT names it.
fn quoted_account(account: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", quoted(user), quoted(host)),
        None => quoted(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(code: u16, message: &str) -> Option<(String, String)> {
        missing_grant(code, message, "shop").map(|grant| (grant.privileges, grant.object_sql))
    }

    #[test]
    fn privilege_and_table_are_read_from_both_dialects() {
        let expected = |privileges: &str, object: &str| Some((privileges.to_owned(), object.to_owned()));
        for table in ["`shop`.`orders`", "'orders'"] {
            let message = format!("DELETE command denied to user 'u'@'127.0.0.1' for table {table}");
            assert_eq!(grant(1142, &message), expected("DELETE", "`shop`.`orders`"));
        }
        assert_eq!(
            grant(1143, "UPDATE command denied to user 'u'@'h' for column 'a table b' in table 'orders'"),
            expected("UPDATE", "`shop`.`orders`")
        );
        assert_eq!(
            grant(1142, "CREATE command denied to user 'u'@'h' for table `shop`.`spillway_staging_0123_01`"),
            expected("CREATE", "`shop`.*")
        );
        assert_eq!(
            grant(1044, "Access denied for user 'u'@'%' to database 'shop'"),
            expected("CREATE TEMPORARY TABLES", "`shop`.*")
        );
        assert_eq!((grant(1142, "another text"), grant(1062, "for table `a`")), (None, None));
    }

    #[test]
    fn account_is_quoted() {
        assert_eq!(quoted_account("loader@%"), "'loader'@'%'");
        assert_eq!(quoted_account("o'neil@home@10.0.0.1"), "'o''neil@home'@'10.0.0.1'");
    }
}
