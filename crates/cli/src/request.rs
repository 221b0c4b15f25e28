//! Sends requests of the ingest function: to this process, or to a deployed function. Both return the same body.

use clap::Args;
use serde_json::Value;
use spillway_core::config::{Environment, IngestSettings};
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::{DispatchSettings, Dispatcher, Tasks};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::function::IngestFunction;
use spillway_core::request::Request;

use crate::session::Session;

/// Where a request runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where the request runs")]
pub(crate) struct Target {
    /// Run in the ingest function of this stack; by default in this process
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    stack: Option<String>,
    /// Run in the ingest function with this name
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Use this bucket instead of S3_BUCKET
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
}

/// Sends a request, and returns the body of the response.
///
/// # Errors
/// When the request is invalid, or when an object of it failed.
pub(crate) async fn send(session: &Session, target: &Target, mut request: Value) -> Result<Value> {
    if let Some(bucket) = &target.bucket {
        request["bucket"] = Value::from(bucket.as_str());
    }
    match (&target.stack, &target.function) {
        (Some(stack), _) => {
            IngestFunction::of_stack(&session.environment.region()?, stack).await?.invoke(&request).await
        }
        (None, Some(name)) => IngestFunction::named(&session.environment.region()?, name).await.invoke(&request).await,
        (None, None) => run_here(&session.environment, &request).await,
    }
}

/// Runs the request in this process, as the ingest function does, until a signal stops it.
async fn run_here(environment: &Environment, request: &Value) -> Result<Value> {
    let settings = IngestSettings::read(environment)?;
    let request = Request::parse(request, &settings.bucket, None)?;
    let tasks = Tasks { above_bytes: u64::MAX, launch: settings.launch };
    let dispatch = DispatchSettings {
        service: "terminal",
        pipeline: settings.pipeline,
        tasks: Some(tasks),
        upload_queue_url: None,
    };
    let dispatcher = Box::pin(Dispatcher::connect(dispatch)).await.without_metrics();
    let deadline = Deadline::until_signal(|| {})?;
    let response = Box::pin(dispatcher.run(request, &deadline)).await?.into_response()?;
    let body = response["body"].as_str().unwrap_or_default();
    serde_json::from_str(body)
        .map_err(|error| Error::new(ErrorKind::Internal, "the response is not JSON").with_source(error))
}
