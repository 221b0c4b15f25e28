//! A world with its servers and the deliveries that S3, Lambda, ECS and the schedule would make: once, again until the
//! event is accepted, and the sweep at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cloud::{Cloud, Object};
use crate::database::{Database, Engine, Options};
use crate::fixture::{Counted, Fixture};
use crate::lambda::{Answer, Function};
use crate::settings::Settings;
use crate::task::{Finished, Task};

/// How long an event is delivered again and again, and how long a sweep may find something. A dead worker's lease alone
/// holds a file for five seconds in the tests.
const BOUND: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);
/// How long one run of the task may take.
pub const TASK_BOUND: Duration = Duration::from_secs(120);

/// A world with its servers.
#[derive(Debug)]
pub struct TestEnv {
    /// The local AWS.
    pub cloud: Cloud,
    /// The database.
    pub server: Database,
    /// What was uploaded.
    pub fixture: Fixture,
}

impl TestEnv {
    /// On the servers that all tests share, with MariaDB: for what is the same on every engine.
    pub async fn new() -> Result<Self> {
        Self::on(Engine::MariaDb).await
    }

    /// On the servers that all tests share, with this engine.
    pub async fn on(engine: Engine) -> Result<Self> {
        Self::with(Database::shared(engine).await?).await
    }

    /// On a database of its own, which may be stopped.
    pub async fn with_own_server(engine: Engine, options: Options) -> Result<Self> {
        Self::with(Database::start(engine, options).await?).await
    }

    async fn with(server: Database) -> Result<Self> {
        let cloud = Cloud::shared().await?;
        let fixture = Fixture::new(cloud.account().await?, server.schema().await?);
        Ok(Self { cloud, server, fixture })
    }

    /// The settings of a binary in this world.
    pub fn settings(&self) -> Settings {
        self.fixture.settings()
    }

    /// Runs a statement as the administrator; `{schema}` stands for the world's schema.
    pub async fn sql(&self, statement: &str) -> Result<()> {
        self.server.execute(&self.fixture.schema, statement).await
    }

    /// Runs a query as the administrator; `{schema}` stands for the world's schema.
    pub async fn rows(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.server.query(&self.fixture.schema, query).await
    }

    /// Delivers the notification of these objects to the trigger, once.
    pub async fn deliver(&self, settings: &Settings, objects: &[&Object]) -> Result<Answer> {
        Function::trigger(settings)?.invoke(&self.fixture.event(objects)).await
    }

    /// Delivers it until the trigger accepts it, as Lambda does with an event that failed.
    pub async fn deliver_until_accepted(&self, settings: &Settings, objects: &[&Object]) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = self.deliver(settings, objects).await?;
            if !answer.is_failure() {
                return Ok(answer);
            }
            ensure!(start.elapsed() < BOUND, "the event is still not accepted: {} {}", answer.body, answer.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs the task for one object until it says that all is done.
    pub async fn run_task_until_done(&self, settings: &Settings, key: &str) -> Result<Finished> {
        let start = Instant::now();
        let settings = settings.clone().with("CSV_KEY", key);
        loop {
            let finished = Task::run(&settings, TASK_BOUND).await?;
            if finished.code() == Some(0) {
                return Ok(finished);
            }
            ensure!(start.elapsed() < BOUND, "the task still fails: {:?} {}", finished.status, finished.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the ingest function for something.
    pub async fn ask(&self, settings: &Settings, request: &Value) -> Result<Answer> {
        Function::ingest(settings)?.invoke(request).await
    }

    /// Asks for a replay; the reports in the answer.
    pub async fn replay(&self, settings: &Settings) -> Result<Vec<Value>> {
        let answer = self.ask(settings, &json!({"replay": {}})).await?;
        ensure!(!answer.is_failure(), "the replay failed: {} {}", answer.body, answer.logs);
        let body = answer.body["body"].as_str().context("the answer has no body")?;
        let body: Value = serde_json::from_str(body)?;
        Ok(body["reports"].as_array().context("the answer has no reports")?.clone())
    }

    /// Sweeps until no lease is left: those of killed workers first have to expire.
    pub async fn sweep(&self, settings: &Settings) -> Result<()> {
        self.sweep_until(settings, <[String]>::is_empty).await
    }

    /// Sweeps until the leases that are left are as they should be.
    pub async fn sweep_until(&self, settings: &Settings, is_done: impl Fn(&[String]) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.ask(settings, &json!({"sweep": {"older_than_seconds": 0}})).await?;
            let leases = self.fixture.account.keys("lease/").await?;
            if !answer.is_failure() && is_done(&leases) {
                return Ok(());
            }
            ensure!(start.elapsed() < BOUND, "the sweep leaves {leases:?}: {} {}", answer.body, answer.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How many rows are where.
    pub async fn count(&self) -> Result<Counted> {
        self.fixture.count(&self.server).await
    }

    /// Fails unless every row is in exactly one place, every object has one end, and nothing is left behind.
    pub async fn ensure_kept(&self) -> Result<()> {
        self.fixture.ensure_kept(&self.server).await
    }

    /// The ledger's state and reason for a key; none when the ledger does not know it.
    pub async fn ledger(&self, key: &str) -> Result<Option<(String, String)>> {
        let query = format!(
            "SELECT state, COALESCE(reason, '') FROM {{schema}}.spillway_ledger WHERE object_key = '{key}' ORDER BY started_at DESC"
        );
        let rows = self.rows(&query).await?;
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(rows.first().map(|row| (value(&row[0]), value(&row[1]))))
    }

    /// Why each file fell back, by its key: what the manifests beside the fallback say.
    pub async fn fallback_reasons(&self) -> Result<Vec<(String, String)>> {
        let mut reasons = Vec::new();
        for key in self.fixture.account.keys("fallback/_manifests/").await? {
            let manifest: Value = serde_json::from_slice(&self.fixture.account.get(&key).await?)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            reasons.push((text(&manifest["source"]["object"]["key"]), text(&manifest["reason"])));
        }
        Ok(reasons)
    }
}
