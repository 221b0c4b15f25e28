//! Glue crawlers: the rule that starts the ingest function after one of them has succeeded.
//!
//! The local AWS sends no event of a crawler. So the deployed pattern is compared with such events, and the function is invoked with
//! the input of the deployed target.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;

const PARAMETERS: [&str; 6] = [
    "CrawlerNames=orders-zone,refunds-zone",
    "CreateBucket=false",
    "UploadPrefix=zone/",
    "TablePattern=zone/{table}/**",
    "DatabaseTable=",
    "AfterLoad=keep",
];

/// The event of a crawler. Source: the EventBridge user guide, "AWS Glue events".
fn event(crawler: &str, state: &str) -> Value {
    json!({
        "version": "0", "id": "dd5a3dbc-6f1a-4ac1-8d39-1d8a1bd3b9a1", "detail-type": "Glue Crawler State Change", "source": "aws.glue",
        "account": "111122223333", "time": "2026-11-20T08:30:11Z", "region": "us-east-1", "resources": [],
        "detail": {
            "accountId": "111122223333", "crawlerName": crawler, "state": state, "message": format!("Crawler {state}"),
            "tablesCreated": "1", "tablesUpdated": "0", "tablesDeleted": "0", "partitionsCreated": "2", "partitionsUpdated": "0",
            "partitionsDeleted": "0", "runningTime (sec)": "41", "warningMessage": "N/A", "completionDate": "2026-11-20T08:30:10Z",
            "cloudWatchLogLink": "https://console.aws.amazon.com/cloudwatch/home",
        },
    })
}

async fn events(account: &Account, operation: &str, request: &Value) -> Result<Value> {
    call(account, "events", &format!("AWSEvents.{operation}"), request).await
}

/// The deployed rule for crawlers.
async fn rule(account: &Account) -> Result<Value> {
    let found = events(account, "ListRules", &json!({})).await?;
    let rules = found["Rules"].as_array().context("no rules")?;
    let rule = rules.iter().find(|rule| rule["EventPattern"].as_str().is_some_and(|text| text.contains("aws.glue")));
    rule.cloned().context("the rule was not deployed")
}

#[tokio::test]
async fn files_are_loaded_after_a_named_crawler_has_succeeded() -> Result<()> {
    let (server, cloud) = (Database::start(Engine::Postgres, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let mut account = cloud.account_without_bucket().await?;
    account.bucket = format!("spillway-crawler-{}", account.id);
    // This bucket sends no events.
    account.s3.create_bucket().bucket(&account.bucket).send().await?;
    let stack = Deployment::deploy_into(account, "spillway", &server, &schema, &PARAMETERS).await?;
    stack.account.put("zone/orders/dt=2026-11-20/part1.csv", "id,note\n1,one\n2,two\n").await?;
    stack.account.put("zone/refunds/dt=2026-11-20/part1.csv", "id,reason\n7,late\n").await?;

    let rule = rule(&stack.account).await?;
    for (crawler, state, is_wanted) in [
        ("orders-zone", "Succeeded", true),
        ("refunds-zone", "Succeeded", true),
        ("orders-zone", "Started", false),
        ("orders-zone", "Failed", false),
        ("visits-zone", "Succeeded", false),
    ] {
        let request = json!({"EventPattern": rule["EventPattern"], "Event": event(crawler, state).to_string()});
        let tested = events(&stack.account, "TestEventPattern", &request).await?;
        ensure!(tested["Result"] == is_wanted, "{crawler} {state}: {tested}");
    }

    let targets = events(&stack.account, "ListTargetsByRule", &json!({"Rule": rule["Name"]})).await?;
    let target = &targets["Targets"][0];
    let function = target["Arn"].as_str().context("the target has no function")?;
    ensure!(function.ends_with(stack.output("IngestFunctionName")?), "the rule starts {function}");
    let request: Value = serde_json::from_str(target["Input"].as_str().context("the target has no input")?)?;
    let result = stack.invoke_ingest(&request).await?;
    for (table, rows) in [("orders", [["1", "one"], ["2", "two"]].as_slice()), ("refunds", &[["7", "late"]])] {
        let query = format!("SELECT * FROM {{schema}}.{table} ORDER BY 1");
        let stored = server.query(&schema, &query).await?;
        let stored: Vec<Vec<String>> = stored.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
        ensure!(stored == rows, "{table}: {stored:?}; {result}");
    }
    Ok(())
}
