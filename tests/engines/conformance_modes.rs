//! What every target keeps in the load modes beside append, whatever the engine: more of the conformance list.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use spillway_core::destination::LoadMode;
use spillway_core::destination::{CommitResult, LedgerState, RowCounts};
use spillway_core::error::ErrorKind;
use spillway_core::object::ObjectVersion;

use crate::engines::conformance::{
    Claim, Claimed, Engine, File, TABLE, Target, claim, claim_of_size, count, ended, load, open, ours, states,
    until_rolled_back, write,
};

/// A file of this size is staged by a target that stages above [`STAGING_ABOVE`].
const LARGE: u64 = 100_000;
const STAGING_ABOVE: Option<u64> = Some(1000);
/// A merge that conflicts with others is tried this often: each time one of them goes ahead.
const TRIES: u32 = 40;

type Rows = Vec<Vec<Option<String>>>;

/// Calls a macro with this module's name and the name of every promise in it that every engine keeps.
macro_rules! for_each_promise {
    ($callback:ident) => {
        $callback!(conformance_modes:
            a_file_replaces_the_table,
            a_merge_inserts_and_updates,
            a_merge_leaves_other_columns_alone,
            a_merge_that_does_not_end_changes_nothing,
            a_merge_without_a_key_is_refused,
            a_missing_key_is_refused,
            a_reader_sees_the_old_rows_or_the_new,
            a_replace_that_does_not_end_leaves_the_old_rows,
            a_table_is_replaced_by_one_at_a_time,
            an_older_file_does_not_replace_a_newer_one,
            an_older_ledger_gets_its_columns,
            another_unique_index_never_picks_the_row,
            eight_claims_merge_once,
            eight_merges_of_the_same_keys_go_together,
            eight_replaces_at_once_leave_the_newest,
            empty_files_are_merged,
            every_type_is_found_unchanged,
            keys_of_a_new_table_are_exact,
            of_rows_with_one_key_the_last_counts,
        );
    };
}
pub(crate) use for_each_promise;

/// A merge by these columns; without any, by the table's primary key.
fn merge(key: &[&str]) -> LoadMode {
    LoadMode::Merge { key: key.iter().map(|name| (*name).to_owned()).collect() }
}

fn rows<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter()
        .map(|row| row.iter().map(|field| Some((*field).to_owned()).filter(|text| text != "NULL")).collect())
        .collect()
}

/// A file of an id, an amount and a note; `NULL` is no value.
fn orders(rows: &[[&str; 3]]) -> File {
    File::large(&["id", "amount", "note"], self::rows(rows), 2)
}

async fn table(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT id, amount, note FROM {TABLE} ORDER BY id")).await
}

async fn execute(engine: &impl Engine, statement: &str) -> Result<()> {
    engine.rows(statement).await.map(|_| ())
}

async fn rejection(target: &Target, key: &str, file: &File) -> Result<spillway_core::error::Error> {
    load(target, &claim(key), file).await.err().context("loaded")
}

/// What a merge of `rows_parsed` rows came to.
fn merged(rows_parsed: u64, rows_stored: u64, rows_updated: u64, rows_unchanged: u64) -> RowCounts {
    RowCounts { rows_parsed, rows_stored, rows_updated, rows_unchanged, rows_rejected: 0 }
}

/// New rows are inserted, changed ones updated, equal ones left alone, and each is counted; a table made for the merge
/// has its key. The same file again changes nothing.
pub(crate) async fn a_merge_inserts_and_updates(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let target = engine.target_with(merge(&["ID"]), staging_above);
        let claim = |key: &str| claim_of_size(&format!("{key} {size}"), size);
        let first = orders(&[["1", "1.25", "one"], ["2", "2.25", "two"], ["3", "3.25", "NULL"], ["4", "4.25", "four"]]);
        assert_eq!(ours(load(&target, &claim("a.csv"), &first).await?)?, merged(4, 4, 0, 0));
        assert_eq!(ours(load(&target, &claim("again.csv"), &first).await?)?, merged(4, 4, 0, 4));

        let changes =
            orders(&[["5", "5.25", "five"], ["2", "2.25", "TWO"], ["3", "3.25", "NULL"], ["4", "4.25", "NULL"]]);
        assert_eq!(ours(load(&target, &claim("b.csv"), &changes).await?)?, merged(4, 4, 2, 1));
        let expected = rows(&[
            ["1", "1.25", "one"],
            ["2", "2.25", "TWO"],
            ["3", "3.25", "NULL"],
            ["4", "4.25", "NULL"],
            ["5", "5.25", "five"],
        ]);
        assert_eq!(table(engine).await?, expected);
        assert_eq!(ours(load(&target, &claim("c.csv"), &changes).await?)?, merged(4, 4, 0, 4));
        let entry = ended(load(&target, &claim("b.csv"), &changes).await?)?;
        assert_eq!((entry.state, entry.rows_parsed, entry.rows_stored), (LedgerState::Loaded, 4, 4));
        assert_eq!(table(engine).await?, expected);
    }
    let counts = "SELECT load_mode, rows_parsed, rows_stored, rows_updated, rows_unchanged FROM spillway_ledger \
                  WHERE object_key = 'b.csv 100'";
    assert_eq!(engine.rows(counts).await?, rows(&[["merge", "4", "4", "2", "1"]]));
    Ok(())
}

/// Without a key that a unique index guards nothing is merged, made or changed, and the refusal says what to do.
pub(crate) async fn a_merge_without_a_key_is_refused(engine: &impl Engine) -> Result<()> {
    let file = orders(&[["1", "1.25", "one"]]);
    let own_key = engine.target_with(merge(&[]), None);
    let by_note = engine.target_with(merge(&["note"]), None);
    let error = rejection(&own_key, "new.csv", &file).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    ensure!(error.to_string().contains("MERGE_KEY"), "{error}");
    ensure!(engine.rows(&format!("SELECT * FROM {TABLE}")).await.is_err(), "a table was made");

    execute(engine, &format!("CREATE TABLE {TABLE} (id BIGINT, amount DECIMAL(18,2), note VARCHAR(50))")).await?;
    for target in [&own_key, &by_note] {
        assert_eq!(rejection(target, "no-index.csv", &file).await?.kind(), ErrorKind::TableMismatch);
    }
    execute(engine, &format!("CREATE UNIQUE INDEX more ON {TABLE} (note, id)")).await?;
    assert_eq!(rejection(&by_note, "another-index.csv", &file).await?.kind(), ErrorKind::TableMismatch);
    let error =
        rejection(&engine.target_with(merge(&["id", "note"]), None), "no-note.csv", &File::new(&["id"], &[])).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("note")));
    assert_eq!(count(engine).await?, 0);
    ours(load(&engine.target_with(merge(&["id", "note"]), None), &claim("fits.csv"), &file).await?)?;
    assert_eq!(count(engine).await?, 1);
    Ok(())
}

/// A row without a value in its key is refused with its record and column.
pub(crate) async fn a_missing_key_is_refused(engine: &impl Engine) -> Result<()> {
    let ddl = format!("CREATE TABLE {TABLE} (id BIGINT, amount DECIMAL(18,2), note VARCHAR(50), UNIQUE (id))");
    execute(engine, &ddl).await?;
    let file = orders(&[["1", "1.25", "one"], ["2", "2.25", "two"], ["NULL", "3.25", "three"]]);
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let target = engine.target_with(merge(&["id"]), staging_above);
        let error = load(&target, &claim_of_size("a.csv", size), &file).await.err().context("loaded")?;
        let found = (error.kind(), error.position().map(|at| at.record), error.column());
        assert_eq!(found, (ErrorKind::DataRefused, Some(3), Some("id")));
        assert_eq!(count(engine).await?, 0);
    }
    Ok(())
}

/// Of the rows of one file with the same key the last one is stored, however the rows are cut into batches, statements and
/// chunks; the others are counted as superseded.
pub(crate) async fn of_rows_with_one_key_the_last_counts(engine: &impl Engine) -> Result<()> {
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
            let target = engine.target_with(merge(&["id"]), staging_above);
            let file = File::large(&["id", "amount", "note"], all.clone(), batch_rows);
            let loaded = ours(load(&target, &claim_of_size(&format!("{round}.csv"), size), &file).await?)?;
            let is_first = round == 0 && staging_above.is_none();
            assert_eq!(loaded, merged(ROWS, stored, 0, if is_first { 0 } else { stored }));
            assert_eq!(engine.rows(&format!("SELECT id, amount FROM {TABLE} ORDER BY id")).await?, expected);
        }
    }
    Ok(())
}

/// Keys that only look alike are two: letter case, blanks at the end.
pub(crate) async fn keys_of_a_new_table_are_exact(engine: &impl Engine) -> Result<()> {
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
    let target = engine.target_with(merge(&["code"]), None);
    assert_eq!(ours(load(&target, &claim("a.csv"), &file).await?)?, merged(5, 4, 0, 0));
    assert_eq!(ours(load(&target, &claim("b.csv"), &file).await?)?, merged(5, 4, 0, 4));
    let stored = engine.rows(&format!("SELECT n FROM {TABLE} ORDER BY n")).await?;
    assert_eq!(stored, rows(&[["2"], ["3"], ["4"], ["5"]]));
    Ok(())
}

/// A clash in a unique index that is not the key refuses the file: it never makes the merge update that other row.
pub(crate) async fn another_unique_index_never_picks_the_row(engine: &impl Engine) -> Result<()> {
    let ddl =
        format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, amount DECIMAL(18,2), note VARCHAR(50), UNIQUE (note))");
    execute(engine, &ddl).await?;
    execute(engine, &format!("INSERT INTO {TABLE} VALUES (1, 1.25, 'one'), (2, 2.25, 'two')")).await?;
    let target = engine.target_with(merge(&[]), None);
    for (key, row) in [("insert.csv", ["3", "9.25", "one"]), ("update.csv", ["2", "9.25", "one"])] {
        let error = rejection(&target, key, &orders(&[["1", "7.25", "one"], row])).await?;
        assert_eq!(error.kind(), ErrorKind::DataRefused, "{key}: {error}");
        assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"], ["2", "2.25", "two"]]));
    }
    let loaded =
        ours(load(&target, &claim("good.csv"), &orders(&[["1", "7.25", "one"], ["3", "3.25", "three"]])).await?)?;
    assert_eq!(loaded, merged(2, 2, 1, 0));
    Ok(())
}

/// Only the file's columns are updated; the others keep what they have, and get their defaults in new rows.
pub(crate) async fn a_merge_leaves_other_columns_alone(engine: &impl Engine) -> Result<()> {
    let ddl = format!(
        "CREATE TABLE {TABLE} (kind VARCHAR(9) NOT NULL DEFAULT 'new', note VARCHAR(50), id BIGINT PRIMARY KEY)"
    );
    execute(engine, &ddl).await?;
    execute(engine, &format!("INSERT INTO {TABLE} (kind, note, id) VALUES ('old', 'one', 1)")).await?;
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("ONE")], &[Some("2"), None]]);
    let target = engine.target_with(merge(&[]), None);
    assert_eq!(ours(load(&target, &claim("a.csv"), &file).await?)?, merged(2, 2, 1, 0));
    let keys_alone = File::new(&["id"], &[&[Some("2")], &[Some("3")]]);
    assert_eq!(ours(load(&target, &claim("b.csv"), &keys_alone).await?)?, merged(2, 2, 0, 1));
    let stored = engine.rows(&format!("SELECT id, kind, note FROM {TABLE} ORDER BY id")).await?;
    assert_eq!(stored, rows(&[["1", "old", "ONE"], ["2", "new", "NULL"], ["3", "new", "NULL"]]));
    Ok(())
}

/// Eight workers that merge one source at once: one does, the others conflict or find it done.
pub(crate) async fn eight_claims_merge_once(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let (target, file) = (engine.target_with(merge(&["id"]), staging_above), File::orders(300));
        let claim = claim_of_size("race.csv", size);
        let mut stored = 0;
        for end in join_all((0..8).map(|_| load(&target, &claim, &file))).await {
            match end {
                Ok(Claimed::Ours(_)) => stored += 1,
                Ok(Claimed::Ended(entry)) => assert_eq!(entry.state, LedgerState::Loaded),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!((stored, count(engine).await?), (1, 300));
        assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// Eight files with the same keys, merged at once: a conflict at worst, never a refusal, never a key twice, and every row
/// as one of the files has it.
pub(crate) async fn eight_merges_of_the_same_keys_go_together(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with(merge(&["id"]), None);
    let file = |worker: usize| {
        let row = |id: usize| {
            vec![Some(((id * 37) % 100).to_string()), Some(format!("{worker}.25")), Some(format!("by {worker}"))]
        };
        File::large(&["id", "amount", "note"], (0..100).map(row).collect(), 30)
    };
    // The table is there, empty: what is raced for is the rows.
    load(
        &target,
        &claim("first.csv"),
        &File::new(&["id", "amount", "note"], &[&[Some("1000"), Some("1.25"), Some("x")]]),
    )
    .await?;
    let ends = join_all((0..8).map(async |worker| {
        let (claim, file) = (claim(&format!("{worker}.csv")), file(worker));
        for _ in 0..TRIES {
            match load(&target, &claim, &file).await {
                Ok(claimed) => return ours(claimed),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => bail!("{error}"),
            }
        }
        bail!("{TRIES} conflicts one after the other")
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

/// A merge that breaks off, is dropped or is never settled changes nothing and keeps nobody out.
pub(crate) async fn a_merge_that_does_not_end_changes_nothing(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let target = engine.target_with(merge(&["id"]), staging_above);
        let first = orders(&[["1", "1.25", "one"]]);
        ours(load(&target, &claim(&format!("first {size}.csv")), &first).await?)?;
        let (claim, file) = (claim_of_size("a.csv", size), File::orders(3000));
        let schema = file.schema();

        let mut session = open(&target, &claim, &schema).await?;
        let error = write(&mut *session, file.broken_stream()).await.err().context("loaded")?;
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        let finalized = session.finalize(claim.body(), RowCounts::inserted(3000)).await;
        ensure!(finalized.is_err(), "a failed load was finalized");

        let mut session = open(&target, &claim, &schema).await?;
        write(&mut *session, file.stream()).await?;
        drop(session);
        until_rolled_back(&target, &claim).await?;

        let mut session = open(&target, &claim, &schema).await?;
        let loaded = write(&mut *session, file.stream()).await?;
        let ready = session.finalize(claim.body(), loaded).await?;
        assert_eq!(ready.counts(), merged(3000, 3000, 1, 0));
        drop(ready);
        until_rolled_back(&target, &claim).await?;
        assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"]]));
        // What a dropped session has staged in committed chunks is the sweep's.
        target.drop_stale_staging(Duration::ZERO, &[]).await?;

        assert_eq!(ours(load(&target, &claim, &file).await?)?, merged(3000, 3000, 1, 0));
        assert_eq!(count(engine).await?, 3000);
        assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A file without rows, or without columns, changes nothing and is loaded.
pub(crate) async fn empty_files_are_merged(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with(merge(&["id"]), None);
    ours(load(&target, &claim("a.csv"), &orders(&[["1", "1.25", "one"]])).await?)?;
    assert_eq!(
        ours(load(&target, &claim("header.csv"), &File::new(&["id", "note"], &[])).await?)?,
        RowCounts::default()
    );
    assert_eq!(ours(load(&target, &claim("nothing.csv"), &File::new(&[], &[])).await?)?, RowCounts::default());
    assert_eq!(table(engine).await?, rows(&[["1", "1.25", "one"]]));
    Ok(())
}

/// Values of every type, and none, are found to be the same when they come again, and a text that only its bytes tell
/// apart is not.
pub(crate) async fn every_type_is_found_unchanged(engine: &impl Engine) -> Result<()> {
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
    let target = engine.target_with(merge(&["id"]), None);
    assert_eq!(ours(load(&target, &claim("a.csv"), &file("Straße ")).await?)?, merged(2, 2, 0, 0));
    assert_eq!(ours(load(&target, &claim("b.csv"), &file("Straße ")).await?)?, merged(2, 2, 0, 2));
    for (key, words) in [("c.csv", "straße "), ("d.csv", "straße"), ("e.csv", "")] {
        assert_eq!(ours(load(&target, &claim(key), &file(words)).await?)?, merged(2, 2, 1, 1), "{key}");
    }
    Ok(())
}

/// A claim on a source that was written so many minutes after noon.
fn claim_at(key: &str, minutes: i64, size: u64) -> Claim {
    let mut claim = claim_of_size(key, size);
    let last_modified = claim.source.last_modified + jiff::SignedDuration::from_mins(minutes);
    let source = &mut claim.file.source;
    *source = ObjectVersion::new(source.object.clone(), source.etag.clone(), size, last_modified, None);
    claim
}

/// A file whose every row names its version.
fn version(version: &str, count: usize) -> File {
    let row = |id: usize| vec![Some(id.to_string()), Some("1.25".to_owned()), Some(version.to_owned())];
    File::large(&["id", "amount", "note"], (0..count).map(row).collect(), 100)
}

/// The versions in the table, each with its number of rows.
async fn versions(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT note, COUNT(*) FROM {TABLE} GROUP BY note ORDER BY note")).await
}

/// A file becomes the whole table; a header alone empties it, and a file without columns says nothing about it.
pub(crate) async fn a_file_replaces_the_table(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let target = engine.target_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{key} {size}"), minutes + size as i64, size);
        assert_eq!(ours(load(&target, &claim("a.csv", 0), &version("a", 300)).await?)?, RowCounts::inserted(300));
        assert_eq!(ours(load(&target, &claim("b.csv", 1), &version("b", 200)).await?)?, RowCounts::inserted(200));
        assert_eq!(versions(engine).await?, rows(&[["b", "200"]]));
        let again = ended(load(&target, &claim("a.csv", 0), &version("a", 300)).await?)?;
        assert_eq!((again.state, again.rows_stored), (LedgerState::Loaded, 300));
        ours(load(&target, &claim("nothing.csv", 2), &File::new(&[], &[])).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["b", "200"]]));
        ours(load(&target, &claim("header.csv", 3), &File::new(&["id", "amount", "note"], &[])).await?)?;
        assert_eq!(count(engine).await?, 0);
        // The same bytes may come back: they are another version of the table.
        ours(load(&target, &claim("c.csv", 4), &version("a", 300)).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["a", "300"]]));
        let current = engine.rows("SELECT object_key FROM spillway_ledger WHERE current_of IS NOT NULL").await?;
        assert_eq!(current, rows(&[[format!("c.csv {size}").as_str()]]));
        assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// A reader sees all old rows until COMMIT and all new ones from then on, never none and never both.
pub(crate) async fn a_reader_sees_the_old_rows_or_the_new(engine: &impl Engine) -> Result<()> {
    const REPLACES: usize = 8;
    let size_of = |round: usize| 200 + 10 * round;
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        execute(engine, &format!("DROP TABLE IF EXISTS {TABLE}")).await?;
        let target = engine.target_with(LoadMode::Replace, staging_above);
        let name = |round: usize| format!("v{round}");
        let seen = |round: usize| rows(&[[name(round).as_str(), size_of(round).to_string().as_str()]]);
        let claim = |round: usize| claim_at(&format!("{round} {size}.csv"), round as i64 + size as i64, size);
        ours(load(&target, &claim(0), &version(&name(0), size_of(0))).await?)?;
        let is_done = AtomicBool::new(false);
        let replacing = async {
            for round in 1..=REPLACES {
                let (claim, file) = (claim(round), version(&name(round), size_of(round)));
                let schema = file.schema();
                let mut session = open(&target, &claim, &schema).await?;
                let loaded = write(&mut *session, file.stream()).await?;
                assert_eq!(versions(engine).await?, seen(round - 1), "loaded, not committed");
                let ready = session.finalize(claim.body(), loaded).await?;
                assert_eq!(versions(engine).await?, seen(round - 1), "finalized, not committed");
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
        ensure!(reads > REPLACES && rounds.len() > REPLACES / 2, "the reader hardly ran: {reads} reads of {rounds:?}");
    }
    Ok(())
}

/// A file that is older than the one the table holds does not replace it, whenever it comes; its fate is recorded.
pub(crate) async fn an_older_file_does_not_replace_a_newer_one(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let target = engine.target_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{size} {key}"), minutes + size as i64, size);
        ours(load(&target, &claim("b.csv", 10), &version("b", 5)).await?)?;
        for older in [claim("z.csv", 9), claim("a.csv", 10)] {
            // What was staged for it is given up with a conflict, and the next try finds it ended.
            let end = match load(&target, &older, &version("old", 7)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => load(&target, &older, &version("old", 7)).await?,
                end => end?,
            };
            assert_eq!(ended(end)?.state, LedgerState::Superseded);
            let entry = target.look_up(&older.source.id).await?.context("no entry")?;
            ensure!(entry.state.is_in_target(), "{entry:?} would be loaded again, or fall back");
            assert_eq!(versions(engine).await?, rows(&[["b", "5"]]));
        }
        ours(load(&target, &claim("c.csv", 10), &version("c", 6)).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["c", "6"]]));
        assert_eq!(target.drop_stale_staging(Duration::ZERO, &[]).await?, Vec::<String>::new());
    }
    Ok(())
}

/// Loads a file, after as many conflicts as there may be.
async fn load_after_conflicts(target: &Target, claim: &Claim, file: &File) -> Result<()> {
    for _ in 0..TRIES {
        match load(target, claim, file).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => bail!("{error}"),
        }
    }
    bail!("{TRIES} conflicts one after the other")
}

/// Eight files that replace an empty table at once: in the end it holds the newest, whole and alone.
pub(crate) async fn eight_replaces_at_once_leave_the_newest(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with(LoadMode::Replace, None);
    ours(load(&target, &claim_at("first.csv", 0, 100), &File::new(&["id", "amount", "note"], &[])).await?)?;
    let ends = join_all((1..=8).map(async |worker: i64| {
        let (claim, file) = (claim_at(&format!("{worker}.csv"), worker, 100), version(&format!("v{worker}"), 50));
        load_after_conflicts(&target, &claim, &file).await
    }))
    .await;
    ends.into_iter().collect::<Result<Vec<()>>>()?;
    assert_eq!(versions(engine).await?, rows(&[["v8", "50"]]));
    Ok(())
}

/// Two files that replace a table nobody has replaced before, at once: one of them waits for the other or conflicts.
pub(crate) async fn a_table_is_replaced_by_one_at_a_time(engine: &impl Engine) -> Result<()> {
    let target = engine.target_with(LoadMode::Replace, None);
    let (one, other) = (version("one", 5), version("other", 5));
    let schema = one.schema();
    let claim = claim_at("one.csv", 1, 100);
    let mut first = open(&target, &claim, &schema).await?;
    let loaded = write(&mut *first, one.stream()).await?;
    let second = load(&target, &claim_at("other.csv", 2, 100), &other).await;
    assert_eq!(second.err().context("both replace the table")?.kind(), ErrorKind::Conflict);
    let ready = first.finalize(claim.body(), loaded).await?;
    ensure!(matches!(ready.commit().await, CommitResult::Committed), "not committed");
    ours(load(&target, &claim_at("other.csv", 2, 100), &other).await?)?;
    assert_eq!(versions(engine).await?, rows(&[["other", "5"]]));
    Ok(())
}

/// A replace that breaks off, is dropped or is never settled leaves the old rows.
pub(crate) async fn a_replace_that_does_not_end_leaves_the_old_rows(engine: &impl Engine) -> Result<()> {
    for (staging_above, size) in [(None, 100), (STAGING_ABOVE, LARGE)] {
        let target = engine.target_with(LoadMode::Replace, staging_above);
        let claim = |key: &str, minutes: i64| claim_at(&format!("{size} {key}"), minutes + size as i64, size);
        ours(load(&target, &claim("old.csv", 0), &version("old", 5)).await?)?;
        let (claim, file) = (claim("new.csv", 1), version("new", 3000));
        let schema = file.schema();

        let mut session = open(&target, &claim, &schema).await?;
        let error = write(&mut *session, file.broken_stream()).await.err().context("loaded")?;
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));

        let mut session = open(&target, &claim, &schema).await?;
        write(&mut *session, file.stream()).await?;
        drop(session);
        until_rolled_back(&target, &claim).await?;
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));

        let mut session = open(&target, &claim, &schema).await?;
        let loaded = write(&mut *session, file.stream()).await?;
        drop(session.finalize(claim.body(), loaded).await?);
        until_rolled_back(&target, &claim).await?;
        assert_eq!(versions(engine).await?, rows(&[["old", "5"]]));
        target.drop_stale_staging(Duration::ZERO, &[]).await?;

        ours(load(&target, &claim, &file).await?)?;
        assert_eq!(versions(engine).await?, rows(&[["new", "3000"]]));
    }
    Ok(())
}

/// A ledger of an earlier version gets the columns that it lacks, whichever they are and however many workers see it at once, and
/// keeps what it says; its one claim on a table stays unique.
pub(crate) async fn an_older_ledger_gets_its_columns(engine: &impl Engine) -> Result<()> {
    const ADDED: [&str; 5] = ["load_mode", "rows_updated", "rows_unchanged", "current_of", "source_modified_at"];
    let target = engine.target_with(LoadMode::Replace, None);
    let old = claim("old.csv");
    ours(load(&engine.target(), &old, &version("old", 5)).await?)?;
    for (round, lacking) in [&ADDED[..], &ADDED[3..4], &[]].into_iter().enumerate() {
        for column in lacking {
            execute(engine, &format!("ALTER TABLE spillway_ledger DROP COLUMN {column}")).await?;
        }
        let ends = join_all((0..8).map(async |worker: i64| {
            let place = round as i64 * 10 + worker;
            let (claim, file) = (claim_at(&format!("{place:03}.csv"), place, 100), version(&format!("v{place}"), 3));
            load_after_conflicts(&target, &claim, &file).await
        }))
        .await;
        ends.into_iter().collect::<Result<Vec<()>>>()?;
        let newest = round * 10 + 7;
        assert_eq!(versions(engine).await?, rows(&[[format!("v{newest}").as_str(), "3"]]));
        let current = engine.rows("SELECT object_key FROM spillway_ledger WHERE current_of IS NOT NULL").await?;
        assert_eq!(current, rows(&[[format!("{newest:03}.csv").as_str()]]));
        let second = execute(engine, "UPDATE spillway_ledger SET current_of = 'orders'").await;
        ensure!(second.is_err(), "round {round}: two sources may hold one table");
    }
    assert_eq!(ended(load(&target, &old, &version("old", 5)).await?)?.rows_stored, 5);
    Ok(())
}
