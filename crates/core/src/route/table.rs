//! Which table a key's rows are for, and what that table's folder and Glue table are called.
//!
//! All of it depends on the key and the settings alone, so that each attempt of each worker comes to the same.

use crate::config::{DatabaseSettings, PipelineConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::object::hash_parts;
use crate::pattern::{self, KeyParts};

/// Hex digits that keep two names apart which would be written alike.
const HASH_DIGITS: usize = 8;
/// What stands before those digits.
const HASH_MARK: &str = "__";

/// The table that a key's rows are for, its name checked, and the named parts of the key.
///
/// # Errors
/// [`ErrorKind::KeyRefused`] when no pattern matches and there is no `RDS_TABLE` for such keys, or when what the pattern
/// gives is no name for a table.
pub fn key_parts(key: &str, database: &DatabaseSettings) -> Result<KeyParts> {
    let tables = &database.tables;
    let Some(found) = tables.patterns.read(key) else {
        return match &tables.default {
            Some(table) => Ok(KeyParts { table: table.clone(), parts: Vec::new() }),
            None => Err(Error::new(
                ErrorKind::KeyRefused,
                format!(
                    "the key matches no pattern of TABLE_PATTERN ({}), and RDS_TABLE names no table",
                    tables.patterns
                ),
            )),
        };
    };
    match pattern::table_name(&found.table, &database.options.ledger_table) {
        Ok(table) => Ok(KeyParts { table, ..found }),
        Err(why) => {
            let message = format!("the key gives the table name {:?} (by TABLE_PATTERN), which {why}", found.table);
            Err(Error::new(ErrorKind::KeyRefused, message))
        }
    }
}

/// The Glue table of what was meant for a table: `GLUE_TABLE` for `RDS_TABLE`, the table's own name for tables that a
/// pattern has named. Lower case, letters, digits and `_`; two tables never share one.
pub fn glue_table(settings: &PipelineConfig, table: &str) -> String {
    let default = settings.database.tables.default.as_deref();
    if settings.database.tables.patterns.is_empty() || default == Some(table) {
        return settings.glue.table.clone();
    }
    let is_plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    if table == settings.glue.table { hashed(table, is_plain) } else { plain_or_hashed(table, is_plain) }
}

/// The folder of a table's fallback objects, without slashes: the table's name where that is harmless in a path.
pub(super) fn folder(table: &str) -> String {
    plain_or_hashed(table, |character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'))
}

/// The name itself when it is plain and cannot be taken for a hashed one, and Athena would not take it for hidden.
fn plain_or_hashed(table: &str, is_plain: impl Fn(char) -> bool) -> String {
    let is_itself =
        table.chars().all(&is_plain) && !table.is_empty() && !table.starts_with('_') && !looks_hashed(table);
    if is_itself { table.to_owned() } else { hashed(table, is_plain) }
}

fn hashed(table: &str, is_plain: impl Fn(char) -> bool) -> String {
    let written: String = table.chars().map(|character| if is_plain(character) { character } else { '_' }).collect();
    let written = written.trim_matches('_');
    let stem = if written.is_empty() { "table" } else { written };
    format!("{stem}{HASH_MARK}{}", &hash_parts(&[table])[..HASH_DIGITS])
}

fn looks_hashed(table: &str) -> bool {
    let hash = table.rsplit_once(HASH_MARK).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::config::Environment;

    fn settings(more: &[(&str, &str)]) -> PipelineConfig {
        let base =
            [("RDS_HOST", "h"), ("RDS_USER", "u"), ("RDS_PASSWORD", "p"), ("RDS_DB", "d"), ("GLUE_TABLE", "spare")];
        PipelineConfig::read(&Environment::of(&[&base[..], more].concat())).unwrap()
    }

    fn by_pattern(pattern: &str) -> PipelineConfig {
        settings(&[("TABLE_PATTERN", pattern)])
    }

    fn table(settings: &PipelineConfig, key: &str) -> Result<String> {
        key_parts(key, &settings.database).map(|parts| parts.table)
    }

    #[test]
    fn a_fixed_table_takes_every_key() {
        let fixed = settings(&[("RDS_TABLE", "Orders")]);
        assert_eq!(table(&fixed, "any/key").unwrap(), "Orders");
        assert_eq!(glue_table(&fixed, "Orders"), "spare");
        // What another setting has left in the fallback.
        assert_eq!(glue_table(&fixed, "customers"), "spare");
    }

    #[test]
    fn a_key_that_matches_nothing_is_refused_by_name_or_taken_by_the_default() {
        let error = table(&by_pattern("in/{table}/**, a/** => b"), "in/x.csv").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyRefused);
        assert_eq!(
            error.to_string(),
            "the key matches no pattern of TABLE_PATTERN (in/{table}/**, a/**), and RDS_TABLE names no table"
        );
        let both = settings(&[("TABLE_PATTERN", "in/{table}/**"), ("RDS_TABLE", "Rest")]);
        assert_eq!(table(&both, "in/x.csv").unwrap(), "Rest");
        assert_eq!((glue_table(&both, "Rest").as_str(), glue_table(&both, "x").as_str()), ("spare", "x"));
    }

    #[test]
    fn a_name_that_is_none_is_refused_even_beside_a_default() {
        let both = settings(&[("TABLE_PATTERN", "in/{table}/**"), ("RDS_TABLE", "rest")]);
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
        for (made, start) in [(folder(table), folder_start), (glue_table(&settings, table), glue_start)] {
            let is_hashed = start.ends_with("__");
            assert!(made.starts_with(start) && made.len() == start.len() + if is_hashed { 8 } else { 0 }, "{made}");
        }
    }

    proptest! {
        #[test]
        fn any_key_has_one_table_with_a_name_that_fits_everywhere(key in "\\PC{0,40}") {
            let settings = by_pattern("{table}/**, {table}.csv, x{a}y => {a}");
            let first = table(&settings, &key).map_err(|error| error.to_string());
            prop_assert_eq!(&first, &table(&settings, &key).map_err(|error| error.to_string()));
            if let Ok(table) = first {
                prop_assert!(!table.is_empty() && table.len() <= 63 && !table.starts_with("spillway_"));
                for made in [folder(&table), glue_table(&settings, &table)] {
                    prop_assert!(!made.is_empty() && made.len() <= 255 && !made.starts_with(['_', '.']) && !made.contains('/'));
                }
            }
        }

        #[test]
        fn two_tables_never_share_a_name(tables in prop::collection::hash_set("[a-b._' é-]{1,4}(__[0-9a-f]{8})?", 2..40)) {
            let settings = by_pattern("{table}/**");
            let folders: HashSet<String> = tables.iter().map(|table| folder(table)).collect();
            let glue: HashSet<String> = tables.iter().map(|table| glue_table(&settings, table)).collect();
            prop_assert_eq!((folders.len(), glue.len()), (tables.len(), tables.len()));
        }
    }
}
