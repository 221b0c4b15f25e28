//! Imports of full exports, step by step as the state machine of `templates/exports.yaml` runs them: a chain of versions, kills at
//! each step, workers that stall, and exports that are refused. After each, the table is equal to the newest accepted export.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aws_smithy_types::base64;
use rstest::rstest;
use serde_json::{Value, json};
use spillway_formats::compression::Compressor;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::firehose::{KinesisRecord, kinesis, records};
use spillway_test_env::lambda::{Call, Function, Response};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::wait;

const TIMEOUT: Duration = Duration::from_secs(90);
const STREAM: &str = "shop-changes";
const TABLE: &str = "tenant_test_table";
const STATE: &str = "export-registry/tenant/test_table/state.json";
/// Errors after which the state machine repeats a step.
const REPEATED: [&str; 4] = ["busy", "conflict", "failover", "commit_unknown"];

/// Name and price of each row, by its id.
type Rows = BTreeMap<u64, (String, Option<String>)>;

/// A bucket with exports of one table, a stream, and the table.
struct Site {
    test_env: Arc<TestEnv>,
    settings: Settings,
}

/// The result of one run of the state machine.
#[derive(Debug, PartialEq, Eq)]
enum Execution {
    Done,
    Stale,
    Failed(String),
}

impl Site {
    async fn new(engine: Engine, target: &str) -> Result<Self> {
        let test_env = TestEnv::on(engine).await?;
        let settings = test_env
            .settings()
            .without("RDS_TABLE")
            .with("TABLE_PATTERN", "exports/{tenant}/{table}/{version}/{file} => {tenant}_{table}")
            .with("EXPORT_TARGET", target)
            .with("EXPORT_PREFIX", "exports/")
            .with("EXPORT_STREAM", STREAM)
            .with("EXPORT_KEY", "id")
            .with("EXPORT_QUIET_SECONDS", 0);
        let site = Self { test_env: Arc::new(test_env), settings };
        if target != "database" {
            let account = &site.test_env.fixture.account;
            kinesis(account, "CreateStream", &json!({"StreamName": STREAM, "ShardCount": 2})).await?;
            wait::until("the stream to be active", TIMEOUT, async || {
                let found = kinesis(account, "DescribeStreamSummary", &json!({"StreamName": STREAM})).await?;
                Ok(found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
            })
            .await?;
        }
        let table =
            format!("CREATE TABLE {{schema}}.{TABLE} (id bigint PRIMARY KEY, name varchar(100), price decimal(10,2))");
        site.test_env.sql(&table).await?;
        if engine == Engine::Postgres {
            let user = site.test_env.fixture.schema.user.clone();
            site.test_env.sql(&format!("ALTER TABLE {{schema}}.{TABLE} OWNER TO \"{user}\"")).await?;
        }
        Ok(site)
    }

    async fn put(&self, version: &str, text: &str) -> Result<String> {
        let key = format!("exports/tenant/test_table/{version}/export1.csv.gz");
        self.test_env.fixture.account.put(&key, gzip(text)?).await?;
        Ok(key)
    }

    async fn invoke(&self, step: &Value) -> Result<Response> {
        Function::ingest(&self.settings)?.invoke(&json!({"export": step})).await
    }

    /// Runs a step until it succeeds, and kills its process once at the failpoint, if it reaches it.
    async fn step(&self, step: Value, kill: &mut Option<Pause>) -> Result<Result<Value, String>> {
        let start = Instant::now();
        loop {
            let response = match kill {
                Some(pause) => {
                    let function = Function::ingest(&self.settings.clone().and(&pause.settings()))?;
                    let call = function.start(&json!({"export": step})).await?;
                    while !call.has_ended() && !pause.is_reached() {
                        ensure!(start.elapsed() < TIMEOUT, "{step} does not end");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    if pause.is_reached() {
                        call.kill().await?;
                        *kill = None;
                        continue;
                    }
                    call.finish().await?
                }
                None => self.invoke(&step).await?,
            };
            match response.error_type() {
                // As the state machine, after an error of Lambda: the emulator may start the function before it listens itself.
                None if response.is_failure() && start.elapsed() < TIMEOUT => {}
                None if response.is_failure() => bail!("{step} was killed: {}", response.logs),
                None => return Ok(Ok(response.body)),
                Some(kind) if REPEATED.contains(&kind) && start.elapsed() < TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Some(kind) => return Ok(Err(format!("{kind}: {}", response.error_message()))),
            }
        }
    }

    /// Runs the steps of the state machine for an object. The process is killed once at the failpoint.
    async fn execute(&self, key: &str, owner: &str, kill: Option<&str>) -> Result<Execution> {
        let mut kill = kill.map(Pause::at).transpose()?;
        let execution = self.execute_until(key, owner, &mut kill).await?;
        ensure!(kill.is_none(), "no step reached {}", kill.as_ref().map_or("", Pause::point));
        Ok(execution)
    }

    async fn execute_until(&self, key: &str, owner: &str, kill: &mut Option<Pause>) -> Result<Execution> {
        let start = Instant::now();
        loop {
            ensure!(start.elapsed() < TIMEOUT, "the import of {key} does not end");
            let export = match self.step(json!({"step": "register", "key": key}), kill).await? {
                Ok(export) => export,
                Err(error) => return Ok(Execution::Failed(error)),
            };
            match export["status"].as_str() {
                Some("registered") => {}
                Some("waiting") => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Some("done") => return Ok(Execution::Done),
                Some("stale") => return Ok(Execution::Stale),
                _ => bail!("{export}"),
            }
            let names = json!({"tenant": export["tenant"], "table": export["table"], "version": export["version"]});
            let with = |more: Value| {
                let mut step = names.clone();
                more.as_object().into_iter().flatten().for_each(|(name, value)| step[name] = value.clone());
                step
            };
            let lock =
                self.step(with(json!({"step": "lock", "owner": owner})), kill).await?.map_err(anyhow::Error::msg)?;
            match lock["status"].as_str() {
                Some("locked") => {}
                Some("busy") => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue;
                }
                Some("done" | "stale") => continue,
                _ => bail!("{lock}"),
            }
            let held = |step: &str| with(json!({"step": step, "version": lock["version"], "fence": lock["fence"]}));
            for name in ["diff", "apply", "publish", "finish"] {
                if let Err(error) = self.step(held(name), kill).await? {
                    let (kind, message) = error.split_once(": ").unwrap_or((&error, ""));
                    let mut fail = held("fail");
                    fail["error"] = json!({"Error": kind, "Cause": json!({"errorMessage": message}).to_string()});
                    let failed = self.step(fail, kill).await?.map_err(anyhow::Error::msg)?;
                    let is_other = lock["version"] != export["version"];
                    match failed["status"].as_str() {
                        Some("lost") => break,
                        Some("dropped") if is_other => break,
                        _ => return Ok(Execution::Failed(error)),
                    }
                }
            }
        }
    }

    /// Imports a version, and checks that the table has its rows.
    async fn import(&self, version: &str, rows: &Rows, kill: Option<&str>) -> Result<Value> {
        let key = self.put(version, &csv(rows)).await?;
        let execution = self.execute(&key, version, kill).await.with_context(|| format!("{version}, {kill:?}"))?;
        ensure!(execution == Execution::Done, "{version}, {kill:?}: {execution:?}");
        ensure!(self.table().await? == *rows, "{version}, {kill:?}: the table has other rows");
        self.record(version).await
    }

    async fn table(&self) -> Result<Rows> {
        let found = self.test_env.rows(&format!("SELECT id, name, price FROM {{schema}}.{TABLE}")).await?;
        let count = found.len();
        let mut rows = Rows::new();
        for row in found {
            let id = row[0].as_deref().context("a NULL")?.parse()?;
            rows.insert(id, (row[1].clone().unwrap_or_default(), row[2].clone()));
        }
        ensure!(rows.len() == count, "a key is in the table twice");
        Ok(rows)
    }

    async fn document(&self, key: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.test_env.fixture.account.get(key).await?)?)
    }

    async fn record(&self, version: &str) -> Result<Value> {
        self.document(&format!("export-registry/tenant/test_table/versions/{version}.json")).await
    }

    /// Changes the state of the table.
    async fn change_state(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut state = self.document(STATE).await?;
        change(&mut state);
        self.test_env.fixture.account.put(STATE, state.to_string()).await?;
        Ok(())
    }

    /// The lock expires, as if its owner had died long ago.
    async fn expire_lock(&self) -> Result<()> {
        self.change_state(|state| state["lock"]["expires_at"] = json!("2020-01-01T00:00:00Z")).await
    }

    /// Fails unless the import of a version ended with this error, and changed nothing.
    async fn ensure_refused(&self, version: &str, body: Vec<u8>, error: &str) -> Result<()> {
        let before = self.table().await?;
        let key = format!("exports/tenant/test_table/{version}/export1.csv.gz");
        self.test_env.fixture.account.put(&key, body).await?;
        let execution = self.execute(&key, version, None).await?;
        let Execution::Failed(found) = execution else { bail!("{version}: {execution:?}") };
        ensure!(found.contains(error), "{version}: {found}");
        let record = self.record(version).await?;
        ensure!(
            record["state"] == "failed"
                && record["error"]
                    .as_str()
                    .is_some_and(|text| text.contains(error.split(": ").last().unwrap_or(error))),
            "{record}"
        );
        ensure!(self.table().await? == before, "{version} has changed the table");
        let state = self.document(STATE).await?;
        ensure!(state["lock"].is_null() && state["planned"].is_null(), "{state}");
        Ok(())
    }
}

fn gzip(text: &str) -> Result<Vec<u8>> {
    let (mut compressor, mut bytes) = (Compressor::gzip(), Vec::new());
    compressor.push(text.as_bytes(), &mut bytes)?;
    compressor.finish(&mut bytes)?;
    Ok(bytes)
}

fn csv(rows: &Rows) -> String {
    let mut text = "id,name,price\n".to_owned();
    for (id, (name, price)) in rows {
        text += &format!("{id},\"{}\",{}\n", name.replace('"', "\"\""), price.as_deref().unwrap_or_default());
    }
    text
}

/// The rows of one version: each version updates a third of the rows before, deletes a few, and has new ones.
fn rows(version: u64) -> Rows {
    let first = version * 5;
    (first..first + 300)
        .map(|id| {
            let changed = if id % 3 == 0 { version } else { 0 };
            let price = (id % 7 != 0).then(|| format!("{id}.{:02}", changed % 100));
            (id, (format!("row \"{id}\", {changed}\nend"), price))
        })
        .collect()
}

/// The names of the versions, which sort by their numbers only.
fn version(number: u64) -> String {
    format!("V{number}")
}

/// Show 1: the chain of the issue, with statistics.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn chain_of_versions_is_imported_with_statistics(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    let row = |id: u64, name: &str, price: &str| (id, (name.to_owned(), Some(price.to_owned())));
    let counts = |record: &Value| {
        let statistics = &record["statistics"];
        ["inserted", "updated", "deleted", "unchanged"].map(|name| statistics[name].as_u64().unwrap_or(u64::MAX))
    };
    let first = site.import("20201230_V0001", &Rows::from([row(1, "a", "1.00"), row(2, "b", "2.00")]), None).await?;
    assert_eq!((counts(&first), &first["statistics"]["compared_with"]), ([2, 0, 0, 0], &Value::Null));
    let second = Rows::from([row(1, "a", "1.50"), row(2, "b", "2.00"), row(3, "c", "3.00")]);
    let second = site.import("20201230_V0002", &second, None).await?;
    assert_eq!((counts(&second), &second["statistics"]["compared_with"]), ([1, 1, 0, 1], &json!("20201230_V0001")));
    let third = site.import("20201231_V0001", &Rows::from([row(1, "a", "1.50"), row(3, "c", "3.25")]), None).await?;
    assert_eq!((counts(&third), &third["statistics"]["compared_with"]), ([0, 1, 1, 1], &json!("20201230_V0002")));
    for record in [&first, &second, &third] {
        ensure!(record["state"] == "done" && record["statistics"]["elapsed_ms"].as_u64().is_some_and(|time| time > 0));
        ensure!(record["statistics"]["rows_missing"] == 0 && record["statistics"]["is_loaded"] == true, "{record}");
    }
    // Every event again, in any order.
    for (version, expected) in [
        ("20201231_V0001", Execution::Done),
        ("20201230_V0001", Execution::Stale),
        ("20201230_V0002", Execution::Stale),
    ] {
        let key = format!("exports/tenant/test_table/{version}/export1.csv.gz");
        assert_eq!(site.execute(&key, "again", None).await?, expected);
        assert_eq!(site.record(version).await?["state"], "done", "{version}");
    }
    let loads = site.test_env.rows("SELECT rows_deleted, rows_stored FROM {schema}.spillway_ledger").await?;
    assert_eq!(loads.len(), 3, "{loads:?}");
    Ok(())
}

/// The failpoints of an import into database and stream, in their order.
const POINTS: [&str; 12] = [
    "ImportRegistered",
    "ImportLocked",
    "ImportDeltaWritten",
    "ImportPlanned",
    "Claimed",
    "RowsFirst",
    "BeforeLedgerEnd",
    "BeforeCommit",
    "AfterCommit",
    "ImportApplied",
    "ImportPublished",
    "ImportFinished",
];

/// Shows 3 and 5: `kill -9` at each step, repeated by the same execution; then a consumer of the stream.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn killed_step_is_repeated(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    site.import(&version(1), &rows(1), None).await?;
    for (number, point) in (2..).zip(POINTS) {
        let record = site.import(&version(number), &rows(number), Some(point)).await?;
        ensure!(record["state"] == "done" && record["statistics"]["rows_missing"] == 0, "{point}: {record}");
    }
    let last = 1 + POINTS.len() as u64;
    let mut consumer = Consumer::default();
    let published = records(&site.test_env.fixture.account, STREAM).await?;
    published.iter().try_for_each(|record| consumer.read(record))?;
    ensure!(consumer.rows == rows(last), "the consumer of the stream has other rows");
    let loads = site.test_env.rows("SELECT source_id FROM {schema}.spillway_ledger WHERE state = 'loaded'").await?;
    assert_eq!(loads.len() as u64, last);
    println!(
        "{} kills, {} records published, {} rows in the table",
        POINTS.len(),
        published.len(),
        consumer.rows.len()
    );
    Ok(())
}

/// Show 5: the function applies the published records to an empty table, in calls that are repeated, overlap and are killed.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn published_stream_gives_the_newest_export(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    for number in 1..=4 {
        site.import(&version(number), &rows(number), None).await?;
    }
    let published = records(&site.test_env.fixture.account, STREAM).await?;
    site.test_env.sql(&format!("DELETE FROM {{schema}}.{TABLE}")).await?;
    let consumer = Function::ingest(&site.settings.clone().with("EXPORT_TARGET", "database"))?;
    let mut shards: BTreeMap<&str, Vec<&KinesisRecord>> = BTreeMap::new();
    for record in &published {
        shards.entry(record.shard()).or_default().push(record);
    }
    ensure!(shards.len() == 2, "{} shards", shards.len());
    let mut calls = 0;
    for records in shards.values() {
        for (index, batch) in records.chunks(150).enumerate() {
            let event = kinesis_event(batch);
            if index == 1 {
                let pause = Pause::at("AfterCommit")?;
                let settings = site.settings.clone().with("EXPORT_TARGET", "database").and(&pause.settings());
                let mut call = Function::ingest(&settings)?.start(&event).await?;
                call.wait_for(&pause, TIMEOUT).await?;
                call.kill().await?;
            }
            let twice = [&event, &event];
            // A batch that comes again with other limits.
            let overlapping = kinesis_event(&batch[batch.len() / 2..]);
            for event in twice.into_iter().chain([&overlapping]) {
                let response = consumer.invoke(event).await?;
                response.ensure_success()?;
                assert_eq!(response.body, json!({"batchItemFailures": []}));
                calls += 1;
            }
        }
    }
    ensure!(site.table().await? == rows(4), "the table has other rows than the newest export");
    println!("{} records in {calls} calls", published.len());
    Ok(())
}

/// The event with which Lambda delivers these records.
fn kinesis_event(records: &[&KinesisRecord]) -> Value {
    let record = |record: &&KinesisRecord| {
        json!({
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
            "eventID": format!("{}:{}", record.shard(), record.sequence_number()),
            "eventSourceARN": format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}"),
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": record.partition_key(),
                "sequenceNumber": record.sequence_number(), "data": base64::encode(&record.data),
            },
        })
    };
    json!({"Records": records.iter().map(record).collect::<Vec<_>>()})
}

/// Show 3: after a kill, the execution never continues. The lock expires, and the next version first finishes what was planned.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn next_version_takes_over_from_a_killed_import(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    site.import(&version(1), &rows(1), None).await?;
    let mut number = 2;
    for point in POINTS.into_iter().skip(1) {
        let key = site.put(&version(number), &csv(&rows(number))).await?;
        let pause = Pause::at(point)?;
        let settings = site.settings.clone().and(&pause.settings());
        let dying = Site { test_env: Arc::clone(&site.test_env), settings };
        let mut no_kill = None;
        tokio::select! {
            ended = dying.execute_until(&key, "dead", &mut no_kill) => bail!("the import did not reach {point}: {ended:?}"),
            reached = pause.wait_until_reached(TIMEOUT) => reached?,
        }
        // Dropping the call has killed the process.
        let is_finished = point == "ImportFinished";
        if !is_finished {
            site.expire_lock().await?;
        }
        site.import(&version(number + 1), &rows(number + 1), None).await?;
        let record = site.record(&version(number)).await?;
        // Nothing was planned before ImportPlanned, so that version is not needed.
        let is_planned = !matches!(point, "ImportLocked" | "ImportDeltaWritten");
        ensure!((record["state"] == "done") == is_planned, "{point}: {record}");
        let compared = &site.record(&version(number + 1)).await?["statistics"]["compared_with"];
        let expected = if is_planned { version(number) } else { version(number - 1) };
        assert_eq!(compared, &json!(expected), "{point}");
        number += 2;
    }
    let mut consumer = Consumer::default();
    records(&site.test_env.fixture.account, STREAM).await?.iter().try_for_each(|record| consumer.read(record))?;
    ensure!(consumer.rows == rows(number - 1), "the consumer of the stream has other rows");
    Ok(())
}

/// A worker that stalls until another one has the lock cannot commit.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn stalled_worker_cannot_commit(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let key = site.put(&version(2), &csv(&rows(2))).await?;
    let pause = Pause::at("BeforeLedgerEnd")?;
    let mut call = paused_apply(&site, &key, &version(2), &pause).await?;
    call.wait_for(&pause, TIMEOUT).await?;
    site.expire_lock().await?;
    let names = json!({"tenant": "tenant", "table": "test_table", "version": version(2)});
    let mut lock = names.clone();
    (lock["step"], lock["owner"]) = ("lock".into(), "second".into());
    let locked = site.step(lock, &mut None).await?.map_err(anyhow::Error::msg)?;
    ensure!(locked["status"] == "locked" && locked["version"] == version(2), "{locked}");
    pause.release()?;
    let response = call.finish().await?;
    assert_eq!(response.error_type(), Some("lease_lost"), "{}", response.body);
    ensure!(site.table().await? == rows(1), "the stalled worker has committed");
    assert_eq!(site.execute(&key, "second", None).await?, Execution::Done);
    ensure!(site.table().await? == rows(2));
    Ok(())
}

/// Starts the step apply of a version, with a failpoint.
async fn paused_apply(site: &Site, key: &str, version: &str, pause: &Pause) -> Result<Call> {
    let names = json!({"tenant": "tenant", "table": "test_table", "version": version});
    let mut lock = names.clone();
    (lock["step"], lock["owner"]) = ("lock".into(), "first".into());
    for step in [json!({"step": "register", "key": key}), lock] {
        site.invoke(&step).await?.ensure_success()?;
    }
    let fence = site.document(STATE).await?["lock"]["fence"].clone();
    let mut held = names;
    (held["step"], held["fence"]) = ("diff".into(), fence);
    site.invoke(&held).await?.ensure_success()?;
    held["step"] = "apply".into();
    Function::ingest(&site.settings.clone().and(&pause.settings()))?.start(&json!({"export": held})).await
}

/// The database refuses a delta whose export before is not the one that the table has, whatever the registry says.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn ledger_refuses_a_delta_of_another_base(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let old = site.document(STATE).await?;
    site.import(&version(2), &rows(2), None).await?;
    // A registry from a backup: it has forgotten the second version.
    site.change_state(|state| *state = old).await?;
    site.ensure_refused(&version(3), gzip(&csv(&rows(3)))?, "export_refused: ").await?;
    ensure!(site.table().await? == rows(2));
    // A registry without this table: the next version is a first export, and a full one.
    site.change_state(|state| state["current"] = Value::Null).await?;
    site.test_env.sql(&format!("DELETE FROM {{schema}}.{TABLE}")).await?;
    let first = site.import(&version(4), &rows(4), None).await?;
    assert_eq!(first["statistics"]["compared_with"], Value::Null);
    site.import(&version(5), &rows(5), None).await?;
    Ok(())
}

/// Show 4: wrong exports, each with a clear error, and nothing lost.
#[tokio::test]
async fn wrong_exports_are_refused() -> Result<()> {
    let site = Site::new(Engine::MariaDb, "database").await?;
    site.import(&version(1), &rows(1), None).await?;
    let text = csv(&rows(2));
    let whole = gzip(&text)?;
    let half: Rows = rows(2).into_iter().take(150).collect();
    let wrong_value = text.replacen("id,name,price\n", "id,name,price\n9999,\"x\",no number\n", 1);
    for (number, body, error) in [
        (2, Vec::new(), "file_broken: "),
        (3, gzip("")?, "file_broken: "),
        (4, gzip("id,name,price\n")?, "lacks 300 of the 300 rows"),
        (5, whole[..whole.len() / 2].to_vec(), "file_broken: "),
        (6, gzip(&csv(&half))?, "it may be truncated"),
        (7, gzip(&format!("{text}310,\"x\",1.00\n310,\"y\",1.00\n"))?, "has the same key"),
        (8, gzip(&text.replace("id,name,price\n", "id,name,cost\n"))?, "new: cost; missing: price"),
        (9, gzip(&format!("{text},\"x\",1.00\n"))?, "a column of the key is NULL"),
        (10, gzip(&wrong_value)?, "data_refused: "),
    ] {
        site.ensure_refused(&version(number), body, error).await.with_context(|| format!("case {number}"))?;
    }
    // A corrected file under the same key is imported, and so is the next version.
    let corrected = site.import(&version(10), &rows(10), None).await?;
    assert_eq!(corrected["statistics"]["compared_with"], version(1));
    assert_eq!(corrected["error"], Value::Null);
    site.import(&version(11), &rows(11), None).await?;
    Ok(())
}

/// A consumer of the published stream, as `docs/exports.md` describes it.
#[derive(Default)]
struct Consumer {
    rows: Rows,
    last: BTreeMap<String, (String, u64)>,
}

impl Consumer {
    fn read(&mut self, record: &KinesisRecord) -> Result<()> {
        let message: Value = serde_json::from_slice(&record.data)?;
        let source = &message["source"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a field is not text");
        ensure!(source["tenant"] == "tenant" && source["table"] == "test_table", "{message}");
        let change = (text(&source["export_version"])?, text(&source["sequence"])?.parse()?);
        if self.last.insert(record.partition_key().to_owned(), change.clone()) == Some(change) {
            return Ok(());
        }
        let (before, after) = (&message["before"], &message["after"]);
        let row = if after.is_null() { before } else { after };
        let id: u64 = text(&row["id"])?.parse()?;
        match after.is_null() {
            true => drop(self.rows.remove(&id)),
            false => drop(self.rows.insert(id, (text(&after["name"])?, after["price"].as_str().map(str::to_owned)))),
        }
        Ok(())
    }
}
