//! Explains a missing privilege: who lacks which privilege on which object, and the statement that grants it.

use super::{DestinationOptions, LoadMode};
use crate::error::Error;
use crate::ledger::SqlLedger;
use crate::table_name::TableName;

/// Privileges that a user lacks on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingGrant {
    /// The privileges, separated by commas.
    pub(super) privileges: String,
    /// The object for people, such as "the table orders".
    pub(super) object: String,
    /// The object as GRANT names it.
    pub(super) object_sql: String,
}

/// The privileges that a load needs on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedTable {
    /// The table.
    pub(super) table: TableName,
    /// The privileges, if the table exists.
    pub(super) privileges: &'static [&'static str],
}

/// The privileges that a load needs on the ledger, and on the attempt history.
const OF_LEDGER: [&str; 3] = ["SELECT", "INSERT", "UPDATE"];

/// Returns the tables of a load, and what it needs on each: the file's table if there is one, the ledger and the attempt history.
pub(super) fn wanted_tables(table: Option<&TableName>, options: &DestinationOptions) -> Vec<WantedTable> {
    let of_table: &[&str] = match options.load_mode {
        LoadMode::Append => &["INSERT"],
        LoadMode::Replace => &["INSERT", "DELETE"],
        LoadMode::Merge { .. } => &["SELECT", "INSERT", "UPDATE"],
        LoadMode::Mirror(_) | LoadMode::Changes(_) => &["SELECT", "INSERT", "UPDATE", "DELETE"],
    };
    let ledger = SqlLedger::new(&options.ledger_table);
    let own = [options.ledger_table.as_str().into(), ledger.attempts_table().as_str().into()];
    let table = table.map(|table| WantedTable { table: table.clone(), privileges: of_table });
    table.into_iter().chain(own.map(|table| WantedTable { table, privileges: &OF_LEDGER })).collect()
}

/// The advice for a database or schema that does not exist.
pub(super) const MISSING_DATABASE: &str = "create the database or schema that the message names, or correct its name";

/// Returns the tables of a command that only reads the ledger. The attempt history may be missing.
pub(super) fn read_tables(options: &DestinationOptions) -> Vec<WantedTable> {
    vec![WantedTable { table: options.ledger_table.as_str().into(), privileges: &["SELECT"] }]
}

/// Whether loads of this mode create a temporary table.
pub(super) fn needs_temporary_table(mode: &LoadMode) -> bool {
    mode.key().is_some()
}

/// Adds privileges on an object to a list, to its entry if it has one.
pub(super) fn add(missing: &mut Vec<MissingGrant>, new: MissingGrant) {
    let Some(known) = missing.iter_mut().find(|grant| grant.object_sql == new.object_sql) else {
        missing.push(new);
        return;
    };
    for privilege in new.privileges.split(", ") {
        if known.privileges.split(", ").all(|listed| listed != privilege) {
            known.privileges = format!("{}, {privilege}", known.privileges);
        }
    }
}

/// Returns the statements that grant privileges. `user` is written as GRANT names it.
pub(super) fn statements(user: &str, missing: &[MissingGrant]) -> String {
    let grant = |MissingGrant { privileges, object_sql, .. }: &MissingGrant| {
        format!("GRANT {privileges} ON {object_sql} TO {user};")
    };
    missing.iter().map(grant).collect::<Vec<_>>().join(" ")
}

/// Adds the missing privileges of a user to an error, with the statements that grant them. `user` is written as GRANT names it.
///
/// Without a missing privilege the error stays as it is.
pub(super) fn explained(error: Error, user: &str, missing: &[MissingGrant]) -> Error {
    if missing.is_empty() {
        return error;
    }
    let lacks: Vec<String> = missing.iter().map(|grant| format!("{} on {}", grant.privileges, grant.object)).collect();
    let message = format!(
        "the user {user} lacks {}; to allow it, run as an administrator: {}",
        lacks.join(", and "),
        statements(user, missing)
    );
    error.with_cause_in_message().explained(&message).with_advice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_missing_privilege_has_its_grant() {
        let missing = |privileges: &str, object: &str, object_sql: &str| MissingGrant {
            privileges: privileges.to_owned(),
            object: object.to_owned(),
            object_sql: object_sql.to_owned(),
        };
        let error = || Error::new(ErrorKind::Privilege, "cannot delete the rows");
        let grants =
            [missing("SELECT, DELETE", "the table t", "t"), missing("TEMPORARY", "the database d", "DATABASE d")];
        assert_eq!(
            explained(error(), "u", &grants).to_string(),
            "cannot delete the rows: the user u lacks SELECT, DELETE on the table t, and TEMPORARY on the database d; to allow it, \
             run as an administrator: GRANT SELECT, DELETE ON t TO u; GRANT TEMPORARY ON DATABASE d TO u;"
        );
        assert_eq!(explained(error(), "u", &[]).to_string(), "cannot delete the rows");
    }

    #[test]
    fn privileges_on_one_object_are_one_grant() {
        let grant = |privileges: &str, object: &str| MissingGrant {
            privileges: privileges.to_owned(),
            object: object.to_owned(),
            object_sql: object.to_owned(),
        };
        let mut missing = vec![grant("SELECT, INSERT", "t")];
        add(&mut missing, grant("INSERT, UPDATE", "t"));
        add(&mut missing, grant("CREATE", "d.*"));
        assert_eq!(missing, [grant("SELECT, INSERT, UPDATE", "t"), grant("CREATE", "d.*")]);
    }
}
