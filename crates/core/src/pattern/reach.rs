//! Whether the files of other tables can be in a folder. Does no I/O.

use super::matching::{filled, match_segment};
use super::{TablePattern, TablePatterns};
use crate::table_name::TableName;

impl TablePatterns {
    /// Checks that no key of another table can be in the folder of a table's file, at any depth.
    ///
    /// `matched` is the index of the pattern that matches the key of the file. The error is the end of a sentence about the key.
    pub(super) fn check_alone(&self, folder: &str, table: &TableName, matched: Option<usize>) -> Result<(), String> {
        let names: Vec<&str> = folder.split_terminator('/').collect();
        let covers = |index: usize| {
            let pattern = &self.0[index];
            pattern.has_tail && pattern.segments.len() <= names.len()
        };
        // The first match wins, so patterns after one that matches everything in the folder match nothing there.
        let rivals = matched.filter(|index| covers(*index)).unwrap_or(self.0.len());
        match self.0[..rivals].iter().find(|pattern| pattern.reaches(&names, table)) {
            None => Ok(()),
            Some(other) => Err(format!(
                "is in the folder {folder:?}, in which the pattern {} finds files of another table",
                other.text
            )),
        }
    }
}

impl TablePattern {
    /// Whether a key in this folder can match, and have another table.
    fn reaches(&self, folder: &[&str], table: &TableName) -> bool {
        let mut parts: Vec<(&str, &str)> = Vec::new();
        let in_pattern = self.segments.len() - usize::from(!self.has_tail);
        if in_pattern < folder.len() && !self.has_tail {
            return false;
        }
        let mut folders = self.segments[..in_pattern].iter().zip(folder);
        if folders.any(|(segment, name)| match_segment(segment, name, &mut parts).is_none()) {
            return false;
        }
        let name = match &self.schema {
            None => filled(&self.table, &parts).map(TableName::from),
            Some(schema) => filled(schema, &parts)
                .zip(filled(&self.table, &parts))
                .map(|(schema, name)| TableName::in_schema(&schema, &name)),
        };
        // A table that is named only below the folder can be any table.
        name.is_none_or(|name| name != *table)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::other_files("data/dt={dt}/{a} => orders, data/dt={dt}/c_* => customers", "data/dt=1/x", "c_*")]
    #[case::nested("in/orders/special/** => special, in/{table}/**", "in/orders/x.csv", "special")]
    #[case::nested_elsewhere("in/orders/special/** => special, in/{table}/**", "in/customers/x.csv", "")]
    #[case::nested_itself("in/orders/special/** => special, in/{table}/**", "in/orders/special/x.csv", "")]
    #[case::partition_beside("in/orders/special/** => special, in/{table}/**", "in/orders/dt=1/x.csv", "")]
    #[case::later_rest("in/{table}/{file}, in/** => rest", "in/orders/x.csv", "in/**")]
    #[case::same_table("in/{table}/dt={dt}/**, in/{table}/**", "in/orders/x.csv", "")]
    #[case::too_short("in/{table}/{a}/{b}, in/{file} => rest", "in/orders/1/x.csv", "")]
    #[case::one_folder("in/{t}/o_* => {t}_o, in/{t}/c_* => {t}_c", "in/a/o_1", "c_*")]
    #[case::named_below("in/x/{table}/**, in/{top}/** => t", "in/x/a.csv", "in/x/{table}/**")]
    fn folder_of_another_table_is_refused(#[case] patterns: &str, #[case] key: &str, #[case] other: &str) {
        let why = TablePatterns::parse(patterns).unwrap().place_of(key).unwrap().err().unwrap_or_default();
        match other {
            "" => assert_eq!(why, ""),
            other => assert!(why.contains("of another table") && why.contains(other), "{why}"),
        }
    }
}
