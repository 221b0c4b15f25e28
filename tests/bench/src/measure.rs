//! Measures a process from its start to its end: time, memory, its processor time and that of the servers.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spillway_test_env::process;

use crate::figures::Run;

/// The interval between two reads of the peak memory. The kernel keeps the peak, so only a late rise can be missed.
const MEMORY_POLL: Duration = Duration::from_millis(10);
/// The time for a server to wait for its ended workers, whose processor time it counts only then.
const SETTLE: Duration = Duration::from_millis(200);
/// Linux reports times in `/proc` in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// The servers whose processor time is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    /// The process id of the database's main process.
    pub(crate) database: u32,
    /// The process id of the local S3.
    pub(crate) s3: u32,
}

/// Runs a command and measures it.
///
/// # Errors
/// When the command fails, with the end of its output.
pub(crate) fn run(servers: Servers, command: &mut Command) -> Result<Run> {
    let before = (family_seconds(servers.database)?, family_seconds(servers.s3)?, reaped_seconds()?);
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let pid = child.id();
    let memory = std::thread::spawn(move || watch_memory(pid));
    let output = child.wait_with_output()?;
    let seconds = started.elapsed().as_secs_f64();
    let client_cpu_seconds = reaped_seconds()? - before.2;
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    ensure!(output.status.success(), "{:?} ended with {}:\n{tail}", command.get_program(), output.status);
    std::thread::sleep(SETTLE);
    Ok(Run {
        seconds: to_milliseconds(seconds),
        client_cpu_seconds: to_milliseconds(client_cpu_seconds),
        server_cpu_seconds: to_milliseconds(family_seconds(servers.database)? - before.0),
        s3_cpu_seconds: to_milliseconds(family_seconds(servers.s3)? - before.1),
        peak_memory_bytes: memory.join().map_err(|_| anyhow::anyhow!("the thread that reads the memory panicked"))?,
    })
}

/// Rounds to milliseconds, which is the precision of the measurement.
fn to_milliseconds(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

fn watch_memory(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(now) = process::peak_memory_bytes(pid) {
        peak = peak.max(now);
        std::thread::sleep(MEMORY_POLL);
    }
    peak
}

/// The processor time of a process, its running children, and its ended children.
fn family_seconds(pid: u32) -> Result<f64> {
    let mut seconds = 0.0;
    for member in std::iter::once(pid).chain(process::children(pid)) {
        // A child may have ended since. Its parent counts it then.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{member}/stat")) else { continue };
        let (own, ended) = seconds_of(&stat).with_context(|| format!("/proc/{member}/stat has another format"))?;
        seconds += own + ended;
    }
    Ok(seconds)
}

/// The processor time of all children of this process that have ended.
fn reaped_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    Ok(seconds_of(&stat).context("/proc/self/stat has another format")?.1)
}

/// The seconds of a process, and of its ended children: fields 14 to 17 of proc_pid_stat(5). The second field is a name that
/// may contain spaces and parentheses.
fn seconds_of(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let seconds = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((seconds(11)? + seconds(12)?, seconds(13)? + seconds(14)?))
}

#[cfg(test)]
mod tests {
    use super::seconds_of;

    #[test]
    fn process_name_may_contain_spaces_and_parentheses() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 119 0 0 0 150 50 30 20 9 0 1 0 5";
        assert_eq!(seconds_of(stat), Some((2.0, 0.5)));
    }
}
