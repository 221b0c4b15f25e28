//! What is special about replacing and merging in Redshift: no key is enforced, and the rows are merged at COMMIT.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use spillway_core::destination::{CommitResult, LedgerState, LoadMode, RowCounts};
use spillway_core::error::{ErrorKind, chain};
use spillway_core::object::ObjectVersion;
use spillway_test_env::database::Rows;

use crate::engines::conformance::{
    Claim, Engine, File, TABLE, claim, count, expect_already_loaded, expect_loaded, load, load_error, prepare,
};
use crate::engines::redshift::Redshift;

fn merge(key: &[&str]) -> LoadMode {
    LoadMode::Merge { key: key.iter().map(|name| (*name).to_owned()).collect() }
}

fn merged(rows_parsed: u64, rows_stored: u64, rows_updated: u64, rows_unchanged: u64) -> RowCounts {
    RowCounts { rows_parsed, rows_stored, rows_updated, rows_unchanged, ..RowCounts::default() }
}

/// A claim on a source that was written this number of minutes after noon.
fn claim_at(key: &str, minutes: i64) -> Claim {
    let mut claim = claim(key);
    let last_modified = claim.source.last_modified + jiff::SignedDuration::from_mins(minutes);
    let source = &mut claim.file.source;
    *source = ObjectVersion::new(source.object.clone(), source.etag.clone(), 100, last_modified, None);
    claim
}

fn rows<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter().map(|row| row.iter().map(|field| Some((*field).to_owned())).collect()).collect()
}

/// A file with a code and a number.
fn codes(rows: &[[&str; 2]]) -> File {
    File::large(&["code", "n"], self::rows(rows), 2)
}

/// Of two replaces that have read the same table, the second to commit is rolled back, and then replaces the rows of the first.
#[tokio::test]
async fn overtaken_replace_is_a_conflict() -> Result<()> {
    let engine = Redshift::new().await?;
    let destination = engine.destination_with(LoadMode::Replace, None);
    for minutes in [0, 10] {
        let (old, new) =
            (claim_at(&format!("old {minutes}"), minutes), claim_at(&format!("new {minutes}"), minutes + 1));
        let overtaken = prepare(&destination, &new, &File::orders(7)).await?;
        expect_loaded(load(&destination, &old, &File::orders(5)).await?)?;
        let CommitResult::NotCommitted(error) = overtaken.commit().await else { bail!("it was committed") };
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error));
        assert_eq!(count(&engine).await?, 5);
        expect_loaded(load(&destination, &new, &File::orders(7)).await?)?;
        assert_eq!(count(&engine).await?, 7);
    }
    engine.ensure_no_copies().await
}

/// An older file whose rows are written before the newer one is committed does not replace it.
#[tokio::test]
async fn older_file_that_commits_late_does_not_replace() -> Result<()> {
    let engine = Redshift::new().await?;
    let destination = engine.destination_with(LoadMode::Replace, None);
    let older = claim_at("older", 1);
    let late = prepare(&destination, &older, &File::orders(9)).await?;
    expect_loaded(load(&destination, &claim_at("newer", 2), &File::orders(4)).await?)?;
    ensure!(matches!(late.commit().await, CommitResult::NotCommitted(_)), "the older file has replaced the newer one");
    let end = expect_already_loaded(load(&destination, &older, &File::orders(9)).await?)?;
    assert_eq!((end.state, count(&engine).await?), (LedgerState::Superseded, 4));
    engine.ensure_no_copies().await
}

/// Six loads of one source are written before the first transaction runs. One of them is committed, in each load mode.
#[tokio::test]
async fn six_transactions_of_one_source_commit_once() -> Result<()> {
    for mode in [LoadMode::Append, LoadMode::Replace, merge(&["id"])] {
        let engine = Redshift::new().await?;
        let (destination, claim, file) = (engine.destination_with(mode, None), claim("race.csv"), File::orders(200));
        engine.api.hold_loads(true);
        let mut commits = Vec::new();
        for _ in 0..6 {
            commits.push(tokio::spawn(prepare(&destination, &claim, &file).await?.commit()));
        }
        while engine.api.loads() < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        engine.api.hold_loads(false);
        let mut committed = 0;
        for commit in commits {
            match commit.await? {
                CommitResult::Committed | CommitResult::Merged(_) => committed += 1,
                CommitResult::NotCommitted(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{}", chain(&error)),
                CommitResult::Unknown(error) => bail!("unknown: {error}"),
            }
        }
        assert_eq!((committed, count(&engine).await?), (1, 200));
        engine.ensure_no_copies().await?;
    }
    Ok(())
}

/// A table with a key twice is refused when a file has this key, and it is not changed. Other keys are merged.
#[tokio::test]
async fn key_that_the_table_has_twice_is_refused() -> Result<()> {
    let engine = Redshift::new().await?;
    engine.rows(&format!("CREATE TABLE {TABLE} (code VARCHAR(20), n BIGINT)")).await?;
    engine.rows(&format!("INSERT INTO {TABLE} VALUES ('a', 1), ('a', 2), ('b', 3)")).await?;
    let destination = engine.destination_with(merge(&["code"]), None);
    let error = load_error(&destination, &claim("twice.csv"), &codes(&[["b", "4"], ["a", "5"]])).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{error}");
    ensure!(error.to_string().contains("MERGE_KEY") && error.to_string().contains(TABLE), "{error}");
    let query = format!("SELECT code, n FROM {TABLE} ORDER BY n");
    assert_eq!(engine.rows(&query).await?, rows(&[["a", "1"], ["a", "2"], ["b", "3"]]));
    let counts = expect_loaded(load(&destination, &claim("once.csv"), &codes(&[["b", "9"], ["c", "7"]])).await?)?;
    assert_eq!(counts, merged(2, 2, 1, 0));
    assert_eq!(engine.rows(&query).await?, rows(&[["a", "1"], ["a", "2"], ["c", "7"], ["b", "9"]]));
    engine.ensure_no_copies().await
}

/// The key is that of the setting, or the declared primary key. Without either nothing is changed.
#[tokio::test]
async fn key_needs_no_index() -> Result<()> {
    let engine = Redshift::new().await?;
    let file = codes(&[["a", "1"]]);
    let own_key = engine.destination_with(merge(&[]), None);
    let error = load_error(&own_key, &claim("new.csv"), &file).await?;
    ensure!(error.kind() == ErrorKind::TableMismatch && error.to_string().contains("MERGE_KEY"), "{error}");
    engine.rows(&format!("CREATE TABLE {TABLE} (code VARCHAR(20), n BIGINT)")).await?;
    let error = load_error(&own_key, &claim("none.csv"), &file).await?;
    ensure!(error.kind() == ErrorKind::TableMismatch && error.to_string().contains("MERGE_KEY"), "{error}");
    let error = load_error(&engine.destination_with(merge(&["day"]), None), &claim("day.csv"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("day")));
    assert_eq!(count(&engine).await?, 0);
    expect_loaded(load(&engine.destination_with(merge(&["CODE"]), None), &claim("named.csv"), &file).await?)?;
    engine.rows(&format!("ALTER TABLE {TABLE} ADD PRIMARY KEY (code)")).await?;
    let counts = expect_loaded(load(&own_key, &claim("declared.csv"), &codes(&[["a", "2"]])).await?)?;
    assert_eq!((counts, count(&engine).await?), (merged(1, 1, 1, 0), 1));
    engine.ensure_no_copies().await
}

/// The spaces that fill a `CHAR(n)` mean nothing, and those at the end of a `VARCHAR(n)` are a part of the value.
#[tokio::test]
async fn spaces_at_the_end_count_in_varchar_only() -> Result<()> {
    let engine = Redshift::new().await?;
    engine.rows(&format!("CREATE TABLE {TABLE} (code CHAR(4), n VARCHAR(9))")).await?;
    let destination = engine.destination_with(merge(&["code"]), None);
    for (key, file, expected) in [
        ("a.csv", codes(&[["a", "x"], ["a", "y"]]), merged(2, 1, 0, 0)),
        ("b.csv", codes(&[["a", "y"]]), merged(1, 1, 0, 1)),
        ("c.csv", codes(&[["a", "y "]]), merged(1, 1, 1, 0)),
    ] {
        assert_eq!(expect_loaded(load(&destination, &claim(key), &file).await?)?, expected, "{key}");
    }
    assert_eq!(engine.rows(&format!("SELECT n FROM {TABLE}")).await?, rows(&[["y "]]));
    engine.ensure_no_copies().await
}

/// A lost call is repeated with its token and merges once. If the counts cannot be read, the ledger decides.
#[tokio::test]
async fn lost_responses_merge_once() -> Result<()> {
    let engine = Redshift::new().await?;
    let destination = engine.destination_with(merge(&["id"]), None);
    expect_loaded(load(&destination, &claim("first.csv"), &File::orders(10)).await?)?;
    engine.api.lose_responses(6);
    let counts = expect_loaded(load(&destination, &claim("lost.csv"), &File::orders(30)).await?)?;
    assert_eq!((counts, count(&engine).await?), (merged(30, 30, 0, 10), 30));
    engine.api.lose_results(6);
    let claim = claim("uncounted.csv");
    let ready = prepare(&destination, &claim, &File::orders(40)).await?;
    let CommitResult::Unknown(error) = ready.commit().await else { bail!("the counts were read") };
    engine.api.lose_results(0);
    let entry = destination.look_up(&claim.source.id).await?.with_context(|| format!("no entry: {error}"))?;
    assert_eq!((entry.state, entry.rows_stored, count(&engine).await?), (LedgerState::Loaded, 40, 40));
    engine.ensure_no_copies().await
}

/// The other load modes are refused before anything is read or written.
#[tokio::test]
async fn other_load_modes_are_refused() -> Result<()> {
    let engine = Redshift::new().await?;
    let mirror =
        spillway_core::destination::Mirror { key: vec!["id".into()], scope: Vec::new(), max_deletes_percent: 10 };
    let destination = engine.destination_with(LoadMode::Mirror(mirror), None);
    let error = load_error(&destination, &claim("a.csv"), &File::orders(1)).await?;
    assert_eq!(error.kind(), ErrorKind::Settings, "{error}");
    engine.ensure_no_copies().await
}
