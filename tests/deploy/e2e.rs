//! The deployed template on the local AWS: the tests upload files to S3, which starts the functions.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::json;
use spillway_test_env::athena;
use spillway_test_env::cloud::{Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::{Counted, Fixture, GLUE_DATABASE, GLUE_TABLE, Input, file};
use spillway_test_env::test_env::TASK_TIMEOUT;
use spillway_test_env::wait;

const TIMEOUT: Duration = Duration::from_secs(90);

#[rstest]
#[tokio::test]
async fn deployed_stack_loads_falls_back_and_replays(
    #[values(Engine::MariaDb, Engine::Postgres)] engine: Engine,
) -> Result<()> {
    let (server, cloud) = (Database::start(engine, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = ["DatabaseRetrySeconds=2", "InlineMaxBytes=100000"];
    let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);

    // S3 starts the trigger for small files, which the trigger loads.
    for (key, records) in
        [("uploads/orders one.csv", 100), ("uploads/2026/orders+two.csv", 200), ("uploads/x/3%.csv", 300)]
    {
        fixture.upload(key, records).await?;
    }
    wait_for_rows(&fixture, &server, 600).await?;

    // The trigger starts a task for a large file, and the deployed task binary loads it.
    fixture.upload("uploads/large.csv", 5_000).await?;
    let tasks = stack.recorded_tasks(1, TIMEOUT).await?;
    let finished = stack.run_task(&tasks[0], TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    wait_for_rows(&fixture, &server, 5_600).await?;
    fixture.ensure_exactly_once(&server).await?;

    // While the database is down, a file falls back, and SQL finds its rows.
    server.kill().await?;
    fixture.upload("uploads/late.csv", 50).await?;
    wait::until("the late file to fall back", TIMEOUT, async || Ok(!fixture.account.keys("failed/").await?.is_empty()))
        .await?;
    let counted = athena::query(&fixture.account, GLUE_DATABASE, &format!("SELECT COUNT(*) FROM {GLUE_TABLE}")).await?;
    assert_eq!(counted, [[Some("50".to_owned())]]);

    // After the database has restarted, a replay loads the rows.
    server.start_again().await?;
    let response = stack.invoke_ingest(&json!({"replay": {}})).await?;
    assert_eq!(response["reports"][0]["outcome"], "replayed", "{response}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 5_650, fallback: 0 });
    fixture.ensure_exactly_once(&server).await
}

/// Waits until this number of rows is in the database, and no upload and no lease is left.
async fn wait_for_rows(fixture: &Fixture, server: &Database, rows: usize) -> Result<()> {
    wait::until(&format!("{rows} rows in the database"), TIMEOUT, async || {
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
    let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
    stack.allow_misread_requests().await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);

    // The trigger loads a small file, and a file with one bad record.
    fixture.upload("uploads/small.csv", 100).await?;
    wait_for_rows(&fixture, &server, 100).await?;
    let (body, rows) = file("uploads/bad.csv", 10);
    let object = fixture.account.put("uploads/bad.csv", [&body[..], b"too,short\n"].concat()).await?;
    fixture.inputs.push(Input { object, rows });
    wait_for_rows(&fixture, &server, 110).await?;

    // The ingest function loads the corrected record.
    let rejects = fixture.account.keys("rejected/").await?;
    let rejected = rejects.iter().find(|key| key.ends_with(".csv")).context("no rejected records")?;
    let (body, rows) = file("corrected.csv", 1);
    let object = fixture.account.put(rejected, body).await?;
    fixture.inputs.push(Input { object, rows });
    let response = stack.invoke_ingest(&json!({"rejects": rejected})).await?;
    assert_eq!(response["reports"][0]["outcome"], "loaded", "{response}");
    wait_for_rows(&fixture, &server, 111).await?;

    // The trigger starts a task for a large file, and the task loads it.
    fixture.upload("uploads/large.csv", 5_000).await?;
    let tasks = stack.recorded_tasks(1, TIMEOUT).await?;
    let settings = tasks[0].clone().and(&stack.task_credentials().await?);
    let finished = stack.run_task(&settings, TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    wait_for_rows(&fixture, &server, 5_111).await?;

    // The sweep loads a file whose task never ran, and aborts an upload that a dead worker left.
    fixture.upload("uploads/forgotten.csv", 5_000).await?;
    stack.recorded_tasks(2, TIMEOUT).await?;
    let abandoned = "fallback/orders/dt=2026-01-01/abandoned.parquet";
    fixture.account.s3.create_multipart_upload().bucket(&fixture.account.bucket).key(abandoned).send().await?;
    let response = stack.invoke_ingest(&json!({"sweep": {"older_than_seconds": 0}})).await?;
    assert_eq!(response["reports"][0]["outcome"], "loaded", "{response}");
    assert_eq!(response["cleared"]["uploads"], 1, "{response}");
    wait_for_rows(&fixture, &server, 10_111).await?;

    // The trigger writes the fallback. Replay fails while the function may not read versions of fallback objects.
    server.kill().await?;
    fixture.upload("uploads/late.csv", 50).await?;
    wait::until("the late file to fall back", TIMEOUT, async || {
        Ok(!fixture.account.keys("failed/").await?.is_empty() && fixture.account.keys("lease/").await?.is_empty())
    })
    .await?;
    server.start_again().await?;
    let ingest = stack.role("IngestRole").await?;
    let fallback = format!("arn:aws:s3:::{}/fallback/*", fixture.account.bucket);
    ingest.put_policy("no-versions", "Deny", "s3:GetObjectVersion", &fallback).await?;
    let refused = stack.invoke_ingest(&json!({"replay": {}})).await;
    ensure!(format!("{refused:?}").contains("403"), "the replay was not rejected: {refused:?}");
    ingest.delete_policy("no-versions").await?;

    // With only the deployed policies, a replay loads the rows and moves the file.
    let response = stack.invoke_ingest(&json!({"replay": {}})).await?;
    let report = &response["reports"][0];
    assert_eq!(report["outcome"], "replayed", "{response}");
    ensure!(report["moved_to"].as_str().is_some_and(|key| key.starts_with("processed/")), "{response}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 10_161, fallback: 0 });
    fixture.ensure_exactly_once(&server).await
}
