//! The columns of an export, its key columns, and the columns that two exports have in common.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use spillway_formats::columns::position_of;
use spillway_formats::schema::header::loose_name;

use super::record::{Values, key_parts};
use crate::error::{Error, ErrorKind, Result};

/// The columns of one export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ExportColumns {
    /// The names of all columns, in the order of the file.
    pub(super) names: Vec<String>,
    /// The indexes of the key columns, in the order of `EXPORT_KEY`.
    pub(super) key: Vec<usize>,
}

/// The columns that only one of two exports has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChanges {
    /// The columns that only the new export has.
    pub added: Vec<String>,
    /// The columns that only the old export has.
    pub removed: Vec<String>,
}

/// The columns of a comparison.
#[derive(Debug)]
pub(super) struct ComparedColumns {
    pub(super) old: ExportColumns,
    pub(super) new: ExportColumns,
    pub(super) common: CommonColumns,
}

/// The value columns of two exports that are compared.
#[derive(Debug, Default)]
pub(super) struct CommonColumns {
    /// Pairs of indexes among the value columns of the old and of the new export.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Whether both exports have the same value columns in the same order.
    pub(super) is_same_layout: bool,
    pub(super) changes: SchemaChanges,
}

impl ExportColumns {
    /// The columns of an export whose first rows have these columns.
    ///
    /// # Errors
    /// When a key column is missing, or named twice.
    pub(super) fn of(names: Vec<String>, wanted: &[String]) -> Result<Self> {
        let mut key = Vec::with_capacity(wanted.len());
        for name in wanted {
            let missing = || {
                let message = "the export has no such column, but EXPORT_KEY or --key names it";
                Error::new(ErrorKind::FileBroken, message).in_column(name)
            };
            let index = position_of(name, &names).ok_or_else(missing)?;
            if key.contains(&index) {
                let message = "EXPORT_KEY names the column twice";
                return Err(Error::new(ErrorKind::Settings, message).in_column(&names[index]));
            }
            key.push(index);
        }
        Ok(Self { names, key })
    }

    /// The names of the key columns.
    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|index| self.names[*index].clone()).collect()
    }

    /// The indexes of the columns outside the key.
    pub(super) fn value_columns(&self) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(|index| !self.key.contains(index))
    }

    /// The fields of a row, in the order of the columns.
    pub(super) fn fields<'a>(&self, key: &'a [Vec<u8>], values: &'a [u8]) -> Vec<Option<&'a [u8]>> {
        let mut values = Values(values);
        let field = |index| match self.key.iter().position(|key| *key == index) {
            Some(part) => key.get(part).map(Vec::as_slice),
            None => values.next().flatten(),
        };
        (0..self.names.len()).map(field).collect()
    }

    /// The parts of a key, in the order of `EXPORT_KEY`.
    pub(super) fn key_parts(&self, key: &[u8]) -> Vec<Vec<u8>> {
        key_parts(key, self.key.len())
    }
}

impl CommonColumns {
    /// Finds the common columns: by name, then in any letter case, then as people write names (`Order ID` is `order_id`).
    pub(super) fn of(old: &ExportColumns, new: &ExportColumns) -> Self {
        let (old_columns, new_columns): (Vec<usize>, Vec<usize>) =
            (old.value_columns().collect(), new.value_columns().collect());
        let mut found: Vec<Option<usize>> = vec![None; new_columns.len()];
        let spellings: [fn(&str) -> Option<String>; 3] =
            [|name| Some(name.to_owned()), |name| Some(name.to_lowercase()), loose_name];
        for spelling in spellings {
            let free = |index: &usize| !found.contains(&Some(*index));
            let free_old: Vec<usize> = (0..old_columns.len()).filter(free).collect();
            let free_new: Vec<usize> = (0..new_columns.len()).filter(|index| found[*index].is_none()).collect();
            let by_old = by_spelling(&free_old, |index| spelling(&old.names[old_columns[index]]));
            let by_new = by_spelling(&free_new, |index| spelling(&new.names[new_columns[index]]));
            for (name, indexes) in by_new {
                // A name that may mean two columns means none.
                if let ([index], Some([old])) = (indexes.as_slice(), by_old.get(&name).map(Vec::as_slice)) {
                    found[*index] = Some(*old);
                }
            }
        }
        let pairs: Vec<(usize, usize)> =
            found.iter().enumerate().filter_map(|(new, old)| old.map(|old| (old, new))).collect();
        let is_same_layout =
            pairs.len() == old_columns.len() && found.iter().enumerate().all(|(new, old)| *old == Some(new));
        let added = (0..new_columns.len()).filter(|index| found[*index].is_none());
        let removed = (0..old_columns.len()).filter(|index| !found.contains(&Some(*index)));
        let changes = SchemaChanges {
            added: added.map(|index| new.names[new_columns[index]].clone()).collect(),
            removed: removed.map(|index| old.names[old_columns[index]].clone()).collect(),
        };
        Self { pairs, is_same_layout, changes }
    }
}

fn by_spelling(indexes: &[usize], spelling: impl Fn(usize) -> Option<String>) -> HashMap<String, Vec<usize>> {
    let mut by_spelling: HashMap<String, Vec<usize>> = HashMap::new();
    for index in indexes {
        if let Some(name) = spelling(*index) {
            by_spelling.entry(name).or_default().push(*index);
        }
    }
    by_spelling
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], key: &[&str]) -> Result<ExportColumns> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        ExportColumns::of(owned(names), &owned(key))
    }

    #[test]
    fn common_columns_are_found_in_any_order_and_spelling() {
        let old = columns(&["id", "Amount", "order_no", "gone", "x-y"], &["ID"]).unwrap();
        let new = columns(&["Order No", "amount", "fresh", "id", "x y", "x.y"], &["id"]).unwrap();
        assert_eq!((old.key.as_slice(), new.key.as_slice()), (&[0][..], &[3][..]));
        let common = CommonColumns::of(&old, &new);
        assert_eq!(common.pairs, [(1, 0), (0, 1)]);
        assert_eq!(common.changes.added, ["fresh", "x y", "x.y"]);
        assert_eq!(common.changes.removed, ["gone", "x-y"]);
        assert!(!common.is_same_layout);
        assert!(CommonColumns::of(&old, &old).is_same_layout);
        let more = columns(&["id", "Amount", "order_no", "gone", "x-y", "z"], &["id"]).unwrap();
        assert!(!CommonColumns::of(&old, &more).is_same_layout && !CommonColumns::of(&more, &old).is_same_layout);
    }

    #[test]
    fn missing_and_repeated_key_columns_are_rejected() {
        let error = columns(&["a", "b"], &["a", "c"]).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::FileBroken, Some("c")));
        assert_eq!(columns(&["Order ID"], &["order_id", "Order ID"]).unwrap_err().kind(), ErrorKind::Settings);
    }

    #[test]
    fn fields_are_in_the_order_of_the_file() {
        let columns = columns(&["a", "k2", "b", "k1", "late"], &["k1", "k2"]).unwrap();
        let mut values = Vec::new();
        super::super::record::push_value(&mut values, Some(b"1"));
        super::super::record::push_value(&mut values, None);
        let key = vec![b"one".to_vec(), b"two".to_vec()];
        let fields = columns.fields(&key, &values);
        assert_eq!(fields, [Some(&b"1"[..]), Some(b"two"), None, Some(b"one"), None]);
    }
}
