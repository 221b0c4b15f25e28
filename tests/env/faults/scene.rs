//! A bucket, a schema and files of one load mode: what a run prepares, and the rows that must exist at its end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::worker::{Job, Worker};
use crate::cloud::Object;
use crate::database::{Database, Engine};
use crate::fixture::{Counted, Input, Verdict, file, records};
use crate::process::Signal;
use crate::settings::Settings;
use crate::test_env::TestEnv;

/// The time after which another worker may take over: the lease, and one second for differences between clocks.
pub const LEASE_OVER: Duration = Duration::from_millis(6_300);
/// The time limit for the sweeps at the end of a run.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(400);
/// The number of rows of the older file.
const OLD_ROWS: usize = 60;

/// How the files of a run change the table, or where their rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// New rows, for a table that does not exist.
    Append,
    /// New rows, streamed in one pass into a table that exists.
    SinglePass,
    /// The whole table, in place of an older file.
    Replace,
    /// Rows by key, some of which an older file has loaded.
    Merge,
    /// The whole table by key: deletes the rows of an older file.
    Mirror,
    /// Insertions and deletions by key.
    Changes,
    /// A record of each file is rejected.
    Rejects,
    /// Through a staging table (MySQL and MariaDB).
    Staged,
    /// Into the fallback, because the table lacks the columns of the files.
    Fallback,
    /// From the fallback into the table, which was repaired.
    Replay,
    /// Into the database and the lake.
    Both,
    /// Into the lake alone.
    Lake,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 12] = [
        Self::Append,
        Self::SinglePass,
        Self::Replace,
        Self::Merge,
        Self::Mirror,
        Self::Changes,
        Self::Rejects,
        Self::Staged,
        Self::Fallback,
        Self::Replay,
        Self::Both,
        Self::Lake,
    ];

    /// Whether the engine has this mode. PostgreSQL has no staging table.
    pub fn is_on(self, engine: Engine) -> bool {
        self != Self::Staged || engine == Engine::MariaDb
    }

    /// Whether several files may be loaded in any order with the same result.
    pub fn has_no_order(self) -> bool {
        !matches!(self, Self::Replace | Self::Mirror | Self::Changes | Self::Replay)
    }

    /// Whether rows in the fallback must be replayed before the rows are counted: they change rows of the table, or the lake lacks
    /// them.
    pub fn counts_after_replay(self) -> bool {
        matches!(self, Self::Replace | Self::Merge | Self::Mirror | Self::Changes | Self::Both)
    }

    fn needs_repair(self) -> bool {
        matches!(self, Self::Fallback | Self::Replay)
    }
}

/// The environment of one run.
#[derive(Debug)]
pub struct Scene {
    /// The servers, the bucket and the schema.
    pub env: TestEnv,
    /// The settings of each worker.
    pub settings: Settings,
    /// The files that are to be loaded.
    pub objects: Vec<Object>,
    mode: Mode,
    is_repaired: bool,
    /// The number of rejected records.
    rejected: usize,
    /// When the last worker was disturbed.
    disturbed: Instant,
}

impl Scene {
    /// Prepares a run with files of these numbers of rows: six or more, so that all files need columns of the same width.
    pub async fn prepare(engine: Engine, mode: Mode, rows: &[usize]) -> Result<Self> {
        let env = TestEnv::on(engine).await?;
        // COMMIT and its response can be found only without TLS, which also costs each process a tenth of a second.
        let base = env.settings().with("RDS_TLS", "off").with("LOG_LEVEL", "info");
        let settings = match mode {
            Mode::Append | Mode::Fallback | Mode::Replay => base,
            Mode::SinglePass => base.with("BUFFER_MAX_BYTES", 0),
            Mode::Replace => base.with("LOAD_MODE", "replace"),
            Mode::Merge => base.with("LOAD_MODE", "merge").with("MERGE_KEY", "file,record"),
            Mode::Mirror => {
                base.with("LOAD_MODE", "mirror").with("MERGE_KEY", "file,record").with("MIRROR_MAX_DELETES", 100)
            }
            Mode::Changes => base.with("LOAD_MODE", "changes").with("MERGE_KEY", "file,record"),
            Mode::Rejects => base.with("MAX_REJECTS", 5),
            Mode::Staged => base.with("ATOMIC_MAX_BYTES", 1),
            Mode::Both => base.and(&env.fixture.lake_settings("both")).with("RDS_TLS", "off"),
            Mode::Lake => base.and(&env.fixture.lake_settings("lake")).with("RDS_TLS", "off"),
        };
        let mut scene = Self {
            env,
            settings,
            objects: Vec::new(),
            mode,
            is_repaired: false,
            rejected: 0,
            disturbed: Instant::now(),
        };
        scene.load_older_file().await?;
        for (number, rows) in rows.iter().enumerate() {
            scene.upload(&format!("uploads/day/orders{number}.csv"), *rows).await?;
        }
        if mode.needs_repair() {
            scene.env.sql("CREATE TABLE {schema}.orders (file VARCHAR(20))").await?;
        }
        if mode == Mode::Replay {
            for object in scene.objects.clone() {
                scene.load_undisturbed(&object.key).await?;
            }
            scene.repair().await?;
            ensure!(scene.is_repaired, "the table was not repaired before the faults");
        }
        Ok(scene)
    }

    /// Uploads a file of the mode.
    pub async fn upload(&mut self, key: &str, rows: usize) -> Result<()> {
        let fixture = &mut self.env.fixture;
        let object = match self.mode {
            Mode::Rejects => {
                let (mut body, rows) = file(key, rows);
                body.extend_from_slice(b"a short record\n");
                self.rejected += 1;
                let object = fixture.account.put(key, body).await?;
                fixture.inputs.push(Input { object: object.clone(), rows });
                object
            }
            Mode::Changes => {
                // The operations insert rows of this file, and delete the first rows of the older one.
                let name = key.rsplit('/').next().unwrap_or(key).trim_end_matches(".csv").to_owned();
                let deleted = OLD_ROWS / 3;
                let (body, inserted) = changes(&name, rows, deleted);
                let object = fixture.account.put(key, body).await?;
                let older = fixture.inputs[0].object.clone();
                let removed = fixture.inputs[0].rows[..deleted].to_vec();
                fixture.expect_deleted(&older, &removed);
                fixture.inputs.push(Input { object: object.clone(), rows: inserted });
                object
            }
            Mode::Merge if self.objects.is_empty() => {
                // It has the keys of the first rows of the older file.
                let older = fixture.inputs[0].object.clone();
                let replaced = fixture.inputs[0].rows[..rows.min(OLD_ROWS)].to_vec();
                fixture.expect_deleted(&older, &replaced);
                fixture.upload(key, rows).await?
            }
            _ => fixture.upload(key, rows).await?,
        };
        self.objects.push(object);
        Ok(())
    }

    async fn load_older_file(&mut self) -> Result<()> {
        let key = match self.mode {
            Mode::SinglePass | Mode::Replace | Mode::Mirror | Mode::Changes => "uploads/day/older.csv",
            // The name is that of the first file, so that its rows have the same keys.
            Mode::Merge => "uploads/earlier/orders0.csv",
            _ => return Ok(()),
        };
        let object = if self.mode == Mode::Changes {
            let (body, rows) = changes("older", OLD_ROWS, 0);
            let object = self.env.fixture.account.put(key, body).await?;
            self.env.fixture.inputs.push(Input { object: object.clone(), rows });
            object
        } else {
            self.env.fixture.upload(key, OLD_ROWS).await?
        };
        self.load_undisturbed(key).await?;
        if matches!(self.mode, Mode::Replace | Mode::Mirror) {
            self.env.fixture.expect_replaced(&object);
        }
        Ok(())
    }

    /// Loads a file before the faults. On a machine with much load a worker may lose its lease.
    async fn load_undisturbed(&self, key: &str) -> Result<()> {
        for _ in 0..5 {
            let ended = Worker::run(&Job::Load(key.to_owned()), &self.settings).await?;
            // A file that falls back needs attention.
            if matches!(ended.status.code(), Some(0 | 2)) {
                return Ok(());
            }
            tokio::time::sleep(LEASE_OVER).await;
        }
        bail!("{key} was not loaded before the faults")
    }

    /// See [`Mode::counts_after_replay`].
    pub fn counts_after_replay(&self) -> bool {
        self.mode.counts_after_replay()
    }

    /// Notes that a worker was killed or halted now, so that its lease expires later.
    pub fn note_disturbance(&mut self) {
        self.disturbed = Instant::now();
    }

    /// Runs a worker until its end, whatever its exit code.
    pub async fn work(&self, job: &Job) -> Result<bool> {
        Ok(Worker::run(job, &self.settings).await?.status.success())
    }

    /// Repairs a table that does not accept the files. It stays as it is if a halted worker holds a lock on it.
    pub async fn repair(&mut self) -> Result<()> {
        if self.mode.needs_repair() && !self.is_repaired {
            // The table has no rows, since it accepts none.
            let statement = match self.env.server {
                Database::MariaDb(_) => "DROP TABLE {schema}.orders WAIT 3",
                Database::Postgres(_) => "SET lock_timeout = '3s'; DROP TABLE {schema}.orders",
            };
            self.is_repaired = self.env.sql(statement).await.is_ok();
        }
        Ok(())
    }

    /// Waits until the leases of dead workers have expired, and sweeps until nothing is left to do.
    pub async fn settle(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(LEASE_OVER.saturating_sub(self.disturbed.elapsed())).await;
            let ended = Worker::run(&Job::Sweep, &self.settings).await?;
            let leases = self.env.fixture.account.keys("lease/").await?;
            let waiting = self.env.fixture.account.keys("uploads/").await?;
            if ended.status.success() && leases.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < SETTLE_TIMEOUT,
                "the sweep leaves {leases:?} and {waiting:?}: {:?} {}",
                ended.status,
                ended.logs
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Sweeps as [`Scene::settle`] does, and replays the fallback. A database that was out of reach has made files fall back.
    pub async fn settle_and_replay(&mut self) -> Result<()> {
        self.settle().await?;
        for _ in 0..5 {
            let is_empty = self.env.fixture.account.keys("fallback/").await?.is_empty();
            if is_empty || (self.mode.needs_repair() && !self.is_repaired) {
                return Ok(());
            }
            self.work(&Job::Replay).await?;
        }
        self.settle().await
    }

    /// What is wrong at the end of the run.
    pub async fn verdict(&self) -> Result<Verdict> {
        let TestEnv { fixture, server, .. } = &self.env;
        let mut verdict = if self.mode == Mode::Lake {
            let counted = self.env.count().await?;
            let mut verdict = Verdict::default();
            if counted != Counted::default() {
                verdict.unexpected.push(format!("rows outside the lake: {counted:?}"));
            }
            verdict
        } else {
            fixture.verdict(server).await?
        };
        if matches!(self.mode, Mode::Both | Mode::Lake)
            && let Err(error) = fixture.ensure_once_in_lake(server).await
        {
            verdict.unexpected.push(format!("{error:#}"));
        }
        let rejects = fixture.account.keys("rejected/").await?;
        if rejects.len() != 2 * self.rejected {
            verdict.unexpected.push(format!("expected rejects of {} files: {rejects:?}", self.rejected));
        }
        Ok(verdict)
    }

    /// Drops the schema.
    pub async fn discard(self) -> Result<()> {
        self.env.server.drop_schema(&self.env.fixture.schema).await
    }

    /// Halts a worker until its lease has expired. Returns whether it still ran.
    pub fn halt(&mut self, worker: &mut Worker) -> Result<bool> {
        let halted = worker.signal(Signal::Stop)?;
        if halted {
            self.note_disturbance();
        }
        Ok(halted)
    }
}

/// A file of changes that inserts rows, and deletes the first rows of the file `older`.
fn changes(name: &str, rows: usize, deleted: usize) -> (Vec<u8>, Vec<String>) {
    let mut body = String::from("op,file,record,checksum,note\n");
    let mut inserted = Vec::new();
    for (operation, file, count) in [("insert", name, rows), ("delete", "older", deleted)] {
        for (file, record, checksum, note) in records(file, count) {
            body.push_str(&format!("{operation},{file},{record},{checksum},\"{}\"\n", note.replace('"', "\"\"")));
            if operation == "insert" {
                inserted.push(format!("{file} {record} {checksum}"));
            }
        }
    }
    (body.into_bytes(), inserted)
}
