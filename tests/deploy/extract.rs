//! Extracts in a deployed stack with its roles enforced: in the ingest function, and in a task that the function starts.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::cloud::{Cloud, Roles};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;

const LIMIT: Duration = Duration::from_secs(60);
const FOLDER: &str = "data/batch/items/year=2026/month=11/day=30/";

#[tokio::test]
async fn stack_extracts_into_its_raw_zone() -> Result<()> {
    let (server, cloud) =
        (Database::start(Engine::Postgres, Options::default()).await?, Cloud::start_with(Roles::Enforced).await?);
    let schema = server.schema().await?;
    let mut client = schema.client(schema.port).await?;
    client.execute("CREATE TABLE items AS SELECT id, 'a, b' AS note FROM generate_series(1, 1000) AS id").await?;
    let stack = Deployment::deploy(&cloud, &server, &schema, &["ExtractPrefix=data/batch/"]).await?;
    stack.allow_misread_requests().await?;
    let extract = |at: &str, more: Value| {
        let mut extract = json!({"table": "items", "to": "data/batch/", "at": at, "batch_size": 400});
        extract
            .as_object_mut()
            .into_iter()
            .for_each(|fields| fields.extend(more.as_object().cloned().unwrap_or_default()));
        json!({"extract": extract})
    };

    let response = stack.invoke_ingest(&extract("2026-11-30T08:30", json!({}))).await?;
    assert_eq!((&response["extracts"][0]["rows"], &response["extracts"][0]["parts"]), (&json!(1000), &json!(3)));

    let in_task = extract("2026-11-30T09:30", json!({"run_in": "task"}));
    let response = stack.invoke_ingest(&in_task).await?;
    assert_eq!(response["extracts"][0]["status"], "handed_over", "{response}");
    let tasks = stack.recorded_tasks(1, LIMIT).await?;
    let settings = tasks[0].clone().and(&stack.task_credentials().await?);
    let finished = stack.run_task(&settings, LIMIT).await?;
    ensure!(finished.code() == Some(0), "{:?} {}", finished.status, finished.logs);
    let keys = stack.account.keys(FOLDER).await?;
    let parts = |hour: &str| keys.iter().filter(|key| key.contains(hour) && key.contains("items_part")).count();
    assert_eq!((parts("hhmm=0830"), parts("hhmm=0930")), (3, 3), "{keys:?}");

    // Another prefix is not the raw zone.
    let elsewhere = stack.invoke_ingest(&json!({"extract": {"table": "items", "to": "elsewhere/"}})).await;
    ensure!(format!("{elsewhere:?}").contains("forbidden"), "{elsewhere:?}");
    Ok(())
}
