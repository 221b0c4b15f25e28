//! The ledger's column that says how a table was changed for a source: what was created, added or widened.
//!
//! The column is for people. No decision depends on it, so a ledger without it is used as it is. A ledger of an earlier version
//! gets it with the first file that changes a table.

use std::borrow::Cow;

use tracing::warn;

use super::statements::{CHANGES, CHANGES_OF, LISTED_CHANGES};
use super::table::{Column, add_column};
use super::{LedgerConnection, SqlLedger, SqlType};
use crate::error::{Result, chain};
use crate::object::SourceId;

/// The column.
pub(super) const CHANGES_COLUMN: Column = ("table_changes", SqlType::LongText, "NULL");

/// Number of characters that the column stores, with the mark of a text that was cut.
const MAX_CHARACTERS: usize = 8000;

/// Number of characters that a list of runs shows. It is larger by one than the number in [`LISTED_CHANGES`].
pub(super) const LISTED_CHARACTERS: usize = 1000;

/// The end of a text that was cut.
const CUT: &str = " …";

/// The text between two changes.
const SEPARATOR: &str = "; ";

/// Whether the ledger has the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangesColumn {
    /// It has the column.
    Present,
    /// It lacks the column, or nothing is to be written.
    Absent,
}

impl ChangesColumn {
    /// Returns the changes that can be written.
    pub(crate) fn listed(self, changes: Vec<String>) -> Vec<String> {
        match self {
            Self::Present => changes,
            Self::Absent => Vec::new(),
        }
    }
}

impl SqlLedger<'_> {
    /// Adds the missing column to an existing ledger, outside of any transaction. An error is only logged: the user may lack
    /// the right, or a long load may hold the table.
    pub(crate) async fn ensure_changes_column<C: LedgerConnection>(&self, connection: &mut C) -> ChangesColumn {
        match self.add_changes_column(connection).await {
            Ok(column) => column,
            Err(error) => {
                let error = chain(&error);
                warn!(
                    error,
                    "the ledger lacks the column table_changes; the changes are only in the log and the report"
                );
                ChangesColumn::Absent
            }
        }
    }

    /// Adds the missing column to an existing ledger.
    pub(super) async fn add_changes_column<C: LedgerConnection>(&self, connection: &mut C) -> Result<ChangesColumn> {
        if self.changes_column(connection).await? == Some(ChangesColumn::Absent) {
            let sql = add_column::<C::Dialect>(self.table, &CHANGES_COLUMN);
            connection.create("cannot add the ledger's column table_changes", &sql).await?;
        }
        Ok(ChangesColumn::Present)
    }

    /// Whether the ledger has the column; `None` without a ledger.
    pub(super) async fn changes_column<C: LedgerConnection>(
        &self,
        connection: &mut C,
    ) -> Result<Option<ChangesColumn>> {
        let (name, _, _) = CHANGES_COLUMN;
        let found = connection.table_columns(self.table, &[name]).await?;
        Ok(found.map(|found| if found.is_empty() { ChangesColumn::Absent } else { ChangesColumn::Present }))
    }

    /// Adds changes to those that the claimed row lists, in the open transaction. The ledger has the column.
    ///
    /// An earlier attempt at the source may have changed the table and then written the rows to the fallback.
    pub(crate) async fn record_changes<C: LedgerConnection>(
        &self,
        connection: &mut C,
        id: &SourceId,
        changes: &[String],
    ) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let context = "cannot write the changes of the table to the ledger";
        let rows = self.query(connection, context, CHANGES_OF, &[id.as_str().into()]).await?;
        let earlier = rows.first().map(|row| row.optional_text(0)).transpose()?.flatten();
        let text = listed(earlier.as_deref(), changes);
        self.execute(connection, context, CHANGES, &[(&text).into(), id.as_str().into()]).await?.rows()?;
        Ok(())
    }
}

/// Returns a SELECT with the column, or with NULL in its place if the ledger lacks it.
pub(super) fn with_changes(select: &str, column: ChangesColumn) -> String {
    let sql = match column {
        ChangesColumn::Present => LISTED_CHANGES,
        ChangesColumn::Absent => "NULL",
    };
    select.replace("{changes}", sql)
}

/// Returns the text of the column: earlier changes and new ones.
fn listed(earlier: Option<&str>, changes: &[String]) -> String {
    let parts: Vec<&str> =
        earlier.filter(|text| !text.is_empty()).into_iter().chain(changes.iter().map(String::as_str)).collect();
    cut(&parts.join(SEPARATOR), MAX_CHARACTERS).into_owned()
}

/// Returns a text of at most this many characters. One that was cut ends with a mark.
pub(super) fn cut(text: &str, characters: usize) -> Cow<'_, str> {
    if text.chars().nth(characters).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(super::truncated(text, characters - CUT.chars().count()).to_owned() + CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn changes_are_listed_after_those_of_earlier_attempts() {
        assert_eq!(listed(None, &changes(&["added the columns a INT"])), "added the columns a INT");
        assert_eq!(listed(Some(""), &changes(&["b", "c"])), "b; c");
        assert_eq!(listed(Some("a"), &changes(&["b"])), "a; b");
    }

    #[test]
    fn long_list_is_cut_with_a_mark_between_characters() {
        let whole = "ä".repeat(MAX_CHARACTERS);
        assert_eq!(listed(None, std::slice::from_ref(&whole)), whole);
        let text = listed(Some(&whole), &changes(&["b"]));
        assert_eq!((text.chars().count(), text.ends_with("ä …")), (MAX_CHARACTERS, true));
        assert_eq!(listed(Some(&text), &changes(&["c"])).chars().count(), MAX_CHARACTERS);
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "ab …");
    }

    #[test]
    fn ledger_without_the_column_is_read() {
        assert_eq!(with_changes("SELECT a, {changes} FROM t", ChangesColumn::Absent), "SELECT a, NULL FROM t");
        let select = with_changes("SELECT {changes} FROM t", ChangesColumn::Present);
        assert!(select.contains(&format!("LEFT(table_changes, {})", LISTED_CHARACTERS + 1)), "{select}");
    }
}
