//! `make bench-memory`: a CSV of one gigabyte through the task, its peak memory, and its speed beside the `mariadb`
//! client's LOAD DATA LOCAL INFILE of the same file into the same kind of table on the same server.
//!
//! Called as `bench-memory TASK-BINARY [MEGABYTES]`.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use spillway_harness::cloud::Cloud;
use spillway_harness::mariadb::{MariaDb, Options, Schema};
use spillway_harness::run::Scratch;
use spillway_harness::task::Task;
use spillway_harness::world::{TABLE, World};

/// What the task may have resident, whatever the size of the file.
const MEMORY_LIMIT_BYTES: u64 = 96 << 20;
const BOUND: Duration = Duration::from_secs(3_600);
const KEY: &str = "uploads/large.csv";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let task = PathBuf::from(arguments.next().context("usage: bench-memory TASK-BINARY [MEGABYTES]")?);
    let megabytes: u64 = arguments.next().map_or(Ok(1_000), |text| text.parse()).context("MEGABYTES is no number")?;
    let folder = Scratch::new("bench")?;
    let file = folder.path().join("large.csv");
    let rows = generate(&file, megabytes * 1_000_000)?;
    let bytes = std::fs::metadata(&file)?.len();
    println!("{rows} rows, {:.0} MB", bytes as f64 / 1e6);

    let server = MariaDb::start(Options { buffer_pool_megabytes: 1_024, ..Options::default() }).await?;
    let cloud = Cloud::start().await?;
    let world = World::new(cloud.account().await?, server.schema().await?);
    let body = ByteStream::from_path(&file).await?;
    world.account.s3.put_object().bucket(&world.account.bucket).key(KEY).body(body).send().await?;

    let settings = world.settings().with("CSV_KEY", KEY).with("LEASE_SECONDS", 60).with("LOG_LEVEL", "warn");
    let begun = Instant::now();
    let finished = Task::start_binary(&task, &settings)?.finish(BOUND).await?;
    let by_task = begun.elapsed();
    ensure!(finished.code() == Some(0), "the task failed: {:?} {}", finished.status, finished.logs);
    ensure!(count(&server, &world.schema, TABLE).await? == rows, "rows are missing: {}", finished.logs);
    say("the task", rows, bytes, by_task);
    println!("  peak memory: {:.1} MiB", finished.peak_memory_bytes as f64 / f64::from(1 << 20));

    server.execute(&format!("CREATE TABLE {0}.plain LIKE {0}.{TABLE}", world.schema.name)).await?;
    let by_client = load_with_client(&server, &world.schema, &file)?;
    ensure!(count(&server, &world.schema, "plain").await? == rows, "the client's rows are missing");
    say("mariadb, LOAD DATA LOCAL INFILE", rows, bytes, by_client);
    println!("  the task takes {:.2} times as long", by_task.as_secs_f64() / by_client.as_secs_f64());
    let limit = MEMORY_LIMIT_BYTES >> 20;
    ensure!(finished.peak_memory_bytes < MEMORY_LIMIT_BYTES, "the task had more than {limit} MiB resident");
    Ok(())
}

fn say(who: &str, rows: u64, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{who}: {seconds:.1} s, {:.0} rows/s, {:.1} MB/s", rows as f64 / seconds, bytes as f64 / 1e6 / seconds);
}

/// Writes orders until the file is that long; gives the number of rows.
fn generate(path: &Path, bytes: u64) -> Result<u64> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let header = "id,customer,amount,ordered_on,shipped_at,express,note\n";
    file.write_all(header.as_bytes())?;
    let (mut written, mut row) = (header.len() as u64, 0_u64);
    while written < bytes {
        row += 1;
        let (day, month, minute) = (row % 28 + 1, row % 12 + 1, row % 60);
        let line = format!(
            "{row},customer {:07},{}.{:02},2026-{month:02}-{day:02},2026-{month:02}-{day:02}T08:{minute:02}:00,{},\"a note, number {row}\"\n",
            row * 7_919 % 9_999_991,
            row % 5_000,
            row % 100,
            row.is_multiple_of(2),
        );
        file.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    file.flush()?;
    Ok(row)
}

async fn count(server: &MariaDb, schema: &Schema, table: &str) -> Result<u64> {
    let rows = server.query(&format!("SELECT COUNT(*) FROM {}.{table}", schema.name)).await?;
    Ok(rows[0][0].as_deref().unwrap_or_default().parse()?)
}

fn load_with_client(server: &MariaDb, schema: &Schema, file: &Path) -> Result<Duration> {
    let statement = format!(
        "LOAD DATA LOCAL INFILE '{}' INTO TABLE plain CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' ENCLOSED BY '\"' \
         ESCAPED BY '' IGNORE 1 LINES (id, customer, amount, ordered_on, shipped_at, @express, note) SET express = @express = 'true'",
        file.display()
    );
    let begun = Instant::now();
    let status = Command::new("mariadb")
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--skip-ssl", "--local-infile=1"])
        .args([
            format!("--port={}", server.port()),
            format!("--user={}", schema.user),
            format!("--password={}", schema.password),
        ])
        .args([&schema.name, "--execute", &statement])
        .stdin(Stdio::null())
        .status()
        .context("cannot run the mariadb client")?;
    ensure!(status.success(), "the mariadb client failed");
    Ok(begun.elapsed())
}
