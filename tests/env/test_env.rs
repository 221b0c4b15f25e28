//! A fixture with its servers, and the requests that S3, Lambda, ECS and the schedule send.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cloud::{Cloud, Object};
use crate::database::{Database, Engine, Options, Rows};
use crate::failpoint::Pause;
use crate::fixture::{Counted, Fixture};
use crate::lambda::{Call, Function, Response};
use crate::settings::Settings;
use crate::task::{Finished, Task};

/// The time limit for repeated deliveries and sweeps. In the tests the lease of a dead worker expires after five seconds.
const TIMEOUT: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit for one run of the task.
pub const TASK_TIMEOUT: Duration = Duration::from_secs(120);

/// A fixture with its servers.
#[derive(Debug)]
pub struct TestEnv {
    /// The local AWS.
    pub cloud: Cloud,
    /// The database.
    pub server: Database,
    /// The uploaded files, the bucket and the schema.
    pub fixture: Fixture,
}

impl TestEnv {
    /// Uses the shared servers, with MariaDB. For behavior that does not depend on the engine.
    pub async fn new() -> Result<Self> {
        Self::on(Engine::MariaDb).await
    }

    /// Uses the shared servers, with this engine.
    pub async fn on(engine: Engine) -> Result<Self> {
        Self::with(Database::shared(engine).await?).await
    }

    /// Uses a database server for this test alone, which the test may stop.
    pub async fn with_own_server(engine: Engine, options: Options) -> Result<Self> {
        Self::with(Database::start(engine, options).await?).await
    }

    async fn with(server: Database) -> Result<Self> {
        let cloud = Cloud::shared().await?;
        let fixture = Fixture::new(cloud.account().await?, server.schema().await?);
        Ok(Self { cloud, server, fixture })
    }

    /// The settings of a binary that uses this environment.
    pub fn settings(&self) -> Settings {
        self.fixture.settings()
    }

    /// Runs a statement as the administrator; `{schema}` becomes the name of the fixture's schema.
    pub async fn sql(&self, statement: &str) -> Result<()> {
        self.server.execute(&self.fixture.schema, statement).await
    }

    /// Runs a query as the administrator; `{schema}` becomes the name of the fixture's schema.
    pub async fn rows(&self, query: &str) -> Result<Rows> {
        self.server.query(&self.fixture.schema, query).await
    }

    /// Delivers the notification for these objects to the trigger, once.
    pub async fn deliver(&self, settings: &Settings, objects: &[&Object]) -> Result<Response> {
        Function::trigger(settings)?.invoke(&self.fixture.event(objects)).await
    }

    /// Delivers the notification until the trigger succeeds, as Lambda retries a failed event.
    pub async fn deliver_until_accepted(&self, settings: &Settings, objects: &[&Object]) -> Result<Response> {
        let start = Instant::now();
        loop {
            let response = self.deliver(settings, objects).await?;
            if !response.is_failure() {
                return Ok(response);
            }
            ensure!(start.elapsed() < TIMEOUT, "the event is still not accepted: {} {}", response.body, response.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Starts the trigger for an object, and waits until it has paused at the failpoint.
    pub async fn pause_trigger(&self, settings: &Settings, failpoint: &str, object: &Object) -> Result<(Call, Pause)> {
        let pause = Pause::at(failpoint)?;
        let trigger = Function::trigger(&settings.clone().and(&pause.settings()))?;
        let mut call = trigger.start(&self.fixture.event(&[object])).await?;
        call.wait_for(&pause, TIMEOUT).await?;
        Ok((call, pause))
    }

    /// Delivers the notification of each object in a call of its own, all at the same time.
    pub async fn deliver_concurrently(&self, settings: &Settings, objects: &[&Object]) -> Result<Vec<Response>> {
        let trigger = Function::trigger(settings)?;
        let mut calls = Vec::new();
        for object in objects {
            calls.push(trigger.start(&self.fixture.event(&[object])).await?);
        }
        let mut responses = Vec::new();
        for call in calls {
            responses.push(call.finish().await?);
        }
        Ok(responses)
    }

    /// Runs the task for one object until it exits with code 0.
    pub async fn run_task_until_done(&self, settings: &Settings, key: &str) -> Result<Finished> {
        let start = Instant::now();
        let settings = settings.clone().with("CSV_KEY", key);
        loop {
            let finished = Task::run(&settings, TASK_TIMEOUT).await?;
            if finished.code() == Some(0) {
                return Ok(finished);
            }
            ensure!(start.elapsed() < TIMEOUT, "the task still fails: {:?} {}", finished.status, finished.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends a request to the ingest function.
    pub async fn invoke_ingest(&self, settings: &Settings, request: &Value) -> Result<Response> {
        Function::ingest(settings)?.invoke(request).await
    }

    /// Requests a replay and returns its reports.
    pub async fn replay(&self, settings: &Settings) -> Result<Vec<Value>> {
        let response = self.invoke_ingest(settings, &json!({"replay": {}})).await?;
        response.ensure_success()?;
        response.reports()
    }

    /// Sweeps until no lease is left. The leases of killed workers must expire first.
    pub async fn sweep(&self, settings: &Settings) -> Result<()> {
        self.sweep_until(settings, <[String]>::is_empty).await
    }

    /// Sweeps until the remaining leases meet the condition.
    pub async fn sweep_until(&self, settings: &Settings, is_done: impl Fn(&[String]) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let response = self.invoke_ingest(settings, &json!({"sweep": {"older_than_seconds": 0}})).await?;
            let leases = self.fixture.account.keys("lease/").await?;
            if !response.is_failure() && is_done(&leases) {
                return Ok(());
            }
            ensure!(start.elapsed() < TIMEOUT, "the sweep leaves {leases:?}: {} {}", response.body, response.logs);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The numbers of rows in the database and in the fallback.
    pub async fn count(&self) -> Result<Counted> {
        self.fixture.count(&self.server).await
    }

    /// Fails unless every row and every object exists exactly once and nothing is left over.
    pub async fn ensure_exactly_once(&self) -> Result<()> {
        self.fixture.ensure_exactly_once(&self.server).await
    }

    /// The latest state and reason of a key in the ledger; none if the ledger has no entry.
    pub async fn ledger(&self, key: &str) -> Result<Option<(String, String)>> {
        let query = format!(
            "SELECT state, COALESCE(reason, '') FROM {{schema}}.spillway_ledger WHERE object_key = '{key}' ORDER BY started_at DESC"
        );
        let rows = self.rows(&query).await?;
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(rows.first().map(|row| (value(&row[0]), value(&row[1]))))
    }

    /// The key and the reason of each fallback write, from the manifests.
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
