//! A bucket with exports of one table, and the state machine of `templates/exports.yaml` as a loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use spillway_formats::compression::Compressor;
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::firehose::kinesis;
use spillway_test_env::lambda::{Function, Response};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::wait;

pub(super) const TIMEOUT: Duration = Duration::from_secs(90);
pub(super) const STREAM: &str = "shop-changes";
pub(super) const TABLE: &str = "tenant_test_table";
pub(super) const STATE: &str = "export-registry/tenant/test_table/state.json";
/// Errors after which the state machine repeats a step.
const REPEATED: [&str; 4] = ["busy", "conflict", "failover", "commit_unknown"];

/// Name and price of each row, by its id.
pub(super) type Rows = BTreeMap<u64, (String, Option<String>)>;

/// A bucket with exports of one table, a stream, and the table.
pub(super) struct Site {
    pub(super) test_env: Arc<TestEnv>,
    pub(super) settings: Settings,
}

/// The result of one run of the state machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Execution {
    Done,
    Stale,
    Failed(String),
}

impl Site {
    pub(super) async fn new(engine: Engine, target: &str) -> Result<Self> {
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

    pub(super) async fn put(&self, version: &str, text: &str) -> Result<String> {
        let key = format!("exports/tenant/test_table/{version}/export1.csv.gz");
        self.test_env.fixture.account.put(&key, gzip(text)?).await?;
        Ok(key)
    }

    pub(super) async fn invoke(&self, step: &Value) -> Result<Response> {
        Function::ingest(&self.settings)?.invoke(&json!({"export": step})).await
    }

    /// Runs a step until it succeeds, and kills its process once at the failpoint, if it reaches it.
    pub(super) async fn step(&self, step: Value, kill: &mut Option<Pause>) -> Result<Result<Value, String>> {
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
    pub(super) async fn execute(&self, key: &str, owner: &str, kill: Option<&str>) -> Result<Execution> {
        let mut kill = kill.map(Pause::at).transpose()?;
        let execution = self.execute_until(key, owner, &mut kill).await?;
        ensure!(kill.is_none(), "no step reached {}", kill.as_ref().map_or("", Pause::point));
        Ok(execution)
    }

    pub(super) async fn execute_until(&self, key: &str, owner: &str, kill: &mut Option<Pause>) -> Result<Execution> {
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
    pub(super) async fn import(&self, version: &str, rows: &Rows, kill: Option<&str>) -> Result<Value> {
        let key = self.put(version, &csv(rows)).await?;
        let execution = self.execute(&key, version, kill).await.with_context(|| format!("{version}, {kill:?}"))?;
        ensure!(execution == Execution::Done, "{version}, {kill:?}: {execution:?}");
        ensure!(self.table().await? == *rows, "{version}, {kill:?}: the table has other rows");
        self.record(version).await
    }

    pub(super) async fn table(&self) -> Result<Rows> {
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

    pub(super) async fn document(&self, key: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.test_env.fixture.account.get(key).await?)?)
    }

    pub(super) async fn record(&self, version: &str) -> Result<Value> {
        self.document(&format!("export-registry/tenant/test_table/versions/{version}.json")).await
    }

    /// Changes the state of the table.
    pub(super) async fn change_state(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut state = self.document(STATE).await?;
        change(&mut state);
        self.test_env.fixture.account.put(STATE, state.to_string()).await?;
        Ok(())
    }

    /// The lock expires, as if its owner had died long ago.
    pub(super) async fn expire_lock(&self) -> Result<()> {
        self.change_state(|state| state["lock"]["expires_at"] = json!("2020-01-01T00:00:00Z")).await
    }

    /// Fails unless the import of a version ended with this error, and changed nothing.
    pub(super) async fn ensure_refused(&self, version: &str, body: Vec<u8>, error: &str) -> Result<()> {
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

pub(super) fn gzip(text: &str) -> Result<Vec<u8>> {
    let (mut compressor, mut bytes) = (Compressor::gzip(), Vec::new());
    compressor.push(text.as_bytes(), &mut bytes)?;
    compressor.finish(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn csv(rows: &Rows) -> String {
    let mut text = "id,name,price\n".to_owned();
    for (id, (name, price)) in rows {
        text += &format!("{id},\"{}\",{}\n", name.replace('"', "\"\""), price.as_deref().unwrap_or_default());
    }
    text
}

/// The rows of one version: each version updates a third of the rows before, deletes a few, and has new ones.
pub(super) fn rows(version: u64) -> Rows {
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
pub(super) fn version(number: u64) -> String {
    format!("V{number}")
}
