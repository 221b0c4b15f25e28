//! The processes that load files in a run: the task and the command line, started directly.

use std::fs::File;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::keeper;
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
}

/// A running worker. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: u32,
    folder: Scratch,
}

/// A worker that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// The standard output and error.
    pub logs: String,
}

impl Worker {
    /// Starts a worker with only these settings.
    pub fn start(job: &Job, settings: &Settings) -> Result<Self> {
        let bucket = settings.get("S3_BUCKET").unwrap_or_default();
        let mut command = match job {
            Job::Task(_) | Job::TaskForAll => Command::new(run::binary("spillway-task")?),
            Job::Load(_) | Job::Sweep | Job::Replay => Command::new(run::binary("spillway")?),
        };
        command.env_clear().env("PATH", keeper::SERVER_PATH).env("RUST_BACKTRACE", "0").envs(settings.iter());
        match job {
            Job::Task(key) => command.env("CSV_KEY", key),
            Job::TaskForAll => command.env("CSV_PREFIX", "uploads/").env("CSV_MODE", "all"),
            Job::Load(key) => command.arg("load").arg(format!("s3://{bucket}/{key}")),
            Job::Sweep => command.args(["sweep", "--older-than-seconds", "0", "--json"]),
            Job::Replay => command.args(["fallback", "replay", "--json"]),
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
        Ok(Self { child, pid, folder })
    }

    /// Runs a worker until its end.
    pub async fn run(job: &Job, settings: &Settings) -> Result<Ended> {
        Self::start(job, settings)?.end().await
    }

    /// Sends a signal. Returns whether the process still ran.
    pub fn signal(&mut self, signal: Signal) -> Result<bool> {
        if self.has_ended()? {
            return Ok(false);
        }
        process::send(signal, self.pid)?;
        Ok(true)
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end of the process, or for the end of this time. Returns whether the process has ended.
    pub async fn ends_within(&mut self, time: Duration) -> Result<bool> {
        match tokio::time::timeout(time, self.child.wait()).await {
            Ok(ended) => ended.map(|_| true).context("cannot wait for a worker"),
            Err(_) => Ok(false),
        }
    }

    /// Waits for the end of the process.
    pub async fn end(mut self) -> Result<Ended> {
        let waited = tokio::time::timeout(END_TIMEOUT, self.child.wait()).await;
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        let logs = String::from_utf8_lossy(&log).into_owned();
        let status = waited.with_context(|| format!("a worker did not end in time: {logs}"))??;
        Ok(Ended { status, logs })
    }
}
