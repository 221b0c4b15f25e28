//! Syncs of a raw zone with three tables: windows, late files, a worker that is killed, and two syncs at once.
//!
//! The files stay in place (`AFTER_LOAD=keep`), so only the ledger says which are done. Each row of the zone has a text of its
//! own, and [`RawZone::ensure_exactly_once`] compares them with the rows in the tables.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::lambda::Function;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::spillway;
use spillway_test_env::test_env::TestEnv;

/// The tables of the zone.
pub(crate) const TABLES: [&str; 3] = ["orders", "refunds", "visits"];

const PATTERN: &str = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";
const TIMEOUT: Duration = Duration::from_secs(120);
/// Rows of each part.
const ROWS: usize = 3;

/// A raw zone, and the rows that were uploaded to it.
pub(crate) struct RawZone {
    pub(crate) test_env: TestEnv,
    pub(crate) settings: Settings,
    /// The rows, as `table row`.
    rows: BTreeSet<String>,
}

impl RawZone {
    /// An empty zone.
    pub(crate) async fn new(engine: Engine) -> Result<Self> {
        let test_env = TestEnv::on(engine).await?;
        let settings = test_env
            .settings()
            .without("RDS_TABLE")
            .with("TABLE_PATTERN", PATTERN)
            .with("AFTER_LOAD", "keep")
            .with("SYNC_OVERLAP_HOURS", 48);
        Ok(Self { test_env, settings, rows: BTreeSet::new() })
    }

    /// Uploads parts whose folders name the time this many hours ago, for every table and hour.
    pub(crate) async fn upload(&mut self, hours_ago: &[i64], parts: RangeInclusive<usize>) -> Result<usize> {
        let mut objects = Vec::new();
        for table in TABLES {
            for hours in hours_ago {
                let time = Timestamp::now() - SignedDuration::from_hours(*hours);
                let folders = time.strftime("year=%Y/month=%m/day=%d/hhmm=%H%M");
                for part in parts.clone() {
                    let key = format!("data/batch/{table}/{folders}/{table}_part{part}.csv");
                    let rows: Vec<String> = (1..=ROWS).map(|row| format!("{hours} h ago, {part}.{row}")).collect();
                    let lines: String = rows.iter().map(|row| format!("\"{row}\"\n")).collect();
                    objects.push((key, format!("text\n{lines}")));
                    self.rows.extend(rows.iter().map(|row| format!("{table} {row}")));
                }
            }
        }
        let count = objects.len();
        let account = &self.test_env.fixture.account;
        let put = |(key, body): (String, String)| async move { account.put(&key, body).await.map(drop) };
        let puts = objects.into_iter().map(put);
        stream::iter(puts).buffer_unordered(16).try_collect::<()>().await?;
        Ok(count)
    }

    /// Sends a sync, and returns the results of its tables.
    pub(crate) async fn sync(&self, request: Value) -> Result<Vec<Value>> {
        let response = self.test_env.invoke_ingest(&self.settings, &json!({"sync": request})).await?;
        response.ensure_success()?;
        let body: Value = serde_json::from_str(response.body["body"].as_str().context("no body")?)?;
        Ok(body["sync"]["tables"].as_array().context("no tables")?.clone())
    }

    /// Syncs until no file remains. The lease of a killed worker must expire first.
    pub(crate) async fn sync_until_done(&self) -> Result<Vec<Value>> {
        let start = Instant::now();
        loop {
            let tables = self.sync(json!({})).await?;
            if tables.iter().all(|table| table["remaining"] == 0) {
                return Ok(tables);
            }
            ensure!(start.elapsed() < TIMEOUT, "files still remain: {tables:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Starts a sync of all tables, and kills it at a failpoint.
    pub(crate) async fn kill_at(&self, point: &str) -> Result<()> {
        let pause = Pause::at(point)?;
        let function = Function::ingest(&self.settings.clone().and(&pause.settings()))?;
        let mut call = function.start(&json!({"sync": {}})).await?;
        call.wait_for(&pause, TIMEOUT).await?;
        let killed = call.kill().await?;
        ensure!(killed.was_killed(), "the sync was not killed at {point}: {killed:?}");
        Ok(())
    }

    /// The number of files that the ledger has.
    pub(crate) async fn loaded(&self) -> Result<usize> {
        let ledger = "SELECT 1 FROM information_schema.tables WHERE table_schema = '{schema}' AND table_name = 'spillway_ledger'";
        if self.test_env.rows(ledger).await?.is_empty() {
            return Ok(0);
        }
        let count = self.test_env.rows("SELECT CONCAT(COUNT(*), '') FROM {schema}.spillway_ledger").await?;
        Ok(count[0][0].as_deref().unwrap_or("0").parse()?)
    }

    /// Fails unless each row of the zone is in its table once, and each file is still at its key.
    pub(crate) async fn ensure_exactly_once(&self) -> Result<()> {
        let mut stored = Vec::new();
        for table in TABLES {
            let rows = self.test_env.rows(&format!("SELECT text FROM {{schema}}.{table}")).await?;
            stored.extend(rows.into_iter().flatten().flatten().map(|row| format!("{table} {row}")));
        }
        stored.sort();
        let lost = self.rows.iter().filter(|row| stored.binary_search(row).is_err()).count();
        let doubled = stored.windows(2).filter(|pair| pair[0] == pair[1]).count();
        ensure!((lost, doubled, stored.len()) == (0, 0, self.rows.len()), "lost {lost}, doubled {doubled}");
        let keys = self.test_env.fixture.account.keys("data/").await?;
        ensure!(keys.len() == self.rows.len() / ROWS, "{} files are left", keys.len());
        Ok(())
    }
}

fn sum(tables: &[Value], field: &str) -> u64 {
    tables.iter().filter_map(|table| table[field].as_u64()).sum()
}

/// The first sync loads everything, the second one reads no file. A late file within the overlap is loaded, an older one by a
/// full sync.
#[rstest]
#[tokio::test]
async fn sync_loads_what_is_new(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut zone = RawZone::new(engine).await?;
    let hours: Vec<i64> = (1..=12).map(|index| index * 3).collect();
    let count = zone.upload(&hours, 1..=3).await? as u64;
    ensure!(count == 108, "{count} parts");
    let first = zone.sync(json!({})).await?;
    assert_eq!((first.len(), sum(&first, "files"), sum(&first, "remaining")), (3, count, 0), "{first:?}");
    zone.ensure_exactly_once().await?;

    let second = zone.sync(json!({})).await?;
    assert_eq!((sum(&second, "files"), sum(&second, "done")), (count, count), "{second:?}");
    // Three levels of folders, one to three days, and no request for an object.
    ensure!(sum(&second, "s3_requests") <= 3 * 9, "{second:?}");
    assert_eq!(second[0]["outcomes"], json!({}));

    zone.upload(&[40], 1..=1).await?;
    zone.upload(&[24 * 90], 1..=1).await?;
    let late = zone.sync(json!({})).await?;
    assert_eq!((sum(&late, "files"), sum(&late, "done")), (count + 3, count), "{late:?}");
    let full = zone.sync(json!({"start_ts": "0001-01-01T00:00:00Z"})).await?;
    assert_eq!((sum(&full, "files"), sum(&full, "done")), (count + 6, count + 3), "{full:?}");
    zone.ensure_exactly_once().await?;

    let status = zone.test_env.invoke_ingest(&zone.settings, &json!({"status": {}})).await?;
    let status: Value = serde_json::from_str(status.body["body"].as_str().context("no status")?)?;
    let syncs = status["status"]["syncs"].as_array().context("no syncs")?;
    let watermarks: Vec<&Value> = syncs.iter().map(|sync| &sync["watermark"]).collect();
    assert_eq!(watermarks, late.iter().map(|table| &table["watermark"]).collect::<Vec<_>>(), "{status}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn two_syncs_at_once_load_each_file_once(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let mut zone = RawZone::new(engine).await?;
    zone.upload(&[1, 2, 3, 4], 1..=3).await?;
    let (one, other) = tokio::join!(zone.sync(json!({})), zone.sync(json!({})));
    ensure!(one?.len() == 3 && other?.len() == 3);
    zone.sync_until_done().await?;
    zone.ensure_exactly_once().await
}

/// A sync that is killed between or within files loses no row, and moves no watermark.
#[rstest]
#[tokio::test]
async fn sync_that_is_killed_goes_on(#[values(Engine::MariaDb, Engine::Postgres)] engine: Engine) -> Result<()> {
    let mut zone = RawZone::new(engine).await?;
    zone.upload(&[1, 30], 1..=2).await?;
    let points = ["SyncListed", "LeaseWritten", "BodyEnd", "RowsAll", "BeforeCommit", "AfterCommit", "SyncFilesDone"];
    for (index, point) in points.into_iter().enumerate() {
        zone.kill_at(point).await?;
        // A file of its own for the next kill.
        zone.upload(&[2], 10 + index..=10 + index).await?;
    }
    zone.sync_until_done().await?;
    zone.ensure_exactly_once().await
}

/// The command runs a sync here, and shows the watermark.
#[tokio::test]
async fn command_syncs_a_table() -> Result<()> {
    let mut zone = RawZone::new(Engine::MariaDb).await?;
    zone.upload(&[1], 1..=2).await?;
    let first = spillway(&zone.settings, &["sync", "orders"]).await?;
    ensure!(first.code == Some(0) && first.stderr.contains("orders: all files: 2 files, 0 done before"), "{first:?}");
    let again = spillway(&zone.settings, &["sync", "--json"]).await?;
    let tables = again.json()?["sync"]["tables"].clone();
    let done: Vec<_> = tables.as_array().context("no tables")?.iter().map(|table| &table["done"]).collect();
    assert_eq!(done, [&json!(0), &json!(0), &json!(2)], "{tables}");
    let window = spillway(&zone.settings, &["sync", "visits", "--from", "2020-01-01", "--until", "2020-02-01"]).await?;
    ensure!(window.stderr.contains("0 files, 0 done before, 0 remaining"), "{window:?}");
    let status = spillway(&zone.settings, &["status"]).await?;
    ensure!(status.stdout.contains("sync      orders: watermark 20"), "{status:?}");
    let unknown = spillway(&zone.settings, &["sync", "order"]).await?;
    ensure!(unknown.code == Some(64) && unknown.stderr.contains("the table order"), "{unknown:?}");
    let wrong = spillway(&zone.settings, &["sync", "orders", "--from", "soon"]).await?;
    ensure!(wrong.code != Some(0) && wrong.stderr.contains("--from is"), "{wrong:?}");
    zone.ensure_exactly_once().await
}
