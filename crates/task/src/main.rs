//! The task: the same road without a deadline, driven by environment variables alone.
//!
//! Exit codes: 0 every object reached an end, 1 some did not, 2 a setting is wrong, 75 stopped by a signal and to be
//! started again; by then the open transaction is rolled back and the lease let go.

use std::io::Write;
use std::process::ExitCode;

use spillway_core::config::{LogSettings, TaskSettings};
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::Dispatcher;
use spillway_core::error::{Error, ErrorKind, Result, chain};
use spillway_core::request::Request;
use spillway_core::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> ExitCode {
    let (settings, deadline) = match start() {
        Ok(started) => started,
        Err(error) => {
            // The logs may be what could not be set up.
            let _ = writeln!(std::io::stderr(), "the task cannot start: {}", chain(&error));
            return ExitCode::from(2);
        }
    };
    let dispatcher = Dispatcher::connect("task", settings.context, None).await;
    match load(&dispatcher, settings.work.into(), &deadline).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(kind = error.kind().name(), error = chain(&error), "the task did not end well");
            ExitCode::from(if error.kind() == ErrorKind::Interrupted { 75 } else { 1 })
        }
    }
}

fn start() -> Result<(TaskSettings, Deadline)> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    provider.map_err(|_| Error::new(ErrorKind::Internal, "a TLS provider is installed already"))?;
    telemetry::init(&LogSettings::from_env()?)?;
    Ok((TaskSettings::from_env()?, Deadline::until_stopped(stop_signal()?)))
}

/// Says `true` once SIGTERM or SIGINT has come.
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Error::new(ErrorKind::Internal, "signals cannot be listened to").with_source(error))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked to stop: rolling back and letting go");
        sender.send_replace(true);
    });
    Ok(receiver)
}

async fn load(dispatcher: &Dispatcher, request: Request, deadline: &Deadline) -> Result<()> {
    let result = dispatcher.run(request, deadline).await?;
    for report in &result.results.reports {
        let line = serde_json::to_string(report).unwrap_or_default();
        // A closed output is no reason to fail: the log has said the same.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    result.results.into_result().map(|_| ())
}
