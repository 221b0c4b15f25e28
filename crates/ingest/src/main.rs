//! The ingest function: runs a request, such as a prefix, a time window, a replay or a sweep. With `STREAM_TABLE_FIELD` it
//! transforms the records of a stream instead, and with `EXPORT_TARGET` it imports full exports.
//!
//! Clients are built once per process. If an object fails, the invocation fails, because a caller may ignore the
//! response.

use std::time::SystemTime;

use anyhow::Context;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use spillway_core::config::{IngestRole, IngestSettings};
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::{DispatchSettings, Dispatcher, Tasks};
use spillway_core::error::{Error, ErrorKind, Result, chain};
use spillway_core::exports::ExportImporter;
use spillway_core::request::{DefaultRequest, Request};
use spillway_core::stream::{Transform, is_stream_event};
use spillway_core::telemetry::{self, LogSettings};

/// The state that all invocations of a process share.
enum Function {
    /// Runs requests.
    Requests(Box<Requests>),
    /// Transforms the records of a stream.
    Stream(Box<Transform>),
    /// Imports full exports.
    Exports(Box<ExportImporter>),
}

/// What requests need.
struct Requests {
    dispatcher: Dispatcher,
    bucket: String,
    default_request: Option<DefaultRequest>,
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = start().await.inspect_err(|error| tracing::error!("{error:#}"))?;
    lambda_runtime::run(service_fn(|event| invoke(&function, event))).await
}

async fn start() -> anyhow::Result<Function> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    provider.map_err(|_| anyhow::anyhow!("a TLS provider is already installed"))?;
    telemetry::init(&LogSettings::from_env()?).context("cannot set up the logs")?;
    Ok(match IngestRole::from_env().context("the function's settings are invalid")? {
        IngestRole::Requests(settings) => Function::Requests(Box::new(connect(*settings).await)),
        IngestRole::Stream(settings) => Function::Stream(Box::new(Transform::new(settings))),
        IngestRole::Exports(settings) => Function::Exports(Box::new(ExportImporter::new(*settings).await)),
    })
}

async fn connect(settings: IngestSettings) -> Requests {
    let tasks = Tasks { above_bytes: u64::MAX, launch: settings.launch };
    let dispatch = DispatchSettings {
        service: "ingest",
        pipeline: settings.pipeline,
        tasks: Some(tasks),
        upload_queue_url: settings.upload_queue_url,
    };
    let dispatcher = Dispatcher::connect(dispatch).await;
    Requests { dispatcher, bucket: settings.bucket, default_request: settings.default_request }
}

async fn invoke(function: &Function, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let remaining = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let result = match function {
        Function::Requests(requests) => run(requests, &event.payload, &Deadline::within(remaining)).await,
        Function::Stream(transform) => transform.run(&event.payload).await,
        Function::Exports(importer) => importer.run(&event.payload, &Deadline::within(remaining)).await,
    };
    result.map_err(|error| Diagnostic { error_type: error.kind().name().to_owned(), error_message: chain(&error) })
}

async fn run(function: &Requests, request: &Value, deadline: &Deadline) -> Result<Value> {
    if is_stream_event(request) {
        let message = "this function runs requests, and the event is one of Firehose; set STREAM_TABLE_FIELD in a function of its \
                       own, as templates/streaming.yaml does";
        return Err(Error::new(ErrorKind::EventInvalid, message));
    }
    let request = Request::parse(request, &function.bucket, function.default_request.as_ref())?;
    function.dispatcher.run(request, deadline).await?.into_response()
}
