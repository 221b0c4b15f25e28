//! The trigger function: loads each object of an S3 event in this process, or starts a Fargate task that loads it.
//!
//! Clients are built once per process. If an object fails, its event is retried. For messages of a queue, the response
//! names those that failed. For an event without a queue, the invocation fails.

use std::time::SystemTime;

use anyhow::Context;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use spillway_core::config::TriggerSettings;
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::{DispatchSettings, Dispatcher, Tasks};
use spillway_core::error::chain;
use spillway_core::telemetry::{self, LogSettings};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let dispatcher = start().await.inspect_err(|error| tracing::error!("{error:#}"))?;
    lambda_runtime::run(service_fn(|event| invoke(&dispatcher, event))).await
}

async fn start() -> anyhow::Result<Dispatcher> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    provider.map_err(|_| anyhow::anyhow!("a TLS provider is already installed"))?;
    telemetry::init(&LogSettings::from_env()?).context("cannot set up the logs")?;
    let settings = TriggerSettings::from_env().context("the function's settings are invalid")?;
    let tasks = Tasks { above_bytes: settings.inline_max_bytes, launch: settings.launch };
    let settings = DispatchSettings {
        service: "trigger",
        pipeline: settings.pipeline,
        tasks: Some(tasks),
        upload_queue_url: settings.upload_queue_url,
    };
    Ok(Dispatcher::connect(settings).await)
}

async fn invoke(dispatcher: &Dispatcher, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let remaining = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    dispatcher
        .respond(&event.payload, &Deadline::within(remaining))
        .await
        .map_err(|error| Diagnostic { error_type: error.kind().name().to_owned(), error_message: chain(&error) })
}
