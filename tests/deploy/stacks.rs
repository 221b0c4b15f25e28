//! Two stacks in one account, with the roles of the template enforced: one on MariaDB, one on PostgreSQL. Both load, hand over
//! to tasks, fall back and replay. Neither may use objects, Glue tables, queues or secrets of the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::athena;
use spillway_test_env::cloud::{Account, Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::{Counted, Fixture, GLUE_TABLE};
use spillway_test_env::queues::QUEUES;
use spillway_test_env::requests::{Request, send};
use spillway_test_env::test_env::TASK_TIMEOUT;
use spillway_test_env::wait;

const LIMIT: Duration = Duration::from_secs(90);
const LARGE_ROWS: usize = 5_000;

/// A stack with its database and its files.
struct Stack {
    server: Database,
    deployed: Deployment,
    fixture: Fixture,
    /// The rows of its small files, and of the file that falls back. They differ, so that rows of the other stack show.
    rows: (usize, usize),
}

#[tokio::test]
async fn two_stacks_in_one_account_use_only_their_own_resources() -> Result<()> {
    let cloud = Cloud::start_with(Roles::Enforced).await?;
    let account = cloud.account_without_bucket().await?;
    let mut stacks = [
        Stack::deploy(&account, "orders", Engine::MariaDb, (100, 50)).await?,
        Stack::deploy(&account, "refunds", Engine::Postgres, (70, 30)).await?,
    ];
    for stack in &mut stacks {
        stack.upload().await?;
    }
    for stack in &mut stacks {
        stack.load().await?;
    }
    for stack in &mut stacks {
        stack.server.kill().await?;
        stack.fixture.upload(&format!("uploads/{} late.csv", stack.deployed.stack), stack.rows.1).await?;
    }
    for stack in &stacks {
        stack.fall_back().await?;
    }
    let [orders, refunds] = &stacks;
    orders.may_not_use(refunds).await?;
    refunds.may_not_use(orders).await?;
    for stack in &stacks {
        stack.server.start_again().await?;
    }
    orders.replay().await?;
    // The replay of one stack leaves the fallback of the other one.
    refunds.fall_back().await?;
    refunds.replay().await?;
    for stack in &stacks {
        stack.is_complete().await?;
    }
    Ok(())
}

impl Stack {
    async fn deploy(account: &Account, name: &str, engine: Engine, rows: (usize, usize)) -> Result<Self> {
        let server = Database::start(engine, Options::default()).await?;
        let schema = server.schema().await?;
        let mut account = account.clone();
        account.bucket = format!("spillway-{name}-{}", account.id);
        let parameters = ["DatabaseRetrySeconds=1", "InlineMaxBytes=100000"];
        let deployed = Deployment::deploy_into(account, name, &server, &schema, &parameters).await?;
        deployed.allow_misread_requests().await?;
        let mut fixture = Fixture::new(deployed.account.clone(), schema);
        fixture.glue_database = deployed.output("GlueDatabaseName")?.to_owned();
        Ok(Self { server, deployed, fixture, rows })
    }

    /// Uploads three small files and a large one.
    async fn upload(&mut self) -> Result<()> {
        for number in 0..3 {
            self.fixture.upload(&format!("uploads/{} {number}.csv", self.deployed.stack), self.rows.0).await?;
        }
        self.fixture.upload(&format!("uploads/{} large.csv", self.deployed.stack), LARGE_ROWS).await?;
        Ok(())
    }

    /// Waits for the small files, and runs the task of the large one with its role.
    async fn load(&self) -> Result<()> {
        let task = &self.deployed.recorded_tasks(1, LIMIT).await?[0];
        let settings = task.clone().and(&self.deployed.task_credentials().await?);
        let finished = self.deployed.run_task(&settings, TASK_TIMEOUT).await?;
        ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
        wait::until("the files to be loaded", LIMIT, async || self.is_idle().await).await?;
        let database = 3 * self.rows.0 + LARGE_ROWS;
        assert_eq!(self.fixture.count(&self.server).await?, Counted { database, fallback: 0 });
        Ok(())
    }

    /// Waits until the late file is in the fallback, with its own rows only.
    async fn fall_back(&self) -> Result<()> {
        wait::until("the late file to fall back", LIMIT, async || self.is_idle().await).await?;
        let query = format!("SELECT COUNT(*) FROM {GLUE_TABLE}");
        let counted = athena::query(&self.fixture.account, &self.fixture.glue_database, &query).await?;
        assert_eq!(counted, [[Some(self.rows.1.to_string())]], "{}", self.deployed.stack);
        Ok(())
    }

    async fn is_idle(&self) -> Result<bool> {
        let account = &self.fixture.account;
        Ok(account.keys("uploads/").await?.is_empty() && account.keys("lease/").await?.is_empty())
    }

    /// Fails unless the roles of this stack may use its own resources and are refused by those of the other one.
    async fn may_not_use(&self, other: &Self) -> Result<()> {
        for role in ["TriggerRole", "IngestRole", "TaskRole"] {
            let settings = self.fixture.account.settings().and(&self.deployed.role_credentials(role).await?);
            let own = send(&settings, &self.requests(role).await?).await?;
            ensure!(own.iter().all(|result| result == "ok"), "{role} of {}: {own:?}", self.deployed.stack);
            let foreign = send(&settings, &other.requests(role).await?).await?;
            let is_refused = |result: &String| ["AccessDenied", "AccessDeniedException"].contains(&result.as_str());
            ensure!(foreign.iter().all(is_refused), "{role} of {}: {foreign:?}", self.deployed.stack);
        }
        // A request that names the other bucket fails, and changes nothing there.
        let bucket = &other.fixture.account.bucket;
        for request in [json!({"bucket": bucket, "replay": {}}), json!({"bucket": bucket, "sweep": {}})] {
            let refused = self.deployed.invoke_ingest(&request).await;
            ensure!(format!("{refused:?}").contains("forbidden"), "{request} was not refused: {refused:?}");
        }
        Ok(())
    }

    /// Requests that a role of this stack may send.
    async fn requests(&self, role: &str) -> Result<Vec<Request>> {
        let (account, glue) = (&self.fixture.account, &self.fixture.glue_database);
        let (bucket, failed) = (account.bucket.as_str(), account.keys("failed/").await?.swap_remove(0));
        let data = account.keys("fallback/orders/").await?.swap_remove(0);
        let secret = format!("{}/database", self.deployed.stack);
        let request = |service, operation, arguments: Value| Request { service, operation, arguments };
        let mut requests = vec![
            request("s3", "get_object", json!({"Bucket": bucket, "Key": failed})),
            request("s3", "get_object", json!({"Bucket": bucket, "Key": data})),
            request("s3", "put_object", json!({"Bucket": bucket, "Key": "lease/check", "Body": ""})),
            request("s3", "delete_object", json!({"Bucket": bucket, "Key": "lease/check"})),
            request("s3", "list_objects_v2", json!({"Bucket": bucket})),
            request("glue", "get_table", json!({"DatabaseName": glue, "Name": GLUE_TABLE})),
            request("secretsmanager", "get_secret_value", json!({"SecretId": secret})),
        ];
        if role == "TriggerRole" {
            let queue = self.deployed.output("UploadQueueUrl")?;
            requests.push(request("sqs", "receive_message", json!({"QueueUrl": queue})));
        }
        Ok(requests)
    }

    async fn replay(&self) -> Result<()> {
        let response = self.deployed.invoke_ingest(&json!({"replay": {}})).await?;
        let reports = response["reports"].as_array().map_or(0, Vec::len);
        ensure!(reports == 1 && response["reports"][0]["outcome"] == "replayed", "{response}");
        Ok(())
    }

    /// Every row is in this stack's database once, and nothing is left over.
    async fn is_complete(&self) -> Result<()> {
        let database = 3 * self.rows.0 + LARGE_ROWS + self.rows.1;
        assert_eq!(self.fixture.count(&self.server).await?, Counted { database, fallback: 0 });
        self.fixture.ensure_exactly_once(&self.server).await?;
        let processed = self.fixture.account.keys("processed/").await?;
        let own = format!("processed/{} ", self.deployed.stack);
        ensure!(processed.len() == 5 && processed.iter().all(|key| key.starts_with(&own)), "{processed:?}");
        for queue in QUEUES {
            assert_eq!(self.deployed.messages(queue).await?.all(), 0, "{queue} of {}", self.deployed.stack);
        }
        Ok(())
    }
}
