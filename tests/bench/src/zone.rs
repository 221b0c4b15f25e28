//! `make bench-sync`: compares a sync of a raw zone of many files with `\copy` of the same files, and measures a sync that finds
//! nothing.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use spillway_test_env::database::{Engine, Options};

use crate::arena::{Arena, LOADED, REFERENCE, Tasks};
use crate::client;
use crate::data::Data;
use crate::figures::Run;
use crate::measure as stopwatch;

const PARTS: u64 = 300;
const ROWS: u64 = 32_000_000;
const PATTERN: &str = "raw/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";
/// Parts in one folder.
const PARTS_PER_FOLDER: u64 = 10;

/// Loads the same parts with both, one after the other, and returns the figures. `rows` are those of all parts.
pub(crate) async fn measure(terminal: &std::path::Path, rows: Option<u64>, machine: &str) -> Result<String> {
    let rows_each = rows.unwrap_or(ROWS) / PARTS;
    ensure!(rows_each > 0, "each of {PARTS} files needs a row");
    let tasks = Tasks { measured: terminal.to_owned(), baseline: None, terminal: Some(terminal.to_owned()) };
    let arena = Arena::open(Engine::Postgres, Options::default(), tasks).await?;
    let columns: Vec<String> = Data::Orders.columns().iter().map(|name| format!("{name} BIGINT")).collect();
    for table in [LOADED, REFERENCE] {
        arena
            .server
            .execute(&arena.schema, &format!("CREATE TABLE {{schema}}.{table} ({})", columns.join(", ")))
            .await?;
    }
    let mut script = String::new();
    for part in 0..PARTS {
        let file = arena.folder.path().join(format!("{part}.csv"));
        Data::Orders.write_file(&file, part * rows_each + 1..(part + 1) * rows_each + 1)?;
        arena.put_file(&key(part), &file).await?;
        script += &format!("\\copy {REFERENCE} FROM '{}' WITH (FORMAT csv, HEADER true)\n", file.display());
    }

    let servers = arena.servers()?;
    arena.settle().await?;
    let sync = stopwatch::run(servers, &mut sync_command(&arena)?)?;
    arena.settle().await?;
    let copy_script = arena.folder.path().join("copy.sql");
    std::fs::write(&copy_script, script)?;
    let copy = stopwatch::run(servers, &mut client::script_command(&arena.schema, arena.server.port(), &copy_script))?;
    check(&arena, rows_each * PARTS).await?;
    let nothing = stopwatch::run(servers, &mut sync_command(&arena)?)?;
    check(&arena, rows_each * PARTS).await?;
    Ok(report(&[("sync", sync), ("`\\copy`", copy), ("a second sync", nothing)], rows_each, machine))
}

fn key(part: u64) -> String {
    let folder = part / PARTS_PER_FOLDER;
    let (day, hour) = (1 + folder / 10, folder % 10);
    format!("raw/{LOADED}/year=2026/month=01/day={day:02}/hhmm={hour:02}00/{LOADED}_part{part}.csv")
}

fn sync_command(arena: &Arena) -> Result<Command> {
    let mut command = arena.terminal()?;
    command.args(["sync", LOADED]).env("TABLE_PATTERN", PATTERN).env("AFTER_LOAD", "keep").env_remove("RDS_TABLE");
    Ok(command)
}

/// Fails unless both tables have the same rows, and each file is in the ledger once.
async fn check(arena: &Arena, rows: u64) -> Result<()> {
    let contents = async |table: &str| {
        let query = format!(
            "SELECT COUNT(*), COUNT(DISTINCT id), SUM(id), SUM(customer), SUM(product), SUM(cents) FROM {{schema}}.{table}"
        );
        arena.server.query(&arena.schema, &query).await
    };
    let (loaded, copied) = (contents(LOADED).await?, contents(REFERENCE).await?);
    ensure!(loaded == copied, "the sync stored {loaded:?}, and \\copy {copied:?}");
    let counts = loaded.first().map(|row| &row[..2]);
    ensure!(counts == Some(&[Some(rows.to_string()), Some(rows.to_string())][..]), "{loaded:?} instead of {rows} rows");
    let query = "SELECT COUNT(*) FROM {schema}.spillway_ledger WHERE state = 'loaded'";
    let found = arena.server.query(&arena.schema, query).await?;
    let files = found.first().and_then(|row| row.first()).cloned().flatten().context("no count")?;
    ensure!(files == PARTS.to_string(), "the ledger has {files} files instead of {PARTS}");
    Ok(())
}

fn report(runs: &[(&str, Run)], rows_each: u64, machine: &str) -> String {
    let mut text = format!("{PARTS} files of {rows_each} rows, PostgreSQL, {machine}\n");
    for (name, run) in runs {
        text += &format!(
            "{name}: {:.1} s, client CPU {:.1} s, server CPU {:.1} s, {:.0} MiB\n",
            run.seconds,
            run.client_cpu_seconds,
            run.server_cpu_seconds,
            run.peak_memory_bytes as f64 / f64::from(1 << 20),
        );
    }
    if let [(_, sync), (_, copy), ..] = runs {
        text += &format!("ratio to `\\copy`: {:.2}\n", sync.seconds / copy.seconds);
    }
    text
}
