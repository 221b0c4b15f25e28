//! Requests of AWS's Python SDK with the credentials of a role. The SDK signs them, as a MiniStack that enforces roles demands.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::run;
use crate::settings::Settings;

/// Sends the requests in its input, and prints "ok" or the error's code for each.
const SENDER: &str = r"
import boto3, botocore, json, sys
config = botocore.config.Config(s3={'addressing_style': 'path'}, retries={'total_max_attempts': 1})
for service, operation, arguments in json.load(sys.stdin):
    client = boto3.client(service, config=config)
    try:
        getattr(client, operation)(**arguments)
        print('ok')
    except botocore.exceptions.ClientError as error:
        print(error.response['Error']['Code'])
";

/// A request: the service, the operation in Python's spelling, and its arguments.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as `s3`.
    pub service: &'static str,
    /// Such as `get_object`.
    pub operation: &'static str,
    /// The arguments, as a JSON object.
    pub arguments: Value,
}

/// Sends the requests with the credentials, region and endpoint in the settings. Returns "ok" or the error's code for each.
pub async fn send(settings: &Settings, requests: &[Request]) -> Result<Vec<String>> {
    let input: Vec<Value> =
        requests.iter().map(|request| json!([request.service, request.operation, request.arguments])).collect();
    let region = settings.get("AWS_REGION").unwrap_or_default();
    let mut child = Command::new(run::tool("python")?)
        .args(["-c", SENDER])
        .env_clear()
        .envs(settings.iter())
        .env("AWS_DEFAULT_REGION", region)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run Python")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(Value::from(input).to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "the requests failed: {}", String::from_utf8_lossy(&output.stderr));
    let results: Vec<String> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(results.len() == requests.len(), "{} results of {} requests", results.len(), requests.len());
    Ok(results)
}
