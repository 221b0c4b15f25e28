//! Starts servers that end with the process that owns them, also when that process is killed.
//!
//! Each server runs under a shell script, the keeper. The keeper watches the test, or nextest if all tests of the run share
//! the server. When that process ends, the keeper kills the server and deletes its folder.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Signal};
use crate::{run, wait};

/// The interval between two tries to get the lock of a shared server.
const LOCK_POLL: Duration = Duration::from_millis(20);

const SCRIPT: &str = include_str!("keeper.sh");
/// The time limit for the end of a server.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The process that owns a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This test process alone.
    Test,
    /// Every test of the run.
    Run,
}

impl Owner {
    fn pid(self) -> u32 {
        match self {
            Self::Test => std::process::id(),
            Self::Run => run::lead_process(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Run => "run",
        }
    }
}

/// Starts the command in the folder under a keeper, and returns the process id of the server.
pub async fn start(owner: Owner, folder: &Path, command: &[String], environment: &[(String, String)]) -> Result<u32> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let pid_file = folder.join("pid");
    remove_if_exists(&pid_file)?;
    let keeper = Command::new("sh")
        .args(["-c", SCRIPT, "keeper", &owner.pid().to_string(), owner.name()])
        .args([folder, &pid_file])
        .args(command)
        .env_clear()
        .env("PATH", SERVER_PATH)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // In its own process group, because the runner signals the test's group, and the keeper must survive to clean up.
        .process_group(0)
        .spawn()
        .context("cannot run sh")?;
    reap(keeper);
    wait::until("the keeper to start its server", Duration::from_secs(10), async || Ok(pid_file.exists())).await?;
    pid(folder)
}

/// The process id of the server in this folder.
pub fn pid(folder: &Path) -> Result<u32> {
    let path = folder.join("pid");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("no server was started in {}", folder.display()))?;
    text.trim().parse().with_context(|| format!("{} does not contain a process id", path.display()))
}

/// Fails with the last log lines if the server in this folder has ended.
pub fn ensure_alive(folder: &Path) -> Result<()> {
    if !process::is_alive(pid(folder)?) {
        bail!("the server in {} has ended; its last log lines:\n{}", folder.display(), log_tail(folder));
    }
    Ok(())
}

/// Reserves a port for the server in this folder.
pub(crate) fn reserve_port(folder: &Path) -> Result<u16> {
    let port = run::free_port()?;
    std::fs::write(folder.join("port"), port.to_string())?;
    Ok(port)
}

/// The port of the server in this folder.
pub(crate) fn port(folder: &Path) -> Result<u16> {
    std::fs::read_to_string(folder.join("port"))?.trim().parse().context("the port file is damaged")
}

/// Sends a signal to the server in this folder and waits for its end. Fails if other tests share the server.
pub(crate) async fn end(owner: Owner, folder: &Path, signal: Signal) -> Result<()> {
    ensure!(owner == Owner::Test, "a server that all tests share must not be stopped");
    let pid = pid(folder)?;
    process::send(signal, pid)?;
    process::wait_for_end(pid, STOP_TIMEOUT).await
}

/// Kills the server of a test and deletes its folder.
pub fn remove(folder: &Path) {
    if let Ok(pid) = pid(folder) {
        // An error means that the server has ended.
        let _gone_already = process::send(Signal::Kill, pid);
    }
    let _removed_by_keeper = std::fs::remove_dir_all(folder);
    if let Some(run_folder) = folder.parent() {
        let _others_still_use_it = std::fs::remove_dir(run_folder);
    }
}

/// Returns the folder of a server that all tests of the run share, and starts the server if no test has done so.
///
/// The file `ready` shows that the server has started. A lock makes concurrent tests wait for it.
pub async fn shared<Start, Done>(name: &str, start: Start) -> Result<PathBuf>
where
    Start: FnOnce(PathBuf) -> Done,
    Done: Future<Output = Result<()>>,
{
    let folder = run::folder()?.join(name);
    let lock = File::options().create(true).append(true).open(folder.with_extension("lock"))?;
    // A lock that blocks would stop the thread, also for another task on it that holds the lock.
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::WouldBlock => tokio::time::sleep(LOCK_POLL).await,
            TryLockError::Error(error) => return Err(error).context("cannot lock the run's folder"),
        }
    }
    let ready = folder.join("ready");
    if !ready.exists() {
        std::fs::create_dir_all(&folder)?;
        if let Err(error) = start(folder.clone()).await {
            remove(&folder);
            return Err(error);
        }
        std::fs::write(&ready, "")?;
    }
    ensure_alive(&folder)?;
    Ok(folder)
}

/// The last lines of the server's log.
pub fn log_tail(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The search path of every server and binary under test. They inherit no other environment variable.
pub const SERVER_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn remove_if_exists(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits for the keeper in the background, so that it does not become a zombie.
fn reap(mut keeper: Child) {
    std::thread::spawn(move || keeper.wait());
}
