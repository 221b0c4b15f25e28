//! Explains a missing privilege by the server's message, which names the privilege and the table.

use std::error::Error as _;

use mysql_async::ServerError;

use super::codes::{ER_COLUMNACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR};
use super::connect::Connection;
use super::staging;
use super::table::quoted;
use crate::destination::denial::{MissingGrant, explained};
use crate::error::Error;

/// Adds the missing privilege and its GRANT to an error of the server. Other errors stay as they are.
pub(super) async fn explain(connection: &mut Connection, error: Error) -> Error {
    let missing = error
        .source()
        .and_then(|source| source.downcast_ref::<ServerError>())
        .and_then(|server| missing_grant(server.code, &server.message, &connection.database));
    let Some(missing) = missing else { return error };
    // The account may have another host than the user in the message.
    let account: Result<Vec<String>, Error> =
        connection.rows("cannot read the name of the account", "SELECT CURRENT_USER()", ()).await;
    match account.ok().and_then(|names| names.first().map(|name| quoted_account(name))) {
        Some(account) => explained(error, &account, &[missing]),
        None => error,
    }
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
            Some(grant("CREATE TEMPORARY TABLES", format!("the database {}", quoted(database)), whole_database))
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
            match staging::is_in_name(&table) {
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
