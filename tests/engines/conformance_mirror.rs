//! Conformance tests for the load mode mirror, which every engine runs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_core::destination::{LedgerState, LoadMode, Mirror, RowCounts};
use spillway_core::error::{Error, ErrorKind};
use spillway_core::object::ObjectVersion;
use spillway_test_env::database::Rows;
use spillway_test_env::run::random_numbers;

use crate::engines::conformance::{
    Claim, Engine, File, LoadResult, TABLE, TestDestination, claim_of_size, count, expect_already_loaded,
    expect_loaded, load, load_error, open, prepare, wait_for_rollback, write,
};

/// The sizes of the tests' files: with the first, rows are sent in one transaction, with the second through a staging table where the
/// engine has one.
const SIZES: [u64; 2] = [100, 100_000];
const STAGING_ABOVE: u64 = 1000;

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_mirror:
            table_gets_exactly_the_rows_of_the_file,
            implausible_export_is_refused,
            file_changes_only_its_scope,
            limit_counts_only_rows_of_the_scope,
            cascading_delete_is_refused,
            key_gets_the_spelling_of_the_file,
            older_export_is_superseded,
            unfinished_mirror_changes_nothing,
            deleted_row_frees_its_unique_value,
            ledger_of_older_version_counts_deleted_rows,
            random_exports_leave_the_newest_rows,
        );
    };
}
pub(crate) use for_each_test;

fn mirror(scope: &[&str], max_deletes_percent: u8) -> LoadMode {
    let scope = scope.iter().map(|name| (*name).to_owned()).collect();
    LoadMode::Mirror(Mirror { key: vec!["id".to_owned()], scope, max_deletes_percent })
}

fn destination(engine: &impl Engine, mode: LoadMode) -> TestDestination {
    engine.destination_with(mode, Some(STAGING_ABOVE))
}

/// The export that was written this number of minutes after noon, or a later day for a large file: the ledger keeps the newest.
fn export(key: &str, minutes: i64, size: u64) -> Claim {
    let mut claim = claim_of_size(&format!("{size} {key}"), size);
    let source = &mut claim.file.source;
    let days = i64::from(size > STAGING_ABOVE);
    let last_modified = source.last_modified + jiff::SignedDuration::from_mins(minutes + days * 24 * 60);
    *source = ObjectVersion::new(source.object.clone(), source.etag.clone(), size, last_modified, None);
    claim
}

fn rows<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter()
        .map(|row| row.iter().map(|field| Some((*field).to_owned()).filter(|text| text != "NULL")).collect())
        .collect()
}

/// A file with an id and a note. The text `NULL` is a missing value.
fn notes(rows: &[[&str; 2]]) -> File {
    File::large(&["id", "note"], self::rows(rows), 2)
}

/// A file with rows of the ids, each with the same note.
fn ids(ids: std::ops::Range<u64>, note: &str) -> File {
    File::large(&["id", "note"], ids.map(|id| vec![Some(id.to_string()), Some(note.to_owned())]).collect(), 50)
}

async fn table(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT id, note FROM {TABLE} ORDER BY id")).await
}

async fn execute(engine: &impl Engine, statement: &str) -> Result<()> {
    engine.rows(statement).await.map(|_| ())
}

async fn expect_refused(destination: &TestDestination, claim: &Claim, file: &File) -> Result<Error> {
    let error = load_error(destination, claim, file).await?;
    assert_eq!(error.kind(), ErrorKind::ExportRefused, "{error}");
    Ok(error)
}

/// Loads a file whose first attempt may end with a conflict: the ledger row of a newer file is found after the rows are staged.
async fn load_twice(destination: &TestDestination, claim: &Claim, file: &File) -> Result<LoadResult> {
    match load(destination, claim, file).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(load(destination, claim, file).await?),
        result => Ok(result?),
    }
}

fn counts(stored: u64, updated: u64, unchanged: u64, deleted: u64) -> RowCounts {
    RowCounts { rows_updated: updated, rows_unchanged: unchanged, rows_deleted: deleted, ..RowCounts::inserted(stored) }
}

/// New rows are inserted, changed rows are updated, missing rows are deleted, and all are counted. A header alone deletes all rows.
pub(crate) async fn table_gets_exactly_the_rows_of_the_file(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = destination(engine, mirror(&[], 10));
        let first = notes(&[["1", "one"], ["2", "two"], ["3", "NULL"], ["4", "four"]]);
        assert_eq!(expect_loaded(load(&destination, &export("a", 1, size), &first).await?)?, counts(4, 0, 0, 0));
        let second = notes(&[["5", "five"], ["4", "FOUR"], ["3", "NULL"]]);
        assert_eq!(expect_loaded(load(&destination, &export("b", 2, size), &second).await?)?, counts(3, 1, 1, 2));
        assert_eq!(table(engine).await?, rows(&[["3", "NULL"], ["4", "FOUR"], ["5", "five"]]));
        let again = expect_already_loaded(load(&destination, &export("b", 2, size), &second).await?)?;
        assert_eq!((again.state, again.rows_stored), (LedgerState::Loaded, 3));
        let counted = "SELECT load_mode, rows_parsed, rows_stored, rows_updated, rows_unchanged, rows_deleted \
             FROM spillway_ledger WHERE object_key";
        let entry = engine.rows(&format!("{counted} = '{size} b'")).await?;
        assert_eq!(entry, rows(&[["mirror", "3", "3", "1", "1", "2"]]));
        let header = notes(&[]);
        assert_eq!(expect_loaded(load(&destination, &export("c", 3, size), &header).await?)?, counts(0, 0, 0, 3));
        assert_eq!(count(engine).await?, 0);
    }
    Ok(())
}

/// A file that would delete too many rows, or has a key twice, changes nothing. A higher limit accepts the deletions.
pub(crate) async fn implausible_export_is_refused(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let careful = destination(engine, mirror(&[], 10));
        expect_loaded(load(&careful, &export("a", 1, size), &ids(0..2_000, "old")).await?)?;
        let truncated = ids(201..2_000, "new");
        let error = expect_refused(&careful, &export("b", 2, size), &truncated).await?;
        ensure!(error.to_string().contains("would delete 201 of the 2000 rows of table orders"), "{error}");
        ensure!(error.to_string().contains("at most 200 may be deleted (MIRROR_MAX_DELETES=10)"), "{error}");
        expect_refused(&careful, &export("c", 3, size), &notes(&[])).await?;
        let twice = notes(&[["1", "a"], ["2", "b"], ["1", "a"]]);
        let error = expect_refused(&careful, &export("d", 4, size), &twice).await?;
        ensure!(error.to_string().starts_with("1 of the 3 rows of the file"), "{error}");
        let error = load_error(&careful, &export("e", 5, size), &notes(&[["NULL", "a"]])).await?;
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("id")), "{error}");
        let unchanged = engine.rows(&format!("SELECT COUNT(*), MIN(note), MAX(note) FROM {TABLE}")).await?;
        assert_eq!(unchanged, rows(&[["2000", "old", "old"]]));

        expect_loaded(load(&careful, &export("f", 6, size), &ids(200..2_000, "new")).await?)?;
        let bold = destination(engine, mirror(&[], 100));
        assert_eq!(
            expect_loaded(load(&bold, &export("g", 7, size), &ids(0..3, "few")).await?)?,
            counts(3, 0, 0, 1_800)
        );
        assert_eq!(table(engine).await?, rows(&[["0", "few"], ["1", "few"], ["2", "few"]]));
        assert_eq!(careful.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A file with a scope changes only the rows with the values of its scope, and is compared only with older files of that scope.
pub(crate) async fn file_changes_only_its_scope(engine: &impl Engine) -> Result<()> {
    let file = |rows: &[[&str; 3]]| File::large(&["id", "tenant", "note"], self::rows(rows), 2);
    let scoped = |scope: &[&str]| destination(engine, mirror(scope, 10));
    for size in SIZES {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = scoped(&["Tenant"]);
        let both = async || engine.rows(&format!("SELECT id, tenant, note FROM {TABLE} ORDER BY id")).await;
        let first = file(&[["1", "a", "one"], ["2", "a", "two"]]);
        assert_eq!(expect_loaded(load(&destination, &export("a1", 10, size), &first).await?)?, counts(2, 0, 0, 0));
        // Written before the file of the other scope.
        let other = file(&[["3", "b", "three"], ["4", "b", "four"]]);
        assert_eq!(expect_loaded(load(&destination, &export("b1", 5, size), &other).await?)?, counts(2, 0, 0, 0));
        let newer = file(&[["2", "a", "TWO"], ["5", "a", "five"]]);
        assert_eq!(expect_loaded(load(&destination, &export("a2", 20, size), &newer).await?)?, counts(2, 1, 0, 1));
        let expected = rows(&[["2", "a", "TWO"], ["3", "b", "three"], ["4", "b", "four"], ["5", "a", "five"]]);
        assert_eq!(both().await?, expected);

        let older = load_twice(&destination, &export("a0", 15, size), &first).await?;
        assert_eq!(expect_already_loaded(older)?.state, LedgerState::Superseded);
        for (key, wrong) in [("mixed", file(&[["6", "a", "x"], ["7", "b", "x"]])), ("empty", file(&[]))] {
            let error = expect_refused(&destination, &export(key, 30, size), &wrong).await?;
            ensure!(error.to_string().contains("MIRROR_SCOPE"), "{error}");
        }
        let error = expect_refused(&destination, &export("null", 30, size), &file(&[["6", "NULL", "x"]])).await?;
        ensure!(error.to_string().contains("NULL"), "{error}");
        let error = load_error(&scoped(&["shop"]), &export("shop", 30, size), &first).await?;
        assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("shop")));
        // A row of the other scope has this key. It is moved, as a merge would do.
        let moved = file(&[["2", "a", "TWO"], ["3", "a", "moved"]]);
        assert_eq!(expect_loaded(load(&destination, &export("a3", 40, size), &moved).await?)?, counts(2, 1, 1, 1));
        assert_eq!(both().await?, rows(&[["2", "a", "TWO"], ["3", "a", "moved"], ["4", "b", "four"]]));
    }
    Ok(())
}

/// Rows of other scopes that the file takes over do not raise the limit.
pub(crate) async fn limit_counts_only_rows_of_the_scope(engine: &impl Engine) -> Result<()> {
    let destination = destination(engine, mirror(&["tenant"], 10));
    let file = |ids: std::ops::Range<u64>, tenant: &str| {
        let row = |id: u64| vec![Some(id.to_string()), Some(tenant.to_owned())];
        File::large(&["id", "tenant"], ids.map(row).collect(), 500)
    };
    expect_loaded(load(&destination, &export("a", 1, 100), &file(0..150, "a")).await?)?;
    expect_loaded(load(&destination, &export("b", 2, 100), &file(1_000..4_000, "b")).await?)?;
    let error = expect_refused(&destination, &export("c", 3, 100), &file(1_000..4_000, "a")).await?;
    ensure!(error.to_string().contains("150 of the 150 rows of table orders with the same tenant"), "{error}");
    expect_refused(&destination, &export("d", 4, 100), &file(0..150, "a ")).await?;
    assert_eq!(count(engine).await?, 3_150);
    Ok(())
}

/// A deletion must not change rows that are not counted: those of another table, or other rows of this one.
pub(crate) async fn cascading_delete_is_refused(engine: &impl Engine) -> Result<()> {
    let columns =
        "id BIGINT PRIMARY KEY, note BIGINT NULL, FOREIGN KEY (note) REFERENCES orders (id) ON DELETE CASCADE";
    execute(engine, &format!("CREATE TABLE {TABLE} ({columns})")).await?;
    execute(engine, &format!("INSERT INTO {TABLE} VALUES (1, NULL), (2, 1)")).await?;
    let error =
        load_error(&destination(engine, mirror(&[], 10)), &export("a", 1, 100), &notes(&[["2", "NULL"]])).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{error}");
    assert_eq!(table(engine).await?, rows(&[["1", "NULL"], ["2", "1"]]));
    Ok(())
}

/// A key that the table finds equal, but that is spelled differently, is updated.
pub(crate) async fn key_gets_the_spelling_of_the_file(engine: &impl Engine) -> Result<()> {
    let unconstrained = "CREATE TABLE orders (id NUMERIC PRIMARY KEY, note VARCHAR(20))";
    let any_case = "CREATE TABLE orders (id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, note VARCHAR(20))";
    let (create, old, new) = match engine.schema().engine {
        spillway_test_env::database::Engine::MariaDb => (any_case, "bob", "Bob"),
        spillway_test_env::database::Engine::Postgres => (unconstrained, "1", "1.0"),
    };
    execute(engine, create).await?;
    let destination = destination(engine, mirror(&[], 10));
    expect_loaded(load(&destination, &export("a", 1, 100), &notes(&[[old, "x"]])).await?)?;
    assert_eq!(
        expect_loaded(load(&destination, &export("b", 2, 100), &notes(&[[new, "x"]])).await?)?,
        counts(1, 1, 0, 0)
    );
    assert_eq!(table(engine).await?, rows(&[[new, "x"]]));
    Ok(())
}

/// Of two exports the newer one decides, in whatever order they are loaded.
pub(crate) async fn older_export_is_superseded(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = destination(engine, mirror(&[], 10));
        let newest = notes(&[["1", "new"]]);
        expect_loaded(load(&destination, &export("b", 10, size), &newest).await?)?;
        let older = load_twice(&destination, &export("a", 9, size), &notes(&[["2", "old"]])).await?;
        assert_eq!(expect_already_loaded(older)?.state, LedgerState::Superseded);
        assert_eq!(table(engine).await?, rows(&[["1", "new"]]));
    }
    Ok(())
}

/// A mirror that is not committed changes nothing. The next attempt completes it.
pub(crate) async fn unfinished_mirror_changes_nothing(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = destination(engine, mirror(&[], 10));
        expect_loaded(load(&destination, &export("a", 1, size), &ids(0..300, "old")).await?)?;
        let (claim, file) = (export("b", 2, size), ids(50..3_000, "new"));
        let schema = file.schema();
        let mut open_load = open(&destination, &claim, &schema).await?;
        let error = write(&mut *open_load, file.broken_stream()).await.err().context("the load succeeded")?;
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        drop(open_load);
        wait_for_rollback(&destination, &claim).await?;
        let ready = prepare(&destination, &claim, &file).await?;
        assert_eq!(ready.counts(), counts(2_950, 250, 0, 50));
        drop(ready);
        wait_for_rollback(&destination, &claim).await?;
        let unchanged = engine.rows(&format!("SELECT COUNT(*), MIN(note), MAX(note) FROM {TABLE}")).await?;
        assert_eq!(unchanged, rows(&[["300", "old", "old"]]));
        destination.drop_stale_staging(Duration::ZERO, &[]).await?;
        assert_eq!(expect_loaded(load(&destination, &claim, &file).await?)?, counts(2_950, 250, 0, 50));
        assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A new row may have the value of a deleted row in another unique index.
pub(crate) async fn deleted_row_frees_its_unique_value(engine: &impl Engine) -> Result<()> {
    execute(engine, &format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, note VARCHAR(50) UNIQUE)")).await?;
    let destination = destination(engine, mirror(&[], 10));
    expect_loaded(load(&destination, &export("a", 1, 100), &notes(&[["1", "mail"], ["2", "other"]])).await?)?;
    let second = notes(&[["2", "mail"], ["3", "third"]]);
    assert_eq!(expect_loaded(load(&destination, &export("b", 2, 100), &second).await?)?, counts(2, 1, 0, 1));
    assert_eq!(table(engine).await?, rows(&[["2", "mail"], ["3", "third"]]));
    Ok(())
}

/// A ledger of an earlier version gets the column for deleted rows with the first mirrored file.
pub(crate) async fn ledger_of_older_version_counts_deleted_rows(engine: &impl Engine) -> Result<()> {
    let first = destination(engine, mirror(&[], 10));
    expect_loaded(load(&first, &export("a", 1, 100), &notes(&[["1", "one"]])).await?)?;
    execute(engine, "ALTER TABLE spillway_ledger DROP COLUMN rows_deleted").await?;
    let append = engine.destination();
    expect_loaded(load(&append, &export("append", 1, 100), &notes(&[["2", "two"]])).await?)?;
    ensure!(
        engine.rows("SELECT rows_deleted FROM spillway_ledger").await.is_err(),
        "an appending load adds the column"
    );
    // A connection looks for the ledger once.
    let second = destination(engine, mirror(&[], 10));
    expect_loaded(load(&second, &export("b", 2, 100), &notes(&[["1", "one"]])).await?)?;
    let deleted = engine.rows("SELECT rows_deleted FROM spillway_ledger ORDER BY object_key").await?;
    assert_eq!(deleted, rows(&[["NULL"], ["NULL"], ["1"]]));
    Ok(())
}

/// After each of many random exports, the table has its rows, and the counts are those of a comparison in memory.
pub(crate) async fn random_exports_leave_the_newest_rows(engine: &impl Engine) -> Result<()> {
    let (mut random, seed) = random_numbers();
    let mode = LoadMode::Mirror(Mirror {
        key: vec!["id".to_owned(), "shop".to_owned()],
        scope: Vec::new(),
        max_deletes_percent: 100,
    });
    let destination = destination(engine, mode);
    let mut current: BTreeMap<(u64, String), [Option<String>; 2]> = BTreeMap::new();
    for step in 0..30_i64 {
        let before = current.clone();
        change_randomly(&mut current, &mut random);
        let mut lines: Vec<Vec<Option<String>>> = current
            .iter()
            .map(|((id, shop), [note, amount])| {
                vec![Some(id.to_string()), note.clone(), Some(shop.clone()), amount.clone()]
            })
            .collect();
        random.shuffle(&mut lines);
        let file = File::large(&["id", "note", "shop", "amount"], lines, 7);
        let size = SIZES[usize::from(random.bool())];
        let found =
            expect_loaded(load(&destination, &export(&format!("{step}"), step * 2 * 24 * 60, size), &file).await?)?;
        let known: Vec<_> = current.iter().filter_map(|(key, row)| Some((row, before.get(key)?))).collect();
        let unchanged = known.iter().filter(|(new, old)| new == old).count();
        let expected = counts(
            current.len() as u64,
            (known.len() - unchanged) as u64,
            unchanged as u64,
            before.keys().filter(|key| !current.contains_key(*key)).count() as u64,
        );
        assert_eq!(found, expected, "step {step}, seed {seed}");
        let stored = engine.rows(&format!("SELECT id, shop, note, amount FROM {TABLE}")).await?;
        let mut stored: Vec<String> = stored.iter().map(|row| format!("{row:?}")).collect();
        let row = |((id, shop), [note, amount]): (&(u64, String), &[Option<String>; 2])| {
            format!("{:?}", [Some(id.to_string()), Some(shop.clone()), note.clone(), amount.clone()])
        };
        let mut wanted: Vec<String> = current.iter().map(row).collect();
        stored.sort();
        wanted.sort();
        assert_eq!(stored, wanted, "step {step}, seed {seed}");
    }
    Ok(())
}

/// Deletes, changes and adds random rows. Some steps change nothing, and some change everything.
fn change_randomly(rows: &mut BTreeMap<(u64, String), [Option<String>; 2]>, random: &mut fastrand::Rng) {
    let share = [0.0, 0.05, 0.3, 1.0][random.usize(..4)];
    let value = |random: &mut fastrand::Rng| {
        let texts = ["one", "ONE", "one ", "", "ä", "it's", "a\"b", "\\N", "NULL"];
        (!random.bool()).then(|| texts[random.usize(..texts.len())].to_owned())
    };
    rows.retain(|_, _| random.f64() >= share / 2.0);
    for row in rows.values_mut() {
        if random.f64() < share {
            row[0] = value(random);
        }
    }
    for _ in 0..random.usize(..60) {
        let shop = ["a", "A", "b", "ß"][random.usize(..4)].to_owned();
        // The first rows decide the types of the table.
        let amount = Some(format!("{}.25", random.u32(..100)));
        rows.insert((random.u64(1..100), shop), [value(random), amount]);
    }
    if rows.is_empty() {
        rows.insert((1, "a".to_owned()), [Some("one".to_owned()), Some("1.25".to_owned())]);
    }
}
