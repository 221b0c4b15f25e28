//! `make bench-diff`: compares two exports with `spillway diff`, and with a full outer join in DuckDB, which must find the same
//! changes.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spillway_test_env::keeper::SERVER_PATH;
use spillway_test_env::run::{Scratch, workspace};

use crate::figures::Run;
use crate::measure::{self as stopwatch, Servers};

const ROWS: u64 = 1_000_000;
const COLUMNS: [&str; 5] = ["id", "customer", "amount", "day", "note"];
/// One row of so many is updated, one is deleted, and one is inserted.
const ROWS_PER_CHANGE: u64 = 100;

/// A version of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

/// Compares the same exports with both, one after the other, and returns the figures. `rows` are those of one export.
pub(crate) fn measure(terminal: &Path, rows: Option<u64>, machine: &str) -> Result<String> {
    let rows = rows.unwrap_or(ROWS);
    let folder = Scratch::new("bench_diff")?;
    let path = |name: &str| folder.path().join(name);
    let (old, new) = (path("old.csv"), path("new.csv"));
    let size = write_export(&old, Version::Old, rows)? + write_export(&new, Version::New, rows)?;
    // No server takes part. The stopwatch needs processes to look at.
    let servers = Servers { database: std::process::id(), s3: std::process::id() };

    let delta = path("delta.jsonl");
    let mut command = Command::new(terminal);
    command.arg("diff").args([&old, &new]).args(["--key", "id", "--limit", "0", "--output"]).arg(&delta);
    let spillway = stopwatch::run(servers, command.env_clear().env("PATH", SERVER_PATH))?;

    let joined = path("joined.jsonl");
    let python = workspace().join(".venv-bench/bin/python");
    ensure!(python.is_file(), "{} is missing; run scripts/setup bench", python.display());
    let mut command = Command::new(python);
    command.arg(workspace().join("tests/bench/duckdb_diff.py")).args([&old, &new, &joined]).arg(folder.path());
    let duckdb = stopwatch::run(servers, command.env_clear().env("PATH", SERVER_PATH))?;

    let changes = check_same(&delta, &joined)?;
    let mut text = format!("{rows} rows, {} MB of CSV, {changes} changes, {machine}\n", size / 1_000_000);
    for (name, run) in [("spillway diff", spillway), ("DuckDB", duckdb)] {
        text += &line(name, &run);
    }
    Ok(text)
}

fn line(name: &str, run: &Run) -> String {
    format!(
        "{name}: {:.2} s, CPU {:.2} s, {:.0} MiB\n",
        run.seconds,
        run.client_cpu_seconds,
        run.peak_memory_bytes as f64 / f64::from(1 << 20),
    )
}

/// Writes an export; returns its size in bytes. The new one has its rows in another order.
fn write_export(path: &Path, version: Version, rows: u64) -> Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut size = 0;
    let mut write = |line: &str| {
        size += line.len() as u64;
        file.write_all(line.as_bytes())
    };
    write(&format!("{}\n", COLUMNS.join(",")))?;
    match version {
        Version::Old => (0..rows).try_for_each(|number| write(&row(number, version)))?,
        Version::New => {
            let inserted = rows..rows + rows / ROWS_PER_CHANGE;
            inserted
                .chain(shuffled(rows))
                .filter(|number| !is_deleted(*number))
                .try_for_each(|number| write(&row(number, version)))?;
        }
    }
    file.flush()?;
    Ok(size)
}

/// All numbers below `rows`, in an order that is not that of the other export.
fn shuffled(rows: u64) -> impl Iterator<Item = u64> {
    // Steps of an odd number reach every number below a power of two.
    let size = rows.next_power_of_two();
    (0..size)
        .map(move |index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (size - 1))
        .filter(move |number| *number < rows)
}

fn is_deleted(number: u64) -> bool {
    number % ROWS_PER_CHANGE == 7
}

fn row(number: u64, version: Version) -> String {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let is_updated = version == Version::New && number % ROWS_PER_CHANGE == 11;
    let (amount, day) = (random % 1_000_000 + u64::from(is_updated), 1 + (random >> 20) % 28);
    format!(
        "{},\"Customer {}, Ltd.\",{}.{:02},2026-11-{day:02},order {:x} of a customer\n",
        10_000_000 + number,
        (random >> 30) % 500_000,
        amount / 100,
        amount % 100,
        random >> 16,
    )
}

/// Fails unless both files have the same changes. Returns their number.
fn check_same(delta: &Path, joined: &Path) -> Result<u64> {
    let lines = |path: &Path| anyhow::Ok(BufReader::new(File::open(path)?).lines());
    let (mut delta, mut joined) = (lines(delta)?.skip(1), lines(joined)?);
    let mut changes = 0;
    loop {
        let (change, row) = match (delta.next(), joined.next()) {
            (None, None) => return Ok(changes),
            (Some(change), Some(row)) => (change?, row?),
            (change, row) => {
                anyhow::bail!("after {changes} equal changes, spillway has {change:?}, and DuckDB has {row:?}")
            }
        };
        changes += 1;
        let change: Value = serde_json::from_str(&change).context("a line of the delta")?;
        let row: Value = serde_json::from_str(&row).context("a line of DuckDB")?;
        ensure!(change["op"] == row["op"] && change["key"]["id"] == row["id"], "{change} is {row} in DuckDB");
        for (values, prefix) in [(&change["before"], "old_"), (&change["after"], "new_")] {
            for column in &COLUMNS[1..] {
                let found = &row[format!("{prefix}{column}")];
                ensure!(values.get(column).unwrap_or(&Value::Null) == found, "{change} is {row} in DuckDB");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_numbers_are_all_numbers() {
        for rows in [1, 2, 3, 10, 97, 1000] {
            let mut numbers: Vec<u64> = shuffled(rows).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..rows).collect::<Vec<_>>());
        }
    }
}
