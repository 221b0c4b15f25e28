//! Runs the Lambda binaries under the runtime emulator that SAM contains.
//!
//! The emulator processes one call at a time, so each call starts its own, except those of a [`WarmFunction`]. Its HTTP status does not show a function's error,
//! so [`Response`] reads it from the body.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::failpoint::Pause;
use crate::process::{self, Signal};
use crate::run::Scratch;
use crate::settings::Settings;
use crate::{http, keeper, run, wait};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT_SECONDS: u32 = 120;
const INVOCATIONS: &str = "/2015-03-31/functions/function/invocations";

/// A function: a binary, its settings and its timeout.
#[derive(Debug, Clone)]
pub struct Function {
    binary: PathBuf,
    settings: Settings,
    timeout_seconds: u32,
}

/// The response to a call.
#[derive(Debug)]
pub struct Response {
    /// The JSON that the function returned, or the JSON of its error.
    pub body: Value,
    /// The standard output and error of the emulator and the function.
    pub logs: String,
}

impl Response {
    /// Whether Lambda would retry the event: the function failed, or it was killed and the body is empty.
    pub fn is_failure(&self) -> bool {
        self.error_type().is_some() || self.body == ""
    }

    /// Fails with the body and the logs if the function failed.
    pub fn ensure_success(&self) -> Result<()> {
        ensure!(!self.is_failure(), "the function failed: {} {}", self.body, self.logs);
        Ok(())
    }

    /// The reports in the response of the trigger or of the ingest function.
    pub fn reports(&self) -> Result<Vec<Value>> {
        let body: Value = match self.body["body"].as_str() {
            Some(text) => serde_json::from_str(text)?,
            None => self.body.clone(),
        };
        Ok(body["reports"].as_array().with_context(|| format!("no reports in {body}"))?.clone())
    }

    /// Whether the function was killed, according to the emulator's log.
    pub fn was_killed(&self) -> bool {
        self.logs.contains("exited: signal: killed")
    }

    /// The error's type, if the function failed.
    pub fn error_type(&self) -> Option<&str> {
        self.body["errorType"].as_str()
    }

    /// The error's message; empty if the function succeeded.
    pub fn error_message(&self) -> &str {
        self.body["errorMessage"].as_str().unwrap_or_default()
    }
}

impl Function {
    /// The trigger function.
    pub fn trigger(settings: &Settings) -> Result<Self> {
        Ok(Self::new(&run::binary("spillway-trigger")?, settings))
    }

    /// The ingest function.
    pub fn ingest(settings: &Settings) -> Result<Self> {
        Ok(Self::new(&run::binary("spillway-ingest")?, settings))
    }

    /// A function in any binary that implements the Lambda runtime interface.
    pub fn new(binary: &Path, settings: &Settings) -> Self {
        Self { binary: binary.to_owned(), settings: settings.clone(), timeout_seconds: TIMEOUT_SECONDS }
    }

    /// Sets the timeout, from which the function's deadline follows.
    #[must_use]
    pub fn with_timeout(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Calls the function once and waits for the response.
    pub async fn invoke(&self, event: &Value) -> Result<Response> {
        self.start(event).await?.finish().await
    }

    /// Starts a call. Until it finishes, the process can be observed and killed.
    pub async fn start(&self, event: &Value) -> Result<Call> {
        let emulator = self.start_emulator().await?;
        let (port, event) = (emulator.port, event.to_string());
        let response = Some(tokio::spawn(async move { http::post(port, INVOCATIONS, &[], &event).await }));
        Ok(Call { emulator, response })
    }

    async fn start_emulator(&self) -> Result<Emulator> {
        let folder = Scratch::new("lambda")?;
        let port = run::free_port()?;
        let log = File::create(folder.path().join("log"))?;
        let process = Command::new(run::runtime_emulator()?)
            .args(["--runtime-interface-emulator-address", &format!("127.0.0.1:{port}")])
            .args(["--runtime-api-address", &format!("127.0.0.1:{}", run::free_port()?)])
            .arg(&self.binary)
            .env_clear()
            .env("PATH", keeper::SERVER_PATH)
            .env("AWS_LAMBDA_FUNCTION_NAME", "spillway-under-test")
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", self.timeout_seconds.to_string())
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .envs(self.settings.iter())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run the runtime emulator")?;
        // The emulator ends when this value is dropped.
        let emulator = Emulator { process, port, folder };
        wait::until("the runtime emulator to listen", START_TIMEOUT, async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        })
        .await?;
        Ok(emulator)
    }
}

/// The runtime emulator of one function. Both end when the value is dropped.
#[derive(Debug)]
struct Emulator {
    process: Child,
    port: u16,
    folder: Scratch,
}

impl Emulator {
    /// The process id of the function, as soon as the emulator has started it.
    async fn function_process(&self) -> Result<u32> {
        let emulator = self.process.id();
        wait::until("the emulator to start the function", START_TIMEOUT, async || {
            Ok(!process::children(emulator).is_empty())
        })
        .await?;
        process::children(emulator).first().copied().context("the function ended at once")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The function first, because it survives the end of the emulator.
        for function in process::children(self.process.id()) {
            let _ended_already = process::send(Signal::Kill, function);
        }
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A function that stays in memory between its calls.
#[derive(Debug)]
pub struct WarmFunction(Emulator);

impl WarmFunction {
    /// Starts the emulator. It starts the function with the first call.
    pub async fn start(function: &Function) -> Result<Self> {
        function.start_emulator().await.map(Self)
    }

    /// Calls the function and waits for the response, which has no logs.
    pub async fn invoke(&self, event: &Value) -> Result<Response> {
        let response = http::post(self.0.port, INVOCATIONS, &[], &event.to_string()).await?;
        let body = serde_json::from_str(&response.body).unwrap_or(Value::String(response.body));
        Ok(Response { body, logs: String::new() })
    }

    /// The process id of the function, as soon as the emulator has started it.
    pub async fn process(&self) -> Result<u32> {
        self.0.function_process().await
    }
}

/// A call in progress. The function and its emulator end when the value is dropped.
#[derive(Debug)]
pub struct Call {
    emulator: Emulator,
    response: Option<JoinHandle<Result<http::Response>>>,
}

impl Call {
    /// The process id of the function, as soon as the emulator has started it.
    pub async fn function_process(&self) -> Result<u32> {
        self.emulator.function_process().await
    }

    /// Whether the emulator has responded.
    pub fn has_ended(&self) -> bool {
        self.response.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the response, or for the end of this time. Returns whether the emulator has responded.
    pub async fn ends_within(&self, time: Duration) -> bool {
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < time {
            tokio::time::sleep(wait::PAUSE.min(time)).await;
        }
        self.has_ended()
    }

    /// Sends a signal to the function. Returns whether it still ran.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        match process::children(self.emulator.process.id()).first() {
            Some(function) if !self.has_ended() => process::send(signal, *function).map(|()| true),
            Some(_) | None => Ok(false),
        }
    }

    /// Kills the function, and returns the emulator's response.
    pub async fn kill(self) -> Result<Response> {
        let function = self.function_process().await?;
        process::send(Signal::Kill, function)?;
        process::wait_for_end(function, START_TIMEOUT).await?;
        self.finish().await
    }

    /// Waits until the function has paused at the failpoint. Fails with the response if the function returns instead.
    pub async fn wait_for(&mut self, pause: &Pause, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        while !pause.is_reached() {
            if self.response.as_ref().is_some_and(JoinHandle::is_finished) {
                let response = self.response().await?;
                bail!("the function did not reach {}: {} {}", pause.point(), response.body, response.logs);
            }
            ensure!(start.elapsed() < timeout, "waited {timeout:?} for the function to reach {}", pause.point());
            tokio::time::sleep(wait::PAUSE).await;
        }
        Ok(())
    }

    /// The peak resident memory of the function.
    pub async fn peak_memory_bytes(&self) -> Result<u64> {
        process::peak_memory_bytes(self.function_process().await?).context("the function has ended")
    }

    /// Waits for the response, then ends the function.
    pub async fn finish(mut self) -> Result<Response> {
        self.response().await
    }

    /// Waits for the response. The function waits for its next call until this value is dropped.
    pub async fn response(&mut self) -> Result<Response> {
        let response = self.response.take().context("the call has no pending response")?.await??;
        let logs = std::fs::read_to_string(self.emulator.folder.path().join("log")).unwrap_or_default();
        let body = serde_json::from_str(&response.body).unwrap_or(Value::String(response.body));
        Ok(Response { body, logs })
    }
}
