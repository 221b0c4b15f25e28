//! What is PostgreSQL's own in the load modes beside append: tables that cannot be replaced or merged into, keys as their
//! index compares them, triggers, partitions, and what others do meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use spillway_core::destination::LoadMode;
use spillway_core::destination::RowCounts;
use spillway_core::error::{ErrorKind, chain};
use spillway_test_env::database::Schema;
use spillway_test_env::postgres;

use crate::engines::conformance::{Engine, File, Target, claim, load, ours};
use crate::engines::postgres::Postgres;

fn merging(engine: &Postgres, key: &str) -> Target {
    let key = key.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    engine.target_with(LoadMode::Merge { key }, None)
}

fn replacing(engine: &Postgres) -> Target {
    engine.target_with(LoadMode::Replace, None)
}

async fn rejection(target: &Target, key: &str, file: &File) -> Result<(ErrorKind, String)> {
    let error = load(target, &claim(key), file).await.err().context("loaded")?;
    Ok((error.kind(), chain(&error)))
}

fn merged(rows: u64, rows_updated: u64, rows_unchanged: u64) -> RowCounts {
    RowCounts { rows_parsed: rows, rows_stored: rows, rows_updated, rows_unchanged, rows_rejected: 0 }
}

fn texts<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|text| Some((*text).to_owned())).collect()).collect()
}

/// Tables whose rows cannot be told apart from others', or that rewrite what is asked of them.
#[rstest]
#[case::rule_on_delete("CREATE RULE keep AS ON DELETE TO orders DO INSTEAD NOTHING", "keep", LoadMode::Replace)]
#[case::rule_on_update("CREATE RULE keep AS ON UPDATE TO orders DO INSTEAD NOTHING", "keep", LoadMode::Merge { key: vec![] })]
#[case::rule_on_insert("CREATE RULE keep AS ON INSERT TO orders DO ALSO NOTHING", "keep", LoadMode::Merge { key: vec![] })]
#[case::child("CREATE TABLE child () INHERITS (orders)", "inherit", LoadMode::Replace)]
#[case::child_of_a_merge("CREATE TABLE child () INHERITS (orders)", "inherit", LoadMode::Merge { key: vec![] })]
#[tokio::test]
async fn a_table_with_something_in_the_way_is_a_mismatch(
    #[case] ddl: &str,
    #[case] named: &str,
    #[case] mode: LoadMode,
) -> Result<()> {
    let engine = Postgres::new().await?;
    engine.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, note text)").await?;
    engine.execute(ddl).await?;
    let (kind, message) = rejection(&engine.target_with(mode, None), "a.csv", &File::orders(2)).await?;
    assert_eq!(kind, ErrorKind::TableMismatch, "{message}");
    assert!(message.contains(named), "{message}");
    ours(load(&engine.target(), &claim("append.csv"), &File::orders(2)).await?)?;
    Ok(())
}

/// A table whose rows other tables depend on is not emptied: neither are they deleted or changed with it, nor left behind.
#[rstest]
#[case("CASCADE", ErrorKind::TableMismatch)]
#[case("SET NULL", ErrorKind::TableMismatch)]
#[case("SET DEFAULT", ErrorKind::TableMismatch)]
#[case("RESTRICT", ErrorKind::DataRefused)]
#[case("NO ACTION", ErrorKind::DataRefused)]
#[case("NO ACTION DEFERRABLE INITIALLY DEFERRED", ErrorKind::DataRefused)]
#[tokio::test]
async fn a_replace_leaves_other_tables_alone(
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

/// A table's own rows may go with each other, whatever the rule between them.
#[tokio::test]
async fn a_table_that_refers_to_itself_is_replaced() -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, note text, \
               part_of bigint REFERENCES orders ON DELETE CASCADE, after bigint REFERENCES orders ON DELETE SET NULL); \
               INSERT INTO orders VALUES (7, 1.25, 'old', 7, 7), (8, 1.25, 'old', 7, 7)";
    engine.execute(ddl).await?;
    ours(load(&replacing(&engine), &claim("a.csv"), &File::orders(3)).await?)?;
    assert_eq!(engine.rows("SELECT id FROM orders ORDER BY 1").await?, texts(&[["1"], ["2"], ["3"]]));
    Ok(())
}

/// A reader whose snapshot is older is neither kept waiting nor shown another table than it began with.
#[tokio::test]
async fn a_reader_with_an_older_snapshot_keeps_it() -> Result<()> {
    let engine = Postgres::new().await?;
    let target = replacing(&engine);
    ours(load(&target, &claim("a.csv"), &File::orders(30)).await?)?;
    let Schema { user, password, name, .. } = &engine.schema;
    let reader = postgres::connect(engine.server.port(), user, password, name).await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM spillway_ledger").await?;
    ours(load(&target, &claim("b.csv"), &File::orders(20)).await?)?;
    assert_eq!(postgres::rows(&reader, "SELECT COUNT(*) FROM orders").await?, texts(&[["30"]]));
    assert_eq!(engine.rows("SELECT COUNT(*) FROM orders").await?, texts(&[["20"]]));
    Ok(())
}

/// Partitions are replaced and merged into as one table.
#[tokio::test]
async fn partitions_are_one_table() -> Result<()> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(9,2), note text) PARTITION BY RANGE (id); \
               CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (6) PARTITION BY RANGE (id); \
               CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (3); \
               CREATE TABLE lower PARTITION OF low FOR VALUES FROM (3) TO (6); \
               CREATE TABLE high PARTITION OF orders FOR VALUES FROM (6) TO (100)";
    engine.execute(ddl).await?;
    ours(load(&replacing(&engine), &claim("a.csv"), &File::orders(20)).await?)?;
    ours(load(&replacing(&engine), &claim("b.csv"), &File::orders(10)).await?)?;
    engine.execute("DELETE FROM orders WHERE id IN (2, 9); UPDATE orders SET note = 'x' WHERE id IN (4, 8)").await?;
    let loaded = ours(load(&merging(&engine, ""), &claim("c.csv"), &File::orders(12)).await?)?;
    assert_eq!(loaded, merged(12, 2, 6));
    assert_eq!(engine.rows("SELECT COUNT(*), COUNT(DISTINCT note) FROM orders").await?, texts(&[["12", "12"]]));
    Ok(())
}

/// Indexes that do not hold for every row, for whole values or at once are no keys, and neither are others than asked for.
#[rstest]
#[case::partial("CREATE UNIQUE INDEX by_id ON orders (id) WHERE amount > 0")]
#[case::expression("CREATE UNIQUE INDEX by_id ON orders ((id + 1))")]
#[case::more_columns("CREATE UNIQUE INDEX by_id ON orders (id, note)")]
#[case::not_unique("CREATE INDEX by_id ON orders (id)")]
#[case::deferrable("ALTER TABLE orders ADD CONSTRAINT by_id UNIQUE (id) DEFERRABLE")]
#[case::broken_off(
    "CREATE UNIQUE INDEX by_id ON orders (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_id'::regclass"
)]
#[tokio::test]
async fn an_index_that_does_not_guard_every_row_is_no_key(#[case] ddl: &str) -> Result<()> {
    let engine = Postgres::new().await?;
    engine.execute("CREATE TABLE orders (id bigint, amount numeric, note text)").await?;
    engine.administrate(ddl).await?;
    let (kind, message) = rejection(&merging(&engine, "id"), "a.csv", &File::orders(2)).await?;
    assert_eq!(kind, ErrorKind::TableMismatch, "{message}");
    assert!(message.contains("MERGE_KEY (id)"), "{message}");
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 0);
    engine.execute("CREATE UNIQUE INDEX good ON orders (id) INCLUDE (note)").await?;
    assert_eq!(ours(load(&merging(&engine, "id"), &claim("b.csv"), &File::orders(2)).await?)?, merged(2, 0, 0));
    Ok(())
}

/// Keys are equal when the index says so: by its collation, which may not be the column's, and by its type's own equality,
/// wherever that was installed. Other values are equal byte for byte.
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
async fn keys_are_equal_when_their_index_says_so(
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
    let target = merging(&engine, "code");
    let file = |keys: [&str; 2], word: &str| {
        File::new(&["code", "word"], &[&[Some(keys[0]), Some("first")], &[Some(keys[1]), Some(word)]])
    };
    let loaded = ours(load(&target, &claim("a.csv"), &file(["a", "A"], "word")).await?)?;
    assert_eq!((loaded.rows_parsed, loaded.rows_stored.to_string().as_str()), (2, rows));
    assert_eq!(engine.rows("SELECT word FROM orders WHERE code = 'A'::text").await?.len(), rows.parse::<usize>()?);
    // The same word in other letters is another word, the same key is the same.
    let loaded = ours(load(&target, &claim("b.csv"), &file(["A", "a"], "WORD")).await?)?;
    assert_eq!(loaded.rows_updated.to_string(), rows);
    assert_eq!(ours(load(&target, &claim("c.csv"), &file(["A", "a"], "WORD")).await?)?.rows_updated, 0);
    assert_eq!(engine.rows("SELECT COUNT(*) FROM orders").await?, texts(&[[rows]]));
    Ok(())
}

/// A trigger that turns a row away without a word is found out by the counts, and nothing is stored.
#[rstest]
#[case::update("UPDATE", "RETURN NULL", LoadMode::Merge { key: vec![] })]
#[case::insert("INSERT", "RETURN NULL", LoadMode::Merge { key: vec![] })]
#[case::raise("UPDATE", "RAISE EXCEPTION 'top secret'", LoadMode::Merge { key: vec![] })]
#[case::delete("DELETE", "RETURN NULL", LoadMode::Replace)]
#[tokio::test]
async fn a_row_that_a_trigger_turns_away_refuses_the_file(
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
    let target = engine.target_with(mode, None);
    let (kind, message) = rejection(&target, "a.csv", &File::orders(4)).await?;
    assert_eq!(kind, ErrorKind::DataRefused, "{message}");
    assert!(message.contains("trigger") && !message.contains("secret"), "{message}");
    assert_eq!(engine.rows("SELECT * FROM orders ORDER BY id").await?, before);
    engine.execute("DROP TRIGGER guard ON orders").await?;
    ours(load(&target, &claim("b.csv"), &File::orders(4)).await?)?;
    assert_eq!(engine.rows("SELECT * FROM orders").await?.len(), 4);
    Ok(())
}

/// What the server computes and numbers itself stays its own in rows that are updated and in rows that are new.
#[tokio::test]
async fn columns_that_the_server_fills_are_its_own_in_a_merge() -> Result<()> {
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
    assert_eq!(ours(load(&merging(&engine, ""), &claim("a.csv"), &file).await?)?, merged(3, 1, 0));
    let stored =
        engine.rows("SELECT id, n, twice, note, COALESCE(spillway_sequence, '') FROM orders ORDER BY id").await?;
    assert_eq!(stored, texts(&[["1", "2", "2", "new", "a"], ["2", "1", "4", "new", "b"], ["3", "3", "6", "new", ""]]));
    Ok(())
}

/// Waits until somebody of the engine's database waits for a lock.
async fn until_somebody_waits(engine: &Postgres) -> Result<()> {
    let waiting =
        format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", engine.schema.name);
    for _ in 0..200 {
        if !engine.server.query(&engine.schema.name, &waiting).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("nobody waits")
}

/// What becomes of a merge into nine orders while it waits for what `held` has locked: `meanwhile` happens, and then the other
/// one commits.
async fn merge_while(held: &str, meanwhile: &str) -> Result<(Postgres, spillway_core::error::Result<RowCounts>)> {
    let engine = Postgres::new().await?;
    let ddl = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(9,2), note text) PARTITION BY RANGE (id); \
               CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (6); \
               CREATE TABLE high PARTITION OF orders FOR VALUES FROM (6) TO (100)";
    engine.execute(ddl).await?;
    ours(load(&engine.target(), &claim("a.csv"), &File::orders(9)).await?)?;
    let Schema { user, password, name, .. } = &engine.schema;
    let other = postgres::connect(engine.server.port(), user, password, name).await?;
    other.batch_execute(&format!("BEGIN; {held}")).await?;
    let (target, claim, file) = (merging(&engine, ""), claim("b.csv"), File::orders(10));
    let letting_go = async {
        until_somebody_waits(&engine).await?;
        engine.execute(meanwhile).await?;
        anyhow::Ok(other.batch_execute("COMMIT").await?)
    };
    let (loaded, end) = tokio::join!(load(&target, &claim, &file), letting_go);
    end?;
    let loaded = loaded.map(|claimed| ours(claimed).expect("nobody else loads it"));
    Ok((engine, loaded))
}

/// A row that is deleted while a merge looks for its key is inserted anew, and not taken for one that is there; one that is changed
/// is compared as it is then.
#[tokio::test]
async fn a_merge_sees_what_became_of_rows_it_waited_for() -> Result<()> {
    let held = "UPDATE orders SET note = 'theirs' WHERE id IN (2, 3); DELETE FROM orders WHERE id = 4";
    let (engine, loaded) = merge_while(held, "DELETE FROM orders WHERE id = 7").await?;
    // 2 and 3 are set right, 4, 7 and 10 are new.
    assert_eq!(loaded?, merged(10, 2, 5));
    let rows = engine.rows("SELECT COUNT(*), COUNT(DISTINCT note) FROM orders WHERE note LIKE 'note %'").await?;
    assert_eq!(rows, texts(&[["10", "10"]]));
    Ok(())
}

/// A row with the same key that somebody else inserts meanwhile is a conflict, and the next try updates it.
#[tokio::test]
async fn a_key_that_is_inserted_meanwhile_is_a_conflict() -> Result<()> {
    let (engine, loaded) = merge_while("INSERT INTO orders VALUES (10, 1.25, 'theirs')", "SELECT 1").await?;
    let error = loaded.err().context("merged")?;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
    assert!(error.to_string().contains("same key"), "{error}");
    let loaded = ours(load(&merging(&engine, ""), &claim("b.csv"), &File::orders(10)).await?)?;
    assert_eq!(loaded, merged(10, 1, 9));
    Ok(())
}

/// Once everything is in place, replaces and merges make nothing but their temporary tables; and wherever the user's search
/// path has those, they hide nothing and are found.
#[tokio::test]
async fn the_steady_state_needs_temporary_tables_alone() -> Result<()> {
    let engine = Postgres::new().await?;
    ours(load(&merging(&engine, "id"), &claim("a.csv"), &File::orders(5)).await?)?;
    let (user, name) = (&engine.schema.user, &engine.schema.name);
    engine
        .administrate(&format!(
            "ALTER SCHEMA public OWNER TO postgres; ALTER ROLE {user} SET search_path = public, pg_temp"
        ))
        .await?;
    assert_eq!(ours(load(&merging(&engine, "id"), &claim("b.csv"), &File::orders(6)).await?)?, merged(6, 0, 5));
    ours(load(&replacing(&engine), &claim("c.csv"), &File::orders(7)).await?)?;
    let left = engine.rows("SELECT relname FROM pg_class WHERE relname LIKE 'spillway_merge%'").await?;
    assert_eq!(left, Vec::<Vec<Option<String>>>::new());

    engine
        .administrate(&format!(
            "ALTER DATABASE {name} OWNER TO postgres; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
        ))
        .await?;
    ours(load(&replacing(&engine), &claim("d.csv"), &File::orders(8)).await?)?;
    let (kind, message) = rejection(&merging(&engine, "id"), "e.csv", &File::orders(9)).await?;
    assert_eq!(kind, ErrorKind::Privilege, "{message}");
    Ok(())
}

/// A merge larger than the server's memory for sorting, in which every key comes twice, adds up.
#[tokio::test]
async fn a_merge_beyond_the_memory_for_sorting_adds_up() -> Result<()> {
    const KEYS: usize = 20_000;
    let engine = Postgres::new().await?;
    engine.administrate(&format!("ALTER ROLE {} SET work_mem = '64kB'", engine.schema.user)).await?;
    let target = merging(&engine, "id");
    let file = |rows: usize, note: &str| {
        let row = |row: usize| vec![Some(format!("key {}", row % KEYS)), Some(row.to_string()), Some(note.to_owned())];
        File::large(&["id", "n", "note"], (0..rows).map(row).collect(), 1000)
    };
    let loaded = ours(load(&target, &claim("a.csv"), &file(KEYS / 2, "one")).await?)?;
    assert_eq!(loaded, merged(KEYS as u64 / 2, 0, 0));
    let loaded = ours(load(&target, &claim("b.csv"), &file(KEYS * 2, "two")).await?)?;
    let keys = KEYS as u64;
    assert_eq!((loaded.rows_parsed, loaded.rows_stored, loaded.rows_updated), (2 * keys, keys, keys / 2));
    let sums = engine.rows("SELECT COUNT(*), MIN(n), MAX(n) FROM orders WHERE note = 'two'").await?;
    assert_eq!(sums, texts(&[["20000", "20000", "39999"]]));
    Ok(())
}
