//! The real template on the local AWS: files are uploaded by the S3 API alone, and S3, Lambda, ECS and Glue do the rest.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::athena;
use spillway_test_env::cloud::{Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::{Counted, Fixture, GLUE_DATABASE, GLUE_TABLE, Input, file};
use spillway_test_env::test_env::TASK_BOUND;
use spillway_test_env::wait;

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

#[tokio::test]
async fn deployed_roles_allow_loads_rejects_fallback_replay_and_sweep() -> Result<()> {
    let server = Database::start(Engine::MariaDb, Options::default()).await?;
    let cloud = Cloud::start_with(Roles::Enforced).await?;
    let schema = server.schema().await?;
    let parameters = ["DatabaseRetrySeconds=2", "InlineMaxBytes=100000", "MaxRejects=1"];
    let stack = Deployment::make(&cloud, &server, &schema, &parameters).await?;
    stack.allow_misread_requests().await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);

    // The trigger loads a small file, and a file with one bad record.
    fixture.upload("uploads/small.csv", 100).await?;
    arrived(&fixture, &server, 100).await?;
    let (body, rows) = file("uploads/bad.csv", 10);
    let object = fixture.account.put("uploads/bad.csv", [&body[..], b"too,short\n"].concat()).await?;
    fixture.inputs.push(Input { object, rows });
    arrived(&fixture, &server, 110).await?;

    // The ingest function loads the corrected record.
    let rejects = fixture.account.keys("rejected/").await?;
    let rejected = rejects.iter().find(|key| key.ends_with(".csv")).context("no rejected records")?;
    let (body, rows) = file("corrected.csv", 1);
    let object = fixture.account.put(rejected, body).await?;
    fixture.inputs.push(Input { object, rows });
    let answer = stack.ask(&json!({"rejects": rejected})).await?;
    assert_eq!(answer["reports"][0]["outcome"], "loaded", "{answer}");
    arrived(&fixture, &server, 111).await?;

    // The trigger starts a task for a large file, and the task loads it.
    fixture.upload("uploads/large.csv", 5_000).await?;
    let tasks = stack.recorded_tasks(1, BOUND).await?;
    let settings = tasks[0].clone().and(&stack.task_credentials().await?);
    let finished = stack.run_task(&settings, TASK_BOUND).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    arrived(&fixture, &server, 5_111).await?;

    // The sweep loads a file whose task never ran, and aborts an upload that a dead worker left.
    fixture.upload("uploads/forgotten.csv", 5_000).await?;
    stack.recorded_tasks(2, BOUND).await?;
    let abandoned = "fallback/orders/dt=2026-01-01/abandoned.parquet";
    fixture.account.s3.create_multipart_upload().bucket(&fixture.account.bucket).key(abandoned).send().await?;
    let answer = stack.ask(&json!({"sweep": {"older_than_seconds": 0}})).await?;
    assert_eq!(answer["reports"][0]["outcome"], "loaded", "{answer}");
    assert_eq!(answer["cleared"]["uploads"], 1, "{answer}");
    arrived(&fixture, &server, 10_111).await?;

    // The trigger writes the fallback. Replay fails while the function may not read versions of fallback objects.
    server.kill().await?;
    fixture.upload("uploads/late.csv", 50).await?;
    wait::until("the late file to fall back", BOUND, async || {
        Ok(!fixture.account.keys("failed/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    })
    .await?;
    server.start_again().await?;
    let ingest = stack.role("IngestRole").await?;
    let fallback = format!("arn:aws:s3:::{}/fallback/*", fixture.account.bucket);
    ingest.put_policy("no-versions", "Deny", "s3:GetObjectVersion", &fallback).await?;
    let refused = stack.ask(&json!({"replay": {}})).await;
    ensure!(format!("{refused:?}").contains("403"), "the replay was not refused: {refused:?}");
    ingest.delete_policy("no-versions").await?;

    // With the deployed policies alone it loads the rows and moves the file.
    let answer = stack.ask(&json!({"replay": {}})).await?;
    let report = &answer["reports"][0];
    assert_eq!(report["outcome"], "replayed", "{answer}");
    ensure!(report["moved_to"].as_str().is_some_and(|key| key.starts_with("processed/")), "{answer}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 10_161, fallback: 0 });
    fixture.ensure_kept(&server).await
}
