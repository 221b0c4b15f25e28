//! A private PostgreSQL on loopback: its own data folder and port, TLS signed by a private authority, started, stopped,
//! killed and started again on the same port and data.
//!
//! Most tests take a database of the server that the whole run shares ([`Postgres::shared`]); a test that stops, starves or
//! reconfigures the server starts its own ([`Postgres::start`]). The server refuses to run as root, so root hands it to the
//! user `postgres`, whom its package brings.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::database::{Engine, Options, Schema};
use crate::keeper::{self, Owner};
use crate::process::{self, Signal};
use crate::tls::Certificates;
use crate::{run, wait};

const START_BOUND: Duration = Duration::from_secs(30);
const STOP_BOUND: Duration = Duration::from_secs(30);
const FULL_BOUND: Duration = Duration::from_secs(10);
/// The user who may do everything, from this machine and without a password.
const ADMINISTRATOR: &str = "postgres";

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    owner: Owner,
    options: Options,
}

impl Postgres {
    /// The server that all tests of this run share. Nobody stops it or changes its settings.
    pub async fn shared() -> Result<Self> {
        let folder = keeper::shared("postgres", async |folder| {
            let server = Self::create(folder, Owner::Run, Options::default())?;
            server.start_again().await
        })
        .await?;
        let port = std::fs::read_to_string(folder.join("port"))?.trim().parse().context("the port file is broken")?;
        Ok(Self { folder, port, owner: Owner::Run, options: Options::default() })
    }

    /// A server for this test alone; it ends with the value.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = run::folder()?.join(run::unique("postgres"));
        let server = Self::create(folder, Owner::Test, options)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Ends the server in good order: what runs is rolled back, the port refuses.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::Interrupt).await
    }

    /// Ends the server as a lost machine would: the process that the others hang on, and all of them.
    pub async fn kill(&self) -> Result<()> {
        let workers = process::children(keeper::pid(&self.folder)?);
        self.end(Signal::Kill).await?;
        for worker in workers {
            // Those that have seen the end of the first one are gone already.
            let _gone_already = process::send(Signal::Kill, worker);
            process::ended(worker, STOP_BOUND).await?;
        }
        Ok(())
    }

    /// Starts the stopped server, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        let environment = [("KEEPER_SIGNAL".to_owned(), "QUIT".to_owned())];
        keeper::start(self.owner, &self.folder, &self.command()?, &environment).await?;
        wait::until("PostgreSQL to answer", START_BOUND, async || {
            keeper::ensure_alive(&self.folder)?;
            Ok(self.administrator(ADMINISTRATOR).await.is_ok())
        })
        .await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's first process.
    pub fn pid(&self) -> Result<u32> {
        keeper::pid(&self.folder)
    }

    /// The private authority and its files.
    pub fn certificates(&self) -> Certificates {
        Certificates::in_folder(&self.folder.join("tls"))
    }

    /// A connection to a database that may do everything. A server that was full a moment ago has not yet noticed who
    /// left, and is asked again.
    pub async fn administrator(&self, database: &str) -> Result<Client> {
        let begun = Instant::now();
        loop {
            let mut config = login(self.port, ADMINISTRATOR, "", database);
            match open(config.options("-c default_transaction_read_only=off")).await {
                Err(error) if is_full(&error) && begun.elapsed() < FULL_BOUND => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Runs statements in a database as the administrator.
    pub async fn execute(&self, database: &str, statement: &str) -> Result<()> {
        let client = self.administrator(database).await?;
        client.batch_execute(statement).await.with_context(|| format!("refused: {statement}"))
    }

    /// Runs one query in a database as the administrator; every value as text, NULL as none.
    pub async fn query(&self, database: &str, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        rows(&self.administrator(database).await?, query).await
    }

    /// A new, empty database with a user who owns it.
    pub async fn schema(&self) -> Result<Schema> {
        let name = run::unique("t");
        let schema = Schema {
            engine: Engine::Postgres,
            port: self.port,
            authority: self.certificates().authority(),
            user: name.clone(),
            password: format!("pass-{name}"),
            name,
        };
        self.execute(ADMINISTRATOR, &format!("CREATE ROLE {} LOGIN PASSWORD '{}'", schema.user, schema.password))
            .await?;
        self.execute(ADMINISTRATOR, &format!("CREATE DATABASE {} OWNER {}", schema.name, schema.user)).await?;
        let grant = format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {}", schema.user);
        self.execute(&schema.name, &grant).await?;
        Ok(schema)
    }

    fn create(folder: PathBuf, owner: Owner, options: Options) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        copy_template(&folder.join("data"))?;
        Certificates::make(&folder.join("tls"))?;
        if is_root()? {
            call(Command::new("chown").args(["-R", "postgres"]).arg(folder.join("tls")))?;
        }
        let port = run::free_port()?;
        std::fs::write(folder.join("port"), port.to_string())?;
        Ok(Self { folder, port, owner, options })
    }

    fn command(&self) -> Result<Vec<String>> {
        let tls = self.certificates();
        let mut command = as_server()?;
        command.push(binary("postgres")?.display().to_string());
        command.extend(["-D".to_owned(), self.folder.join("data").display().to_string()]);
        let read_only = if self.options.read_only { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            // No socket beside the port: nobody is to reach the server another way.
            "unix_socket_directories=".to_owned(),
            format!("ssl={}", if self.options.tls { "on" } else { "off" }),
            format!("ssl_cert_file={}", tls.server().display()),
            format!("ssl_key_file={}", tls.server_key().display()),
            format!("max_connections={}", self.options.max_connections),
            format!("shared_buffers={}MB", self.options.buffer_pool_megabytes),
            format!("default_transaction_read_only={read_only}"),
            // The server may die here, but never the machine: what it has written stays in the kernel's memory.
            "fsync=off".to_owned(),
            // Far from the one in which instants are to be kept.
            "timezone=Asia/Kolkata".to_owned(),
            "max_wal_senders=0".to_owned(),
            // As on RDS. Below it, a table that is made in the transaction of its rows would spare the server their log.
            "wal_level=replica".to_owned(),
        ] {
            command.extend(["-c".to_owned(), setting]);
        }
        Ok(command)
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        ensure!(self.owner == Owner::Test, "the server that all tests share is not to be stopped");
        let pid = keeper::pid(&self.folder)?;
        process::send(signal, pid)?;
        process::ended(pid, STOP_BOUND).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.owner == Owner::Test {
            // With this signal the server gives its shared memory back.
            if let Ok(pid) = keeper::pid(&self.folder)
                && process::send(Signal::Quit, pid).is_ok()
            {
                let begun = Instant::now();
                while process::is_alive(pid) && begun.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            keeper::remove(&self.folder);
        }
    }
}

/// A connection without TLS to any port: a server's or a proxy's.
pub async fn connect(port: u16, user: &str, password: &str, database: &str) -> Result<Client> {
    open(&login(port, user, password, database)).await
}

fn login(port: u16, user: &str, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname(database);
    config
}

async fn open(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A query's rows; every value as text, NULL as none.
pub async fn rows(client: &Client, query: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(query).await.with_context(|| format!("refused: {query}"))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn is_full(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<tokio_postgres::Error>();
    error.and_then(tokio_postgres::Error::code).is_some_and(|state| state.code() == "53300")
}

/// A server's program in the newest version that is installed. Debian keeps them out of the search path.
fn binary(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing; install postgresql")?;
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.is_file())
        .collect();
    versions.sort();
    Ok(versions.pop().context("PostgreSQL's server is missing; install postgresql")?.1)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// What runs a command as the server's user: nothing, unless this is root. The command takes the place of the one before,
/// so that it can be signalled by its number.
fn as_server() -> Result<Vec<String>> {
    let words: &[&str] =
        if is_root()? { &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] } else { &[] };
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// Copies an initialised data folder; it is made once and kept between runs beside the build's output.
fn copy_template(destination: &Path) -> Result<()> {
    let own = std::env::current_exe()?;
    let build_folder = own.parent().context("this process has no folder")?;
    let template = build_folder.join("spillway-postgres-template");
    let lock = File::options().create(true).append(true).open(template.with_extension("lock"))?;
    lock.lock().context("cannot lock the template of the data folder")?;
    if !template.exists() {
        // The server's user may not be able to go where the build's output is.
        let work = run::Scratch::new("initdb")?;
        if is_root()? {
            call(Command::new("chown").arg("postgres").arg(work.path()))?;
        }
        let made = work.path().join("data");
        let mut words = as_server()?;
        words.push(binary("initdb")?.display().to_string());
        call(
            Command::new(&words[0])
                .args(&words[1..])
                .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions", "--wal-segsize=4"])
                .args(["--username", ADMINISTRATOR, "--auth=trust", "-D"])
                .arg(&made),
        )?;
        let access = format!("host all {ADMINISTRATOR} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
        std::fs::write(made.join("pg_hba.conf"), access)?;
        let unfinished = template.with_extension("unfinished");
        let _none_left_over = std::fs::remove_dir_all(&unfinished);
        call(Command::new("cp").arg("-a").args([&made, &unfinished]))?;
        std::fs::rename(&unfinished, &template)?;
    }
    drop(lock);
    call(Command::new("cp").arg("-a").args([template.as_path(), destination]))
}

fn call(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
