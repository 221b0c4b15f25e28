//! Merging by key: rows are staged in file order, then those whose key the table has update its rows, and the others are
//! inserted, all in the transaction that holds the ledger row.
//!
//! Rows meet by the merge key alone. `ON DUPLICATE KEY UPDATE` would take any unique index for the key and could update a
//! row that the file does not mean; here a clash in another unique index refuses the file. Of rows with the same key the last
//! one of the file counts: staged rows are numbered in the order in which they are sent, so batches and chunks do not matter.
//! Keys are equal when the unique index says so, with the column's own collation.

use super::column::{Storage, TargetColumn};
use super::connect::Connection;
use super::failure::DUPLICATE_KEY;
use super::rejection;
use super::table::{TABLE_OPTIONS, quoted};
use crate::destination::RowCounts;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{Counts, UniqueIndex, key_indexes, mark_key, sequence_name};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// One row of `information_schema.STATISTICS`: index, column (none for an expression), prefix length, kind of index.
type IndexColumn = (String, Option<String>, Option<u64>, String);

const UNIQUE_INDEXES_SQL: &str = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, INDEX_TYPE FROM information_schema.STATISTICS \
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX";

/// The columns by which a file is merged into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MergeKey {
    /// As the table calls them.
    columns: Vec<String>,
    /// The unique indexes over exactly these columns.
    indexes: Vec<String>,
}

impl MergeKey {
    /// The key of a table that exists: these columns, or without any its primary key.
    pub(super) async fn of_table(connection: &mut Connection, table: &str, wanted: &[String]) -> Result<Self> {
        let doing = "cannot read the target table's indexes";
        let rows: Vec<IndexColumn> = connection.rows(doing, UNIQUE_INDEXES_SQL, (table,)).await?;
        let indexes = key_indexes(table, wanted, whole_indexes(rows), || {
            let columns: Vec<String> = wanted.iter().map(|name| quoted(name)).collect();
            format!("ALTER TABLE {} ADD UNIQUE KEY ({})", quoted(table), columns.join(", "))
        })?;
        let columns = indexes.first().map(|index| index.columns.clone()).unwrap_or_default();
        Ok(Self { columns, indexes: indexes.into_iter().map(|index| index.name).collect() })
    }

    /// Marks the key's columns among the file's; the file must have them all.
    pub(super) fn mark(&self, table: &str, columns: &mut [TargetColumn]) -> Result<()> {
        mark_key(table, &self.columns, columns)
    }

    /// Whether the server's message about a duplicate entry is about this key. It ends with the index's name, which newer
    /// servers put behind the table's.
    fn is_named_by(&self, message: &str) -> bool {
        let end = message.rsplit_once(" for key '").map_or("", |(_, end)| end);
        self.indexes.iter().any(|index| {
            end.strip_suffix('\'')
                .and_then(|name| name.strip_suffix(index.as_str()))
                .is_some_and(|table| table.is_empty() || table.ends_with('.'))
        })
    }
}

/// The unique indexes by which whole values are found: none over expressions, the beginnings of values, or hashes.
fn whole_indexes(rows: Vec<IndexColumn>) -> Vec<UniqueIndex<()>> {
    let mut indexes: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for (name, column, prefix, kind) in rows {
        let column = column.filter(|_| prefix.is_none() && kind == "BTREE");
        if indexes.last().is_none_or(|(last, _)| *last != name) {
            indexes.push((name, Some(Vec::new())));
        }
        if let Some((_, columns)) = indexes.last_mut() {
            *columns = columns.take().zip(column).map(|(columns, column)| [columns, vec![column]].concat());
        }
    }
    let whole = |(name, columns): (String, Option<Vec<String>>)| {
        Some(UniqueIndex { is_primary: name == "PRIMARY", name, columns: columns?, detail: () })
    };
    indexes.into_iter().filter_map(whole).collect()
}

/// How long the staged rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As long as the connection.
    Session,
    /// Until they are dropped or swept: what is committed in chunks.
    UntilDropped,
}

/// A merge under way: its staging table, and two lists of row numbers that live as long as the connection.
#[derive(Debug)]
pub(super) struct Merge {
    key: MergeKey,
    /// Where the file's rows wait, numbered.
    pub(super) staging: String,
    /// The column with the numbers.
    sequence: String,
    /// The numbers of the last row of each key.
    latest: String,
    /// Those of them whose key the table has.
    known: String,
}

impl Merge {
    /// Makes the tables, outside of any transaction.
    pub(super) async fn prepare(
        connection: &mut Connection,
        key: MergeKey,
        columns: &[TargetColumn],
        staging: String,
        keep: Keep,
    ) -> Result<Self> {
        let sequence = sequence_name(columns);
        let (latest, known) = (format!("{staging}_latest"), format!("{staging}_known"));
        let merge = Self { key, staging, sequence, latest, known };
        let doing = "cannot make the staging table";
        connection.run(doing, &merge.staging_statement(columns, keep)).await?;
        for list in [&merge.latest, &merge.known] {
            let sequence = quoted(&merge.sequence);
            let sql = format!(
                "CREATE TEMPORARY TABLE {} ({sequence} BIGINT UNSIGNED NOT NULL PRIMARY KEY) {TABLE_OPTIONS}",
                quoted(list)
            );
            connection.run(doing, &sql).await?;
        }
        Ok(merge)
    }

    /// The file's columns with the target's types and collations, and none of its keys, defaults and checks: those are the
    /// target's to apply when the rows get there.
    fn staging_statement(&self, columns: &[TargetColumn], keep: Keep) -> String {
        let what = match keep {
            Keep::Session => "TEMPORARY TABLE",
            Keep::UntilDropped => "TABLE",
        };
        let mut definitions =
            vec![format!("{} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", quoted(&self.sequence))];
        definitions.extend(columns.iter().map(|column| {
            let is_text = !matches!(column.storage, Storage::Json { .. });
            let collation = column
                .collation
                .as_ref()
                .filter(|_| is_text)
                .map(|name| format!(" COLLATE {name}"))
                .unwrap_or_default();
            format!("{} {}{collation} NULL", quoted(&column.name), column.type_text)
        }));
        format!("CREATE {what} {} ({}) {TABLE_OPTIONS}", quoted(&self.staging), definitions.join(", "))
    }

    /// Brings the staged rows into the target, in the open transaction, and says what became of each.
    ///
    /// The rows of the target with a key of the file's are locked before anything is changed. So each key is either known,
    /// and nobody else can change or delete its row, or new, and whoever else inserts it makes our insert fail.
    pub(super) async fn apply(
        &self,
        connection: &mut Connection,
        destination: &str,
        columns: &[TargetColumn],
        staged: RowCounts,
        size_bytes: u64,
    ) -> Result<RowCounts> {
        if staged.rows_parsed == 0 {
            return Ok(staged);
        }
        let run = Run { connection, merge: self, columns, size_bytes, rows: staged.rows_stored };
        self.apply_with(run, destination).await.map(|counts| RowCounts { rows_parsed: staged.rows_parsed, ..counts })
    }

    async fn apply_with(&self, mut run: Run<'_>, destination: &str) -> Result<RowCounts> {
        let columns = run.columns;
        let (latest, known, staging) = (quoted(&self.latest), quoted(&self.known), quoted(&self.staging));
        let (destination, number) = (quoted(destination), quoted(&self.sequence));
        let keys: Vec<String> = self.key.columns.iter().map(|name| quoted(name)).collect();
        let same_key = keys.iter().map(|name| format!("t.{name} = s.{name}")).collect::<Vec<_>>().join(" AND ");
        let names = columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>();

        let sql = format!("INSERT INTO {latest} SELECT MAX({number}) FROM {staging} GROUP BY {}", keys.join(", "));
        let latest_rows = run.change("cannot find the last row of each key", &sql).await?;
        let sql = format!(
            "INSERT INTO {known} SELECT s.{number} FROM {latest} l STRAIGHT_JOIN {staging} s ON s.{number} = l.{number} \
             STRAIGHT_JOIN {destination} t ON {same_key} FOR UPDATE"
        );
        let known_rows = run.change("cannot find the rows to update", &sql).await?;

        let values: Vec<&TargetColumn> = columns.iter().filter(|column| !column.in_merge_key).collect();
        let mut rows_updated = 0;
        if known_rows > 0 && !values.is_empty() {
            let set = |column: &&TargetColumn| format!("t.{0} = s.{0}", quoted(&column.name));
            let sql = format!(
                "UPDATE {known} k STRAIGHT_JOIN {staging} s ON s.{number} = k.{number} STRAIGHT_JOIN {destination} t ON {same_key} \
                 SET {} WHERE NOT ({})",
                values.iter().map(set).collect::<Vec<_>>().join(", "),
                values.iter().map(|column| unchanged(column)).collect::<Vec<_>>().join(" AND ")
            );
            rows_updated = run.change("cannot update the rows", &sql).await?;
        }
        let sql = format!(
            "INSERT INTO {destination} ({}) SELECT {} FROM {latest} l STRAIGHT_JOIN {staging} s ON s.{number} = l.{number} \
             LEFT JOIN {known} k ON k.{number} = l.{number} WHERE k.{number} IS NULL ORDER BY l.{number}",
            names.join(", "),
            names.iter().map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", ")
        );
        let inserted = run.change("cannot insert the new rows", &sql).await?;
        Counts { staged: run.rows, latest: latest_rows, known: known_rows, updated: rows_updated, inserted }.add_up()
    }
}

/// Whether both rows have the same value, byte for byte: a collation may hold different texts to be equal.
fn unchanged(column: &TargetColumn) -> String {
    let name = quoted(&column.name);
    match column.storage {
        Storage::Characters { .. }
        | Storage::Text { .. }
        | Storage::Enum(_)
        | Storage::Set(_)
        | Storage::Json { keeps_meaning: false } => {
            format!("CAST(t.{name} AS BINARY) <=> CAST(s.{name} AS BINARY)")
        }
        Storage::Integer { .. }
        | Storage::Decimal { .. }
        | Storage::Float { .. }
        | Storage::Date
        | Storage::DateTime { .. }
        | Storage::Timestamp { .. }
        | Storage::Time { .. }
        | Storage::Year
        | Storage::Bytes { .. }
        | Storage::Bits { .. }
        | Storage::Json { keeps_meaning: true }
        | Storage::ServerChecked => format!("t.{name} <=> s.{name}"),
    }
}

/// The statements of one merge on their connection.
struct Run<'a> {
    connection: &'a mut Connection,
    merge: &'a Merge,
    columns: &'a [TargetColumn],
    size_bytes: u64,
    /// The staged rows.
    rows: u64,
}

impl Run<'_> {
    /// Runs one statement; the rows it has changed.
    async fn change(&mut self, doing: &str, sql: &str) -> Result<u64> {
        let answer = self.connection.run_raw(copy_timeout(self.size_bytes), doing, sql.as_bytes()).await?;
        if let Err(mysql_async::Error::Server(server)) = &answer
            && server.code == DUPLICATE_KEY
            && self.merge.key.is_named_by(&server.message)
        {
            let message = "another transaction has inserted a row with the same key meanwhile";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let outcome = rejection::checked(answer, doing, self.columns, None)?;
        if outcome.warnings > 0 {
            return Err(rejection::from_warnings(self.connection, self.columns, None, outcome, self.rows).await);
        }
        Ok(outcome.affected_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_indexes_over_whole_values_are_keys() {
        let row = |index: &str, column: Option<&str>, prefix: Option<u64>, kind: &str| {
            (index.to_owned(), column.map(str::to_owned), prefix, kind.to_owned())
        };
        let rows = vec![
            row("PRIMARY", Some("a"), None, "BTREE"),
            row("PRIMARY", Some("b"), None, "BTREE"),
            row("beginning", Some("a"), None, "BTREE"),
            row("beginning", Some("c"), Some(10), "BTREE"),
            row("expression", None, None, "BTREE"),
            row("hashed", Some("d"), None, "HASH"),
            row("single", Some("e"), None, "BTREE"),
        ];
        let expected: [(&str, &[&str]); 2] = [("PRIMARY", &["a", "b"]), ("single", &["e"])];
        let expected = expected.map(|(name, columns)| UniqueIndex {
            name: name.to_owned(),
            is_primary: name == "PRIMARY",
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            detail: (),
        });
        assert_eq!(whole_indexes(rows), expected);
    }

    #[test]
    fn a_duplicate_entry_is_told_apart_by_the_index_it_names() {
        let key = MergeKey { columns: vec!["id".into()], indexes: vec!["PRIMARY".into()] };
        assert!(key.is_named_by("Duplicate entry '1' for key 'PRIMARY'"));
        assert!(key.is_named_by("Duplicate entry 'x for key 'other'' for key 'orders.PRIMARY'"));
        assert!(!key.is_named_by("Duplicate entry 'x for key 'PRIMARY'' for key 'email'"));
        assert!(!key.is_named_by("Duplicate entry 'x' for key 'orders.MY_PRIMARY'"));
    }
}
