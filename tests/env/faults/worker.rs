//! The processes that load files in a run: the task and the command line, started directly, and the functions under the runtime emulator.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::keeper;
use crate::lambda::{Call, Function};
use crate::process::{self, Signal};
use crate::run::{self, Scratch};
use crate::settings::Settings;

/// The time limit of one worker. It is long, because many workers share the machine.
const END_TIMEOUT: Duration = Duration::from_secs(400);

/// What a worker is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// The task loads the object with this key.
    Task(String),
    /// The task loads every object under the upload prefix.
    TaskForAll,
    /// The command line loads the object with this key.
    Load(String),
    /// The command line loads what no event delivered, and cleans up.
    Sweep,
    /// The command line loads the rows of the fallback.
    Replay,
    /// The trigger function receives this event.
    Trigger(Value),
    /// The ingest function receives this request.
    Ingest(Value),
}

/// A running worker. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Worker(Running);

#[derive(Debug)]
enum Running {
    Process { child: Child, pid: u32, folder: Scratch },
    Function(Call),
}

/// A worker that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status. For a function: 0, or 1 if Lambda would retry the event.
    pub status: ExitStatus,
    /// The standard output and error.
    pub logs: String,
}

impl Worker {
    /// Starts a worker with only these settings.
    pub async fn start(job: &Job, settings: &Settings) -> Result<Self> {
        let bucket = settings.get("S3_BUCKET").unwrap_or_default();
        let mut command = match job {
            Job::Task(_) | Job::TaskForAll => Command::new(run::binary("spillway-task")?),
            Job::Load(_) | Job::Sweep | Job::Replay => Command::new(run::binary("spillway")?),
            Job::Trigger(event) => {
                return Ok(Self(Running::Function(Function::trigger(settings)?.start(event).await?)));
            }
            Job::Ingest(request) => {
                return Ok(Self(Running::Function(Function::ingest(settings)?.start(request).await?)));
            }
        };
        command.env_clear().env("PATH", keeper::SERVER_PATH).env("RUST_BACKTRACE", "0").envs(settings.iter());
        match job {
            Job::Task(key) => command.env("CSV_KEY", key),
            Job::TaskForAll => command.env("CSV_PREFIX", "uploads/").env("CSV_MODE", "all"),
            Job::Load(key) => command.arg("load").arg(format!("s3://{bucket}/{key}")),
            Job::Sweep => command.args(["sweep", "--older-than-seconds", "0", "--json"]),
            Job::Replay => command.args(["fallback", "replay", "--json"]),
            Job::Trigger(_) | Job::Ingest(_) => &mut command,
        };
        let folder = Scratch::new("worker")?;
        let log = File::create(folder.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker")?;
        let pid = child.id().context("the worker has no process id")?;
        Ok(Self(Running::Process { child, pid, folder }))
    }

    /// Runs a worker until its end.
    pub async fn run(job: &Job, settings: &Settings) -> Result<Ended> {
        Self::start(job, settings).await?.end().await
    }

    /// Sends a signal. Returns whether the process still ran.
    pub fn signal(&mut self, signal: Signal) -> Result<bool> {
        if self.has_ended()? {
            return Ok(false);
        }
        match &self.0 {
            Running::Process { pid, .. } => process::send(signal, *pid).map(|()| true),
            Running::Function(call) => call.signal(signal),
        }
    }

    /// Whether the process has ended, or the function has responded.
    pub fn has_ended(&mut self) -> Result<bool> {
        match &mut self.0 {
            Running::Process { child, .. } => Ok(child.try_wait()?.is_some()),
            Running::Function(call) => Ok(call.has_ended()),
        }
    }

    /// Waits for the end of the process, or for the end of this time. Returns whether the process has ended.
    pub async fn ends_within(&mut self, time: Duration) -> Result<bool> {
        match &mut self.0 {
            Running::Process { child, .. } => match tokio::time::timeout(time, child.wait()).await {
                Ok(ended) => ended.map(|_| true).context("cannot wait for a worker"),
                Err(_) => Ok(false),
            },
            Running::Function(call) => Ok(call.ends_within(time).await),
        }
    }

    /// Waits for the end of the process.
    pub async fn end(self) -> Result<Ended> {
        match self.0 {
            Running::Process { mut child, folder, .. } => {
                let waited = tokio::time::timeout(END_TIMEOUT, child.wait()).await;
                let log = std::fs::read(folder.path().join("log")).unwrap_or_default();
                let logs = String::from_utf8_lossy(&log).into_owned();
                let status = waited.with_context(|| format!("a worker did not end in time: {logs}"))??;
                Ok(Ended { status, logs })
            }
            Running::Function(call) => {
                let response = tokio::time::timeout(END_TIMEOUT, call.finish()).await;
                let response = response.context("a function did not end in time")??;
                // The exit code is in the second byte of the status.
                let status = ExitStatus::from_raw(i32::from(response.is_failure()) << 8);
                Ok(Ended { status, logs: format!("{} {}", response.body, response.logs) })
            }
        }
    }
}
