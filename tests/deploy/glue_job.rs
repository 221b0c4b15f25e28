//! The rule that continues with a file after a run of the Glue job has ended.
//!
//! The local AWS sends no event of a run. So the deployed pattern is compared with such events, and the function is invoked with the
//! input that the deployed target makes of one.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options};
use spillway_test_env::deploy::Deployment;

/// The event of a run. Source: the EventBridge user guide, "AWS Glue events".
fn event(job: &str, state: &str) -> Value {
    json!({
        "version": "0", "id": "abcdef00-1234-5678-9abc-def012345678", "detail-type": "Glue Job State Change", "source": "aws.glue",
        "account": "111122223333", "time": "2026-11-30T18:57:21Z", "region": "us-east-1", "resources": [],
        "detail": {
            "jobName": job, "severity": if state == "SUCCEEDED" { "INFO" } else { "ERROR" }, "state": state,
            "jobRunId": "jr_abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789", "message": "Job run ended",
        },
    })
}

async fn events(account: &Account, operation: &str, request: &Value) -> Result<Value> {
    call(account, "events", &format!("AWSEvents.{operation}"), request).await
}

#[tokio::test]
async fn ended_run_of_the_job_starts_the_ingest_function() -> Result<()> {
    let (server, cloud) = (Database::start(Engine::Postgres, Options::default()).await?, Cloud::start().await?);
    let schema = server.schema().await?;
    let mut account = cloud.account_without_bucket().await?;
    account.bucket = format!("spillway-glue-{}", account.id);
    let stack = Deployment::deploy_into(account, "spillway", &server, &schema, &["GlueJobName=large-files"]).await?;
    let rules = events(&stack.account, "ListRules", &json!({})).await?;
    let is_meant =
        |rule: &&Value| rule["EventPattern"].as_str().is_some_and(|text| text.contains("Glue Job State Change"));
    let rule =
        rules["Rules"].as_array().context("no rules")?.iter().find(is_meant).context("the rule was not deployed")?;
    for (job, state, is_wanted) in [
        ("large-files", "SUCCEEDED", true),
        ("large-files", "FAILED", true),
        ("large-files", "TIMEOUT", true),
        ("large-files", "STOPPED", true),
        ("large-files", "RUNNING", false),
        ("another-job", "SUCCEEDED", false),
    ] {
        let request = json!({"EventPattern": rule["EventPattern"], "Event": event(job, state).to_string()});
        let tested = events(&stack.account, "TestEventPattern", &request).await?;
        ensure!(tested["Result"] == is_wanted, "{job} {state}: {tested}");
    }

    let targets = events(&stack.account, "ListTargetsByRule", &json!({"Rule": rule["Name"]})).await?;
    let target = &targets["Targets"][0];
    let function = target["Arn"].as_str().context("the target has no function")?;
    ensure!(function.ends_with(stack.output("IngestFunctionName")?), "the rule starts {function}");
    let transformer = &target["InputTransformer"];
    ensure!(transformer["InputPathsMap"] == json!({"run": "$.detail.jobRunId"}), "{transformer}");
    let template = transformer["InputTemplate"].as_str().context("no template")?;
    let event = event("large-files", "SUCCEEDED");
    let run = event["detail"]["jobRunId"].as_str().context("no run")?;
    let request: Value = serde_json::from_str(&template.replace("<run>", run))?;
    // The deployed function knows the job, and no file waits for this run.
    let result = stack.invoke_ingest(&request).await?;
    ensure!(result.to_string().contains("waits for this run"), "{result}");
    Ok(())
}
