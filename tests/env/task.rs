//! Runs the task binary as a process: signals, exit code, output and peak memory.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::process::{self, Signal};
use crate::settings::Settings;
use crate::{keeper, run};

/// The interval between two reads of the peak memory, which only grows.
const MEMORY_POLL: Duration = Duration::from_millis(10);

/// A running task. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Task {
    child: Child,
    pid: u32,
}

/// A task that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status.
    pub status: ExitStatus,
    /// The standard output and error.
    pub logs: String,
    /// The peak resident memory.
    pub peak_memory_bytes: u64,
}

impl Finished {
    /// The exit code; none if a signal ended the task.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether this signal ended the task.
    pub fn was_ended_by(&self, signal: Signal) -> bool {
        self.status.signal() == Some(signal.number())
    }
}

impl Task {
    /// Starts `spillway-task` with only these settings.
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
        let pid = child.id().context("the task has no process id")?;
        Ok(Self { child, pid })
    }

    /// Runs the task and waits for its end.
    pub async fn run(settings: &Settings, timeout: Duration) -> Result<Finished> {
        Self::start(settings)?.finish(timeout).await
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to the task.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(signal, self.pid)
    }

    /// Waits for the end of the task.
    pub async fn finish(self, timeout: Duration) -> Result<Finished> {
        let pid = self.pid;
        let memory = tokio::spawn(watch_memory(pid));
        let ended = tokio::time::timeout(timeout, self.child.wait_with_output()).await;
        let output = ended.with_context(|| format!("the task did not end within {timeout:?}"))??;
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
