//! Servers that end with the process they belong to, however that process ends.
//!
//! Each server runs under a small shell script that watches the test (or nextest, for a server that all tests of a run
//! share) and, when that is gone, kills the server and removes its folder. A test that is killed leaves nothing behind.

use std::fs::File;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Signal};
use crate::{run, wait};

const SCRIPT: &str = include_str!("keeper.sh");

/// Whose end is the server's end.
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

    fn word(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Run => "run",
        }
    }
}

/// Starts the command in the folder under a keeper; the answer is the server's process.
pub async fn start(owner: Owner, folder: &Path, command: &[String], environment: &[(String, String)]) -> Result<u32> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let pid_file = folder.join("pid");
    remove_if_there(&pid_file)?;
    let keeper = Command::new("sh")
        .args(["-c", SCRIPT, "keeper", &owner.pid().to_string(), owner.word()])
        .args([folder, &pid_file])
        .args(command)
        .env_clear()
        .env("PATH", SERVER_PATH)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: the runner signals the test's group, and the keeper must live to clean up.
        .process_group(0)
        .spawn()
        .context("cannot run sh")?;
    reap(keeper);
    wait::until("the keeper to start its server", Duration::from_secs(10), async || Ok(pid_file.exists())).await?;
    pid(folder)
}

/// The process of the server in this folder.
pub fn pid(folder: &Path) -> Result<u32> {
    let path = folder.join("pid");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("no server was started in {}", folder.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no process number", path.display()))
}

/// Fails with the end of the server's log when the server in this folder has ended.
pub fn ensure_alive(folder: &Path) -> Result<()> {
    if !process::is_alive(pid(folder)?) {
        bail!("the server in {} ended; its log ends with:\n{}", folder.display(), log_tail(folder));
    }
    Ok(())
}

/// Kills the server and removes its folder: the end of a server that belongs to one test.
pub fn remove(folder: &Path) {
    if let Ok(pid) = pid(folder) {
        // An error here means that it has ended already, which is what is wanted.
        let _gone_already = process::send(Signal::Kill, pid);
    }
    let _removed_by_keeper = std::fs::remove_dir_all(folder);
    if let Some(run_folder) = folder.parent() {
        let _others_still_use_it = std::fs::remove_dir(run_folder);
    }
}

/// Starts a server that all tests of the run share, unless one of them did before; the answer is its folder.
///
/// The lock makes the others wait until the one that starts it is done, and `ready` tells them that it is.
pub async fn shared<Start, Done>(name: &str, start: Start) -> Result<PathBuf>
where
    Start: FnOnce(PathBuf) -> Done,
    Done: Future<Output = Result<()>>,
{
    let folder = run::folder()?.join(name);
    let lock = File::options().create(true).append(true).open(folder.with_extension("lock"))?;
    lock.lock().context("cannot lock the run's folder")?;
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

/// The search path of every server and binary under test; nothing else of the environment is handed on.
pub const SERVER_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits for the keeper in the background, so that it is not left as a zombie.
fn reap(mut keeper: Child) {
    std::thread::spawn(move || keeper.wait());
}
