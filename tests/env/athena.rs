//! Athena over Glue tables: a query is started, waited for and read. It speaks the service's JSON over HTTP itself, since
//! these three calls are not worth another SDK.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cloud::Account;
use crate::{http, wait};

const QUERY_BOUND: Duration = Duration::from_secs(60);

/// Runs the query and gives its rows without the header; every value as text, NULL as none.
pub async fn rows(account: &Account, database: &str, query: &str) -> Result<Vec<Vec<Option<String>>>> {
    let start = json!({
        "QueryString": query,
        "QueryExecutionContext": {"Database": database},
        "ResultConfiguration": {"OutputLocation": format!("s3://{}/athena-results/", account.bucket)},
    });
    let id = call(account, "StartQueryExecution", &start).await?["QueryExecutionId"].clone();
    let by_id = json!({"QueryExecutionId": id});
    wait::until("Athena to end the query", QUERY_BOUND, async || {
        let status = &call(account, "GetQueryExecution", &by_id).await?["QueryExecution"]["Status"];
        let state = status["State"].as_str().context("Athena gave no state")?;
        ensure!(!["FAILED", "CANCELLED"].contains(&state), "Athena refused «{query}»: {}", status["StateChangeReason"]);
        Ok(state == "SUCCEEDED")
    })
    .await?;
    let results = call(account, "GetQueryResults", &by_id).await?;
    ensure!(results["NextToken"].is_null(), "more than one page of results for «{query}»");
    let rows = results["ResultSet"]["Rows"].as_array().context("Athena gave no rows")?;
    rows.iter().skip(1).map(cells).collect()
}

fn cells(row: &Value) -> Result<Vec<Option<String>>> {
    let data = row["Data"].as_array().context("a row has no data")?;
    Ok(data.iter().map(|cell| cell["VarCharValue"].as_str().map(str::to_owned)).collect())
}

async fn call(account: &Account, action: &str, body: &Value) -> Result<Value> {
    let target = format!("AmazonAthena.{action}");
    let credential = account.credential("athena");
    let headers = [
        ("X-Amz-Target", target.as_str()),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("Authorization", &credential),
    ];
    let answer = http::post(account.port, "/", &headers, &body.to_string()).await?;
    ensure!(answer.status == 200, "Athena's {action} answered {}: {}", answer.status, answer.body);
    serde_json::from_str(&answer.body).with_context(|| format!("Athena's {action} answered something that is not JSON"))
}
