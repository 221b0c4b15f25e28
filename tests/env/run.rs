//! The test run: its folder, its lead process, and the paths of the built binaries and of the Python tools.
//!
//! With nextest every test is a process, and all tests of a run share the run's id. With `cargo test` and in the demo, one
//! process is the run.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Ports below the kernel's range for outgoing connections, which could take a port between our check and the server's bind.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The id that all test processes of this run share.
pub fn id() -> String {
    nextest_run().unwrap_or_else(|| format!("pid-{}", std::process::id()))
}

/// The process that ends with the run: nextest, or this process.
pub fn lead_process() -> u32 {
    match nextest_run() {
        Some(_) => std::os::unix::process::parent_id(),
        None => std::process::id(),
    }
}

/// The folder of this run, which is created if it is missing.
///
/// It is in the system's temporary folder, because the path of a socket has at most 107 bytes.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("spillway-{}", id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A temporary folder for one process or script. It is deleted when the value is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates an empty folder in the folder of the run.
    pub fn new(prefix: &str) -> Result<Self> {
        let path = folder()?.join(unique(prefix));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// The path of the folder.
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

/// A name that no other test of this run uses.
///
/// It contains the start time of the process, because the kernel reuses process ids during a long run.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, started) = (std::process::id(), process::started_ticks().unwrap_or_default());
    format!("{prefix}_{process}_{started}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A free port on loopback, reserved for this process until it ends.
///
/// The reservation keeps other tests away while a server starts, and while a killed server is not running.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let first = (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    for _ in 0..PORTS.len() {
        // 131 and the length of the range have no common divisor, so the steps reach every port.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(131);
        let port = PORTS.start + (first.wrapping_add(step)) % (PORTS.end - PORTS.start);
        // The kernel reserves an abstract socket name for all processes until the socket is closed.
        let name = SocketAddr::from_abstract_name(format!("spillway-test-port-{port}"))?;
        let Ok(reservation) = UnixDatagram::bind_addr(&name) else { continue };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port on loopback between {} and {}", PORTS.start, PORTS.end)
}

/// The root folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// The path of a binary of the workspace, in the same build folder as this process.
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

/// The path of a tool in the Python environment that `scripts/setup` creates.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = workspace().join(".venv/bin").join(name);
    ensure!(path.is_file(), "{} is missing; run scripts/setup", path.display());
    Ok(path)
}

/// Runs a command, and fails with its standard error if the command fails.
pub(crate) fn command(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The path of the Lambda runtime emulator that SAM contains.
pub fn runtime_emulator() -> Result<PathBuf> {
    let libraries = workspace().join(".venv/lib");
    let found = std::fs::read_dir(&libraries)
        .with_context(|| format!("{} is missing; run scripts/setup", libraries.display()))?
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"))
        .find(|emulator| emulator.is_file());
    found.context("the runtime emulator is missing; run scripts/setup")
}

#[expect(clippy::disallowed_methods, reason = "a variable of nextest, not a setting of Spillway")]
fn nextest_run() -> Option<String> {
    std::env::var("NEXTEST_RUN_ID").ok()
}

/// The random numbers of a test, and their seed. The variable `SPILLWAY_TEST_SEED` repeats the numbers of a seed.
#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not a setting")]
pub fn random_numbers() -> (fastrand::Rng, u64) {
    let given = std::env::var("SPILLWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    (fastrand::Rng::with_seed(seed), seed)
}
