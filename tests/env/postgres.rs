//! A private PostgreSQL on loopback, with its own data folder, port and certificate. It restarts on the same port and data.
//!
//! Most tests use a database of the server that the whole run shares ([`Postgres::shared`]). A test that stops or
//! reconfigures the server starts its own ([`Postgres::start`]). The server does not run as root. If the tests do, they run
//! it as the user `postgres`, which its package creates.

use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::database::{Engine, Options, Rows, Schema};
use crate::keeper::{self, Owner};
use crate::process::{self, Signal};
use crate::server::Server;
use crate::token_service::{SERVICE, with_services};
use crate::{run, template, wait};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const FULL_TIMEOUT: Duration = Duration::from_secs(10);
/// The user who has all privileges and needs no password on loopback.
pub(crate) const ADMINISTRATOR: &str = "postgres";

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres(Server);

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Postgres {
    /// The server that all tests of this run share. Tests must not stop it or change its settings.
    pub async fn shared() -> Result<Self> {
        let folder = keeper::shared("postgres", async |folder| {
            let server = Self::create(folder, Owner::Run, Options::default())?;
            server.start_again().await
        })
        .await?;
        Ok(Self(Server::shared(folder)?))
    }

    /// Starts a server for this test alone. It stops when the value is dropped.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = run::folder()?.join(run::unique("postgres"));
        let server = Self::create(folder, Owner::Test, options)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Shuts the server down: transactions are rolled back, and the port is closed.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::Interrupt).await
    }

    /// Kills the server and all its child processes, as if its machine was lost.
    pub async fn kill(&self) -> Result<()> {
        let workers = process::children(keeper::pid(&self.folder)?);
        self.end(Signal::Kill).await?;
        for worker in workers {
            // A worker that has noticed the end of its parent has exited.
            let _gone_already = process::send(Signal::Kill, worker);
            process::wait_for_end(worker, keeper::STOP_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Starts the stopped server, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        let environment = [("KEEPER_SIGNAL".to_owned(), "QUIT".to_owned())];
        keeper::start(self.owner, &self.folder, &self.command()?, &environment).await?;
        wait::until("PostgreSQL to accept connections", START_TIMEOUT, async || {
            keeper::ensure_alive(&self.folder)?;
            Ok(self.administrator(ADMINISTRATOR).await.is_ok())
        })
        .await
    }

    /// Connects to a database as the administrator.
    ///
    /// Retries while the server is full: it notices closed connections late.
    pub async fn administrator(&self, database: &str) -> Result<Client> {
        let begun = Instant::now();
        loop {
            let mut config = login(self.port(), ADMINISTRATOR, "", database);
            match open(config.options("-c default_transaction_read_only=off")).await {
                Err(error) if is_full(&error) && begun.elapsed() < FULL_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                connected => return connected,
            }
        }
    }

    /// Runs statements in a database as the administrator.
    pub async fn execute(&self, database: &str, statement: &str) -> Result<()> {
        let client = self.administrator(database).await?;
        client.batch_execute(statement).await.with_context(|| format!("refused: {statement}"))
    }

    /// Runs one query in a database as the administrator. Values are text, and `None` for NULL.
    pub async fn query(&self, database: &str, query: &str) -> Result<Rows> {
        rows(&self.administrator(database).await?, query).await
    }

    /// Creates a database with a user who owns it.
    pub async fn schema(&self) -> Result<Schema> {
        let schema = self.new_schema(Engine::Postgres);
        self.execute(ADMINISTRATOR, &format!("CREATE ROLE {} LOGIN PASSWORD '{}'", schema.user, schema.password))
            .await?;
        self.execute(ADMINISTRATOR, &format!("CREATE DATABASE {} OWNER {}", schema.name, schema.user)).await?;
        let grant = format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {}", schema.user);
        self.execute(&schema.name, &grant).await?;
        Ok(schema)
    }

    fn create(folder: PathBuf, owner: Owner, options: Options) -> Result<Self> {
        let server = Server::create(folder, owner, options)?;
        template::copy("postgres", &server.folder.join("data"), initialize)?;
        if is_root()? {
            run::command(Command::new("chown").args(["-R", "postgres"]).arg(server.folder.join("tls")))?;
        }
        if server.options.pam_services.is_some() {
            let access = format!(
                "host all {ADMINISTRATOR} 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 pam pamservice={SERVICE}\n"
            );
            std::fs::write(server.folder.join("data/pg_hba.conf"), access)?;
        }
        Ok(Self(server))
    }

    fn command(&self) -> Result<Vec<String>> {
        let tls = self.certificates();
        let mut command = self.options.pam_services.as_deref().map(with_services).unwrap_or_default();
        command.extend(run_as_postgres()?);
        command.push(binary("postgres")?.display().to_string());
        command.extend(["-D".to_owned(), self.folder.join("data").display().to_string()]);
        let read_only = if self.options.read_only { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port()),
            // No socket: clients must use the port.
            "unix_socket_directories=".to_owned(),
            format!("ssl={}", if self.options.tls { "on" } else { "off" }),
            format!("ssl_cert_file={}", tls.server().display()),
            format!("ssl_key_file={}", tls.server_key().display()),
            format!("max_connections={}", self.options.max_connections),
            format!("shared_buffers={}MB", self.options.buffer_pool_megabytes),
            format!("default_transaction_read_only={read_only}"),
            // Tests kill the server, but not the machine, so written data stays in the kernel's memory.
            "fsync=off".to_owned(),
            // Any time zone but UTC, in which instants must be stored.
            "timezone=Asia/Kolkata".to_owned(),
            "max_wal_senders=0".to_owned(),
            // As on RDS. With `minimal`, rows of a table created in the same transaction are not logged.
            "wal_level=replica".to_owned(),
        ] {
            command.extend(["-c".to_owned(), setting]);
        }
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.owner == Owner::Test {
            // After SIGQUIT the server frees its shared memory; after SIGKILL it does not.
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

/// Connects without TLS to the port of a server or of a proxy.
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

/// The rows of a query. Values are text, and `None` for NULL.
pub async fn rows(client: &Client, query: &str) -> Result<Rows> {
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

/// The path of a server program in the newest installed version. Debian does not put it in the search path.
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

/// The words before a command that run it as the user `postgres`; none unless this process is root.
///
/// `setpriv` replaces itself with the command, so that signals reach the command.
fn run_as_postgres() -> Result<Vec<String>> {
    let words: &[&str] =
        if is_root()? { &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] } else { &[] };
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// Creates a data folder.
fn initialize(folder: &Path) -> Result<()> {
    // The user `postgres` may have no access to the build output.
    let work = run::Scratch::new("initdb")?;
    if is_root()? {
        run::command(Command::new("chown").arg("postgres").arg(work.path()))?;
    }
    let data = work.path().join("data");
    let mut words = run_as_postgres()?;
    words.push(binary("initdb")?.display().to_string());
    run::command(
        Command::new(&words[0])
            .args(&words[1..])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions", "--wal-segsize=4"])
            .args(["--username", ADMINISTRATOR, "--auth=trust", "-D"])
            .arg(&data),
    )?;
    let access = format!("host all {ADMINISTRATOR} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    std::fs::write(data.join("pg_hba.conf"), access)?;
    run::command(Command::new("cp").arg("-a").args([data.as_path(), folder]))
}
