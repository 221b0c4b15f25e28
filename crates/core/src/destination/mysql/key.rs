//! The merge key: the columns of a unique index, and the indexes over exactly these columns.

use super::connect::Connection;
use super::ledger::MySqlDialect;
use super::table::quoted_table;
use crate::destination::column::quoted_list;
use crate::destination::merge::{UniqueIndex, key_indexes};
use crate::error::Result;
use crate::table_name::TableName;

/// A row of `information_schema.STATISTICS`: index, column (`None` for an expression), prefix length, type of the
/// index.
type IndexColumn = (String, Option<String>, Option<u64>, String);

const UNIQUE_INDEXES_SQL: &str = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, INDEX_TYPE FROM information_schema.STATISTICS \
     WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX";

/// The merge key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) struct MergeKey {
    /// The columns' names, as the table spells them.
    pub(super) columns: Vec<String>,
    /// The names of the unique indexes over exactly these columns.
    indexes: Vec<String>,
}

impl MergeKey {
    /// Reads the key of an existing table over the wanted columns, or the primary key where none are wanted.
    pub(super) async fn of_table(connection: &mut Connection, table: &TableName, wanted: &[String]) -> Result<Self> {
        let context = "cannot read the table's indexes";
        let name = connection.schema_and_name(table);
        let rows: Vec<IndexColumn> = connection.rows(context, UNIQUE_INDEXES_SQL, name).await?;
        let indexes = key_indexes(table, wanted, whole_indexes(rows), || {
            let columns = quoted_list::<MySqlDialect>(wanted);
            format!("ALTER TABLE {} ADD UNIQUE KEY ({columns})", quoted_table(table))
        })?;
        let columns = indexes.first().map(|index| index.columns.clone()).unwrap_or_default();
        Ok(Self { columns, indexes: indexes.into_iter().map(|index| index.name).collect() })
    }

    /// Whether a message about a duplicate entry names this key.
    ///
    /// The message ends with the index's name. Newer servers write the table's name and a dot before it.
    pub(super) fn is_named_by(&self, message: &str) -> bool {
        let end = message.rsplit_once(" for key '").map_or("", |(_, end)| end);
        self.indexes.iter().any(|index| {
            end.strip_suffix('\'')
                .and_then(|name| name.strip_suffix(index.as_str()))
                .is_some_and(|table| table.is_empty() || table.ends_with('.'))
        })
    }
}

/// Returns the unique indexes over whole values, without those over expressions, prefixes or hashes.
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
    fn duplicate_entry_names_its_index() {
        let key = MergeKey { columns: vec!["id".into()], indexes: vec!["PRIMARY".into()] };
        assert!(key.is_named_by("Duplicate entry '1' for key 'PRIMARY'"));
        assert!(key.is_named_by("Duplicate entry 'x for key 'other'' for key 'orders.PRIMARY'"));
        assert!(!key.is_named_by("Duplicate entry 'x for key 'PRIMARY'' for key 'email'"));
        assert!(!key.is_named_by("Duplicate entry 'x' for key 'orders.MY_PRIMARY'"));
    }
}
