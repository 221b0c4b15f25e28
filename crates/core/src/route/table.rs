//! Derives the target table of a key, and the names of that table's folder and Glue table.
//!
//! The result depends on the key and the settings alone, so that every attempt of every worker gets the same.

use crate::error::{Error, ErrorKind, Result};
use crate::object::hash_parts;
use crate::pattern::{self, KeyParts, TablePatterns};
use crate::table_name::TableName;

/// Number of hex digits that distinguish names that would be equal without their special characters.
const HASH_DIGITS: usize = 8;
/// Separates the name from the digits.
const HASH_SEPARATOR: &str = "__";

/// The patterns and names that decide which table a key belongs to. At least one of the two is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRoutes {
    /// The patterns of the table settings, then those of `TABLE_PATTERN`.
    pub patterns: TablePatterns,
    /// `RDS_TABLE`: the table of keys that no pattern matches. Without it, such keys are rejected.
    pub default: Option<TableName>,
}

/// The table of a key, with a valid name, and the named parts of the key.
///
/// # Errors
/// [`ErrorKind::KeyRefused`] if no pattern matches and `RDS_TABLE` is not set, or if the key yields an invalid table name.
pub(crate) fn key_parts(key: &str, tables: &TableRoutes, ledger_table: &str) -> Result<KeyParts> {
    let Some(found) = tables.patterns.match_key(key) else {
        return match &tables.default {
            Some(table) => Ok(KeyParts { table: table.clone(), parts: Vec::new() }),
            None if tables.patterns.is_empty() => {
                Err(Error::new(ErrorKind::KeyRefused, "no option or setting names the table of the file"))
            }
            None => Err(Error::new(
                ErrorKind::KeyRefused,
                format!(
                    "the key matches no pattern of TABLE_PATTERN and the table settings ({}), and RDS_TABLE is not set",
                    tables.patterns
                ),
            )),
        };
    };
    match pattern::table_name(&found.table, ledger_table) {
        Ok(table) => Ok(KeyParts { table, ..found }),
        Err(why) => {
            let message =
                format!("the key gives the table name {:?} (by TABLE_PATTERN), which {why}", found.table.as_str());
            Err(Error::new(ErrorKind::KeyRefused, message))
        }
    }
}

/// Fails if a table that an object in the bucket names is one of Spillway's own.
///
/// `RDS_TABLE` may have their prefix: the settings accept it unless it is the ledger.
///
/// # Errors
/// [`ErrorKind::KeyRefused`].
pub(crate) fn check_not_own(table: &TableName, tables: &TableRoutes, ledger_table: &str) -> Result<()> {
    match pattern::own_table(table, ledger_table) {
        Some(why) if tables.default.as_ref() != Some(table) => {
            Err(Error::new(ErrorKind::KeyRefused, format!("the table {:?} {why}", table.as_str())))
        }
        _ => Ok(()),
    }
}

/// The Glue table of a table: `default` for `RDS_TABLE`, its own name for a table that a pattern names.
///
/// The name has lower-case letters, digits and `_`. Two tables never share one.
pub(crate) fn glue_table(tables: &TableRoutes, default: &str, table: &TableName) -> String {
    if tables.patterns.is_empty() || tables.default.as_ref() == Some(table) {
        return default.to_owned();
    }
    if *table == *default { hashed(table, is_plain_in_glue) } else { lake_table(table) }
}

/// The Glue table of a table's rows in the lake: its own name if it is plain. Two tables never share one.
pub(crate) fn lake_table(table: &TableName) -> String {
    plain_or_hashed(table, is_plain_in_glue)
}

fn is_plain_in_glue(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
}

/// The folder name of a table's row objects: the table's own name if it is safe in a path.
pub(super) fn folder(table: &TableName) -> String {
    plain_or_hashed(table, |character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'))
}

/// The name itself if it is plain, does not look like a hashed name, and is visible to Athena.
fn plain_or_hashed(table: &TableName, is_plain: impl Fn(char) -> bool) -> String {
    let is_itself =
        table.chars().all(&is_plain) && !table.is_empty() && !table.starts_with('_') && !looks_hashed(table);
    if is_itself { table.to_string() } else { hashed(table, is_plain) }
}

fn hashed(table: &TableName, is_plain: impl Fn(char) -> bool) -> String {
    let written: String = table.chars().map(|character| if is_plain(character) { character } else { '_' }).collect();
    let written = written.trim_matches('_');
    let stem = if written.is_empty() { "table" } else { written };
    let parts: Vec<&str> = table.parts().collect();
    format!("{stem}{HASH_SEPARATOR}{}", &hash_parts(&parts)[..HASH_DIGITS])
}

fn looks_hashed(table: &str) -> bool {
    let hash = table.rsplit_once(HASH_SEPARATOR).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// The name of `GLUE_TABLE`.
    const DEFAULT: &str = "spare";

    fn settings(patterns: &str, default: Option<&str>) -> TableRoutes {
        let patterns =
            if patterns.is_empty() { TablePatterns::default() } else { TablePatterns::parse(patterns).unwrap() };
        TableRoutes { patterns, default: default.map(TableName::from) }
    }

    fn by_pattern(pattern: &str) -> TableRoutes {
        settings(pattern, None)
    }

    fn table(settings: &TableRoutes, key: &str) -> Result<String> {
        key_parts(key, settings, "spillway_ledger").map(|parts| parts.table.to_string())
    }

    fn glue(settings: &TableRoutes, table: &str) -> String {
        glue_table(settings, DEFAULT, &table.into())
    }

    #[test]
    fn rds_table_applies_to_every_key_without_a_pattern() {
        let fixed = settings("", Some("Orders"));
        assert_eq!(table(&fixed, "any/key").unwrap(), "Orders");
        assert_eq!(glue(&fixed, "Orders"), "spare");
        // Fallback rows that were written with another RDS_TABLE.
        assert_eq!(glue(&fixed, "customers"), "spare");
    }

    #[test]
    fn a_key_without_a_pattern_is_refused_or_loaded_into_rds_table() {
        let error = table(&by_pattern("in/{table}/**, a/** => b"), "in/x.csv").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyRefused);
        assert_eq!(
            error.to_string(),
            "the key matches no pattern of TABLE_PATTERN and the table settings (in/{table}/**, a/**), and RDS_TABLE is not set"
        );
        let error = table(&settings("", None), "x.csv").unwrap_err();
        assert_eq!(error.to_string(), "no option or setting names the table of the file");
        let both = settings("in/{table}/**", Some("Rest"));
        assert_eq!(table(&both, "in/x.csv").unwrap(), "Rest");
        assert_eq!((glue(&both, "Rest").as_str(), glue(&both, "x").as_str()), ("spare", "x"));
    }

    #[test]
    fn an_invalid_table_name_is_refused_even_with_rds_table() {
        let both = settings("in/{table}/**", Some("rest"));
        let error = table(&both, "in/spillway_ledger/x.csv").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyRefused);
        assert!(error.to_string().contains("\"spillway_ledger\""), "{error}");
        assert_eq!(table(&both, "in/ORDERS/x.csv").unwrap(), "orders");
    }

    #[rstest]
    #[case("sale_events", "sale_events", "sale_events")]
    #[case("2026", "2026", "2026")]
    #[case("sale-events", "sale-events", "sale_events__")]
    #[case("a.b", "a_b__", "a_b__")]
    #[case("..", "table__", "table__")]
    #[case("_manifests", "manifests__", "manifests__")]
    #[case("größe", "gr__e__", "gr__e__")]
    #[case("a'; drop table x; --", "a___drop_table_x__--__", "a___drop_table_x__")]
    #[case("orders__0123abcd", "orders__0123abcd__", "orders__0123abcd__")]
    #[case("spare", "spare", "spare__")]
    fn folders_and_glue_tables(#[case] table: &str, #[case] folder_start: &str, #[case] glue_start: &str) {
        let settings = by_pattern("{table}/**");
        for (name, start) in [(folder(&table.into()), folder_start), (glue(&settings, table), glue_start)] {
            let is_hashed = start.ends_with("__");
            assert!(name.starts_with(start) && name.len() == start.len() + if is_hashed { 8 } else { 0 }, "{name}");
        }
    }

    #[test]
    fn table_in_a_schema_has_names_of_its_own() {
        let settings = by_pattern("in/{table}/** => sales.{table}");
        let parts = key_parts("in/Orders/1.csv", &settings, "spillway_ledger").unwrap();
        assert_eq!((parts.table.schema(), parts.table.own_name()), (Some("sales"), "orders"));
        let glue = glue_table(&settings, DEFAULT, &parts.table);
        assert!(glue.starts_with("sales_orders__") && folder(&parts.table) == glue, "{glue}");
        assert_ne!(glue, glue_table(&settings, DEFAULT, &"sales.orders".into()));
        // A dot in a key does not choose a schema.
        let parts = key_parts("in/mysql.user/1.csv", &settings, "spillway_ledger").unwrap();
        assert_eq!((parts.table.schema(), parts.table.own_name()), (Some("sales"), "mysql.user"));
    }

    proptest! {
        #[test]
        fn any_key_has_one_table_with_a_valid_name_everywhere(key in "\\PC{0,40}") {
            let settings = by_pattern("{table}/**, {table}.csv, x{a}y => {a}");
            let first = table(&settings, &key).map_err(|error| error.to_string());
            prop_assert_eq!(&first, &table(&settings, &key).map_err(|error| error.to_string()));
            if let Ok(table) = first {
                prop_assert!(!table.is_empty() && table.len() <= 63 && !table.starts_with("spillway_"));
                for name in [folder(&table.as_str().into()), glue(&settings, &table)] {
                    prop_assert!(!name.is_empty() && name.len() <= 255 && !name.starts_with(['_', '.']) && !name.contains('/'));
                }
            }
        }

        #[test]
        fn two_tables_never_share_a_name(tables in prop::collection::hash_set("[a-b._' é-]{1,4}(__[0-9a-f]{8})?", 2..40)) {
            let settings = by_pattern("{table}/**");
            let folders: HashSet<String> = tables.iter().map(|table| folder(&table.as_str().into())).collect();
            let glue: HashSet<String> = tables.iter().map(|table| glue(&settings, table)).collect();
            prop_assert_eq!((folders.len(), glue.len()), (tables.len(), tables.len()));
        }
    }
}
