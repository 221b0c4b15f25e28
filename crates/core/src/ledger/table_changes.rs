//! The ledger's column for the changes of a table that a source required: a new table, new columns, wider types.
//!
//! The column is informational. No decision depends on it, so a ledger without it is used as it is. A ledger of an earlier version
//! gets it with the first file that changes a table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::statements::{CHANGES, CHANGES_OF};
use super::table::{Column, add_column};
use super::{Dialect, LedgerConnection, SqlLedger, SqlType};
use crate::error::{Result, chain};
use crate::object::SourceId;

/// The column.
pub(super) const CHANGES_COLUMN: Column = ("table_changes", SqlType::LongText, "NULL");

/// Number of characters that the column stores, including [`CUT`].
const MAX_CHARACTERS: usize = 8000;

/// Number of characters that a list of runs shows. It is smaller by one than the number in [`super::statements::LISTED_CHANGES`].
pub(super) const LISTED_CHARACTERS: usize = 1000;

/// The end of a text that was cut.
const CUT: &str = " ...";

/// The text between two changes.
const SEPARATOR: &str = "; ";

/// The process does not try again to add the column to a ledger for this time after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// The ledgers to which the column could not be added, with the time of the failure. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailedAdditions(Arc<Mutex<HashMap<String, Instant>>>);

impl FailedAdditions {
    /// Whether the addition has failed in the last minutes. `ledger` identifies the ledger among all servers.
    fn has_recent(&self, ledger: &str, now: Instant) -> bool {
        self.failures().get(ledger).is_some_and(|failed_at| now.saturating_duration_since(*failed_at) < RETRY_AFTER)
    }

    fn record(&self, ledger: String, now: Instant) {
        self.failures().insert(ledger, now);
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this load writes the ledger's column `table_changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableChangesColumn {
    /// The ledger has the column.
    Present,
    /// The ledger lacks the column, or this load has nothing to write.
    Absent,
}

impl TableChangesColumn {
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
    /// the privilege, or a long load may hold the table. `database` identifies the database among all servers.
    pub(crate) async fn ensure_changes_column<C: LedgerConnection>(
        &self,
        connection: &mut C,
        failed: &FailedAdditions,
        database: &str,
    ) -> TableChangesColumn {
        let ledger = format!("{database}/{}", self.table);
        let added = match self.changes_column(connection).await {
            Ok(Some(TableChangesColumn::Absent)) if failed.has_recent(&ledger, Instant::now()) => {
                return TableChangesColumn::Absent;
            }
            Ok(Some(TableChangesColumn::Absent)) => self.add_with_short_wait(connection).await,
            Ok(_) => Ok(TableChangesColumn::Present),
            Err(error) => Err(error),
        };
        match added {
            Ok(column) => column,
            Err(error) => {
                failed.record(ledger, Instant::now());
                let error = chain(&error);
                warn!(
                    error,
                    "the ledger lacks the column table_changes; the changes are only in the log and the report"
                );
                TableChangesColumn::Absent
            }
        }
    }

    /// Adds the column, and waits at most a second for the lock of the table. Statements of all other workers on the ledger
    /// queue until this statement ends.
    async fn add_with_short_wait<C: LedgerConnection>(&self, connection: &mut C) -> Result<TableChangesColumn> {
        let context = "cannot limit the wait for locks";
        connection.run(context, C::Dialect::SHORT_LOCK_WAIT).await?;
        let added = self.add_changes_column(connection).await;
        connection.run(context, C::Dialect::LOCK_WAIT).await?;
        added
    }

    /// Adds the missing column to an existing ledger.
    pub(super) async fn add_changes_column<C: LedgerConnection>(
        &self,
        connection: &mut C,
    ) -> Result<TableChangesColumn> {
        if self.changes_column(connection).await? == Some(TableChangesColumn::Absent) {
            connection.create("cannot add the ledger's column table_changes", &self.add_changes_sql::<C>()).await?;
        }
        Ok(TableChangesColumn::Present)
    }

    /// The statement that adds the column.
    pub(super) fn add_changes_sql<C: LedgerConnection>(&self) -> String {
        add_column::<C::Dialect>(self.table, &CHANGES_COLUMN)
    }

    /// Whether the ledger has the column; `None` without a ledger.
    pub(super) async fn changes_column<C: LedgerConnection>(
        &self,
        connection: &mut C,
    ) -> Result<Option<TableChangesColumn>> {
        let (name, _, _) = CHANGES_COLUMN;
        let found = connection.table_columns(self.table, &[name]).await?;
        Ok(found.map(|found| if found.is_empty() { TableChangesColumn::Absent } else { TableChangesColumn::Present }))
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
        let text = joined(earlier.as_deref(), changes);
        self.execute(connection, context, CHANGES, &[(&text).into(), id.as_str().into()]).await?.rows()?;
        Ok(())
    }
}

/// Returns the text of the column: earlier changes and new ones.
fn joined(earlier: Option<&str>, changes: &[String]) -> String {
    let parts: Vec<&str> =
        earlier.filter(|text| !text.is_empty()).into_iter().chain(changes.iter().map(String::as_str)).collect();
    cut(&parts.join(SEPARATOR), MAX_CHARACTERS).into_owned()
}

/// Returns a text of at most this many characters. A text that was cut ends with [`CUT`].
pub(super) fn cut(text: &str, characters: usize) -> Cow<'_, str> {
    if text.chars().nth(characters).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(super::truncated(text, characters - CUT.chars().count()).to_owned() + CUT)
}

/// Returns the changes that a report lists: at most [`LISTED_CHARACTERS`] in all. The last of a list that was cut ends with
/// [`CUT`].
pub(crate) fn reported(changes: Vec<String>) -> Vec<String> {
    let characters = |change: &String| change.chars().count();
    if changes.iter().map(characters).sum::<usize>() <= LISTED_CHARACTERS {
        return changes;
    }
    let mut left = LISTED_CHARACTERS - CUT.len();
    let mut texts = Vec::new();
    for change in changes {
        let Some(rest) = left.checked_sub(characters(&change)) else {
            texts.push(super::truncated(&change, left).to_owned() + CUT);
            break;
        };
        left = rest;
        texts.push(change);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn changes_are_listed_after_those_of_earlier_attempts() {
        assert_eq!(joined(None, &changes(&["added the columns a INT"])), "added the columns a INT");
        assert_eq!(joined(Some(""), &changes(&["b", "c"])), "b; c");
        assert_eq!(joined(Some("a"), &changes(&["b"])), "a; b");
    }

    #[test]
    fn long_list_is_cut_between_characters() {
        let whole = "ä".repeat(MAX_CHARACTERS);
        assert_eq!(joined(None, std::slice::from_ref(&whole)), whole);
        let text = joined(Some(&whole), &changes(&["b"]));
        assert_eq!((text.chars().count(), text.ends_with("ä ...")), (MAX_CHARACTERS, true));
        assert_eq!(joined(Some(&text), &changes(&["c"])).chars().count(), MAX_CHARACTERS);
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "ab ...");
    }

    #[test]
    fn list_of_a_report_is_cut() {
        let short = changes(&["a", "b"]);
        assert_eq!(reported(short.clone()), short);
        let whole = vec!["ä".repeat(LISTED_CHARACTERS)];
        assert_eq!(reported(whole.clone()), whole);
        let cut = reported(vec!["a".to_owned(), whole[0].clone(), "b".to_owned()]);
        assert_eq!((cut.len(), cut[0].as_str(), cut[1].ends_with("ä ...")), (2, "a", true));
        assert_eq!(cut.concat().chars().count(), LISTED_CHARACTERS);
    }

    #[test]
    fn failure_is_remembered_for_some_minutes() {
        let (failed, now) = (FailedAdditions::default(), Instant::now());
        assert!(!failed.has_recent("a", now));
        failed.clone().record("a".to_owned(), now);
        assert!(failed.has_recent("a", now + RETRY_AFTER / 2));
        assert!(!failed.has_recent("a", now + RETRY_AFTER));
        assert!(!failed.has_recent("b", now));
    }
}
