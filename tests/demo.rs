//! `make demo`: shows Spillway on a local AWS emulator and a private MariaDB, or PostgreSQL with `ENGINE=postgres`.
//!
//! It deploys the template and runs the real binaries. The local AWS enforces the template's roles. Every printed number is
//! read from the database, S3 or Athena. All processes end with the demo.

#![expect(clippy::print_stdout, reason = "the demo prints its output")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spillway_test_env::cloud::{Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::TABLE;
use spillway_test_env::{athena, wait};

const TIMEOUT: Duration = Duration::from_secs(120);
const GLUE: &str = "ingest_fallback_db";
const FALLBACK: &str = "ingest_fallback_table";

#[tokio::main]
async fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| Engine::MariaDb.name().to_owned());
    let engine =
        Engine::from_name(&name).with_context(|| format!("{name:?} is not an engine; use mariadb or postgres"))?;
    let mut demo = Demo::start(engine).await?;
    demo.small_files().await?;
    demo.large_file().await?;
    demo.outage().await?;
    demo.replay().await?;
    demo.finish().await
}

struct Demo {
    begun: Instant,
    step_begun: Instant,
    server: Database,
    schema: Schema,
    stack: Deployment,
    uploaded: usize,
    _cloud: Cloud,
}

impl Demo {
    async fn start(engine: Engine) -> Result<Self> {
        let begun = Instant::now();
        println!(
            "Spillway loads files from S3 into a database exactly once. If the database is down or refuses a file,"
        );
        println!("its rows stay queryable in S3 until they are replayed.");
        println!(
            "\nStarting a private {} and a local AWS emulator, and deploying template.yaml to it with `sam deploy` ...",
            engine.title()
        );
        let server = Database::start(engine, Options::default()).await?;
        let cloud = Cloud::start_with(Roles::Enforced).await?;
        let schema = server.schema().await?;
        let stack =
            Deployment::deploy(&cloud, &server, &schema, &["DatabaseRetrySeconds=3", "InlineMaxBytes=10485760"])
                .await?;
        stack.allow_misread_requests().await?;
        println!("  deployed in {:.0} s: bucket {}", begun.elapsed().as_secs_f64(), stack.account.bucket);
        Ok(Self { begun, step_begun: begun, server, schema, stack, uploaded: 0, _cloud: cloud })
    }

    async fn small_files(&mut self) -> Result<()> {
        self.step("1. Three files with 100,000 rows: quotes, line breaks, missing values, dates, decimals. S3 starts the trigger.");
        for (key, rows) in [
            ("uploads/2026/orders north.csv", 40_000),
            ("uploads/2026/orders south.csv", 50_000),
            ("uploads/returns (50%).csv", 10_000),
        ] {
            self.upload(key, rows).await?;
        }
        self.wait_for_rows().await?;
        self.print_rows().await?;
        self.print_objects("processed/").await?;
        let sample = format!(
            "SELECT order_id, customer, amount, ordered_on, note FROM {{schema}}.{TABLE} WHERE order_id IN (3, 4, 5) ORDER BY order_id, customer LIMIT 3"
        );
        for row in self.server.query(&self.schema, &sample).await? {
            let cells: Vec<String> =
                row.iter().map(|cell| cell.as_ref().map_or("NULL".to_owned(), |text| format!("{text:?}"))).collect();
            println!("  a row:         {}", cells.join(", "));
        }
        Ok(())
    }

    async fn large_file(&mut self) -> Result<()> {
        self.step(
            "2. A file above InlineMaxBytes (10 MiB in this demo) arrives. The trigger starts a Fargate task, here a local process.",
        );
        self.upload("uploads/2026/orders archive.csv", 250_000).await?;
        let tasks = self.stack.recorded_tasks(1, TIMEOUT).await?;
        let settings = tasks[0].clone().and(&self.stack.task_credentials().await?);
        let finished = self.stack.run_task(&settings, TIMEOUT).await?;
        ensure!(finished.code() == Some(0), "the task failed: {}", finished.logs);
        self.wait_for_rows().await?;
        println!("  the task:      exit code 0, at most {} MB of memory", finished.peak_memory_bytes >> 20);
        self.print_rows().await
    }

    async fn outage(&mut self) -> Result<()> {
        self.step("3. The database stops. One more file arrives.");
        self.server.stop().await?;
        self.upload("uploads/2026/orders night.csv", 5_000).await?;
        wait::until("the file to fall back", TIMEOUT, async || {
            Ok(!self.stack.account.keys("failed/").await?.is_empty()
                && self.stack.account.keys("lease/").await?.is_empty())
        })
        .await?;
        self.print_objects("failed/").await?;
        let query = format!("SELECT COUNT(*), SUM(amount), MIN(ordered_on), MAX(ordered_on) FROM {FALLBACK}");
        println!("  Athena:        {query}");
        for row in athena::query(&self.stack.account, GLUE, &query).await? {
            println!(
                "                 {}",
                row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }

    async fn replay(&mut self) -> Result<()> {
        self.step("4. The database is back. The ingest function replays the file.");
        self.server.start_again().await?;
        let response = self.stack.invoke_ingest(&json!({"replay": {}})).await?;
        for report in response["reports"].as_array().into_iter().flatten() {
            println!("  replayed:      {} rows of {}", report["rows_stored"], report["object"]["key"]);
        }
        let again = self.stack.invoke_ingest(&json!({"replay": {}})).await?;
        println!("  a second time: {} files to replay", again["reports"].as_array().map_or(0, Vec::len));
        self.print_rows().await?;
        let left = self.stack.account.keys("fallback/").await?.len();
        println!("  fallback:      {left} objects left");
        ensure!(left == 0, "the fallback is not empty");
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        let rows = self.rows().await?;
        ensure!(rows == self.uploaded, "{} rows were uploaded, {rows} are in the database", self.uploaded);
        println!(
            "\nUploaded {} rows in 5 files; in the database, once: {rows}. {:.0} s in all.",
            self.uploaded,
            self.begun.elapsed().as_secs_f64()
        );
        println!("The run history:");
        let history = "SELECT state, rows_stored, object_key, COALESCE(moved_to, '') FROM {schema}.spillway_ledger \
                       ORDER BY started_at";
        for row in self.server.query(&self.schema, history).await? {
            let cell = |index: usize| row[index].as_deref().unwrap_or_default();
            println!("  {:<9} {:>7} rows  {}  ->  {}", cell(0), cell(1), cell(2), cell(3));
        }
        println!("\nNext: `make test` runs all tests, `make deploy` deploys to your account. See README.md.");
        Ok(())
    }

    fn step(&mut self, title: &str) {
        println!("\n{title}");
        self.step_begun = Instant::now();
    }

    async fn upload(&mut self, key: &str, rows: usize) -> Result<()> {
        let body = orders(key, rows);
        println!("  uploaded:      s3://{}/{key}, {:.1} MB", self.stack.account.bucket, body.len() as f64 / 1e6);
        self.stack.account.put(key, body).await?;
        self.uploaded += rows;
        Ok(())
    }

    /// Waits until every uploaded row is in the database, and no upload and no lease is left.
    async fn wait_for_rows(&self) -> Result<()> {
        let account = &self.stack.account;
        wait::until("the rows in the database", TIMEOUT, async || {
            let is_done = account.keys("uploads/").await?.is_empty() && account.keys("lease/").await?.is_empty();
            Ok(is_done && self.rows().await? == self.uploaded)
        })
        .await
    }

    /// The number of rows in the destination table; 0 before the table is created.
    async fn rows(&self) -> Result<usize> {
        let table_exists = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = '{{schema}}' AND table_name = '{TABLE}'"
        );
        if self.server.query(&self.schema, &table_exists).await?.is_empty() {
            return Ok(0);
        }
        let count = self.server.query(&self.schema, &format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?;
        Ok(count[0][0].as_deref().unwrap_or_default().parse()?)
    }

    async fn print_rows(&self) -> Result<()> {
        let seconds = self.step_begun.elapsed().as_secs_f64();
        let engine = self.schema.engine.title();
        println!("  total in {engine}: {} rows, {seconds:.1} s after the step began", self.rows().await?);
        Ok(())
    }

    async fn print_objects(&self, prefix: &str) -> Result<()> {
        for key in self.stack.account.keys(prefix).await? {
            println!("  moved to:      {key}");
        }
        Ok(())
    }
}

/// A CSV file with orders, including texts that loaders often damage.
fn orders(key: &str, rows: usize) -> Vec<u8> {
    const NOTES: [&str; 6] =
        ["", "\"gift, please wrap\"", "\"two\nlines\"", "\"she said \"\"yes\"\"\"", "C:\\temp\\new", "\"naïve ☂\""];
    let file = key.rsplit('/').next().unwrap_or(key).trim_end_matches(".csv");
    let mut text = String::from("order_id,customer,amount,ordered_on,shipped_at,express,postcode,note\n");
    for row in 1..=rows {
        let (day, month) = (row % 28 + 1, row % 12 + 1);
        let shipped =
            if row % 5 == 0 { String::new() } else { format!("2026-{month:02}-{day:02}T08:{:02}:00", row % 60) };
        let note = NOTES[row % NOTES.len()];
        let express = row % 2 == 0;
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "{row},{file} {:05},{}.{:02},2026-{month:02}-{day:02},{shipped},{express},{:05},{note}",
            row % 7_919,
            row % 500,
            row % 100,
            row % 99_999,
        );
    }
    text.into_bytes()
}
