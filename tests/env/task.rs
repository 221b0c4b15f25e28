//! The task binary as a process of its own: exit code, output, peak memory, and signals on the way.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::process::{self, Signal};
use crate::settings::Settings;
use crate::{keeper, run};

/// Memory is read this often; its high-water mark only ever grows, so little can be missed.
const MEMORY_POLL: Duration = Duration::from_millis(10);

/// A task that runs. It is killed when the value goes.
#[derive(Debug)]
pub struct Task {
    child: Child,
    pid: u32,
}

/// A task that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output and error, where the logs go.
    pub logs: String,
    /// The most memory that it had resident.
    pub peak_memory_bytes: u64,
}

impl Finished {
    /// The exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether this signal ended it.
    pub fn was_ended_by(&self, signal: Signal) -> bool {
        self.status.signal() == Some(signal.number())
    }
}

impl Task {
    /// Starts `spillway-task` with these settings and no others.
    pub fn start(settings: &Settings) -> Result<Self> {
        Self::start_binary(&run::binary("spillway-task")?, settings)
    }

    /// Starts another build of the task.
    pub fn start_binary(binary: &std::path::Path, settings: &Settings) -> Result<Self> {
        let child = Command::new(binary)
            .env_clear()
            .env("PATH", keeper::SERVER_PATH)
            .envs(settings.iter())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let pid = child.id().context("the task has no process number")?;
        Ok(Self { child, pid })
    }

    /// Runs it to its end.
    pub async fn run(settings: &Settings, bound: Duration) -> Result<Finished> {
        Self::start(settings)?.finish(bound).await
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(signal, self.pid)
    }

    /// Waits for its end.
    pub async fn finish(self, bound: Duration) -> Result<Finished> {
        let pid = self.pid;
        let memory = tokio::spawn(watch_memory(pid));
        let ended = tokio::time::timeout(bound, self.child.wait_with_output()).await;
        let output = ended.with_context(|| format!("the task did not end within {bound:?}"))??;
        let logs = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(Finished { status: output.status, logs, peak_memory_bytes: memory.await? })
    }
}

async fn watch_memory(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(now) = process::peak_memory_bytes(pid) {
        peak = peak.max(now);
        tokio::time::sleep(MEMORY_POLL).await;
    }
    peak
}
