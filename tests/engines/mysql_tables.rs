//! Tables with features that only MySQL and MariaDB have, or only MySQL: reserved names, invisible columns, defaults by
//! expression, limits of a row, and keys that the server generates or requires.

use anyhow::Result;
use rstest::rstest;
use spillway_core::destination::{LoadMethod, LoadMode};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::{Engine as TestEngine, Options};

use crate::engines::conformance::{Claim, Engine, File, TABLE, claim, count, expect_loaded, load, load_error};
use crate::engines::mysql::MySql;

fn merge(key: &[&str]) -> LoadMode {
    LoadMode::Merge { key: key.iter().map(|name| (*name).to_owned()).collect() }
}

fn texts<const N: usize>(row: [&str; N]) -> Vec<Option<String>> {
    row.map(|text| Some(text.to_owned()).filter(|text| text != "NULL")).to_vec()
}

/// Words that are reserved in MySQL 8 and 9, as names of a table and of its columns.
#[rstest]
#[tokio::test]
async fn reserved_words_are_names(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
    #[values(LoadMode::Append, LoadMode::Replace, merge(&["rank"]))] mode: LoadMode,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let names = ["rank", "groups", "lateral", "system", "order", "window", "key", "qualify"];
    let rows = ["1", "2"].map(|id| names.map(|_| Some(id.to_owned())).to_vec());
    let file = File::large(&names, rows.to_vec(), 10);
    for staging_above in [None, Some(1)] {
        let destination = engine.destination_with(mode.clone(), staging_above);
        let mut claim: Claim = claim(&format!("{staging_above:?}.csv"));
        claim.file.table = "rank".into();
        claim.file.source.last_modified += jiff::SignedDuration::from_mins(i64::from(staging_above.is_some()));
        expect_loaded(load(&destination, &claim, &file).await?)?;
    }
    let expected = if mode == LoadMode::Append { "4" } else { "2" };
    let found = engine.rows("SELECT COUNT(*), MAX(`groups`) FROM `rank`").await?;
    assert_eq!(found, [texts([expected, "2"])]);
    Ok(())
}

/// A row that did not change is found in columns of every type.
#[rstest]
#[tokio::test]
async fn every_column_type_merges_as_unchanged(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let columns = [
        ("id", "INT PRIMARY KEY", "1", "1"),
        ("area", "GEOMETRY", "POLYGON((0 0,4 0,4 4,0 0))", "POINT(1 2)"),
        ("place", "POINT", "POINT(1 2)", "POINT(1 3)"),
        ("bits", "BIT(8)", "5", "6"),
        ("kind", "ENUM('a','b')", "a", "b"),
        ("kinds", "SET('a','b')", "a,b", "a"),
        ("y", "YEAR", "2024", "2025"),
        ("t", "TIME(3)", "01:02:03.5", "01:02:03.25"),
        ("ts", "TIMESTAMP(6) NULL", "2024-01-02 03:04:05.5", "2024-01-02 03:04:05.25"),
        ("raw", "VARBINARY(9)", "a", "A"),
        ("doc", "JSON", "{\"a\": [1, \"x\"]}", "{\"a\": [1, \"X\"]}"),
        ("amount", "DECIMAL(9,2)", "1.50", "1.25"),
        ("ratio", "FLOAT", "0.5", "0.25"),
        ("flag", "TINYINT(1)", "true", "false"),
        ("code", "CHAR(3)", "ab", "AB"),
    ];
    let definitions = columns.map(|(name, definition, ..)| format!("{name} {definition}"));
    engine.execute(&format!("CREATE TABLE {TABLE} ({})", definitions.join(", "))).await?;
    let destination = engine.destination_with(merge(&[]), None);
    let names = columns.map(|(name, ..)| name);
    let first = columns.map(|(_, _, first, _)| Some(first));
    let mut merged = Vec::new();
    let mut merge_row = async |key: &str, row: &[Option<&str>]| -> Result<()> {
        let counts = expect_loaded(load(&destination, &claim(key), &File::new(&names, &[row])).await?)?;
        merged.push((counts.rows_updated, counts.rows_unchanged));
        Ok(())
    };
    merge_row("first", &first).await?;
    merge_row("again", &first).await?;
    for (index, (name, _, _, other)) in columns.iter().enumerate().skip(1) {
        let mut row = first;
        row[index] = Some(other);
        merge_row(name, &row).await?;
        merge_row(&format!("{name} back"), &first).await?;
    }
    let mut expected = vec![(1, 0); merged.len()];
    (expected[0], expected[1]) = ((0, 0), (0, 1));
    assert_eq!(merged, expected);
    Ok(())
}

/// A file without a header fills the columns that a statement without names sees.
#[rstest]
#[tokio::test]
async fn invisible_column_has_no_position(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    engine.execute(&format!("CREATE TABLE {TABLE} (a INT, hidden INT DEFAULT 5 INVISIBLE, b VARCHAR(9))")).await?;
    let file = File::new(&["col_1", "col_2"], &[&[Some("1"), Some("x")]]).without_header();
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &file).await?)?;
    let by_name = File::new(&["hidden", "b"], &[&[Some("6"), Some("y")]]);
    expect_loaded(load(&engine.destination(), &claim("b.csv"), &by_name).await?)?;
    let rows = engine.rows(&format!("SELECT a, hidden, b FROM {TABLE} ORDER BY b")).await?;
    assert_eq!(rows, [texts(["1", "5", "x"]), texts(["NULL", "6", "y"])]);
    Ok(())
}

/// The server computes the defaults of columns that the file lacks, or has no value for.
#[rstest]
#[tokio::test]
async fn defaults_by_expression_are_used(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
    #[values(None, Some(1))] staging_above: Option<u64>,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let ddl = format!(
        "CREATE TABLE {TABLE} (n INT PRIMARY KEY AUTO_INCREMENT, id INT, uid CHAR(36) NOT NULL DEFAULT (UUID()), \
         changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
         twice INT GENERATED ALWAYS AS (id * 2) VIRTUAL, thrice INT GENERATED ALWAYS AS (id * 3) STORED)"
    );
    engine.execute(&ddl).await?;
    let destination = engine.destination_with(LoadMode::Append, staging_above);
    let lacking = File::new(&["id"], &[&[Some("1")], &[Some("2")]]);
    expect_loaded(load(&destination, &claim("a.csv"), &lacking).await?)?;
    let empty = File::new(&["id", "uid", "changed"], &[&[Some("3"), None, None]]);
    expect_loaded(load(&destination, &claim("b.csv"), &empty).await?)?;
    let query = format!(
        "SELECT COUNT(DISTINCT uid), MIN(LENGTH(uid)), COUNT(changed), SUM(twice), SUM(thrice), COUNT(DISTINCT n) FROM {TABLE}"
    );
    assert_eq!(engine.rows(&query).await?, [texts(["3", "36", "3", "12", "18", "3"])]);
    Ok(())
}

/// A row that is wider than a page, and a table with too many columns, are a mismatch with a reason.
#[rstest]
#[tokio::test]
async fn limits_of_a_row_are_a_mismatch(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    let engine = MySql::new(method).await?;
    let names: Vec<String> = (0..1_100).map(|column| format!("c{column}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let file = |width: usize| File::large(&names[..width], vec![vec![Some("x".repeat(40)); width]], 1);
    let error = load_error(&engine.destination(), &claim("wide.csv"), &file(400)).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    assert!(chain(&error).contains("a row is too wide"), "{}", chain(&error));
    engine.execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    let error = load_error(&engine.destination(), &claim("many.csv"), &file(1_100)).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    assert!(chain(&error).contains("1,017"), "{}", chain(&error));
    expect_loaded(load(&engine.destination(), &claim("narrow.csv"), &file(150)).await?)?;
    Ok(())
}

/// Geometries with an SRID, vectors, and unique indexes over expressions, which MariaDB spells in another way or does not have.
#[rstest]
#[tokio::test]
async fn types_of_mysql_alone_are_refused_with_a_reason(
    #[values(LoadMethod::LoadData, LoadMethod::Insert)] method: LoadMethod,
) -> Result<()> {
    if !TestEngine::MariaDb.is_mysql() {
        return Ok(());
    }
    let engine = MySql::new(method).await?;
    for (definition, value, words) in [
        ("POINT SRID 4326", "POINT(1 2)", "SRID"),
        ("VECTOR(2)", "[1,2]", "did not store a row"),
        ("VECTOR(2)", "secret", "did not store a row"),
    ] {
        engine.execute(&format!("CREATE TABLE {TABLE} (n INT, c {definition})")).await?;
        let file = File::new(&["n", "c"], &[&[Some("1"), Some(value)]]);
        let error = load_error(&engine.destination(), &claim(definition), &file).await?;
        assert_eq!(error.kind(), ErrorKind::DataRefused, "{definition}: {}", chain(&error));
        assert!(chain(&error).contains(words) && !chain(&error).contains("secret"), "{definition}: {}", chain(&error));
        assert_eq!(count(&engine).await?, 0);
        engine.execute(&format!("DROP TABLE {TABLE}")).await?;
    }
    engine.execute(&format!("CREATE TABLE {TABLE} (id INT, UNIQUE KEY by_expression ((id + 1)))")).await?;
    let file = File::new(&["id"], &[&[Some("1")]]);
    let error = load_error(&engine.destination_with(merge(&["id"]), None), &claim("a.csv"), &file).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    Ok(())
}

/// A server can give each new table an invisible primary key, or require that a table has a key.
#[tokio::test]
async fn primary_keys_that_the_server_adds_or_requires() -> Result<()> {
    if !TestEngine::MariaDb.is_mysql() {
        return Ok(());
    }
    let engine = MySql::start(Options::default(), LoadMethod::Auto).await?;
    engine.administrate("SET GLOBAL sql_generate_invisible_primary_key = ON").await?;
    engine.administrate("SET GLOBAL sql_require_primary_key = ON").await?;
    let staged = engine.destination_with(LoadMode::Append, Some(1));
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &File::orders(3)).await?)?;
    expect_loaded(load(&staged, &claim("b.csv"), &File::orders(4)).await?)?;
    let by_position = File::new(&["col_1", "col_2", "col_3"], &[&[Some("9"), Some("1.5"), Some("x")]]).without_header();
    expect_loaded(load(&engine.destination(), &claim("c.csv"), &by_position).await?)?;
    assert_eq!(engine.rows(&format!("SELECT * FROM {TABLE} WHERE id = 9")).await?, [texts(["9", "1.50", "x"])]);
    assert_eq!(count(&engine).await?, 8);
    engine.execute(&format!("DROP TABLE {TABLE}")).await?;
    engine.administrate("SET GLOBAL sql_generate_invisible_primary_key = OFF").await?;
    let error = load_error(&engine.destination(), &claim("d.csv"), &File::orders(3)).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", chain(&error));
    assert!(chain(&error).contains("primary key"), "{}", chain(&error));
    expect_loaded(load(&engine.destination_with(merge(&["id"]), None), &claim("e.csv"), &File::orders(3)).await?)?;
    expect_loaded(load(&engine.destination_with(merge(&["id"]), Some(1)), &claim("f.csv"), &File::orders(5)).await?)?;
    assert_eq!(count(&engine).await?, 5);
    Ok(())
}
