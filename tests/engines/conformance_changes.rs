//! Conformance tests for the ledger column that says how a table was changed for a file.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use spillway_core::destination::{
    ChangedTypes, FileClaim, LedgerOutcome, LedgerState, RunFilter, TableChanges, UnknownColumns,
};
use spillway_core::error::ErrorKind;
use spillway_core::object::ObjectRef;
use spillway_test_env::database;

use crate::engines::conformance::{
    Claim, Engine, File, TABLE, TestDestination, claim, expect_loaded, load, load_error, open, write,
};

/// Calls a macro with this module's name and the name of each of its tests.
macro_rules! for_each_test {
    ($callback:ident) => {
        $callback!(conformance_changes:
            changes_of_a_failed_try_are_listed_by_the_load,
            changes_of_an_attempt_that_died_are_not_listed,
            changes_of_a_fallback_stay_in_its_row,
            each_change_is_listed_by_one_of_several_workers,
            ledger_lists_the_changes_of_each_load,
            ledger_of_older_version_gets_the_column_with_a_change,
            load_needs_no_privilege_to_add_the_column,
            long_load_delays_a_change_of_the_ledger_only_once,
        );
    };
}
pub(crate) use for_each_test;

const ADDED: &str = "added the column size ";

/// A file with one value of a new column.
fn with_size() -> File {
    File::new(&["id", "size"], &[&[Some("1"), Some("7")]])
}

fn adding(engine: &impl Engine) -> TestDestination {
    engine.with(|_, options| options.unknown_columns = UnknownColumns::Add)
}

/// The changes that the ledger lists, by key.
async fn listed(engine: &impl Engine) -> Result<Vec<(String, Option<String>)>> {
    let rows = engine.rows("SELECT object_key, table_changes FROM spillway_ledger ORDER BY object_key").await?;
    rows.into_iter().map(|mut row| Ok((row.remove(0).context("no key")?, row.remove(0)))).collect()
}

async fn listed_of(engine: &impl Engine, key: &str) -> Result<Option<String>> {
    let row = listed(engine).await?.into_iter().find(|(found, _)| found == key);
    Ok(row.with_context(|| format!("no row of {key}"))?.1)
}

fn fell_back() -> LedgerOutcome {
    LedgerOutcome {
        state: LedgerState::FellBack,
        body_sha256: None,
        rows_parsed: 1,
        rows_stored: 1,
        rows_rejected: 0,
        reason: "data_refused".into(),
    }
}

/// A created table, an added column, the JSON column and a wider type are listed; a load without a change lists nothing.
pub(crate) async fn ledger_lists_the_changes_of_each_load(engine: &impl Engine) -> Result<()> {
    let first = File::new(&["id", "note"], &[&[Some("1"), Some("secret")]]);
    expect_loaded(load(&engine.destination(), &claim("1.csv"), &first).await?)?;
    expect_loaded(load(&engine.destination(), &claim("2.csv"), &first).await?)?;
    expect_loaded(load(&adding(engine), &claim("3.csv"), &with_size()).await?)?;
    let json = engine.with(|_, options| options.unknown_columns = UnknownColumns::Json);
    let unknown = File::new(&["id", "colour"], &[&[Some("1"), Some("secret")]]);
    expect_loaded(load(&json, &claim("4.csv"), &unknown).await?)?;
    let widening = engine.with(|_, options| options.changed_types = ChangedTypes::Widen);
    let wider = claim("5.csv");
    ensure!(wider.table_changes.request_wider("id"), "requested before");
    let text = File::new(&["id"], &[&[Some("secret")]]);
    expect_loaded(load(&widening, &wider, &text).await?)?;

    let changes: Vec<String> = listed(engine).await?.into_iter().map(|row| row.1.unwrap_or_default()).collect();
    ensure!(
        changes[0].to_lowercase().starts_with("created the table with the columns id bigint, note "),
        "{changes:?}"
    );
    assert_eq!(changes[1], "");
    ensure!(changes[2].to_lowercase().starts_with(&format!("{ADDED}bigint")), "{changes:?}");
    ensure!(changes[3].to_lowercase().starts_with("added the column extra json"), "{changes:?}");
    ensure!(changes[4].starts_with("changed column id from bigint"), "{changes:?}");
    ensure!(changes.iter().all(|text| !text.contains("secret")), "a value is in the ledger: {changes:?}");
    assert_eq!(wider.table_changes.made(), changes[4..]);

    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    let mut runs = engine.destination().runs(&filter).await?.runs;
    runs.sort_by(|one, other| one.key.cmp(&other.key));
    let of_runs: Vec<String> = runs.into_iter().map(|run| run.table_changes.unwrap_or_default()).collect();
    assert_eq!(of_runs, changes);
    let history = engine.destination().history(&ObjectRef::new("bucket", "3.csv")).await?;
    assert_eq!(history[0].table_changes.as_ref(), Some(&changes[2]));
    Ok(())
}

/// A try adds a column and fails. Another try of the same attempt loads the file, and lists what the attempt has changed.
pub(crate) async fn changes_of_a_failed_try_are_listed_by_the_load(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (id INT)")).await?;
    let (destination, claim, file) = (adding(engine), claim("a.csv"), with_size());
    let mut open_load = open(&destination, &claim, &file.schema()).await?;
    let error = open_load.write(file.broken_stream()).await.err().context("the broken file was written")?;
    assert_eq!(error.kind(), ErrorKind::FileBroken);
    drop(open_load);
    expect_loaded(load(&destination, &claim, &file).await?)?;
    let changes = listed_of(engine, "a.csv").await?.unwrap_or_default();
    ensure!(changes.starts_with(ADDED), "{changes}");
    assert_eq!(claim.table_changes.made(), [changes]);
    Ok(())
}

/// An attempt adds a column and dies. The next attempt finds the column, and has changed nothing.
pub(crate) async fn changes_of_an_attempt_that_died_are_not_listed(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (id INT)")).await?;
    let (destination, dead, file) = (adding(engine), claim("a.csv"), with_size());
    let mut open_load = open(&destination, &dead, &file.schema()).await?;
    write(&mut *open_load, file.stream()).await?;
    drop(open_load);
    let next = Claim { file: FileClaim { table_changes: TableChanges::default(), ..dead.file.clone() }, ..dead };
    let loaded = async || {
        for _ in 0..100 {
            match load(&destination, &next, &file).await {
                // The server has not rolled back yet.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                loaded => return Ok(loaded?),
            }
        }
        anyhow::bail!("the claim was not rolled back")
    };
    expect_loaded(loaded().await?)?;
    assert_eq!(listed_of(engine, "a.csv").await?, None);
    assert_eq!(next.table_changes.made(), Vec::<String>::new());
    assert_eq!(engine.rows(&format!("SELECT size FROM {TABLE}")).await?.len(), 1);
    Ok(())
}

/// An attempt adds a column, and its rows fall back. The row keeps the change when a later attempt loads the rows.
pub(crate) async fn changes_of_a_fallback_stay_in_its_row(engine: &impl Engine) -> Result<()> {
    engine.rows(&format!("CREATE TABLE {TABLE} (id INT)")).await?;
    let (destination, first) = (adding(engine), claim("a.csv"));
    let refused = File::new(&["id", "size"], &[&[Some("x"), Some("7")]]);
    let error = load_error(&destination, &first, &refused).await?;
    assert_eq!(error.kind(), ErrorKind::DataRefused);
    destination.record(&first, &fell_back()).await?;
    let changes = listed_of(engine, "a.csv").await?.unwrap_or_default();
    ensure!(changes.starts_with(ADDED), "{changes}");

    let replay = Claim { file: FileClaim { table_changes: TableChanges::default(), ..first.file.clone() }, ..first };
    let file = File::new(&["id", "size", "more"], &[&[Some("1"), Some("7"), Some("x")]]);
    expect_loaded(load(&destination, &replay, &file).await?)?;
    let both = listed_of(engine, "a.csv").await?.unwrap_or_default();
    ensure!(both.starts_with(&format!("{changes}; added the column more ")), "{both}");
    Ok(())
}

/// Several workers need the same table and the same column. Each of them is created once, and one file lists it.
pub(crate) async fn each_change_is_listed_by_one_of_several_workers(engine: &impl Engine) -> Result<()> {
    let destination = adding(engine);
    let load_all = async |round: &str, file: &File| -> Result<()> {
        let loads = join_all((0..6).map(async |worker| {
            let claim = claim(&format!("{round}-{worker}.csv"));
            for _ in 0..50 {
                match load(&destination, &claim, file).await {
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    loaded => return expect_loaded(loaded?),
                }
            }
            anyhow::bail!("too many conflicts")
        }));
        loads.await.into_iter().collect::<Result<Vec<_>>>().map(drop)
    };
    load_all("1", &File::new(&["id"], &[&[Some("1")]])).await?;
    load_all("2", &with_size()).await?;
    let listed = listed(engine).await?;
    let files = |start: &str| {
        listed.iter().filter(|(_, changes)| changes.as_ref().is_some_and(|text| text.starts_with(start))).count()
    };
    assert_eq!((files("created the table with the column id"), files(ADDED)), (1, 1), "{listed:?}");
    assert_eq!(listed.iter().filter(|row| row.1.is_some()).count(), 2, "{listed:?}");
    Ok(())
}

async fn drop_column(engine: &impl Engine) -> Result<()> {
    engine.administrate("ALTER TABLE {schema}.spillway_ledger DROP COLUMN table_changes").await
}

/// A ledger of an older version is read and written as it is. The first file that changes a table adds the column, and so
/// does the upkeep.
pub(crate) async fn ledger_of_older_version_gets_the_column_with_a_change(engine: &impl Engine) -> Result<()> {
    let destination = adding(engine);
    let file = File::new(&["id"], &[&[Some("1")]]);
    expect_loaded(load(&destination, &claim("a.csv"), &file).await?)?;
    drop_column(engine).await?;
    expect_loaded(load(&destination, &claim("b.csv"), &file).await?)?;
    destination.record(&claim("c.csv"), &fell_back()).await?;
    ensure!(listed(engine).await.is_err(), "a load without a change has added the column");
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    assert_eq!(destination.runs(&filter).await?.runs.len(), 3);
    assert_eq!(destination.history(&ObjectRef::new("bucket", "a.csv")).await?.len(), 1);

    expect_loaded(load(&destination, &claim("d.csv"), &with_size()).await?)?;
    let changes = listed_of(engine, "d.csv").await?.unwrap_or_default();
    ensure!(changes.starts_with(ADDED), "{changes}");

    drop_column(engine).await?;
    destination.maintain_attempts("2026-01-01T00:00:00Z".parse()?).await?;
    assert_eq!(listed(engine).await?.len(), 4);
    let probe = destination.probe().await?.history?.context("no ledger")?;
    assert_eq!(probe.missing_columns, Vec::<String>::new());
    Ok(())
}

/// A user who may not change the ledger creates a table and loads the file. Only the ledger does not list the change.
pub(crate) async fn load_needs_no_privilege_to_add_the_column(engine: &impl Engine) -> Result<()> {
    let file = File::new(&["id"], &[&[Some("1")]]);
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &file).await?)?;
    drop_column(engine).await?;
    let user = &engine.schema().user;
    let revoke = match engine.schema().engine {
        database::Engine::MariaDb => format!("REVOKE ALTER ON {{schema}}.* FROM '{user}'@'%'"),
        database::Engine::Postgres => format!(
            "ALTER TABLE {{schema}}.spillway_ledger OWNER TO postgres; \
             GRANT SELECT, INSERT, UPDATE ON {{schema}}.spillway_ledger TO {user}"
        ),
    };
    engine.administrate(&revoke).await?;
    let probe = engine.destination().probe().await?.history?.context("no ledger")?;
    ensure!(probe.missing_columns.concat().contains("ADD COLUMN"), "{probe:?}");
    let mut other = claim("b.csv");
    other.file.table = "refunds".into();
    // An open session of MySQL keeps the privileges that it had.
    let destination = engine.destination();
    expect_loaded(load(&destination, &other, &file).await?)?;
    ensure!(listed(engine).await.is_err(), "the column was added");
    let made = other.table_changes.made();
    ensure!(made.len() == 1 && made[0].starts_with("created the table"), "{made:?}");
    assert_eq!(engine.rows("SELECT id FROM refunds").await?.len(), 1);
    Ok(())
}

/// A load holds the ledger. Another load waits a second for the column, and does not try again in the same process. Its
/// connection keeps the wait for locks that it had.
pub(crate) async fn long_load_delays_a_change_of_the_ledger_only_once(engine: &impl Engine) -> Result<()> {
    let file = File::new(&["id"], &[&[Some("1")]]);
    expect_loaded(load(&engine.destination(), &claim("a.csv"), &file).await?)?;
    drop_column(engine).await?;
    let (holder, destination, held) = (engine.destination(), engine.destination(), claim("held.csv"));
    let mut open_load = open(&holder, &held, &file.schema()).await?;
    write(&mut *open_load, file.stream()).await?;

    let create = async |destination: &TestDestination, table: &str| -> Result<Duration> {
        let mut claim = claim(&format!("{table}.csv"));
        claim.file.table = table.into();
        let started = Instant::now();
        expect_loaded(load(destination, &claim, &file).await?)?;
        Ok(started.elapsed())
    };
    let (elapsed, second) = (create(&destination, "refunds").await?, Duration::from_secs(1));
    ensure!(elapsed >= second && elapsed < 3 * second, "{elapsed:?}");
    let started = Instant::now();
    let error = load_error(&destination, &held, &file).await?;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    ensure!(started.elapsed() > 2 * second, "the short wait was kept: {:?}", started.elapsed());

    drop(open_load);
    create(&destination, "shops").await?;
    ensure!(listed(engine).await.is_err(), "the process has tried again");
    for attempt in 0..50 {
        // The server may not have rolled back yet. Another process has not failed before.
        create(&engine.destination(), &format!("table_{attempt}")).await?;
        if listed(engine).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("no other process has added the column")
}
