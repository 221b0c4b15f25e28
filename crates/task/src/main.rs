//! The task: runs the request in its environment variables, without a deadline.
//!
//! Exit codes:
//!
//! - 0: every object has an outcome.
//! - 1: some objects failed.
//! - 2: a setting is missing or invalid.
//! - 75: a signal stopped the task, or another worker is loading the object. Nothing is wrong. A signal rolls the open transaction
//!   back and abandons the lease. Start the task again if the object is still in place.

use std::io::Write;
use std::process::ExitCode;

use spillway_core::config::TaskSettings;
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::{DispatchSettings, Dispatcher};
use spillway_core::error::{Error, ErrorKind, Result, chain};
use spillway_core::request::Request;
use spillway_core::telemetry::{self, LogSettings};

#[tokio::main]
async fn main() -> ExitCode {
    let (settings, deadline) = match start() {
        Ok(started) => started,
        Err(error) => {
            // Written to stderr because the logs may not be set up.
            let _ = writeln!(std::io::stderr(), "the task cannot start: {}", chain(&error));
            return ExitCode::from(2);
        }
    };
    let dispatch =
        DispatchSettings { service: "task", pipeline: settings.pipeline, tasks: None, upload_queue_url: None };
    let dispatcher = Dispatcher::connect(dispatch).await;
    match run(&dispatcher, settings.request, &deadline).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(kind = error.kind().name(), error = chain(&error), "the task failed");
            let is_temporary = matches!(
                error.kind(),
                ErrorKind::Interrupted | ErrorKind::Busy | ErrorKind::LeaseLost | ErrorKind::Throttled
            );
            ExitCode::from(if is_temporary { 75 } else { 1 })
        }
    }
}

fn start() -> Result<(TaskSettings, Deadline)> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    provider.map_err(|_| Error::new(ErrorKind::Internal, "a TLS provider is already installed"))?;
    telemetry::init(&LogSettings::from_env()?)?;
    let deadline = Deadline::until_signal(|_| {
        tracing::warn!("received a stop signal: rolling back and abandoning the lease");
    })?;
    Ok((TaskSettings::from_env()?, deadline))
}

async fn run(dispatcher: &Dispatcher, request: Request, deadline: &Deadline) -> Result<()> {
    let result = dispatcher.run(request, deadline).await?;
    for report in &result.results.reports {
        let line = serde_json::to_string(report).unwrap_or_default();
        // A closed stdout is not an error: the log contains the same report.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    for extract in &result.extracts {
        let line = serde_json::to_string(extract).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    result.results.into_result().map(|_| ())
}
