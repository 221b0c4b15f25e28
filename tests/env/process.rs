//! Signals, state, children and peak memory of a process. Signals are sent with the shell's `kill`, because the workspace
//! forbids unsafe code.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wait;

/// The signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL, as after an out-of-memory kill or the loss of a machine.
    Kill,
    /// SIGQUIT: PostgreSQL disconnects its clients and frees its shared memory.
    Quit,
    /// SIGINT: PostgreSQL rolls back open transactions and shuts down.
    Interrupt,
    /// SIGTERM, as for a stopped Fargate task.
    Terminate,
    /// SIGSTOP: the process stalls and does not notice.
    Stop,
    /// SIGCONT: the process continues.
    Continue,
}

impl Signal {
    /// The number of the signal in an exit status.
    pub fn number(self) -> i32 {
        match self {
            Self::Kill => 9,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
            Self::Stop => 19,
            Self::Continue => 18,
        }
    }
}

/// Sends a signal. Fails if the process does not exist.
pub fn send(signal: Signal, pid: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill \"-$1\" \"$2\"", "kill", &signal.number().to_string(), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "cannot send {signal:?}: process {pid} does not exist");
    Ok(())
}

/// The start time of this process, in kernel ticks since boot.
pub fn started_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name in parentheses, may contain any character. The start time is field 22.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Whether the process runs. A zombie does not.
pub fn is_alive(pid: u32) -> bool {
    status_field(pid, "State:").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// Waits until the process has ended.
pub async fn wait_for_end(pid: u32, timeout: Duration) -> Result<()> {
    wait::until(&format!("the end of process {pid}"), timeout, async || Ok(!is_alive(pid))).await
}

/// The running child processes.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| status_field(pid, "PPid:").as_deref() == Some(parent.to_string().as_str()) && is_alive(pid))
        .collect()
}

/// The peak resident memory of the process.
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// The resident memory of the process.
pub fn memory_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The number of open descriptors of the process.
pub fn descriptors(pid: u32) -> u64 {
    let folder = Path::new("/proc").join(pid.to_string()).join("fd");
    std::fs::read_dir(folder).map_or(0, |entries| entries.count() as u64)
}

fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let kibibytes = status_field(pid, name)?;
    Some(kibibytes.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim().to_owned())
}
