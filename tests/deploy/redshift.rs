//! A stack for Redshift, without a network: the functions and the task load through a double of the Data API over PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use spillway_test_env::cloud::Cloud;
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::fixture::{Counted, Fixture};
use spillway_test_env::redshift::{DataApi, WORKGROUP};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TASK_TIMEOUT;
use spillway_test_env::wait;

const TIMEOUT: Duration = Duration::from_secs(90);

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

/// An upload starts the trigger, which loads small files, and a task for large ones. Both copy into Redshift. During an outage the rows
/// go to the fallback, and a replay copies them.
#[tokio::test]
async fn deployed_stack_copies_into_redshift() -> Result<()> {
    let (server, cloud) = (Database::start(Engine::Postgres, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let (workgroup, database) = (format!("RedshiftWorkgroup={WORKGROUP}"), format!("DatabaseName={}", schema.name));
    let parameters = [
        "DatabaseEngine=redshift",
        &workgroup,
        "RedshiftWorkgroupArn=arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/0a1b2c3d-1111-2222-3333-444455556666",
        &database,
        "DatabaseSecretName=",
        "DatabaseRetrySeconds=2",
        "InlineMaxBytes=100000",
    ];
    let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
    let api = DataApi::start(&schema, &stack.account).await?;
    let endpoint = Settings::default().with("AWS_ENDPOINT_URL_REDSHIFT_DATA", api.endpoint());
    stack.set_variables(&endpoint).await?;
    let mut fixture = Fixture::new(stack.account.clone(), schema);

    fixture.upload("uploads/orders one.csv", 100).await?;
    fixture.upload("uploads/2026/two.csv", 200).await?;
    stack.with_logs(wait_for_rows(&fixture, &server, 300).await).await?;
    fixture.upload("uploads/large.csv", 5_000).await?;
    let tasks = stack.recorded_tasks(1, TIMEOUT).await?;
    let finished = stack.run_task(&tasks[0].clone().and(&endpoint), TASK_TIMEOUT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    wait_for_rows(&fixture, &server, 5_300).await?;
    fixture.ensure_exactly_once(&server).await?;

    api.set_down(true);
    fixture.upload("uploads/late.csv", 50).await?;
    wait::until("the late file to fall back", TIMEOUT, async || Ok(!fixture.account.keys("failed/").await?.is_empty()))
        .await?;
    api.set_down(false);
    let response = stack.invoke_ingest(&json!({"replay": {}})).await?;
    assert_eq!(response["reports"][0]["outcome"], "replayed", "{response}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 5_350, fallback: 0 });
    ensure!(fixture.account.keys("copy/").await?.is_empty(), "rows for COPY are left over");
    fixture.ensure_exactly_once(&server).await
}
