//! Queries Glue tables with Athena. It sends the three requests over HTTP, to avoid one more SDK.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cloud::Account;
use crate::database::Rows;
use crate::{aws_json, wait};

const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the query and returns its rows without the header. Values are text, and `None` for NULL.
pub async fn query(account: &Account, database: &str, query: &str) -> Result<Rows> {
    let start = json!({
        "QueryString": query,
        "QueryExecutionContext": {"Database": database},
        "ResultConfiguration": {"OutputLocation": format!("s3://{}/athena-results/", account.bucket)},
    });
    let id = call(account, "StartQueryExecution", &start).await?["QueryExecutionId"].clone();
    let by_id = json!({"QueryExecutionId": id});
    wait::until("Athena to finish the query", QUERY_TIMEOUT, async || {
        let status = &call(account, "GetQueryExecution", &by_id).await?["QueryExecution"]["Status"];
        let state = status["State"].as_str().context("the status of the query has no state")?;
        ensure!(
            !["FAILED", "CANCELLED"].contains(&state),
            "the query {query:?} failed: {}",
            status["StateChangeReason"]
        );
        Ok(state == "SUCCEEDED")
    })
    .await?;
    let results = call(account, "GetQueryResults", &by_id).await?;
    ensure!(results["NextToken"].is_null(), "the query {query:?} has more than one page of results");
    let rows = results["ResultSet"]["Rows"].as_array().context("the results have no rows")?;
    rows.iter().skip(1).map(cells).collect()
}

fn cells(row: &Value) -> Result<Vec<Option<String>>> {
    let data = row["Data"].as_array().context("a row has no data")?;
    Ok(data.iter().map(|cell| cell["VarCharValue"].as_str().map(str::to_owned)).collect())
}

async fn call(account: &Account, action: &str, body: &Value) -> Result<Value> {
    aws_json::call(account, "athena", &format!("AmazonAthena.{action}"), body).await
}
