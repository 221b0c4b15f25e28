//! `make bench-idle-sync`: measures syncs of a raw zone of many objects that are all loaded.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spillway_test_env::database::{Engine, Options};
use tokio::task::JoinSet;

use crate::arena::{Arena, LOADED, Tasks};
use crate::measure as stopwatch;

const OBJECTS: u64 = 100_000;
const PATTERN: &str = "raw/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";
/// Objects in one folder. A folder belongs to one hour.
const OBJECTS_PER_FOLDER: u64 = 100;
/// Objects that are uploaded at once.
const UPLOADS: usize = 16;

/// Every object has the same content, and so the same ETag as the one that is really loaded.
const CONTENT: &str = "id\n1\n";

/// Copies the ledger row of object 0 for all others. `$1` is their number.
const COPY_ROWS: &str = "\
    INSERT INTO {schema}.spillway_ledger SELECT (jsonb_populate_record(l, jsonb_build_object( \
        'source_id', encode(sha256(CAST(CAST(n AS text) AS bytea)), 'hex'), 'content_id', NULL, 'object_key', \
        format('raw/loaded/year=2026/month=%s/day=%s/hhmm=%s00/loaded_part%s.csv', lpad(CAST(n / 67200 + 1 AS text), 2, '0'), \
               lpad(CAST(n / 2400 % 28 + 1 AS text), 2, '0'), lpad(CAST(n / 100 % 24 AS text), 2, '0'), n)))).* \
    FROM {schema}.spillway_ledger l, generate_series(1, {last}) n";

/// Uploads the objects, loads one, writes the ledger rows of the others, and measures a sync by window and a full one.
pub(crate) async fn measure(terminal: &Path, objects: Option<u64>, machine: &str) -> Result<String> {
    let objects = objects.unwrap_or(OBJECTS);
    let tasks = Tasks { measured: terminal.to_owned(), baseline: None, terminal: Some(terminal.to_owned()) };
    let arena = Arena::open(Engine::Postgres, Options::default(), tasks).await?;
    arena.account.put(&key(0), CONTENT).await?;
    stopwatch::run(arena.servers()?, &mut sync(&arena, None)?)?;
    upload(&arena, 1..objects).await?;
    let copy = COPY_ROWS.replace("{last}", &(objects - 1).to_string());
    arena.server.execute(&arena.schema, &copy).await?;
    arena.settle().await?;

    let mut text = format!("{objects} objects that are loaded, PostgreSQL, {machine}\n");
    for (name, from) in [("by window", None), ("full", Some("0001-01-01"))] {
        let run = stopwatch::run(arena.servers()?, &mut sync(&arena, from)?)?;
        let (files, requests) = counts(&mut sync(&arena, from)?)?;
        text += &format!(
            "{name}: {:.2} s, {requests} requests to S3, {files} objects looked up, client CPU {:.2} s, server CPU {:.2} s, {:.0} MiB\n",
            run.seconds,
            run.client_cpu_seconds,
            run.server_cpu_seconds,
            run.peak_memory_bytes as f64 / f64::from(1 << 20),
        );
    }
    let rows = arena.server.query(&arena.schema, &format!("SELECT COUNT(*) FROM {{schema}}.{LOADED}")).await?;
    ensure!(rows == [[Some("1".to_owned())]], "a sync has loaded objects: {rows:?} rows");
    Ok(text)
}

/// The key of an object. [`COPY_ROWS`] computes the same.
fn key(object: u64) -> String {
    let folder = object / OBJECTS_PER_FOLDER;
    let (day, hour) = (folder / 24, folder % 24);
    let (month, day) = (1 + day / 28, 1 + day % 28);
    format!("raw/{LOADED}/year=2026/month={month:02}/day={day:02}/hhmm={hour:02}00/{LOADED}_part{object}.csv")
}

async fn upload(arena: &Arena, objects: std::ops::Range<u64>) -> Result<()> {
    let mut uploads = JoinSet::new();
    for object in objects {
        if uploads.len() >= UPLOADS {
            uploads.join_next().await.context("no upload runs")???;
        }
        let account = arena.account.clone();
        uploads.spawn(async move { account.put(&key(object), CONTENT).await.map(drop) });
    }
    while let Some(uploaded) = uploads.join_next().await {
        uploaded??;
    }
    Ok(())
}

fn sync(arena: &Arena, from: Option<&str>) -> Result<Command> {
    let mut command = arena.terminal()?;
    command.args(["sync", LOADED, "--json"]);
    if let Some(from) = from {
        command.args(["--from", from]);
    }
    command.env("TABLE_PATTERN", PATTERN).env("AFTER_LOAD", "keep").env_remove("RDS_TABLE");
    Ok(command)
}

/// Runs a sync, and returns the numbers of objects that it looked up and of its requests to S3.
fn counts(command: &mut Command) -> Result<(u64, u64)> {
    let output = command.output()?;
    let result: Value = serde_json::from_slice(&output.stdout).context("the output is not JSON")?;
    let sync = result.get("sync").unwrap_or(&result);
    let table = &sync["tables"][0];
    let files = table["files"].as_u64().with_context(|| format!("no files in {result}"))?;
    // The requests that found the tables, and those that listed the objects.
    let (search, listing) = (sync["s3_requests"].as_u64(), table["s3_requests"].as_u64());
    Ok((files, search.zip(listing).map(|(search, listing)| search + listing).context("no requests")?))
}
