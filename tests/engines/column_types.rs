//! The column types in `docs/engines.md`: every example is loaded as documented, and no type of the server is missing.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use spillway_core::destination::LoadMethod;
use spillway_core::error::ErrorKind;
use spillway_test_env::database::Engine as TestEngine;

use crate::engines::conformance::{Engine, File, TABLE, claim, load};
use crate::engines::mysql::MySql;
use crate::engines::postgres::Postgres;

/// A row of a documented table.
struct Documented {
    types: Vec<String>,
    in_file: String,
    /// What the server returns, if the page says it; or that the value is refused.
    result: Expected,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Text(String),
    Stored,
    Refused,
    /// Depends on the type.
    Either,
}

/// The rows of the table whose first heading begins with this name.
fn documented(engine: &str) -> Result<Vec<Documented>> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/engines.md"))?;
    let (_, section) = page.split_once("## Column types").context("no section")?;
    let (_, table) = section.split_once(&format!("| {engine}")).context("no table")?;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [types, in_file, result] = cells.as_slice() else { anyhow::bail!("{line}") };
        let code = |text: &str| text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).map(str::to_owned);
        let result = match code(result) {
            Some(text) => Expected::Text(text),
            None if result.starts_with("refused") => Expected::Refused,
            None if result.contains("refuse") => Expected::Either,
            None => Expected::Stored,
        };
        let is_present = !(types.ends_with("(MariaDB)") && TestEngine::MariaDb.is_mysql());
        let types = types.split('`').skip(1).step_by(2).map(str::to_owned).filter(|_| is_present).collect();
        Ok(Documented { types, in_file: code(in_file).context("no value")?, result })
    })
    .collect()
}

/// Loads each documented value into a column of each type.
async fn check(engine: &impl Engine, name: &str) -> Result<()> {
    for row in documented(name)? {
        ensure!(!row.types.is_empty() || TestEngine::MariaDb.is_mysql(), "a row without a type: {}", row.in_file);
        for definition in &row.types {
            engine.rows(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
            engine.rows(&format!("CREATE TABLE {TABLE} (n INT, c {definition})")).await?;
            let file = File::new(&["n", "c"], &[&[Some("1"), Some(&row.in_file)]]);
            let loaded = load(&engine.destination(), &claim(&format!("{definition}.csv")), &file).await;
            let found = match &loaded {
                Ok(_) => Ok(engine.rows(&format!("SELECT c FROM {TABLE}")).await?.concat()[0].clone()),
                Err(error) => Err(error.kind()),
            };
            let is_expected = match (&row.result, &found) {
                (Expected::Text(text), Ok(found)) => found.as_deref().map(str::trim_end) == Some(text.as_str()),
                (Expected::Stored | Expected::Either, Ok(found)) => found.is_some(),
                (Expected::Refused | Expected::Either, Err(kind)) => *kind == ErrorKind::DataRefused,
                (Expected::Text(_) | Expected::Stored, Err(_)) | (Expected::Refused, Ok(_)) => false,
            };
            ensure!(is_expected, "{definition} {:?}: {found:?}, documented {:?}", row.in_file, row.result);
        }
    }
    Ok(())
}

#[tokio::test]
async fn documented_types_of_mariadb_load() -> Result<()> {
    for method in [LoadMethod::LoadData, LoadMethod::Insert] {
        check(&MySql::new(method).await?, "MySQL, MariaDB").await?;
    }
    Ok(())
}

#[tokio::test]
async fn documented_types_of_postgres_load() -> Result<()> {
    check(&Postgres::new().await?, "PostgreSQL").await
}

/// Every type that a column can have is documented, or is one of the catalog's own.
#[tokio::test]
async fn no_type_of_postgres_is_missing() -> Result<()> {
    const CATALOG: [&str; 8] = [
        "aclitem",
        "pg_node_tree",
        "gtsvector",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
    ];
    let engine = Postgres::new().await?;
    let types = "SELECT pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type \
                 WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'";
    let found: BTreeSet<String> = engine.rows(types).await?.concat().into_iter().flatten().collect();
    let mut known: BTreeSet<String> = CATALOG.iter().map(|name| (*name).to_owned()).collect();
    for name in documented("PostgreSQL")?.into_iter().flat_map(|row| row.types) {
        let query = format!("SELECT pg_catalog.format_type('{name}'::regtype, NULL)");
        known.extend(engine.rows(&query).await?.concat().into_iter().flatten());
    }
    let missing: Vec<&String> = found.difference(&known).collect();
    ensure!(missing.is_empty(), "not in docs/engines.md: {missing:?}");
    Ok(())
}
