//! The servers and the schema of one set, and the work around each measured run: storing objects, creating and dropping
//! tables, flushing pages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::fixture::Fixture;
use spillway_test_env::keeper::SERVER_PATH;
use spillway_test_env::run::{Scratch, workspace};
use spillway_test_env::settings::Settings;
use spillway_test_env::wait;

use crate::figures::median;
use crate::measure::Servers;

/// The table that Spillway loads into.
pub(crate) const LOADED: &str = "loaded";
/// The table that the others load into, created empty with the types that Spillway chose.
pub(crate) const REFERENCE: &str = "reference";
/// An empty table with the columns of Spillway's first table.
const SHAPE: &str = "shape";

const BUFFER_POOL_MEGABYTES: u32 = 1_024;
/// The number of times that the objects are fetched to measure the fetch alone.
const FETCHES: usize = 3;
/// The longest wait for InnoDB to become idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// InnoDB counts as idle below this number of dirty pages and old transactions. An unused server has a few.
const IDLE_PAGES: u64 = 100;

/// The servers, and everything that the contenders share.
#[derive(Debug)]
pub(crate) struct Arena {
    /// The database.
    pub(crate) server: Database,
    /// The schema of all contenders.
    pub(crate) schema: Schema,
    /// The account with the bucket of all contenders.
    pub(crate) account: Account,
    /// Scratch space for files.
    pub(crate) folder: Scratch,
    cloud: Cloud,
    settings: Settings,
    tasks: Tasks,
}

/// The binaries of the task.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    /// The build that is measured.
    pub(crate) measured: PathBuf,
    /// Another build to compare it with.
    pub(crate) baseline: Option<PathBuf>,
    /// The command `spillway`.
    pub(crate) terminal: Option<PathBuf>,
}

impl Arena {
    /// Starts the servers.
    pub(crate) async fn open(engine: Engine, options: Options, tasks: Tasks) -> Result<Self> {
        let options = Options { buffer_pool_megabytes: BUFFER_POOL_MEGABYTES, ..options };
        let (server, cloud) = (Database::start(engine, options).await?, Cloud::start().await?);
        let fixture = Fixture::new(cloud.account().await?, server.schema().await?);
        // The tests shorten these settings. Here they have their defaults, as in a deployment.
        let settings =
            fixture.settings().without("RDS_RETRY_SECONDS").without("LEASE_SECONDS").with("RDS_TABLE", LOADED);
        Ok(Self {
            server,
            schema: fixture.schema,
            account: fixture.account,
            folder: Scratch::new("bench")?,
            cloud,
            settings,
            tasks,
        })
    }

    /// The servers whose processor time is measured.
    pub(crate) fn servers(&self) -> Result<Servers> {
        Ok(Servers { database: self.server.pid()?, s3: self.cloud.pid()? })
    }

    /// The engine's name and version.
    pub(crate) async fn version(&self) -> Result<String> {
        let version = self.server.query(&self.schema, "SELECT VERSION()").await?;
        let text = version[0][0].clone().unwrap_or_default().replace("PostgreSQL ", "");
        let number: String = text.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        Ok(format!("{} {number}", self.schema.engine.title()))
    }

    /// Whether another build is compared with the measured one.
    pub(crate) fn has_baseline(&self) -> bool {
        self.tasks.baseline.is_some()
    }

    /// A command that runs the task with one more setting, which names the object or prefix to load.
    pub(crate) fn spillway(&self, name: &str, value: &str) -> Command {
        self.run_task(&self.tasks.measured, name, value)
    }

    /// The same command for the other build.
    pub(crate) fn baseline(&self, name: &str, value: &str) -> Result<Command> {
        let task = self.tasks.baseline.as_ref().context("baseline=PATH is missing")?;
        Ok(self.run_task(task, name, value))
    }

    fn run_task(&self, task: &Path, name: &str, value: &str) -> Command {
        let mut command = Command::new(task);
        let settings = self.settings.clone().with(name, value);
        command.env_clear().env("PATH", SERVER_PATH).envs(settings.iter());
        command
    }

    /// Whether the command `spillway` takes part.
    pub(crate) fn has_terminal(&self) -> bool {
        self.tasks.terminal.is_some()
    }

    /// The command `spillway` with the settings of the task.
    pub(crate) fn terminal(&self) -> Result<Command> {
        let mut command = Command::new(self.tasks.terminal.as_ref().context("terminal=PATH is missing")?);
        command.env_clear().env("PATH", SERVER_PATH).envs(self.settings.iter());
        Ok(command)
    }

    /// A command that loads a local file with `spillway load`. Every round loads the same file, so it asks to load it again.
    pub(crate) fn terminal_load(&self, file: &Path) -> Result<Command> {
        let mut command = self.terminal()?;
        command.args(["load", "--again", "--table", LOADED]).arg(file);
        Ok(command)
    }

    /// A command that runs a Python script in `tests/bench` with the settings of the task.
    pub(crate) fn script(&self, name: &str, arguments: [&str; 2]) -> Result<Command> {
        let python = workspace().join(".venv-bench/bin/python");
        ensure!(python.is_file(), "{} is missing; run scripts/setup bench", python.display());
        let mut command = Command::new(python);
        let script = workspace().join("tests/bench").join(name);
        command.arg(script).args(arguments).env_clear().env("PATH", SERVER_PATH).envs(self.settings.iter());
        Ok(command)
    }

    /// Stores a file of any size.
    pub(crate) async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let body = ByteStream::from_path(file).await?;
        let put = self.account.s3.put_object().bucket(&self.account.bucket).key(key).body(body).send();
        put.await.with_context(|| format!("cannot store {key}"))?;
        Ok(())
    }

    /// Copies an object within the bucket.
    pub(crate) async fn copy(&self, source: &str, key: &str) -> Result<()> {
        let bucket = &self.account.bucket;
        let copy = self.account.s3.copy_object().bucket(bucket).key(key).copy_source(format!("{bucket}/{source}"));
        copy.send().await.with_context(|| format!("cannot copy {source} to {key}"))?;
        Ok(())
    }

    /// Deletes every object under a prefix.
    pub(crate) async fn clear(&self, prefix: &str) -> Result<()> {
        for key in self.account.keys(prefix).await? {
            self.account.s3.delete_object().bucket(&self.account.bucket).key(&key).send().await?;
        }
        Ok(())
    }

    /// Measures the seconds to read the objects one after another and discard them.
    pub(crate) fn fetch_seconds(&self, keys: &[String]) -> Result<f64> {
        let list = self.folder.path().join("fetch");
        let (endpoint, bucket) = (self.cloud.endpoint(), &self.account.bucket);
        let lines = keys.iter().map(|key| format!("url = \"{endpoint}/{bucket}/{key}\"\noutput = \"/dev/null\"\n"));
        std::fs::write(&list, lines.collect::<String>())?;
        let fetch = || -> Result<f64> {
            let started = Instant::now();
            let status = Command::new("curl")
                .args(["--silent", "--fail", "--header", &format!("Authorization: {}", self.account.credential("s3"))])
                .arg("--config")
                .arg(&list)
                .stdout(Stdio::null())
                .status()
                .context("cannot run curl")?;
            ensure!(status.success(), "curl cannot fetch the objects: {status}");
            Ok(started.elapsed().as_secs_f64())
        };
        Ok(median((0..FETCHES).map(|_| fetch()).collect::<Result<_>>()?))
    }

    /// Remembers the columns of the table that Spillway created.
    pub(crate) async fn save_shape(&self) -> Result<()> {
        self.create_like(SHAPE, LOADED).await
    }

    /// Creates an empty table with the remembered columns.
    pub(crate) async fn create_empty(&self, table: &str) -> Result<()> {
        self.create_like(table, SHAPE).await
    }

    async fn create_like(&self, table: &str, like: &str) -> Result<()> {
        let statement = match self.schema.engine {
            Engine::MariaDb => format!("CREATE TABLE {{schema}}.{table} LIKE {{schema}}.{like}"),
            Engine::Postgres => format!("CREATE TABLE {{schema}}.{table} (LIKE {{schema}}.{like} INCLUDING ALL)"),
        };
        self.server.execute(&self.schema, &statement).await
    }

    /// Drops a table if it exists.
    pub(crate) async fn drop_table(&self, table: &str) -> Result<()> {
        self.server.execute(&self.schema, &format!("DROP TABLE IF EXISTS {{schema}}.{table}")).await
    }

    /// Waits until the server has written and purged everything of earlier runs, so that it does not count for the next one.
    pub(crate) async fn settle(&self) -> Result<()> {
        match self.schema.engine {
            Engine::MariaDb => self.settle_innodb().await?,
            Engine::Postgres => self.server.execute(&self.schema, "CHECKPOINT").await?,
        }
        ensure!(Command::new("sync").status().context("cannot run sync")?.success(), "sync failed");
        Ok(())
    }

    /// Makes InnoDB write all dirty pages and purge old transactions, which it otherwise does at a time of its choice.
    async fn settle_innodb(&self) -> Result<()> {
        let default = self.server.query(&self.schema, "SELECT @@GLOBAL.innodb_max_dirty_pages_pct").await?;
        let default = default[0][0].clone().context("innodb_max_dirty_pages_pct has no value")?;
        self.server.execute(&self.schema, "SET GLOBAL innodb_max_dirty_pages_pct = 0").await?;
        wait::until("InnoDB to become idle", IDLE_TIMEOUT, async || {
            let left = "SELECT variable_value FROM information_schema.global_status WHERE variable_name \
                 IN ('Innodb_buffer_pool_pages_dirty', 'Innodb_history_list_length')";
            let left = self.server.query(&self.schema, left).await?;
            let left = left.into_iter().flatten().flatten().map(|count| count.parse::<u64>());
            Ok(left.sum::<Result<u64, _>>()? < IDLE_PAGES)
        })
        .await?;
        self.server.execute(&self.schema, &format!("SET GLOBAL innodb_max_dirty_pages_pct = {default}")).await
    }

    /// Fails unless this many files were moved and are in the ledger with all their rows.
    pub(crate) async fn check_moved(&self, prefix: &str, files: u64, rows: u64) -> Result<()> {
        let query = format!(
            "SELECT COUNT(*), SUM(rows_stored) FROM {{schema}}.spillway_ledger \
             WHERE state = 'loaded' AND object_key LIKE '{prefix}%'"
        );
        let ledger = self.server.query(&self.schema, &query).await?;
        let expected = [files, rows].map(|number| Some(number.to_string()));
        ensure!(ledger[0] == expected, "the ledger has {:?} instead of {expected:?}", ledger[0]);
        let (waiting, moved) = (self.account.keys(prefix).await?.len(), self.account.keys("processed/").await?.len());
        ensure!(
            waiting == 0 && moved as u64 == files,
            "{moved} of {files} files were moved, and {waiting} remain under {prefix}"
        );
        Ok(())
    }
}
