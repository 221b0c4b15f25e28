//! An outcome that needs an operator is a metric, an alarm and an event. It is not a failed invocation.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::{Deployment, SECRET};
use spillway_test_env::fixture::{Counted, Fixture};
use spillway_test_env::queues::{QUEUES, messages};
use spillway_test_env::wait;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_broken_secret_raises_alarms_and_events_but_fails_no_invocation() -> Result<()> {
    let (server, cloud) = (Database::start(Engine::MariaDb, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let parameters = ["NotificationEmail=operator@example.com", "EventBusName=default", "LogLevel=WARN"];
    let stack = Deployment::deploy(&cloud, &server, &schema, &parameters).await?;
    let account = stack.account.clone();
    let events = subscribe_to_events(&account).await?;
    let secret = account.secrets.get_secret_value().secret_id(SECRET).send().await?;
    let complete = secret.secret_string().context("the secret is empty")?.to_owned();
    account.secrets.put_secret_value().secret_id(SECRET).secret_string(r#"{"username": "spillway"}"#).send().await?;
    let mut fixture = Fixture::new(account.clone(), schema);

    fixture.upload("uploads/orders.csv", 100).await?;
    wait::until("the file to fall back", LIMIT, async || {
        Ok(!account.keys("failed/").await?.is_empty() && account.keys("lease/").await?.is_empty())
    })
    .await?;
    assert_eq!(received(&account, &events, 2).await?, ["FellBack", "NeedsAttention"]);
    let first = stack.metric_lines().await?;
    assert_eq!(stack.raised_alarms(&first).await?, ["FellBackAlarm", "NeedsAttentionAlarm"]);
    for queue in QUEUES {
        assert_eq!(stack.messages(queue).await?.all(), 0, "{queue}");
    }

    // While the secret is broken, a replay reports that, and is not a failure.
    let response = stack.invoke_ingest(&json!({"replay": {}})).await?;
    assert_eq!(
        (&response["postponed"]["files"], &response["postponed"]["rows"]),
        (&json!(1), &json!(100)),
        "{response}"
    );

    account.secrets.put_secret_value().secret_id(SECRET).secret_string(complete).send().await?;
    let response = stack.invoke_ingest(&json!({"replay": {}})).await?;
    assert_eq!(response["reports"][0]["outcome"], "replayed", "{response}");
    assert_eq!(received(&account, &events, 1).await?, ["Replayed"]);
    stack.invoke_ingest(&json!({"sweep": {}})).await?;
    let all = stack.metric_lines().await?;
    assert_eq!(stack.raised_alarms(&all[first.len()..]).await?, Vec::<String>::new(), "{all:?}");
    assert_eq!(fixture.count(&server).await?, Counted { database: 100, fallback: 0 });
    fixture.ensure_exactly_once(&server).await
}

/// Creates a queue that receives all events of Spillway, and returns its URL.
async fn subscribe_to_events(account: &Account) -> Result<String> {
    let queue = call(account, "sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": "outcomes"})).await?;
    let url = queue["QueueUrl"].as_str().context("the queue has no URL")?.to_owned();
    let rule = json!({"Name": "outcomes", "EventPattern": r#"{"source": ["spillway"]}"#});
    call(account, "events", "AWSEvents.PutRule", &rule).await?;
    let arn = format!("arn:aws:sqs:us-east-1:{}:outcomes", account.id);
    let targets = json!({"Rule": "outcomes", "Targets": [{"Id": "queue", "Arn": arn}]});
    call(account, "events", "AWSEvents.PutTargets", &targets).await?;
    Ok(url)
}

/// The types of the events in the queue, in alphabetical order. Waits for `count` of them and deletes them.
async fn received(account: &Account, queue: &str, count: usize) -> Result<Vec<String>> {
    wait::until("events about outcomes", LIMIT, async || Ok(messages(account, queue).await?.all() >= count as u64))
        .await?;
    let request = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10});
    let response = call(account, "sqs", "AmazonSQS.ReceiveMessage", &request).await?;
    let mut types = Vec::new();
    for message in response["Messages"].as_array().into_iter().flatten() {
        let event: Value = serde_json::from_str(message["Body"].as_str().unwrap_or_default())?;
        types.push(event["detail-type"].as_str().unwrap_or_default().to_owned());
        let deletion = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
        call(account, "sqs", "AmazonSQS.DeleteMessage", &deletion).await?;
    }
    types.sort();
    Ok(types)
}
