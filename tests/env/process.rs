//! Processes by number: signals, life, children, peak memory. Signals go through the shell's own `kill`, since the
//! workspace forbids unsafe code.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wait;

/// The signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The end without a word, as by an out-of-memory kill or a lost machine.
    Kill,
    /// The end without waiting for clients, and with the server's own cleaning up.
    Quit,
    /// The end once what runs was rolled back.
    Interrupt,
    /// The polite end, as by a stopped Fargate task.
    Terminate,
    /// A halt that the process does not notice, as by a machine that stalls.
    Halt,
    /// The end of the halt.
    GoOn,
}

impl Signal {
    /// The number by which a dead process's status names the signal.
    pub fn number(self) -> i32 {
        match self {
            Self::Kill => 9,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
            Self::Halt => 19,
            Self::GoOn => 18,
        }
    }
}

/// Sends the signal; an error when there is no such process.
pub fn send(signal: Signal, pid: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill \"-$1\" \"$2\"", "kill", &signal.number().to_string(), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "process {pid} is not there to be signalled");
    Ok(())
}

/// When this process was started, in the kernel's ticks since the machine was.
pub fn started_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets is the second field and may hold anything; the start is the twenty-second.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Whether the process runs; one that has ended but was not waited for does not.
pub fn is_alive(pid: u32) -> bool {
    status_field(pid, "State:").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// Waits until the process has ended.
pub async fn ended(pid: u32, bound: Duration) -> Result<()> {
    wait::until(&format!("the end of process {pid}"), bound, async || Ok(!is_alive(pid))).await
}

/// The processes that this one started and that still run.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| status_field(pid, "PPid:").as_deref() == Some(parent.to_string().as_str()) && is_alive(pid))
        .collect()
}

/// The most memory that the process has had resident so far.
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    let kibibytes = status_field(pid, "VmHWM:")?;
    Some(kibibytes.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim().to_owned())
}
