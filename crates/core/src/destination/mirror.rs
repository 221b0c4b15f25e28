//! The parts of a mirror that every engine shares: its scope, its limit, and what a file must have.
//!
//! A mirror is a merge that also deletes the table's rows whose key the file does not have.

use std::time::Duration;

use crate::destination::Mirror;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::table_name::TableName;
use spillway_formats::numbers::counted;

use super::column::TableColumn;

/// Number of rows that a file may always delete, unless the limit is 0.
const ALWAYS_ALLOWED: u64 = 100;

/// The context of an error of these statements.
pub(super) const DELETE_CONTEXT: &str = "cannot delete the rows that the file does not have";

/// The statements that delete the table's rows that the file does not have.
#[derive(Debug)]
pub(super) struct Deletion {
    /// Counts these rows.
    pub(super) count_missing: String,
    /// Counts the table's rows in the scope; `None` without a scope.
    pub(super) count_scope: Option<String>,
    /// Deletes the rows.
    pub(super) delete: String,
    /// The time limit of each statement.
    pub(super) limit: Duration,
}

/// A connection with an open transaction, in which known rows are locked.
pub(super) trait DeletingSession: Send {
    /// Runs a statement that returns one number.
    fn count(&mut self, limit: Duration, sql: &str) -> impl Future<Output = Result<u64>> + Send;

    /// Runs a DELETE, and returns the number of deleted rows.
    fn delete(&mut self, limit: Duration, sql: &str) -> impl Future<Output = Result<u64>> + Send;
}

impl Mirror {
    /// Deletes the rows that the file does not have, if there are not too many. Returns their number.
    ///
    /// They are counted first, because undoing the DELETE of a whole table would take long. `known` is the number of rows that the file
    /// has.
    pub(super) async fn delete_missing(
        &self,
        session: &mut impl DeletingSession,
        table: &TableName,
        deletion: &Deletion,
        known: u64,
    ) -> Result<u64> {
        let Deletion { count_missing, count_scope, delete, limit } = deletion;
        let found = session.count(*limit, count_missing).await?;
        let total = match count_scope {
            // Known rows may have other values in the scope's columns.
            Some(sql) => session.count(*limit, sql).await?,
            None => found + known,
        };
        self.check_deletes(table, found, total)?;
        if found == 0 {
            return Ok(0);
        }
        let deleted = session.delete(*limit, delete).await?;
        Failpoint::MissingRowsDeleted.reached().await?;
        // Another session may have added rows after they were counted.
        self.check_deletes(table, deleted, total.max(deleted))?;
        if deleted < found {
            let left = session.count(*limit, count_missing).await?;
            if left > 0 {
                return Err(still_present(table, left));
            }
        }
        Ok(deleted)
    }

    /// Returns the names of the scope's columns, as the table spells them. The file must have all of them.
    pub(super) fn scope_columns<S>(&self, table: &TableName, columns: &[TableColumn<S>]) -> Result<Vec<String>> {
        let mut names = Vec::with_capacity(self.scope.len());
        for wanted in &self.scope {
            let same = |column: &&TableColumn<S>| column.name.to_lowercase() == wanted.to_lowercase();
            let exact = columns.iter().find(|column| column.name == *wanted);
            let Some(column) = exact.or_else(|| columns.iter().find(same)) else {
                let message = format!("the file has no column {wanted} of table {table}, which MIRROR_SCOPE names");
                return Err(Error::new(ErrorKind::TableMismatch, message).in_column(wanted));
            };
            names.push(column.name.clone());
        }
        Ok(names)
    }

    /// Fails if the file has a key in more than one row: a correct export has one row for each key.
    pub(super) fn check_distinct(&self, staged: u64, distinct: u64) -> Result<()> {
        if staged == distinct {
            return Ok(());
        }
        let repeated = staged.saturating_sub(distinct);
        let verb = if repeated == 1 { "has" } else { "have" };
        let message = format!(
            "{repeated} of the {staged} rows of the file {verb} the key of another row, and LOAD_MODE=mirror loads no such file"
        );
        Err(Error::new(ErrorKind::ExportRefused, message))
    }

    /// Fails if the file would delete too many rows: `missing` of the `total` rows of the table, or of the scope.
    fn check_deletes(&self, table: &TableName, missing: u64, total: u64) -> Result<()> {
        let allowed = self.allowed_deletes(total);
        match missing <= allowed {
            true => Ok(()),
            false => Err(self.too_many_deletes(table, &missing.to_string(), (total, allowed))),
        }
    }

    /// Returns the number of rows that a file may delete, of so many in the table or the scope.
    pub(crate) fn allowed_deletes(&self, total: u64) -> u64 {
        let share = u64::try_from(u128::from(total) * u128::from(self.max_deletes_percent) / 100).unwrap_or(u64::MAX);
        if self.max_deletes_percent == 0 { 0 } else { share.max(ALWAYS_ALLOWED) }
    }

    /// Fails if a file with so many rows would certainly delete too many of so many rows of the table.
    ///
    /// # Errors
    /// [`ErrorKind::ExportRefused`].
    pub(crate) fn check_row_counts(&self, table: &TableName, in_file: u64, in_table: u64) -> Result<()> {
        let (at_least, allowed) = (in_table.saturating_sub(in_file), self.allowed_deletes(in_table));
        match at_least <= allowed {
            true => Ok(()),
            false => Err(self.too_many_deletes(table, &format!("at least {at_least}"), (in_table, allowed))),
        }
    }

    fn too_many_deletes(&self, table: &TableName, missing: &str, (total, allowed): (u64, u64)) -> Error {
        let noun = if total == 1 { "row" } else { "rows" };
        let rows = match self.scope.as_slice() {
            [] => format!("the {total} {noun} of table {table}"),
            scope => format!("the {total} {noun} of table {table} with the same {}", scope.join(", ")),
        };
        let message = format!(
            "the file would delete {missing} of {rows}, and at most {allowed} may be deleted (MIRROR_MAX_DELETES={})",
            self.max_deletes_percent
        );
        Error::new(ErrorKind::ExportRefused, message)
    }

    /// Returns the values of the scope, which `found` must have once.
    pub(super) fn scope_values(&self, found: Vec<Vec<Option<String>>>) -> Result<Vec<String>> {
        let scope = self.scope.join(", ");
        let message = match found.as_slice() {
            [] => format!("the file has no rows, so it does not show the values of MIRROR_SCOPE ({scope})"),
            [values] => match values.iter().cloned().collect::<Option<Vec<_>>>() {
                // Whether such a space counts depends on the collation.
                Some(values) if values.iter().any(|value| value.ends_with(' ')) => {
                    format!("a value in a column of MIRROR_SCOPE ({scope}) ends with a space")
                }
                Some(values) => return Ok(values),
                None => format!("the file has NULL in a column of MIRROR_SCOPE ({scope})"),
            },
            [..] => format!("the file has rows with different values in the columns of MIRROR_SCOPE ({scope})"),
        };
        Err(Error::new(ErrorKind::ExportRefused, message))
    }
}

/// The error for rows that are still in the table after they were deleted.
fn still_present(table: &TableName, rows: u64) -> Error {
    let message = format!(
        "table {table} still has {} that the file does not have after DELETE: a trigger keeps rows, or another session adds rows",
        counted(rows, "row")
    );
    Error::new(ErrorKind::DataRefused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(percent: u8) -> Mirror {
        Mirror { key: Vec::new(), scope: vec!["tenant".to_owned()], max_deletes_percent: percent }
    }

    #[test]
    fn hundred_rows_or_a_share_may_be_deleted() {
        let allows =
            |percent, missing, kept| mirror(percent).check_deletes(&"t".into(), missing, missing + kept).is_ok();
        assert!(allows(0, 0, 5) && !allows(0, 1, 1_000_000));
        assert!(allows(1, 100, 0) && !allows(1, 101, 0));
        assert!(allows(10, 1_000, 9_000) && !allows(10, 1_001, 8_999));
        assert!(allows(100, 5_000, 0) && allows(100, u64::MAX, 0) && !allows(99, u64::MAX, 0));
        let error = mirror(10).check_deletes(&"t".into(), 5_000, 9_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExportRefused);
        let text = "the file would delete 5000 of the 9000 rows of table t with the same tenant, and at most 900 may be \
                    deleted (MIRROR_MAX_DELETES=10)";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn row_counts_show_the_fewest_deletions() {
        let table = Mirror { scope: Vec::new(), ..mirror(10) };
        assert!(table.check_row_counts(&"t".into(), 1_800, 2_000).is_ok());
        assert!(table.check_row_counts(&"t".into(), 3_000, 2_000).is_ok());
        let error = table.check_row_counts(&"t".into(), 1_799, 2_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the file would delete at least 201 of the 2000 rows of table t, and at most 200 may be deleted (MIRROR_MAX_DELETES=10)"
        );
    }

    #[test]
    fn key_must_be_in_one_row() {
        assert!(mirror(10).check_distinct(3, 3).is_ok());
        let error = mirror(10).check_distinct(3, 1).unwrap_err();
        assert!(error.to_string().starts_with("2 of the 3 rows"), "{error}");
    }

    #[test]
    fn scope_has_one_value() {
        let values = |found: &[&[Option<&str>]]| {
            let row = |row: &&[Option<&str>]| row.iter().map(|value| value.map(str::to_owned)).collect();
            mirror(10).scope_values(found.iter().map(row).collect())
        };
        assert_eq!(values(&[&[Some("a"), Some("b")]]).unwrap(), ["a", "b"]);
        for found in [&[][..], &[&[Some("a"), None][..]], &[&[Some("a")], &[Some("b")]], &[&[Some("a ")]]] {
            assert_eq!(values(found).unwrap_err().kind(), ErrorKind::ExportRefused, "{found:?}");
        }
    }
}
