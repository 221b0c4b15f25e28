//! Conformance tests for files of changes (`LOAD_MODE=changes`), which every engine runs.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use spillway_core::destination::{Changes, LoadMode, RowCounts};
use spillway_core::error::ErrorKind;
use spillway_test_env::database::Rows;
use spillway_test_env::run::random_numbers;

use crate::engines::conformance::{
    Engine, File, TABLE, TestDestination, claim_of_size, count, expect_loaded, load, load_error, prepare,
    wait_for_rollback,
};

/// The sizes of the tests' files: with the first, rows are sent in one transaction, with the second through a staging table where the
/// engine has one.
const SIZES: [u64; 2] = [100, 100_000];
const STAGING_ABOVE: u64 = 1000;

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_operations:
            changes_insert_update_and_delete,
            last_change_of_a_key_counts,
            invalid_operation_is_refused,
            unfinished_changes_change_nothing,
            random_changes_are_applied,
        );
    };
}
pub(crate) use for_each_test;

fn destination(engine: &impl Engine) -> TestDestination {
    let changes = Changes { key: vec!["id".to_owned()], operation_column: "op".to_owned() };
    engine.destination_with(LoadMode::Changes(changes), Some(STAGING_ABOVE))
}

fn rows<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter()
        .map(|row| row.iter().map(|field| Some((*field).to_owned()).filter(|text| text != "NULL")).collect())
        .collect()
}

/// A file of changes: id, operation, note. The text `NULL` is a missing value.
fn changes(rows: &[[&str; 3]]) -> File {
    File::large(&["id", "OP", "note"], self::rows(rows), 2)
}

async fn table(engine: &impl Engine) -> Result<Rows> {
    engine.rows(&format!("SELECT id, note FROM {TABLE} ORDER BY id")).await
}

async fn drop_table(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("DROP TABLE IF EXISTS {TABLE}")).await.map(|_| ())
}

/// Rows are inserted, updated and deleted by key, and all are counted. The table has no column for the operations.
pub(crate) async fn changes_insert_update_and_delete(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        drop_table(engine).await?;
        let destination = destination(engine);
        let claim = |key: &str| claim_of_size(&format!("{size} {key}"), size);
        let first = changes(&[["1", "c", "one"], ["2", "r", "two"], ["3", "Insert", "NULL"], ["4", "I", "four"]]);
        assert_eq!(expect_loaded(load(&destination, &claim("a"), &first).await?)?, RowCounts::inserted(4));
        assert_eq!(engine.rows(&format!("SELECT * FROM {TABLE}")).await?[0].len(), 2);
        let second = changes(&[
            ["1", "d", "one"],
            ["2", "update", "TWO"],
            ["3", "u", "NULL"],
            ["5", "u", "five"],
            ["6", "DELETE", "six"],
            ["4", "c", "FOUR"],
        ]);
        let expected = RowCounts {
            rows_parsed: 6,
            rows_stored: 4,
            rows_updated: 2,
            rows_unchanged: 1,
            rows_rejected: 0,
            rows_deleted: 1,
            rows_missing: 2,
        };
        assert_eq!(expect_loaded(load(&destination, &claim("b"), &second).await?)?, expected);
        assert_eq!(table(engine).await?, rows(&[["2", "TWO"], ["3", "NULL"], ["4", "FOUR"], ["5", "five"]]));
        let counted = format!("SELECT load_mode, rows_deleted FROM spillway_ledger WHERE object_key = '{size} b'");
        assert_eq!(engine.rows(&counted).await?, rows(&[["changes", "1"]]));
    }
    Ok(())
}

/// Of several changes of a key in a file, the last one counts.
pub(crate) async fn last_change_of_a_key_counts(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        drop_table(engine).await?;
        let destination = destination(engine);
        let claim = |key: &str| claim_of_size(&format!("{size} {key}"), size);
        let file = changes(&[["1", "c", "one"], ["2", "c", "two"], ["3", "c", "three"]]);
        expect_loaded(load(&destination, &claim("a"), &file).await?)?;
        let file = changes(&[
            ["1", "d", "one"],
            ["1", "c", "again"],
            ["2", "u", "TWO"],
            ["2", "d", "TWO"],
            ["4", "c", "four"],
            ["4", "d", "four"],
        ]);
        let expected = RowCounts {
            rows_parsed: 6,
            rows_stored: 1,
            rows_updated: 1,
            rows_deleted: 1,
            rows_missing: 1,
            ..RowCounts::default()
        };
        assert_eq!(expect_loaded(load(&destination, &claim("b"), &file).await?)?, expected);
        assert_eq!(table(engine).await?, rows(&[["1", "again"], ["3", "three"]]));
    }
    Ok(())
}

/// A file with an unknown operation, or without operations, changes nothing. The error names the record.
pub(crate) async fn invalid_operation_is_refused(engine: &impl Engine) -> Result<()> {
    let destination = destination(engine);
    let claim = |key: &str| claim_of_size(key, 100);
    expect_loaded(load(&destination, &claim("a"), &changes(&[["1", "c", "one"]])).await?)?;
    for unknown in ["x", "NULL", "secret"] {
        let file = changes(&[["2", "c", "two"], ["1", "d", "one"], ["3", unknown, "three"]]);
        let error = load_error(&destination, &claim(unknown), &file).await?;
        assert_eq!((error.kind(), error.position().map(|at| at.record)), (ErrorKind::FileBroken, Some(3)), "{error}");
        ensure!(!error.to_string().contains("secret"), "a value is in the message: {error}");
    }
    let file = File::new(&["id", "note"], &[&[Some("1"), Some("one")]]);
    let error = load_error(&destination, &claim("none"), &file).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some("op")));
    let error = load_error(&destination, &claim("no key"), &changes(&[["NULL", "d", "one"]])).await?;
    assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("id")), "{error}");
    assert_eq!(table(engine).await?, rows(&[["1", "one"]]));
    Ok(())
}

/// Changes that are not committed change nothing. The next attempt completes them.
pub(crate) async fn unfinished_changes_change_nothing(engine: &impl Engine) -> Result<()> {
    for size in SIZES {
        drop_table(engine).await?;
        let destination = destination(engine);
        let claim = |key: &str| claim_of_size(&format!("{size} {key}"), size);
        expect_loaded(load(&destination, &claim("a"), &changes(&[["1", "c", "one"], ["2", "c", "two"]])).await?)?;
        let file = changes(&[["1", "d", "one"], ["2", "u", "TWO"], ["3", "c", "three"]]);
        let ready = prepare(&destination, &claim("b"), &file).await?;
        assert_eq!((ready.counts().rows_stored, ready.counts().rows_deleted), (2, 1));
        drop(ready);
        wait_for_rollback(&destination, &claim("b")).await?;
        assert_eq!(table(engine).await?, rows(&[["1", "one"], ["2", "two"]]));
        destination.drop_stale_staging(std::time::Duration::ZERO, &[]).await?;
        expect_loaded(load(&destination, &claim("b"), &file).await?)?;
        assert_eq!(table(engine).await?, rows(&[["2", "TWO"], ["3", "three"]]));
    }
    Ok(())
}

/// After each of many random files, the table and the counts are those of the changes applied in memory, one by one.
pub(crate) async fn random_changes_are_applied(engine: &impl Engine) -> Result<()> {
    let (mut random, seed) = random_numbers();
    let destination = destination(engine);
    let mut current: BTreeMap<u64, String> = BTreeMap::new();
    for step in 0..25 {
        let mut lines = Vec::new();
        let mut last: BTreeMap<u64, (&str, String)> = BTreeMap::new();
        for _ in 0..random.usize(1..40) {
            let (id, note) = (random.u64(1..60), format!("note {}", random.u8(..5)));
            let operation = ["c", "u", "d"][random.usize(..3)];
            lines.push(vec![Some(id.to_string()), Some(operation.to_owned()), Some(note.clone())]);
            last.insert(id, (operation, note));
        }
        let mut expected = RowCounts { rows_parsed: lines.len() as u64, ..RowCounts::default() };
        for (id, (operation, note)) in last {
            let old = match operation {
                "d" => current.remove(&id),
                _ => current.insert(id, note.clone()),
            };
            match (operation, old) {
                ("d", Some(_)) => expected.rows_deleted += 1,
                ("d", None) => expected.rows_missing += 1,
                (_, Some(old)) if old == note => {
                    (expected.rows_stored, expected.rows_unchanged) =
                        (expected.rows_stored + 1, expected.rows_unchanged + 1)
                }
                (_, Some(_)) => {
                    (expected.rows_stored, expected.rows_updated) =
                        (expected.rows_stored + 1, expected.rows_updated + 1)
                }
                (operation, None) => {
                    expected.rows_stored += 1;
                    expected.rows_missing += u64::from(operation == "u");
                }
            }
        }
        let size = SIZES[usize::from(random.bool())];
        let file = File::large(&["id", "op", "note"], lines, 7);
        let found = expect_loaded(load(&destination, &claim_of_size(&format!("{step}"), size), &file).await?)?;
        assert_eq!(found, expected, "step {step}, seed {seed}");
        let stored: Rows = current.iter().map(|(id, note)| vec![Some(id.to_string()), Some(note.clone())]).collect();
        assert_eq!(table(engine).await?, stored, "step {step}, seed {seed}");
    }
    assert_eq!(count(engine).await?, current.len() as u64);
    Ok(())
}
