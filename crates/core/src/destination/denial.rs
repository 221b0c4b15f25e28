//! Explains a missing privilege: who lacks which privilege on which object, and the statement that grants it.

use crate::error::Error;

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

/// Adds the missing privileges of a user to an error, with the statements that grant them. `user` is written as GRANT names it.
///
/// Without a missing privilege the error stays as it is.
pub(super) fn explained(error: Error, user: &str, missing: &[MissingGrant]) -> Error {
    if missing.is_empty() {
        return error;
    }
    let lacks: Vec<String> = missing.iter().map(|grant| format!("{} on {}", grant.privileges, grant.object)).collect();
    let grant = |MissingGrant { privileges, object_sql, .. }: &MissingGrant| {
        format!("GRANT {privileges} ON {object_sql} TO {user};")
    };
    let grants: Vec<String> = missing.iter().map(grant).collect();
    error.explained(&format!(
        "the user {user} lacks {}; to allow it, run as an administrator: {}",
        lacks.join(", and "),
        grants.join(" ")
    ))
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
}
