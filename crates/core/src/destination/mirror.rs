//! The parts of a mirror that every engine shares: its scope, its limit, and what a file must have.
//!
//! A mirror is a merge that also deletes the table's rows whose key the file does not have.

use crate::destination::Mirror;
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

use super::column::TableColumn;

/// Number of rows that a file may always delete.
const ALWAYS_ALLOWED: u64 = 100;

impl Mirror {
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
        let message = format!(
            "{} of the {staged} rows of the file have the key of another row, and LOAD_MODE=mirror loads no such file",
            staged.saturating_sub(distinct)
        );
        Err(Error::new(ErrorKind::ExportRefused, message))
    }

    /// Fails if the file would delete too many rows: `missing` of the `total` rows of the table, or of the scope.
    pub(super) fn check_deletes(&self, table: &TableName, missing: u64, total: u64) -> Result<()> {
        let share = u64::try_from(u128::from(total) * u128::from(self.max_deletes_percent) / 100).unwrap_or(u64::MAX);
        if missing <= share.max(ALWAYS_ALLOWED) {
            return Ok(());
        }
        let rows = match self.scope.as_slice() {
            [] => format!("the {total} rows of table {table}"),
            scope => format!("the {total} rows of table {table} with the same {}", scope.join(", ")),
        };
        let message = format!(
            "the file would delete {missing} of {rows}, and MIRROR_MAX_DELETES={} allows {}",
            self.max_deletes_percent,
            share.max(ALWAYS_ALLOWED)
        );
        Err(Error::new(ErrorKind::ExportRefused, message))
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
pub(super) fn still_present(table: &TableName, rows: u64) -> Error {
    let message = format!(
        "{rows} rows that the file does not have are still in table {table} after DELETE: a trigger keeps them, or another \
         session adds rows"
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
        assert!(allows(0, 100, 0) && !allows(0, 101, 1_000_000));
        assert!(allows(10, 1_000, 9_000) && !allows(10, 1_001, 8_999));
        assert!(allows(100, 5_000, 0) && allows(100, u64::MAX, 0) && !allows(99, u64::MAX, 0));
        let error = mirror(10).check_deletes(&"t".into(), 5_000, 9_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExportRefused);
        let text = "the file would delete 5000 of the 9000 rows of table t with the same tenant, and MIRROR_MAX_DELETES=10 allows 900";
        assert_eq!(error.to_string(), text);
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
