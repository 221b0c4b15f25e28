//! Runs the command `spillway` as a process, with only the given settings.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::process::{self, Signal};
use crate::settings::Settings;
use crate::{keeper, run};

/// The time limit of one command.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running command. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: u32,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended the command.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Ended {
    /// The JSON document on standard output.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON document: {self:?}"))
    }

    /// Fails unless the command has exited with this code.
    pub fn ensure_code(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "not exit code {code}: {self:#?}");
        Ok(self)
    }
}

impl Running {
    /// Starts `spillway` with these arguments.
    pub fn start(settings: &Settings, arguments: &[&str]) -> Result<Self> {
        let binary = run::binary("spillway")?;
        let child = Command::new(&binary)
            .args(arguments)
            .env_clear()
            .env("PATH", keeper::SERVER_PATH)
            .envs(settings.iter())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let pid = child.id().context("the command has no process id")?;
        Ok(Self { child, pid })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(signal, self.pid)
    }

    /// The peak resident memory so far; none after the end.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        process::peak_memory_bytes(self.pid)
    }

    /// Writes the standard input and waits for the end.
    pub async fn finish(mut self, input: &[u8]) -> Result<Ended> {
        if let Some(mut stdin) = self.child.stdin.take() {
            // A command that does not read its input closes it.
            let _ = stdin.write_all(input).await;
        }
        let ended = tokio::time::timeout(TIMEOUT, self.child.wait_with_output()).await;
        let output = ended.context("the command did not end in time")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }
}

/// Runs `spillway` with these arguments, and waits for its end.
pub async fn spillway(settings: &Settings, arguments: &[&str]) -> Result<Ended> {
    Running::start(settings, arguments)?.finish(b"").await
}
