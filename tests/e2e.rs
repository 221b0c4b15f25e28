//! The real template on the local AWS: files are uploaded by the S3 API alone, and S3, Lambda, ECS and Glue do the rest.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_harness::athena;
use spillway_harness::cloud::Cloud;
use spillway_harness::database::{Database, Engine, Options};
use spillway_harness::deploy::Deployment;
use spillway_harness::fixture::{Counted, Fixture, GLUE_DATABASE, GLUE_TABLE};
use spillway_harness::test_env::TASK_BOUND;
use spillway_harness::wait;

const BOUND: Duration = Duration::from_secs(90);

#[rstest]
#[tokio::test]
async fn uploads_to_the_deployed_stack_arrive_fall_back_and_come_home(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (server, cloud) = (Database::start(engine, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = ["DatabaseRetrySeconds=2", "InlineMaxBytes=100000"];
    let stack = Deployment::make(&cloud, &server, &schema, &parameters).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);

    // Small files: S3 starts the trigger, which loads them itself.
    for (key, records) in
        [("uploads/orders one.csv", 100), ("uploads/2026/orders+two.csv", 200), ("uploads/x/3%.csv", 300)]
    {
        fixture.upload(key, records).await?;
    }
    arrived(&fixture, &server, 600).await?;

    // A large one: the trigger starts a task, and the deployed task binary does the work.
    fixture.upload("uploads/large.csv", 5_000).await?;
    let tasks = stack.recorded_tasks(1, BOUND).await?;
    let finished = stack.run_task(&tasks[0], TASK_BOUND).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    arrived(&fixture, &server, 5_600).await?;
    fixture.ensure_kept(&server).await?;

    // Without the database the rows go over the spillway, where SQL finds them.
    server.kill().await?;
    fixture.upload("uploads/late.csv", 50).await?;
    wait::until("the late file to fall back", BOUND, async || Ok(!fixture.account.keys("failed/").await?.is_empty()))
        .await?;
    let counted = athena::rows(&fixture.account, GLUE_DATABASE, &format!("SELECT COUNT(*) FROM {GLUE_TABLE}")).await?;
    assert_eq!(counted, [[Some("50".to_owned())]]);

    // With the database back, they come home.
    server.start_again().await?;
    let answer = stack.ask(&json!({"replay": {}})).await?;
    assert_eq!(answer["reports"][0]["outcome"], "replayed", "{answer}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 5_650, fallback: 0 });
    fixture.ensure_kept(&server).await
}

/// Waits until so many rows are in the database and no object waits under the upload prefix.
async fn arrived(fixture: &Fixture, server: &Database, rows: usize) -> Result<()> {
    wait::until(&format!("{rows} rows to arrive"), BOUND, async || {
        let is_moved = fixture.account.keys("uploads/").await?.is_empty();
        Ok(is_moved
            && fixture.account.keys("lease/").await?.is_empty()
            && fixture.count(server).await?.database == rows)
    })
    .await
}
