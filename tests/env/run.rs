//! The test run: its folder, the process it ends with, and where the built binaries and the Python tools are.
//!
//! Under nextest every test is a process of its own; they find each other by the run's id. Elsewhere (`cargo test`,
//! the demo) the one process is the run.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Ports below the range that the kernel hands to outgoing connections, so that nobody takes one between our look and
/// the server's bind.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What names this run to all its test processes.
pub fn id() -> String {
    nextest_run().unwrap_or_else(|| format!("pid-{}", std::process::id()))
}

/// The process whose end is the end of the run: nextest itself, or this process.
pub fn lead_process() -> u32 {
    match nextest_run() {
        Some(_) => std::os::unix::process::parent_id(),
        None => std::process::id(),
    }
}

/// The folder of this run, made if it is missing. It lies under the system's temporary folder because a socket's path
/// may not be longer than 107 bytes.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("spillway-{}", id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A folder for one process or script under test; it goes with the value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder in the run's own.
    pub fn new(prefix: &str) -> Result<Self> {
        let path = folder()?.join(unique(prefix));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
        if let Some(run_folder) = self.0.parent() {
            let _others_still_use_it = std::fs::remove_dir(run_folder);
        }
    }
}

/// A name that no other test of this run has. A process's number alone would not do: a long run uses up all there are, and
/// they come again.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, started) = (std::process::id(), process::started_ticks().unwrap_or_default());
    format!("{prefix}_{process}_{started}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on loopback that nobody listens on, and that no other test takes while this process lives: a server may be killed
/// and started again, and even a new one takes a while until it listens.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let first = (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    for _ in 0..PORTS.len() {
        // 131 is prime to the range's length, so each process walks all of it, in leaps.
        let leap = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(131);
        let port = PORTS.start + (first.wrapping_add(leap)) % (PORTS.end - PORTS.start);
        // A name that the kernel keeps as long as the socket is open, for all processes that see the same ports.
        let name = SocketAddr::from_abstract_name(format!("spillway-test-port-{port}"))?;
        let Ok(reservation) = UnixDatagram::bind_addr(&name) else { continue };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port on loopback between {} and {}", PORTS.start, PORTS.end)
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// A binary of the workspace, as built beside the one that runs now.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this process does not know its own binary")?;
    let mut folder = own.parent().context("this process has no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("the deps folder has no parent")?;
    }
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not built; run: make build-local", path.display());
    Ok(path)
}

/// The path of the task's optimized build (profile `local`).
pub fn optimized_task() -> Result<PathBuf> {
    let task = binary("spillway-task")?;
    let target = task.ancestors().nth(2).context("the target folder has no parent")?;
    let path = target.join("local/spillway-task");
    ensure!(path.is_file(), "{} is not built; run: make build-optimized", path.display());
    Ok(path)
}

/// A tool in the Python environment that `scripts/setup` makes.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = workspace().join(".venv/bin").join(name);
    ensure!(path.is_file(), "{} is missing; run scripts/setup", path.display());
    Ok(path)
}

/// The Lambda runtime emulator that SAM carries.
pub fn runtime_emulator() -> Result<PathBuf> {
    let libraries = workspace().join(".venv/lib");
    let found = std::fs::read_dir(&libraries)
        .with_context(|| format!("{} is missing; run scripts/setup", libraries.display()))?
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"))
        .find(|emulator| emulator.is_file());
    found.context("the runtime emulator is missing; run scripts/setup")
}

#[expect(clippy::disallowed_methods, reason = "nextest's own variable, not a setting of Spillway's")]
fn nextest_run() -> Option<String> {
    std::env::var("NEXTEST_RUN_ID").ok()
}
