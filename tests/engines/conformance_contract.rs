//! Conformance tests for the schema contract: unknown, missing and changed columns, tables in other schemas, and partitions.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use spillway_core::destination::{
    ChangedTypes, FileClaim, LoadMode, MissingColumns, RowCounts, TableChanges, UnknownColumns,
};
use spillway_core::error::ErrorKind;
use spillway_core::table_name::TableName;

use crate::engines::conformance::{
    Claim, Engine, File, LoadResult, TABLE, TestDestination, claim, count, expect_loaded, load, load_error,
};

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_contract:
            column_keeps_its_type_if_the_new_one_could_lose_a_value,
            columns_become_wider_on_request,
            missing_columns_are_refused_on_request,
            partitioned_table_loads,
            tables_in_other_schemas_load,
            dot_in_a_name_makes_no_table_in_a_schema,
            unknown_columns_are_kept_as_json_on_request,
            workers_that_widen_the_same_column_never_make_it_narrower,
        );
    };
}
pub(crate) use for_each_test;

/// A claim with changes of its own, as each attempt has.
fn attempt(key: &str) -> Claim {
    let claim = claim(key);
    Claim { file: FileClaim { table_changes: TableChanges::default(), ..claim.file.clone() }, ..claim }
}

/// A claim on a source for a table in a schema.
fn claim_in(schema: &str, key: &str) -> Claim {
    let claim = attempt(key);
    Claim { file: FileClaim { table: TableName::in_schema(schema, TABLE), ..claim.file.clone() }, ..claim }
}

fn widening(engine: &impl Engine) -> TestDestination {
    engine.with(|_, options| options.changed_types = ChangedTypes::Widen)
}

/// Loads a file, with another try for each column that must become wider, as the pipeline does.
async fn load_widening(
    destination: &TestDestination,
    claim: &Claim,
    file: &File,
) -> spillway_core::error::Result<LoadResult> {
    let mut conflicts = 0;
    loop {
        let error = match load(destination, claim, file).await {
            Err(error) if error.kind() == ErrorKind::Conflict && conflicts < 20 => {
                conflicts += 1;
                continue;
            }
            Err(error) => error,
            loaded => return loaded,
        };
        if !error.column().is_some_and(|column| claim.table_changes.request_wider(column)) {
            return Err(error);
        }
    }
}

fn texts<const N: usize>(row: [&str; N]) -> Vec<Option<String>> {
    row.map(|text| Some(text.to_owned())).to_vec()
}

/// Unknown columns of a new and of an existing table become one JSON object for each row; a row without values has none.
pub(crate) async fn unknown_columns_are_kept_as_json_on_request<E: Engine>(engine: &E) -> Result<()> {
    let destination = engine.with(|_, options| {
        options.unknown_columns = UnknownColumns::Json;
        options.extra_column = "more".into();
    });
    let first = File::new(&["id"], &[&[Some("1")]]);
    expect_loaded(load(&destination, &claim("a.csv"), &first).await?)?;
    let second = File::new(
        &["note it", "id", "size"],
        &[&[Some("a \"b\""), Some("2"), Some("7")], &[None, Some("3"), None], &[None, Some("4"), Some("007")]],
    );
    expect_loaded(load(&destination, &claim("b.csv"), &second).await?)?;
    let rows = engine.rows(&format!("SELECT id, more FROM {TABLE} ORDER BY id")).await?;
    // MySQL returns the keys in another order.
    let object = |text: &Option<String>| text.as_deref().map(serde_json::from_str::<Value>).transpose();
    let found = rows.iter().map(|row| object(&row[1])).collect::<Result<Vec<_>, _>>()?;
    let expected = [None, Some(json!({"note it": "a \"b\"", "size": "7"})), None, Some(json!({"size": "007"}))];
    assert_eq!(found, expected);

    // The existing table gets the column when it is first needed, and a merge updates it.
    engine.rows(&format!("DROP TABLE {TABLE}")).await?;
    engine.rows(&format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY, note VARCHAR(20))")).await?;
    let destination = engine.with(|_, options| {
        options.unknown_columns = UnknownColumns::Json;
        options.load_mode = LoadMode::Merge { key: Vec::new() };
    });
    for (key, size) in [("c.csv", "1"), ("d.csv", "2")] {
        let file = File::new(&["id", "size"], &[&[Some("1"), Some(size)]]);
        expect_loaded(load(&destination, &claim(key), &file).await?)?;
    }
    let rows = engine.rows(&format!("SELECT id, note, extra FROM {TABLE}")).await?;
    ensure!(rows.len() == 1 && rows[0][2].as_ref().is_some_and(|text| text.contains("\"2\"")), "{rows:?}");
    Ok(())
}

/// With `refuse`, a file must have each column that it can have.
pub(crate) async fn missing_columns_are_refused_on_request(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (id INT, amount DECIMAL(9,2) DEFAULT 7, note VARCHAR(20))")).await?;
    let destination = engine.with(|_, options| options.missing_columns = MissingColumns::Refuse);
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("x")]]);
    let error = load_error(&destination, &claim("a.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("amount")));
    expect_loaded(load(&destination, &claim("b.csv"), &File::orders(2)).await?)?;
    expect_loaded(load(&engine.destination(), &claim("c.csv"), &file).await?)?;
    assert_eq!(count(engine).await?, 3);
    Ok(())
}

/// A column gets a type for its old and its new values, and keeps the rest of its definition.
pub(crate) async fn columns_become_wider_on_request(engine: &impl Engine) -> Result<()> {
    let ddl = format!(
        "CREATE TABLE {TABLE} (id SMALLINT NOT NULL, amount DECIMAL(4,1) DEFAULT 1.5, note VARCHAR(3), code INT, day DATE)"
    );
    engine.rows(&ddl).await?;
    engine.rows(&format!("INSERT INTO {TABLE} VALUES (7, 999.9, 'abc', 42, NULL)")).await?;
    let names = ["id", "amount", "note", "code"];
    let wide = [Some("9000000000"), Some("12345.678"), Some("longer text"), Some("A-1")];
    let file = File::new(&names, &[&wide, &[Some("1"), Some("0.5"), None, Some("5")]]);
    let error = load_error(&engine.destination(), &attempt("a.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("id")));
    let claim = attempt("b.csv");
    expect_loaded(load_widening(&widening(engine), &claim, &file).await?)?;
    let changes = claim.table_changes.made();
    ensure!(changes.len() == 4 && changes[0].contains("column id from smallint"), "{changes:?}");
    let rows = engine.rows(&format!("SELECT id, amount, note, code FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(rows[1], texts(["7", "999.900", "abc", "42"]));
    assert_eq!(rows[2], texts(["9000000000", "12345.678", "longer text", "A-1"]));
    engine.rows(&format!("INSERT INTO {TABLE} (id) VALUES (2)")).await?;
    let defaults = engine.rows(&format!("SELECT amount FROM {TABLE} WHERE id = 2")).await?;
    ensure!(defaults.concat()[0].as_ref().is_some_and(|text| text.starts_with("1.5")), "{defaults:?}");
    let is_required = engine.rows(&format!("INSERT INTO {TABLE} (id) VALUES (NULL)")).await.is_err();
    ensure!(is_required, "id is nullable now");
    // Nothing is changed without a reason.
    let claim = attempt("c.csv");
    expect_loaded(load_widening(&widening(engine), &claim, &file).await?)?;
    assert_eq!(claim.table_changes.made(), Vec::<String>::new());
    Ok(())
}

/// A date, a value that is missing, and a key of a merge do not change a type.
pub(crate) async fn column_keeps_its_type_if_the_new_one_could_lose_a_value(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (id SMALLINT PRIMARY KEY, n INT NOT NULL, day DATE)")).await?;
    let merge = engine.with(|_, options| {
        options.changed_types = ChangedTypes::Widen;
        options.load_mode = LoadMode::Merge { key: Vec::new() };
    });
    let names = ["id", "n", "day"];
    for (destination, row, column) in [
        (&widening(engine), [Some("1"), Some("1"), Some("yesterday")], "day"),
        (&widening(engine), [Some("1"), None, Some("2024-01-02")], "n"),
        (&merge, [Some("9000000000"), Some("1"), None], "id"),
    ] {
        let claim = attempt(column);
        let error = load_widening(destination, &claim, &File::new(&names, &[&row])).await.err().context("loaded")?;
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some(column)));
        assert_eq!(claim.table_changes.made(), Vec::<String>::new());
    }
    assert_eq!(count(engine).await?, 0);
    Ok(())
}

/// Files with different needs at the same moment: every value is stored.
pub(crate) async fn workers_that_widen_the_same_column_never_make_it_narrower(engine: &impl Engine) -> Result<()> {
    for (round, values) in [["9000000000", "1.25"], ["1.25", "9000000000"]].into_iter().enumerate() {
        engine.rows(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        engine.rows(&format!("CREATE TABLE {TABLE} (n SMALLINT)")).await?;
        let destination = widening(engine);
        let files: Vec<(Claim, File)> = values
            .iter()
            .map(|value| (attempt(&format!("{round}-{value}.csv")), File::new(&["n"], &[&[Some(*value)]])))
            .collect();
        for end in join_all(files.iter().map(|(claim, file)| load_widening(&destination, claim, file))).await {
            expect_loaded(end?)?;
        }
        let stored = engine.rows(&format!("SELECT n FROM {TABLE} ORDER BY 1")).await?.concat();
        let stored: Vec<String> =
            stored.iter().flatten().map(|text| text.strip_suffix(".00").unwrap_or(text).to_owned()).collect();
        assert_eq!(stored, ["1.25", "9000000000"], "{round}");
    }
    Ok(())
}

/// A table in another schema is created, appended to, merged and replaced, and the ledger has its whole name.
pub(crate) async fn tables_in_other_schemas_load(engine: &impl Engine) -> Result<()> {
    let schema = engine.create_schema().await?;
    let total = || async { engine.rows(&format!("SELECT COUNT(*) FROM {schema}.{TABLE}")).await };
    expect_loaded(load(&engine.destination(), &claim_in(&schema, "a.csv"), &File::orders(5)).await?)?;
    let staged = engine.destination_with_staging_above(1);
    expect_loaded(load(&staged, &claim_in(&schema, "b.csv"), &File::orders(3)).await?)?;
    let adding = engine.with(|_, options| options.unknown_columns = UnknownColumns::Add);
    let file = File::new(&["id", "size"], &[&[Some("9"), Some("1")]]);
    expect_loaded(load(&adding, &claim_in(&schema, "c.csv"), &file).await?)?;
    assert_eq!(total().await?, [texts(["9"])]);

    let replace = engine.destination_with(LoadMode::Replace, None);
    expect_loaded(load(&replace, &claim_in(&schema, "d.csv"), &File::orders(2)).await?)?;
    assert_eq!(total().await?, [texts(["2"])]);
    engine.rows(&format!("CREATE UNIQUE INDEX by_id ON {schema}.{TABLE} (id)")).await?;
    let merge = engine.destination_with(LoadMode::Merge { key: vec!["id".into()] }, None);
    let counts = expect_loaded(load(&merge, &claim_in(&schema, "e.csv"), &File::orders(3)).await?)?;
    assert_eq!(counts, RowCounts { rows_unchanged: 2, ..RowCounts::inserted(3) });
    assert_eq!(total().await?, [texts(["3"])]);

    let names = engine.rows("SELECT DISTINCT target_table FROM spillway_ledger").await?;
    assert_eq!(names, [texts([&format!("{schema}.{TABLE}")])]);
    ensure!(engine.rows(&format!("SELECT 1 FROM {TABLE}")).await.is_err(), "a table without the schema exists");
    let error = load_error(&engine.destination(), &claim_in("no_such_schema", "f.csv"), &File::orders(1)).await?;
    ensure!(matches!(error.kind(), ErrorKind::Privilege | ErrorKind::TableMismatch), "{error}");
    Ok(())
}

/// A table whose own name contains a dot, and a table in a schema, are replaced independently.
pub(crate) async fn dot_in_a_name_makes_no_table_in_a_schema<E: Engine>(engine: &E) -> Result<()> {
    let schema = engine.create_schema().await?;
    let replace = engine.destination_with(LoadMode::Replace, None);
    let in_schema = claim_in(&schema, "a.csv");
    let mut plain = attempt("b.csv");
    plain.file.table = format!("{schema}.{TABLE}").into();
    let newer = plain.source.last_modified + jiff::SignedDuration::from_mins(1);
    plain.file.source.last_modified = newer;
    expect_loaded(load(&replace, &plain, &File::orders(3)).await?)?;
    // The file is older than the one that replaced the other table.
    expect_loaded(load(&replace, &in_schema, &File::orders(2)).await?)?;
    let quote = |name: &str| format!("{0}{name}{0}", E::IDENTIFIER_QUOTE);
    for (table, rows) in [(quote(&format!("{schema}.{TABLE}")), "3"), (format!("{schema}.{TABLE}"), "2")] {
        assert_eq!(engine.rows(&format!("SELECT COUNT(*) FROM {table}")).await?, [texts([rows])], "{table}");
    }
    let current = engine.rows("SELECT object_key FROM spillway_ledger WHERE current_of IS NOT NULL ORDER BY 1").await?;
    assert_eq!(current, [texts(["a.csv"]), texts(["b.csv"])]);
    Ok(())
}

/// Rows go to the partitions of a table; a row without one is refused.
pub(crate) async fn partitioned_table_loads<E: Engine>(engine: &E) -> Result<()> {
    for statement in E::PARTITIONED {
        engine.rows(statement).await?;
    }
    for (index, mode) in
        [LoadMode::Append, LoadMode::Replace, LoadMode::Merge { key: Vec::new() }].into_iter().enumerate()
    {
        let destination = engine.destination_with(mode, None);
        let file = File::new(&["id", "note"], &[&[Some("1"), Some("a")], &[Some("150"), Some("b")]]);
        expect_loaded(load(&destination, &claim(&format!("{index}.csv")), &file).await?)?;
        assert_eq!(count(engine).await?, 2);
        let outside = File::new(&["id", "note"], &[&[Some("2"), Some("a")], &[Some("900"), Some("b")]]);
        // An older file would not replace the table.
        let mut newer = claim(&format!("{index}-outside.csv"));
        newer.file.source.last_modified += jiff::SignedDuration::from_secs(1);
        let error = load_error(&destination, &newer, &outside).await?;
        assert_eq!(error.kind(), ErrorKind::DataRefused, "{error}");
        assert_eq!(count(engine).await?, 2);
    }
    Ok(())
}
