//! Tests of PostgreSQL alone for the load modes replace and merge: unsuitable tables, key comparison, triggers, partitions
//! and concurrent transactions.

use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use spillway_core::destination::{LoadMode, RowCounts};
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::{Rows, texts};
use spillway_test_env::postgres;

use crate::engines::conformance::{Engine, File, LoadResult, TestDestination, claim, expect_loaded, load, load_error};
use crate::engines::postgres::Postgres;

fn merging(engine: &Postgres, key: &str) -> TestDestination {
    let key = key.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    engine.destination_with(LoadMode::Merge { key }, None)
}

fn replacing(engine: &Postgres) -> TestDestination {
    engine.destination_with(LoadMode::Replace, None)
}

async fn rejection(destination: &TestDestination, key: &str, file: &File) -> Result<(ErrorKind, String)> {
    let error = load_error(destination, &claim(key), file).await?;
    Ok((error.kind(), chain(&error)))
}

fn merged(rows: u64, rows_updated: u64, rows_unchanged: u64) -> RowCounts {
    RowCounts { rows_updated, rows_unchanged, ..RowCounts::inserted(rows) }
}

/// A table with rules or child tables cannot be replaced or merged into, but rows can be appended.
#[rstest]
#[case::rule_on_delete("CREATE RULE keep AS ON DELETE TO orders DO INSTEAD NOTHING", "keep", LoadMode::Replace)]
#[case::rule_on_update("CREATE RULE keep AS ON UPDATE TO orders DO INSTEAD NOTHING", "keep", LoadMode::Merge { key: vec![] })]
#[case::rule_on_insert("CREATE RULE keep AS ON INSERT TO orders DO ALSO NOTHING", "keep", LoadMode::Merge { key: vec![] })]
#[case::child("CREATE TABLE child () INHERITS (orders)", "inherit", LoadMode::Replace)]
#[case::child_of_a_merge("CREATE TABLE child () INHERITS (orders)", "inherit", LoadMode::Merge { key: vec![] })]
#[tokio::test]
async fn rules_and_child_tables_are_a_mismatch(
    #[case] ddl: &str,
    #[case] named: &str,
    #[case] mode: LoadMode,
) -> Result<()> {
    let engine = Postgres::new().await?;
    engine.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, note text)").await?;
    engine.execute(ddl).await?;
    let (kind, message) = rejection(&engine.destination_with(mode, None), "a.csv", &File::orders(2)).await?;
    assert_eq!(kind, ErrorKind::TableMismatch, "{message}");
    assert!(message.contains(named), "{message}");
    expect_loaded(load(&engine.destination(), &claim("append.csv"), &File::orders(2)).await?)?;
    Ok(())
}

/// A replace that would delete or change rows of other tables, or remove the rows that they reference, fails.
#[rstest]
#[case("CASCADE", ErrorKind::TableMismatch)]
#[case("SET NULL", ErrorKind::TableMismatch)]
#[case("SET DEFAULT", ErrorKind::TableMismatch)]
#[case("RESTRICT", ErrorKind::DataRefused)]
#[case("NO ACTION", ErrorKind::DataRefused)]
#[case("NO ACTION DEFERRABLE INITIALLY DEFERRED", ErrorKind::DataRefused)]
#[tokio::test]
async fn replace_keeps_rows_of_referencing_tables(
    #[case] rule: &str,
    #[case] expected: ErrorKind,
    #[values("orders", "low")] parent: &str,
) -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, note text) PARTITION BY RANGE (id); \
         CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (100); INSERT INTO orders VALUES (77, 1.25, 'old'); \
         CREATE TABLE line (order_id bigint REFERENCES {parent} (id) ON DELETE {rule}); INSERT INTO line VALUES (77)"
    );
    engine.execute(&ddl).await?;
    let (kind, message) = rejection(&replacing(&engine), "a.csv", &File::orders(3)).await?;
    assert_eq!(kind, expected, "{message}");
    assert_eq!(engine.rows("SELECT note FROM orders JOIN line ON order_id = id").await?, texts(&[["old"]]));
    Ok(())
}

/// Foreign keys within the table do not prevent a replace.
#[tokio::test]
async fn self_referencing_table_is_replaced() -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, note text, \
               part_of bigint REFERENCES orders ON DELETE CASCADE, after bigint REFERENCES orders ON DELETE SET NULL); \
               INSERT INTO orders VALUES (7, 1.25, 'old', 7, 7), (8, 1.25, 'old', 7, 7)";
    engine.execute(ddl).await?;
    expect_loaded(load(&replacing(&engine), &claim("a.csv"), &File::orders(3)).await?)?;
    assert_eq!(engine.rows("SELECT id FROM orders ORDER BY 1").await?, texts(&[["1"], ["2"], ["3"]]));
    Ok(())
}

/// A reader with an older snapshot does not wait, and still sees the old rows.
#[tokio::test]
async fn replace_keeps_older_snapshots() -> Result<()> {
    let engine = Postgres::new().await?;
    let destination = replacing(&engine);
    expect_loaded(load(&destination, &claim("a.csv"), &File::orders(30)).await?)?;
    let reader = engine.client().await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM spillway_ledger").await?;
    expect_loaded(load(&destination, &claim("b.csv"), &File::orders(20)).await?)?;
    assert_eq!(postgres::rows(&reader, "SELECT COUNT(*) FROM orders").await?, texts(&[["30"]]));
    assert_eq!(engine.rows("SELECT COUNT(*) FROM orders").await?, texts(&[["20"]]));
    Ok(())
}

/// A replace or a merge covers all partitions.
#[tokio::test]
async fn partitions_are_replaced_and_merged_as_one_table() -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(9,2), note text) PARTITION BY RANGE (id); \
               CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (6) PARTITION BY RANGE (id); \
               CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (3); \
               CREATE TABLE lower PARTITION OF low FOR VALUES FROM (3) TO (6); \
               CREATE TABLE high PARTITION OF orders FOR VALUES FROM (6) TO (100)";
    engine.execute(ddl).await?;
    expect_loaded(load(&replacing(&engine), &claim("a.csv"), &File::orders(20)).await?)?;
    expect_loaded(load(&replacing(&engine), &claim("b.csv"), &File::orders(10)).await?)?;
    engine.execute("DELETE FROM orders WHERE id IN (2, 9); UPDATE orders SET note = 'x' WHERE id IN (4, 8)").await?;
    let loaded = expect_loaded(load(&merging(&engine, ""), &claim("c.csv"), &File::orders(12)).await?)?;
    assert_eq!(loaded, merged(12, 2, 6));
    assert_eq!(engine.rows("SELECT COUNT(*), COUNT(DISTINCT note) FROM orders").await?, texts(&[["12", "12"]]));
    Ok(())
}

/// An index that is partial, deferred, not unique, invalid, or on other columns or expressions is not a merge key.
#[rstest]
#[case::partial("CREATE UNIQUE INDEX by_id ON orders (id) WHERE amount > 0")]
#[case::expression("CREATE UNIQUE INDEX by_id ON orders ((id + 1))")]
#[case::more_columns("CREATE UNIQUE INDEX by_id ON orders (id, note)")]
#[case::not_unique("CREATE INDEX by_id ON orders (id)")]
#[case::deferrable("ALTER TABLE orders ADD CONSTRAINT by_id UNIQUE (id) DEFERRABLE")]
#[case::invalid(
    "CREATE UNIQUE INDEX by_id ON orders (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_id'::regclass"
)]
#[tokio::test]
async fn index_that_does_not_cover_every_row_is_not_a_key(#[case] ddl: &str) -> Result<()> {
    let engine = Postgres::new().await?;
    engine.execute("CREATE TABLE orders (id bigint, amount numeric, note text)").await?;
    engine.administrate(ddl).await?;
    let (kind, message) = rejection(&merging(&engine, "id"), "a.csv", &File::orders(2)).await?;
    assert_eq!(kind, ErrorKind::TableMismatch, "{message}");
    assert!(message.contains("MERGE_KEY (id)"), "{message}");
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 0);
    engine.execute("CREATE UNIQUE INDEX good ON orders (id) INCLUDE (note)").await?;
    assert_eq!(
        expect_loaded(load(&merging(&engine, "id"), &claim("b.csv"), &File::orders(2)).await?)?,
        merged(2, 0, 0)
    );
    Ok(())
}

/// Keys are compared with the collation of the index and the equality of the type, in any schema. Other values are compared
/// byte for byte.
#[rstest]
#[case::of_the_index("code text COLLATE \"C\", word text COLLATE ci", "orders (code COLLATE ci)", "1")]
#[case::of_the_column("code text COLLATE ci, word text COLLATE ci", "orders (code)", "1")]
#[case::of_a_type_elsewhere("code elsewhere.citext, word elsewhere.citext", "orders (code)", "1")]
#[case::exact_in_the_index(
    "code text COLLATE ci, word text COLLATE ci",
    "orders (code COLLATE \"C\" text_pattern_ops)",
    "2"
)]
#[tokio::test]
async fn keys_are_compared_as_their_index_does(
    #[case] columns: &str,
    #[case] index: &str,
    #[case] rows: &str,
) -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = format!(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere; \
         CREATE TABLE orders ({columns}); CREATE UNIQUE INDEX ON {index}"
    );
    engine.execute(&ddl).await?;
    let destination = merging(&engine, "code");
    let file = |keys: [&str; 2], word: &str| {
        File::new(&["code", "word"], &[&[Some(keys[0]), Some("first")], &[Some(keys[1]), Some(word)]])
    };
    let loaded = expect_loaded(load(&destination, &claim("a.csv"), &file(["a", "A"], "word")).await?)?;
    assert_eq!((loaded.rows_parsed, loaded.rows_stored.to_string().as_str()), (2, rows));
    assert_eq!(engine.rows("SELECT word FROM orders WHERE code = 'A'::text").await?.len(), rows.parse::<usize>()?);
    // Letter case matters in the word, and not in the key.
    let loaded = expect_loaded(load(&destination, &claim("b.csv"), &file(["A", "a"], "WORD")).await?)?;
    assert_eq!(loaded.rows_updated.to_string(), rows);
    assert_eq!(expect_loaded(load(&destination, &claim("c.csv"), &file(["A", "a"], "WORD")).await?)?.rows_updated, 0);
    assert_eq!(engine.rows("SELECT COUNT(*) FROM orders").await?, texts(&[[rows]]));
    Ok(())
}

/// A trigger that drops a row without an error is detected by the row counts, and nothing is stored.
#[rstest]
#[case::update("UPDATE", "RETURN NULL", LoadMode::Merge { key: vec![] })]
#[case::insert("INSERT", "RETURN NULL", LoadMode::Merge { key: vec![] })]
#[case::raise("UPDATE", "RAISE EXCEPTION 'top secret'", LoadMode::Merge { key: vec![] })]
#[case::delete("DELETE", "RETURN NULL", LoadMode::Replace)]
#[tokio::test]
async fn row_dropped_by_a_trigger_rejects_the_file(
    #[case] event: &str,
    #[case] body: &str,
    #[case] mode: LoadMode,
) -> Result<()> {
    let engine = Postgres::new().await?;
    let row = if event == "DELETE" { "OLD" } else { "NEW" };
    let ddl = format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(9,2), note text); \
         CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF {row}.id = 3 THEN {body}; END IF; RETURN {row}; END $$; \
         INSERT INTO orders VALUES (1, 1.25, 'old'), (2, 2.25, 'old'), (3, 3.25, 'old'); DELETE FROM orders WHERE id = 3 AND '{event}' = 'INSERT'; \
         CREATE TRIGGER guard BEFORE {event} ON orders FOR EACH ROW EXECUTE FUNCTION guard()"
    );
    engine.execute(&ddl).await?;
    let before = engine.rows("SELECT * FROM orders ORDER BY id").await?;
    let destination = engine.destination_with(mode, None);
    let (kind, message) = rejection(&destination, "a.csv", &File::orders(4)).await?;
    assert_eq!(kind, ErrorKind::DataRefused, "{message}");
    assert!(message.contains("trigger") && !message.contains("secret"), "{message}");
    assert_eq!(engine.rows("SELECT * FROM orders ORDER BY id").await?, before);
    engine.execute("DROP TRIGGER guard ON orders").await?;
    expect_loaded(load(&destination, &claim("b.csv"), &File::orders(4)).await?)?;
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 4);
    Ok(())
}

/// Generated and identity columns are not written, neither in updated rows nor in new rows.
#[tokio::test]
async fn merge_keeps_generated_columns() -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (n int GENERATED ALWAYS AS IDENTITY, id bigint PRIMARY KEY, amount numeric(9,2), \
               spillway_sequence text DEFAULT 'mine', note text, twice bigint GENERATED ALWAYS AS (id * 2) STORED); \
               INSERT INTO orders (id, amount, note) VALUES (2, 2.25, 'old')";
    engine.execute(ddl).await?;
    let names = ["id", "amount", "note", "spillway_sequence"];
    let file = File::new(
        &names,
        &[
            &[Some("1"), Some("1.25"), Some("new"), Some("a")],
            &[Some("2"), Some("2.25"), Some("new"), Some("b")],
            &[Some("3"), Some("3.25"), Some("new"), None],
        ],
    );
    assert_eq!(expect_loaded(load(&merging(&engine, ""), &claim("a.csv"), &file).await?)?, merged(3, 1, 0));
    let stored =
        engine.rows("SELECT id, n, twice, note, COALESCE(spillway_sequence, '') FROM orders ORDER BY id").await?;
    assert_eq!(stored, texts(&[["1", "2", "2", "new", "a"], ["2", "1", "4", "new", "b"], ["3", "3", "6", "new", ""]]));
    Ok(())
}

/// Waits until a connection to the engine's database waits for a lock.
async fn wait_for_lock_wait(engine: &Postgres) -> Result<()> {
    let waiting =
        format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", engine.schema.name);
    for _ in 0..200 {
        if !engine.server.query(&engine.schema, &waiting).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no connection waits for a lock")
}

/// Merges ten orders into nine while another transaction holds the locks of `held`. Once the merge waits, `change` is
/// executed, and the other transaction commits.
async fn merge_while(held: &str, change: &str) -> Result<(Postgres, spillway_core::error::Result<LoadResult>)> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(9,2), note text) PARTITION BY RANGE (id); \
               CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (6); \
               CREATE TABLE high PARTITION OF orders FOR VALUES FROM (6) TO (100)";
    engine.execute(ddl).await?;
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &File::orders(9)).await?)?;
    let other = engine.client().await?;
    other.batch_execute(&format!("BEGIN; {held}")).await?;
    let (destination, claim, file) = (merging(&engine, ""), claim("b.csv"), File::orders(10));
    let committing = async {
        wait_for_lock_wait(&engine).await?;
        engine.execute(change).await?;
        anyhow::Ok(other.batch_execute("COMMIT").await?)
    };
    let (result, committed) = tokio::join!(load(&destination, &claim, &file), committing);
    committed?;
    Ok((engine, result))
}

/// After waiting for a lock, a merge inserts rows that were deleted while it waited, and compares rows that were changed with
/// their new values.
#[tokio::test]
async fn merge_sees_changes_to_rows_it_waited_for() -> Result<()> {
    let held = "UPDATE orders SET note = 'theirs' WHERE id IN (2, 3); DELETE FROM orders WHERE id = 4";
    let (engine, result) = merge_while(held, "DELETE FROM orders WHERE id = 7").await?;
    // Rows 2 and 3 are updated. Rows 4, 7 and 10 are inserted.
    assert_eq!(expect_loaded(result?)?, merged(10, 2, 5));
    let rows = engine.rows("SELECT COUNT(*), COUNT(DISTINCT note) FROM orders WHERE note LIKE 'note %'").await?;
    assert_eq!(rows, texts(&[["10", "10"]]));
    Ok(())
}

/// A row with the same key that another transaction inserts at the same time is a conflict. The next attempt updates it.
#[tokio::test]
async fn key_inserted_at_the_same_time_is_a_conflict() -> Result<()> {
    let (engine, result) = merge_while("INSERT INTO orders VALUES (10, 1.25, 'theirs')", "SELECT 1").await?;
    let error = result.err().context("the merge succeeded")?;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    assert!(error.to_string().contains("same key"), "{error}");
    let loaded = expect_loaded(load(&merging(&engine, ""), &claim("b.csv"), &File::orders(10)).await?)?;
    assert_eq!(loaded, merged(10, 1, 9));
    Ok(())
}

/// If the table and the ledger exist, replace and merge create only temporary tables, wherever `pg_temp` is in the search
/// path. Replace needs none.
#[tokio::test]
async fn repeated_replace_and_merge_need_only_temporary_tables() -> Result<()> {
    let engine = Postgres::new().await?;
    expect_loaded(load(&merging(&engine, "id"), &claim("a.csv"), &File::orders(5)).await?)?;
    let (user, name) = (&engine.schema.user, &engine.schema.name);
    engine
        .administrate(&format!(
            "ALTER SCHEMA public OWNER TO postgres; ALTER ROLE {user} SET search_path = public, pg_temp"
        ))
        .await?;
    assert_eq!(
        expect_loaded(load(&merging(&engine, "id"), &claim("b.csv"), &File::orders(6)).await?)?,
        merged(6, 0, 5)
    );
    expect_loaded(load(&replacing(&engine), &claim("c.csv"), &File::orders(7)).await?)?;
    let left = engine.rows("SELECT relname FROM pg_class WHERE relname LIKE 'spillway_merge%'").await?;
    assert_eq!(left, Rows::new());

    engine
        .administrate(&format!(
            "ALTER DATABASE {name} OWNER TO postgres; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
        ))
        .await?;
    expect_loaded(load(&replacing(&engine), &claim("d.csv"), &File::orders(8)).await?)?;
    let (kind, message) = rejection(&merging(&engine, "id"), "e.csv", &File::orders(9)).await?;
    assert_eq!(kind, ErrorKind::Privilege, "{message}");
    Ok(())
}

/// A merge larger than the server's sort memory, with every key twice, stores the last row of each key.
#[tokio::test]
async fn merge_larger_than_sort_memory_is_complete() -> Result<()> {
    const KEYS: usize = 20_000;
    let engine = Postgres::new().await?;
    engine.administrate(&format!("ALTER ROLE {} SET work_mem = '64kB'", engine.schema.user)).await?;
    let destination = merging(&engine, "id");
    let file = |rows: usize, note: &str| {
        let row = |row: usize| vec![Some(format!("key {}", row % KEYS)), Some(row.to_string()), Some(note.to_owned())];
        File::large(&["id", "n", "note"], (0..rows).map(row).collect(), 1000)
    };
    let loaded = expect_loaded(load(&destination, &claim("a.csv"), &file(KEYS / 2, "one")).await?)?;
    assert_eq!(loaded, merged(KEYS as u64 / 2, 0, 0));
    let loaded = expect_loaded(load(&destination, &claim("b.csv"), &file(KEYS * 2, "two")).await?)?;
    let keys = KEYS as u64;
    assert_eq!((loaded.rows_parsed, loaded.rows_stored, loaded.rows_updated), (2 * keys, keys, keys / 2));
    let sums = engine.rows("SELECT COUNT(*), MIN(n), MAX(n) FROM orders WHERE note = 'two'").await?;
    assert_eq!(sums, texts(&[["20000", "20000", "39999"]]));
    Ok(())
}
