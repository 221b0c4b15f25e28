//! Conformance tests for the load modes replace and merge, which every engine runs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use spillway_core::destination::{CommitResult, LedgerState, LoadMode, RowCounts};
use spillway_core::error::ErrorKind;
use spillway_core::object::ObjectVersion;
use spillway_test_env::database::Rows;

use crate::engines::conformance::{
    Claim, Engine, File, LoadResult, TABLE, TestDestination, claim, claim_of_size, count, expect_already_loaded,
    expect_loaded, load, load_error, open, prepare, states, wait_for_rollback, write,
};

/// A file of this size is staged by a destination that stages above [`STAGING_ABOVE`].
const LARGE: u64 = 100_000;
const STAGING_ABOVE: Option<u64> = Some(1000);
/// The attempts of a load that conflicts with others. In each round at least one of them succeeds.
const ATTEMPTS: u32 = 40;

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_modes:
            file_replaces_the_table,
            merge_inserts_and_updates,
            merge_keeps_other_columns,
            unfinished_merge_changes_nothing,
            merge_without_a_key_is_rejected,
            row_without_a_key_is_rejected,
            reader_sees_old_rows_or_new_rows,
            unfinished_replace_keeps_old_rows,
            concurrent_replaces_conflict,
            older_file_does_not_replace_newer_one,
            ledger_of_older_version_gets_new_columns,
            other_unique_index_never_selects_the_row,
            eight_workers_merge_one_file_once,
            eight_merges_of_same_keys_all_complete,
            eight_concurrent_replaces_leave_the_newest,
            empty_files_merge,
            every_type_merges_as_unchanged,
            keys_of_new_table_compare_exactly,
            last_row_of_a_key_wins,
        );
    };
}
pub(crate) use for_each_test;

/// A merge by these columns, or by the table's primary key if there are none.
fn merge(key: &[&str]) -> LoadMode {
    LoadMode::Merge { key: key.iter().map(|name| (*name).to_owned()).collect() }
}

fn rows<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter()
        .map(|row| row.iter().map(|field| Some((*field).to_owned()).filter(|text| text != "NULL")).collect())
        .collect()
}

/// A file with an id, an amount and a note. The text `NULL` is a missing value.
fn orders(rows: &[[&str; 3]]) -> File {
    File::large(&["id", "amount", "note"], self::rows(rows), 2)
}

async fn table(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT id, amount, note FROM {TABLE} ORDER BY id")).await
}

async fn execute(engine: &impl Engine, statement: &str) -> Result<()> {
    engine.rows(statement).await.map(|_| ())
}

async fn rejection(destination: &TestDestination, key: &str, file: &File) -> Result<spillway_core::error::Error> {
    load_error(destination, &claim(key), file).await
}

/// The counts of a merge.
fn merged(rows_parsed: u64, rows_stored: u64, rows_updated: u64, rows_unchanged: u64) -> RowCounts {
    RowCounts { rows_parsed, rows_stored, rows_updated, rows_unchanged, ..RowCounts::default() }
}

/// New rows are inserted, changed rows are updated, equal rows are kept, and all are counted. A new table has the merge key.
/// Merging the same file again changes nothing.
pub(crate) async fn merge_inserts_and_updates(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = engine.destination_with(merge(&["ID"]), staging_above);
        let claim = |key: &str| claim_of_size(&format!("{key} {size}"), size);
        let first = orders(&[["1", "1.25", "one"], ["2", "2.25", "two"], ["3", "3.25", "NULL"], ["4", "4.25", "four"]]);
        assert_eq!(expect_loaded(load(&destination, &claim("a.csv"), &first).await?)?, merged(4, 4, 0, 0));
        assert_eq!(expect_loaded(load(&destination, &claim("again.csv"), &first).await?)?, merged(4, 4, 0, 4));

        let changes =
            orders(&[["5", "5.25", "five"], ["2", "2.25", "TWO"], ["3", "3.25", "NULL"], ["4", "4.25", "NULL"]]);
        assert_eq!(expect_loaded(load(&destination, &claim("b.csv"), &changes).await?)?, merged(4, 4, 2, 1));
        let expected = rows(&[
            ["1", "1.25", "one"],
            ["2", "2.25", "TWO"],
            ["3", "3.25", "NULL"],
            ["4", "4.25", "NULL"],
            ["5", "5.25", "five"],
        ]);
        assert_eq!(table(engine).await?, expected);
        assert_eq!(expect_loaded(load(&destination, &claim("c.csv"), &changes).await?)?, merged(4, 4, 0, 4));
        let entry = expect_already_loaded(load(&destination, &claim("b.csv"), &changes).await?)?;
        assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Loaded, 4, 4));
        assert_eq!(table(engine).await?, expected);
    }
    let counts = "SELECT load_mode, rows_parsed, rows_stored, rows_updated, rows_unchanged FROM spillway_ledger \
                  WHERE object_key = 'b.csv 100'";
    assert_eq!(engine.rows(counts).await?, rows(&[["merge", "4", "4", "2", "1"]]));
    Ok(())
}

/// A merge without a key, or without a unique index for it, is rejected with a hint, and creates and changes nothing.
pub(crate) async fn merge_without_a_key_is_rejected(engine: &impl Engine) -> Result<()> {
    let file = orders(&[["1", "1.25", "one"]]);
    let own_key = engine.destination_with(merge(&[]), None);
    let by_note = engine.destination_with(merge(&["note"]), None);
    let error = rejection(&own_key, "new.csv", &file).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    ensure!(error.to_string().contains("MERGE_KEY"), "{error}");
    ensure!(engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_err(), "a table was created");

    execute(engine, &format!("CREATE TABLE {TABLE} (id BIGINT, amount DECIMAL(18,2), note VARCHAR(50))")).await?;
    for destination in [&own_key, &by_note] {
        assert_eq!(rejection(destination, "no-index.csv", &file).await?.kind(), ErrorKind::TableMismatch);
    }
    execute(engine, &format!("CREATE UNIQUE INDEX more ON {TABLE} (note, id)")).await?;
    assert_eq!(rejection(&by_note, "another-index.csv", &file).await?.kind(), ErrorKind::TableMismatch);
    let error =
        rejection(&engine.destination_with(merge(&["id", "note"]), None), "no-note.csv", &File::new(&["id"], &[]))
            .await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("note")));
    assert_eq!(count(engine).await?, 0);
    expect_loaded(load(&engine.destination_with(merge(&["id", "note"]), None), &claim("fits.csv"), &file).await?)?;
    assert_eq!(count(engine).await?, 1);
    Ok(())
}

/// A row without a value in its key is rejected with its record and column.
pub(crate) async fn row_without_a_key_is_rejected(engine: &impl Engine) -> Result<()> {
    let ddl = format!("CREATE TABLE {TABLE} (id BIGINT, amount DECIMAL(18,2), note VARCHAR(50), UNIQUE (id))");
    execute(engine, &ddl).await?;
    let file = orders(&[["1", "1.25", "one"], ["2", "2.25", "two"], ["NULL", "3.25", "three"]]);
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let destination = engine.destination_with(merge(&["id"]), staging_above);
        let error = load_error(&destination, &claim_of_size("a.csv", size), &file).await?;
        let found = (error.kind(), error.position().map(|at| at.record), error.column());
        assert_eq!(found, (ErrorKind::DataRefused, Some(3), Some("id")));
        assert_eq!(count(engine).await?, 0);
    }
    Ok(())
}

/// Of the rows of one file with the same key, the last one is stored, whatever the batches, statements and chunks.
pub(crate) async fn last_row_of_a_key_wins(engine: &impl Engine) -> Result<()> {
    const ROWS: u64 = 30_000;
    const KEYS: u64 = 7;
    let all: Rows = (0..ROWS)
        .map(|row| vec![Some((row * row % KEYS).to_string()), Some(format!("{row}.25")), Some("x".repeat(100))])
        .collect();
    let mut last = std::collections::BTreeMap::new();
    all.iter().for_each(|row| drop(last.insert(row[0].clone(), row[1].clone())));
    let expected: Rows = last.into_iter().map(|(id, amount)| vec![id, amount]).collect();
    let stored = expected.len() as u64;
    for (round, batch_rows) in [1, 777, 30_000].into_iter().enumerate() {
        for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
            let destination = engine.destination_with(merge(&["id"]), staging_above);
            let file = File::large(&["id", "amount", "note"], all.clone(), batch_rows);
            let loaded =
                expect_loaded(load(&destination, &claim_of_size(&format!("{round}.csv"), size), &file).await?)?;
            let is_first = round == 0 && staging_above.is_none();
            assert_eq!(loaded, merged(ROWS, stored, 0, if is_first { 0 } else { stored }));
            assert_eq!(engine.rows(&format!("SELECT id, amount FROM {TABLE} ORDER BY id")).await?, expected);
        }
    }
    Ok(())
}

/// Keys that differ in letter case, accents or trailing spaces are different.
pub(crate) async fn keys_of_new_table_compare_exactly(engine: &impl Engine) -> Result<()> {
    let file = File::new(
        &["code", "n"],
        &[
            &[Some("a"), Some("1")],
            &[Some("A"), Some("2")],
            &[Some("a "), Some("3")],
            &[Some("ä"), Some("4")],
            &[Some("a"), Some("5")],
        ],
    );
    let destination = engine.destination_with(merge(&["code"]), None);
    assert_eq!(expect_loaded(load(&destination, &claim("a.csv"), &file).await?)?, merged(5, 4, 0, 0));
    assert_eq!(expect_loaded(load(&destination, &claim("b.csv"), &file).await?)?, merged(5, 4, 0, 4));
    let stored = engine.rows(&format!("SELECT n FROM {TABLE} ORDER BY n")).await?;
    assert_eq!(stored, rows(&[["2"], ["3"], ["4"], ["5"]]));
    Ok(())
}

/// A unique violation in another index than the key rejects the file. The merge never updates the conflicting row.
pub(crate) async fn other_unique_index_never_selects_the_row(engine: &impl Engine) -> Result<()> {
    let ddl =
        format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, amount DECIMAL(18,2), note VARCHAR(50), UNIQUE (note))");
    execute(engine, &ddl).await?;
    execute(engine, &format!("INSERT INTO {TABLE} VALUES (1, 1.25, 'one'), (2, 2.25, 'two')")).await?;
    let destination = engine.destination_with(merge(&[]), None);
    for (key, row) in [("insert.csv", ["3", "9.25", "one"]), ("update.csv", ["2", "9.25", "one"])] {
        let error = rejection(&destination, key, &orders(&[["1", "7.25", "one"], row])).await?;
        assert_eq!(error.kind(), ErrorKind::DataRefused, "{key}: {error}");
        assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"], ["2", "2.25", "two"]]));
    }
    let loaded = expect_loaded(
        load(&destination, &claim("good.csv"), &orders(&[["1", "7.25", "one"], ["3", "3.25", "three"]])).await?,
    )?;
    assert_eq!(loaded, merged(2, 2, 1, 0));
    Ok(())
}

/// Only the file's columns are updated. Other columns keep their values, and get their defaults in new rows.
pub(crate) async fn merge_keeps_other_columns(engine: &impl Engine) -> Result<()> {
    let ddl = format!(
        "CREATE TABLE {TABLE} (kind VARCHAR(9) NOT NULL DEFAULT 'new', note VARCHAR(50), id BIGINT PRIMARY KEY)"
    );
    execute(engine, &ddl).await?;
    execute(engine, &format!("INSERT INTO {TABLE} (kind, note, id) VALUES ('old', 'one', 1)")).await?;
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("ONE")], &[Some("2"), None]]);
    let destination = engine.destination_with(merge(&[]), None);
    assert_eq!(expect_loaded(load(&destination, &claim("a.csv"), &file).await?)?, merged(2, 2, 1, 0));
    let keys_alone = File::new(&["id"], &[&[Some("2")], &[Some("3")]]);
    assert_eq!(expect_loaded(load(&destination, &claim("b.csv"), &keys_alone).await?)?, merged(2, 2, 0, 1));
    let stored = engine.rows(&format!("SELECT id, kind, note FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(stored, rows(&[["1", "old", "ONE"], ["2", "new", "NULL"], ["3", "new", "NULL"]]));
    Ok(())
}

/// Of eight workers that merge one source at once, one commits. The others conflict or find the ledger entry.
pub(crate) async fn eight_workers_merge_one_file_once(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let (destination, file) = (engine.destination_with(merge(&["id"]), staging_above), File::orders(300));
        let claim = claim_of_size("race.csv", size);
        let mut stored = 0;
        for end in join_all((0..8).map(|_| load(&destination, &claim, &file))).await {
            match end {
                Ok(LoadResult::Loaded(_)) => stored += 1,
                Ok(LoadResult::NotNeeded(entry)) => assert_eq!(entry.state, LedgerState::Loaded),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!((stored, count(engine).await?), (1, 300));
        assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// Eight files with the same keys that are merged at once can only conflict. Each key is stored once, and each row is from
/// one file.
pub(crate) async fn eight_merges_of_same_keys_all_complete(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with(merge(&["id"]), None);
    let file = |worker: usize| {
        let row = |id: usize| {
            vec![Some(((id * 37) % 100).to_string()), Some(format!("{worker}.25")), Some(format!("by {worker}"))]
        };
        File::large(&["id", "amount", "note"], (0..100).map(row).collect(), 30)
    };
    // The table exists, so that the merges compete only for rows.
    load(
        &destination,
        &claim("first.csv"),
        &File::new(&["id", "amount", "note"], &[&[Some("1000"), Some("1.25"), Some("x")]]),
    )
    .await?;
    let ends = join_all((0..8).map(async |worker| {
        let (claim, file) = (claim(&format!("{worker}.csv")), file(worker));
        expect_loaded(load_after_conflicts(&destination, &claim, &file).await?)
    }))
    .await;
    let mut inserted = 0;
    for end in ends {
        let loaded = end?;
        assert_eq!((loaded.rows_parsed, loaded.rows_stored), (100, 100));
        inserted += loaded.rows_stored - loaded.rows_updated - loaded.rows_unchanged;
    }
    assert_eq!((inserted, count(engine).await?), (100, 101));
    let whole = format!("SELECT COUNT(*) FROM {TABLE} WHERE note = CONCAT('by ', FLOOR(amount)) AND id < 1000");
    assert_eq!(engine.rows(&whole).await?, rows(&[["100"]]));
    assert_eq!(states(engine).await?, ["loaded"; 9]);
    Ok(())
}

/// A merge that fails or is dropped, also after it is finalized, changes nothing and does not block later loads.
pub(crate) async fn unfinished_merge_changes_nothing<E: Engine>(engine: &E) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = engine.destination_with(merge(&["id"]), staging_above);
        let first = orders(&[["1", "1.25", "one"]]);
        expect_loaded(load(&destination, &claim(&format!("first {size}.csv")), &first).await?)?;
        let (claim, file) = (claim_of_size("a.csv", size), File::orders(3000));
        let schema = file.schema();

        let mut open_load = open(&destination, &claim, &schema).await?;
        let error = write(&mut *open_load, file.broken_stream()).await.err().context("the load succeeded")?;
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        let finalized = open_load.finalize(claim.body(), RowCounts::inserted(3000)).await;
        ensure!(finalized.is_err(), "a failed load was finalized");

        let mut open_load = open(&destination, &claim, &schema).await?;
        write(&mut *open_load, file.stream()).await?;
        drop(open_load);
        wait_for_rollback(&destination, &claim).await?;

        let ready = prepare(&destination, &claim, &file).await?;
        assert_eq!(ready.counts(), merged(3000, 3000, u64::from(E::COUNTS_BEFORE_COMMIT), 0));
        drop(ready);
        wait_for_rollback(&destination, &claim).await?;
        assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"]]));
        // A dropped load leaves its committed chunks in a staging table.
        destination.drop_stale_staging(Duration::ZERO, &[]).await?;

        assert_eq!(expect_loaded(load(&destination, &claim, &file).await?)?, merged(3000, 3000, 1, 0));
        assert_eq!(count(engine).await?, 3000);
        assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A file without rows, or without columns, changes nothing and is loaded.
pub(crate) async fn empty_files_merge(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with(merge(&["id"]), None);
    expect_loaded(load(&destination, &claim("a.csv"), &orders(&[["1", "1.25", "one"]])).await?)?;
    assert_eq!(
        expect_loaded(load(&destination, &claim("header.csv"), &File::new(&["id", "note"], &[])).await?)?,
        RowCounts::default()
    );
    assert_eq!(
        expect_loaded(load(&destination, &claim("nothing.csv"), &File::new(&[], &[])).await?)?,
        RowCounts::default()
    );
    assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"]]));
    Ok(())
}

/// Equal values of every type, and NULL, count as unchanged. Texts that differ only in case or spaces do not.
pub(crate) async fn every_type_merges_as_unchanged(engine: &impl Engine) -> Result<()> {
    let names = ["id", "flag", "whole", "precise", "number", "day_", "moment", "instant_", "json_", "words"];
    let full = |words: &str| -> Vec<Option<String>> {
        let fields = [
            "1",
            "true",
            "-9223372036854775808",
            "-1234567890123456.123456789012345678",
            "1e300",
            "2024-02-29",
            "2024-01-02 03:04:05.123456",
            "2024-01-02T03:04:05+02:00",
            "{\"a\": [1, \"x\"]}",
            words,
        ];
        fields.iter().map(|field| Some((*field).to_owned())).collect()
    };
    let file = |words: &str| {
        let gaps = std::iter::once(Some("2".to_owned())).chain(vec![None; 9]).collect();
        File::large(&names, vec![full(words), gaps], 10)
    };
    let destination = engine.destination_with(merge(&["id"]), None);
    assert_eq!(expect_loaded(load(&destination, &claim("a.csv"), &file("Straße ")).await?)?, merged(2, 2, 0, 0));
    assert_eq!(expect_loaded(load(&destination, &claim("b.csv"), &file("Straße ")).await?)?, merged(2, 2, 0, 2));
    for (key, words) in [("c.csv", "straße "), ("d.csv", "straße"), ("e.csv", "")] {
        assert_eq!(expect_loaded(load(&destination, &claim(key), &file(words)).await?)?, merged(2, 2, 1, 1), "{key}");
    }
    Ok(())
}

/// A claim on a source that was written this number of minutes after noon.
fn claim_at(key: &str, minutes: i64, size: u64) -> Claim {
    let mut claim = claim_of_size(key, size);
    let last_modified = claim.source.last_modified + jiff::SignedDuration::from_mins(minutes);
    let source = &mut claim.file.source;
    *source = ObjectVersion::new(source.object.clone(), source.etag.clone(), size, last_modified, None);
    claim
}

/// A file whose rows contain its version.
fn version(version: &str, count: usize) -> File {
    let row = |id: usize| vec![Some(id.to_string()), Some("1.25".to_owned()), Some(version.to_owned())];
    File::large(&["id", "amount", "note"], (0..count).map(row).collect(), 100)
}

/// The versions in the table, with their numbers of rows.
async fn versions(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT note, COUNT(*) FROM {TABLE} GROUP BY note ORDER BY note")).await
}

/// A file replaces all rows of the table. A header alone deletes all rows, and a file without columns changes nothing.
pub(crate) async fn file_replaces_the_table(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let destination = engine.destination_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{key} {size}"), minutes + size as i64, size);
        assert_eq!(
            expect_loaded(load(&destination, &claim("a.csv", 0), &version("a", 300)).await?)?,
            RowCounts::inserted(300)
        );
        assert_eq!(
            expect_loaded(load(&destination, &claim("b.csv", 1), &version("b", 200)).await?)?,
            RowCounts::inserted(200)
        );
        assert_eq!(versions(engine).await?, rows(&[["b", "200"]]));
        let again = expect_already_loaded(load(&destination, &claim("a.csv", 0), &version("a", 300)).await?)?;
        assert_eq!((again.state, again.rows_stored), (LedgerState::Loaded, 300));
        expect_loaded(load(&destination, &claim("nothing.csv", 2), &File::new(&[], &[])).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["b", "200"]]));
        expect_loaded(load(&destination, &claim("header.csv", 3), &File::new(&["id", "amount", "note"], &[])).await?)?;
        assert_eq!(count(engine).await?, 0);
        // Equal content may replace the table again.
        expect_loaded(load(&destination, &claim("c.csv", 4), &version("a", 300)).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["a", "300"]]));
        let current = engine.rows("SELECT object_key FROM spillway_ledger WHERE current_of IS NOT NULL").await?;
        assert_eq!(current, rows(&[[format!("c.csv {size}").as_str()]]));
        assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A reader sees all old rows until COMMIT and all new rows afterwards.
pub(crate) async fn reader_sees_old_rows_or_new_rows(engine: &impl Engine) -> Result<()> {
    const REPLACES: usize = 8;
    let size_of = |round: usize| 200 + 10 * round;
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let destination = engine.destination_with(LoadMode::Replace, staging_above);
        let name = |round: usize| format!("v{round}");
        let seen = |round: usize| rows(&[[name(round).as_str(), size_of(round).to_string().as_str()]]);
        let claim = |round: usize| claim_at(&format!("{round} {size}.csv"), round as i64 + size as i64, size);
        expect_loaded(load(&destination, &claim(0), &version(&name(0), size_of(0))).await?)?;
        let is_done = AtomicBool::new(false);
        let replacing = async {
            for round in 1..=REPLACES {
                let (claim, file) = (claim(round), version(&name(round), size_of(round)));
                let schema = file.schema();
                let mut open_load = open(&destination, &claim, &schema).await?;
                let loaded = write(&mut *open_load, file.stream()).await?;
                assert_eq!(versions(engine).await?, seen(round - 1), "written, but not committed");
                let ready = open_load.finalize(claim.body(), loaded).await?;
                assert_eq!(versions(engine).await?, seen(round - 1), "finalized, but not committed");
                assert_eq!(ready.counts(), RowCounts::inserted(size_of(round) as u64));
                ensure!(matches!(ready.commit().await, CommitResult::Committed), "not committed");
                assert_eq!(versions(engine).await?, seen(round), "committed");
            }
            is_done.store(true, Ordering::SeqCst);
            anyhow::Ok(())
        };
        let reading = async {
            let mut reads = 0;
            let mut rounds = BTreeSet::new();
            while !is_done.load(Ordering::SeqCst) {
                let now = versions(engine).await?;
                let round = (0..=REPLACES).find(|round| now == seen(*round)).with_context(|| format!("saw {now:?}"))?;
                rounds.insert(round);
                reads += 1;
            }
            anyhow::Ok((reads, rounds))
        };
        let (replaced, read) = tokio::join!(replacing, reading);
        replaced?;
        let (reads, rounds) = read?;
        ensure!(
            reads > REPLACES && rounds.len() > REPLACES / 2,
            "the reader ran too rarely: {reads} reads of {rounds:?}"
        );
    }
    Ok(())
}

/// A file that is older than the one in the table does not replace it, and is recorded as superseded.
pub(crate) async fn older_file_does_not_replace_newer_one(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let destination = engine.destination_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{size} {key}"), minutes + size as i64, size);
        expect_loaded(load(&destination, &claim("b.csv", 10), &version("b", 5)).await?)?;
        for older in [claim("z.csv", 9), claim("a.csv", 10)] {
            // A staged load fails with a conflict, and the next attempt finds the ledger entry.
            let end = match load(&destination, &older, &version("old", 7)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    load(&destination, &older, &version("old", 7)).await?
                }
                end => end?,
            };
            assert_eq!(expect_already_loaded(end)?.state, LedgerState::Superseded);
            let entry = destination.look_up(&older.source.id).await?.context("no entry")?;
            ensure!(entry.state.needs_no_load(), "{entry:?} would be loaded again, or fall back");
            assert_eq!(versions(engine).await?, rows(&[["b", "5"]]));
        }
        expect_loaded(load(&destination, &claim("c.csv", 10), &version("c", 6)).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["c", "6"]]));
        assert_eq!(destination.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// Loads a file, and retries after conflicts.
async fn load_after_conflicts(destination: &TestDestination, claim: &Claim, file: &File) -> Result<LoadResult> {
    for _ in 0..ATTEMPTS {
        match load(destination, claim, file).await {
            Ok(result) => return Ok(result),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => bail!("{error}"),
        }
    }
    bail!("{ATTEMPTS} attempts ended with a conflict")
}

/// After eight concurrent replaces the table contains all rows of the newest file, and no others.
pub(crate) async fn eight_concurrent_replaces_leave_the_newest(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with(LoadMode::Replace, None);
    expect_loaded(
        load(&destination, &claim_at("first.csv", 0, 100), &File::new(&["id", "amount", "note"], &[])).await?,
    )?;
    let ends = join_all((1..=8).map(async |worker: i64| {
        let (claim, file) = (claim_at(&format!("{worker}.csv"), worker, 100), version(&format!("v{worker}"), 50));
        load_after_conflicts(&destination, &claim, &file).await
    }))
    .await;
    ends.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(versions(engine).await?, rows(&[["v8", "50"]]));
    Ok(())
}

/// While a first replace of a table is open, a second one conflicts.
pub(crate) async fn concurrent_replaces_conflict(engine: &impl Engine) -> Result<()> {
    let destination = engine.destination_with(LoadMode::Replace, None);
    let (one, other) = (version("one", 5), version("other", 5));
    let schema = one.schema();
    let claim = claim_at("one.csv", 1, 100);
    let mut first = open(&destination, &claim, &schema).await?;
    let loaded = write(&mut *first, one.stream()).await?;
    let second = load(&destination, &claim_at("other.csv", 2, 100), &other).await;
    assert_eq!(second.err().context("both files replaced the table")?.kind(), ErrorKind::Conflict);
    let ready = first.finalize(claim.body(), loaded).await?;
    ensure!(matches!(ready.commit().await, CommitResult::Committed), "not committed");
    expect_loaded(load(&destination, &claim_at("other.csv", 2, 100), &other).await?)?;
    assert_eq!(versions(engine).await?, rows(&[["other", "5"]]));
    Ok(())
}

/// A replace that fails or is dropped, also after it is finalized, keeps the old rows.
pub(crate) async fn unfinished_replace_keeps_old_rows(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let destination = engine.destination_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{size} {key}"), minutes + size as i64, size);
        expect_loaded(load(&destination, &claim("old.csv", 0), &version("old", 5)).await?)?;
        let (claim, file) = (claim("new.csv", 1), version("new", 3000));
        let schema = file.schema();

        let mut open_load = open(&destination, &claim, &schema).await?;
        let error = write(&mut *open_load, file.broken_stream()).await.err().context("the load succeeded")?;
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));

        let mut open_load = open(&destination, &claim, &schema).await?;
        write(&mut *open_load, file.stream()).await?;
        drop(open_load);
        wait_for_rollback(&destination, &claim).await?;
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));

        drop(prepare(&destination, &claim, &file).await?);
        wait_for_rollback(&destination, &claim).await?;
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));
        destination.drop_stale_staging(Duration::ZERO, &[]).await?;

        expect_loaded(load(&destination, &claim, &file).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["new", "3000"]]));
    }
    Ok(())
}

/// A ledger of an older version gets its missing columns, also from eight workers at once, and keeps its entries. The claim
/// on a table stays unique.
pub(crate) async fn ledger_of_older_version_gets_new_columns(engine: &impl Engine) -> Result<()> {
    const ADDED: [&str; 5] = ["load_mode", "rows_updated", "rows_unchanged", "current_of", "source_modified_at"];
    let old = claim("old.csv");
    expect_loaded(load(&engine.destination(), &old, &version("old", 5)).await?)?;
    for (round, missing) in [&ADDED[..], &ADDED[3..4], &[]].into_iter().enumerate() {
        for column in missing {
            execute(engine, &format!("ALTER TABLE spillway_ledger DROP COLUMN {column}")).await?;
        }
        // A connection looks for the ledger once.
        let destination = engine.destination_with(LoadMode::Replace, None);
        let ends = join_all((0..8).map(async |worker: i64| {
            let minute = round as i64 * 10 + worker;
            let (claim, file) = (claim_at(&format!("{minute:03}.csv"), minute, 100), version(&format!("v{minute}"), 3));
            load_after_conflicts(&destination, &claim, &file).await
        }))
        .await;
        ends.into_iter().collect::<Result<Vec<_>>>()?;
        let newest = round * 10 + 7;
        assert_eq!(versions(engine).await?, rows(&[[format!("v{newest}").as_str(), "3"]]));
        let current = engine.rows("SELECT object_key FROM spillway_ledger WHERE current_of IS NOT NULL").await?;
        assert_eq!(current, rows(&[[format!("{newest:03}.csv").as_str()]]));
        let second = execute(engine, "UPDATE spillway_ledger SET current_of = 'orders'").await;
        ensure!(second.is_err(), "round {round}: two sources can claim one table");
    }
    let destination = engine.destination_with(LoadMode::Replace, None);
    assert_eq!(expect_already_loaded(load(&destination, &old, &version("old", 5)).await?)?.rows_stored, 5);
    Ok(())
}
