//! The Lambda binaries under the runtime emulator that SAM carries: one emulator for each call, since it takes one call
//! at a time. The answer tells a function's error from its result, which the emulator's HTTP status does not.

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

const START_BOUND: Duration = Duration::from_secs(20);
const TIMEOUT_SECONDS: u32 = 120;

/// A function: a binary, its settings and its timeout.
#[derive(Debug, Clone)]
pub struct Function {
    binary: PathBuf,
    settings: Settings,
    timeout_seconds: u32,
}

/// What a call ended with.
#[derive(Debug)]
pub struct Answer {
    /// The JSON that the function gave, or the error's JSON.
    pub body: Value,
    /// What the emulator and the function wrote to their standard output and error.
    pub logs: String,
}

impl Answer {
    /// Whether Lambda would deliver the event again: the function failed, or it died and the emulator has nothing to say.
    pub fn is_failure(&self) -> bool {
        self.error_type().is_some() || self.body == ""
    }

    /// Whether the function was killed, as the emulator saw it.
    pub fn was_killed(&self) -> bool {
        self.logs.contains("exited: signal: killed")
    }

    /// The error's type, when the function failed.
    pub fn error_type(&self) -> Option<&str> {
        self.body["errorType"].as_str()
    }

    /// The error's message, or nothing.
    pub fn error_message(&self) -> &str {
        self.body["errorMessage"].as_str().unwrap_or_default()
    }
}

impl Function {
    /// The trigger.
    pub fn trigger(settings: &Settings) -> Result<Self> {
        Ok(Self::of(&run::binary("spillway-trigger")?, settings))
    }

    /// The ingest function.
    pub fn ingest(settings: &Settings) -> Result<Self> {
        Ok(Self::of(&run::binary("spillway-ingest")?, settings))
    }

    /// Any binary that speaks the Lambda runtime's interface.
    pub fn of(binary: &Path, settings: &Settings) -> Self {
        Self { binary: binary.to_owned(), settings: settings.clone(), timeout_seconds: TIMEOUT_SECONDS }
    }

    /// With another timeout, which is also the deadline that the function is told.
    #[must_use]
    pub fn with_timeout(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Calls it once, from its start to its answer.
    pub async fn invoke(&self, event: &Value) -> Result<Answer> {
        self.start(event).await?.answer().await
    }

    /// Starts a call; meanwhile the process may be watched and killed.
    pub async fn start(&self, event: &Value) -> Result<Call> {
        let folder = Scratch::new("lambda")?;
        let port = run::free_port()?;
        let log = File::create(folder.path().join("log"))?;
        let emulator = Command::new(run::runtime_emulator()?)
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
        // From here on the value's end is the emulator's end.
        let mut call = Call { emulator, folder, answer: None };
        wait::until("the runtime emulator to listen", START_BOUND, async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        })
        .await?;
        let event = event.to_string();
        call.answer = Some(tokio::spawn(async move {
            http::post(port, "/2015-03-31/functions/function/invocations", &[], &event).await
        }));
        Ok(call)
    }
}

/// A call under way. The function and its emulator end with the value.
#[derive(Debug)]
pub struct Call {
    emulator: Child,
    folder: Scratch,
    answer: Option<JoinHandle<Result<http::Answer>>>,
}

impl Call {
    /// The function's own process, as soon as the emulator has started it.
    pub async fn function_process(&self) -> Result<u32> {
        let emulator = self.emulator.id();
        wait::until("the emulator to start the function", START_BOUND, async || {
            Ok(!process::children(emulator).is_empty())
        })
        .await?;
        process::children(emulator).first().copied().context("the function ended at once")
    }

    /// Kills the function where it is, and gives what the emulator then says.
    pub async fn kill(self) -> Result<Answer> {
        let function = self.function_process().await?;
        process::send(Signal::Kill, function)?;
        process::ended(function, START_BOUND).await?;
        self.answer().await
    }

    /// Waits until the function is held at the point: proof that the point is on its road. An answer instead shows which other
    /// road it went.
    pub async fn reaches(&mut self, pause: &Pause, bound: Duration) -> Result<()> {
        let start = Instant::now();
        while !pause.is_reached() {
            if self.answer.as_ref().is_some_and(JoinHandle::is_finished) {
                let answer = self.answered().await?;
                bail!("the function never came to {}: {} {}", pause.point(), answer.body, answer.logs);
            }
            ensure!(start.elapsed() < bound, "waited {bound:?} in vain for the function to reach {}", pause.point());
            tokio::time::sleep(wait::PAUSE).await;
        }
        Ok(())
    }

    /// The most memory that the function has had resident so far.
    pub async fn peak_memory_bytes(&self) -> Result<u64> {
        process::peak_memory_bytes(self.function_process().await?).context("the function has ended")
    }

    /// Waits for the answer.
    pub async fn answer(mut self) -> Result<Answer> {
        self.answered().await
    }

    /// Waits for the answer; the function waits for its next call, as long as this value lives.
    pub async fn answered(&mut self) -> Result<Answer> {
        let answer = self.answer.take().context("the call has not begun")?.await??;
        let logs = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
        Ok(Answer { body, logs })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The function first: killing the emulator alone would leave it behind.
        for function in process::children(self.emulator.id()) {
            let _ended_already = process::send(Signal::Kill, function);
        }
        let _ended_already = self.emulator.kill();
        let _reaped = self.emulator.wait();
    }
}
