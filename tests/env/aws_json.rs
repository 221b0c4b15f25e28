//! Calls of AWS services that speak JSON over HTTP, for a few operations that are not worth another SDK.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cloud::Account;
use crate::http;

/// Calls an operation, such as `AmazonSQS.ReceiveMessage`, and returns its response.
pub async fn call(account: &Account, service: &str, target: &str, body: &Value) -> Result<Value> {
    let credential = account.credential(service);
    let headers = [
        ("X-Amz-Target", target),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("Authorization", credential.as_str()),
    ];
    let response = http::post(account.port, "/", &headers, &body.to_string()).await?;
    ensure!(response.status == 200, "{target} failed with status {}: {}", response.status, response.body);
    if response.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&response.body).with_context(|| format!("the response of {target} is not JSON"))
}
