//! A private MariaDB on loopback: its own data folder and port, TLS signed by a private authority, started, stopped,
//! killed and started again on the same port and data.
//!
//! Most tests take a schema of the server that the whole run shares ([`MariaDb::shared`]); a test that stops, starves or
//! reconfigures the server starts its own ([`MariaDb::start`]), which takes about a second.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, SslOpts, Value};

use crate::database::Engine;
pub use crate::database::{Options, Schema};
use crate::keeper::{self, Owner};
use crate::process::{self, Signal};
use crate::tls::Certificates;
use crate::{run, wait};

const START_BOUND: Duration = Duration::from_secs(30);
const STOP_BOUND: Duration = Duration::from_secs(30);
const FULL_BOUND: Duration = Duration::from_secs(10);

/// A MariaDB server.
#[derive(Debug)]
pub struct MariaDb {
    folder: PathBuf,
    port: u16,
    owner: Owner,
    options: Options,
}

impl MariaDb {
    /// The server that all tests of this run share. Nobody stops it or changes its settings.
    pub async fn shared() -> Result<Self> {
        let folder = keeper::shared("mariadb", async |folder| {
            let server = Self::create(folder, Owner::Run, Options::default())?;
            server.start_again().await
        })
        .await?;
        let port = std::fs::read_to_string(folder.join("port"))?.trim().parse().context("the port file is broken")?;
        Ok(Self { folder, port, owner: Owner::Run, options: Options::default() })
    }

    /// A server for this test alone; it ends with the value.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = run::folder()?.join(run::unique("mariadb"));
        let server = Self::create(folder, Owner::Test, options)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Ends the server in good order: what runs is rolled back, the port refuses.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::Terminate).await
    }

    /// Ends the server as a lost machine would.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::Kill).await
    }

    /// Starts the stopped server, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        keeper::start(self.owner, &self.folder, &self.command(), &[]).await?;
        wait::until("MariaDB to answer", START_BOUND, async || {
            keeper::ensure_alive(&self.folder)?;
            Ok(self.administrator().await.is_ok())
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

    /// A connection that may do everything. A server that was full a moment ago has not yet noticed who left, and is
    /// asked again.
    pub async fn administrator(&self) -> Result<Conn> {
        const TOO_MANY_CONNECTIONS: u16 = 1040;
        let begun = Instant::now();
        loop {
            match Conn::new(self.login("root", "", None)).await {
                Err(mysql_async::Error::Server(rejection))
                    if rejection.code == TOO_MANY_CONNECTIONS && begun.elapsed() < FULL_BOUND =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Runs one statement as the administrator.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let mut connection = self.administrator().await?;
        connection.query_drop(statement).await.with_context(|| format!("refused: {statement}"))?;
        Ok(connection.disconnect().await?)
    }

    /// Runs one query as the administrator; every value as text, NULL as none.
    pub async fn query(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut connection = self.administrator().await?;
        let rows: Vec<Row> = connection.query(query).await.with_context(|| format!("refused: {query}"))?;
        connection.disconnect().await?;
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// A connection whose TLS trusts only this authority.
    pub async fn connect_verified(&self, authority: &Path) -> Result<Conn> {
        let tls =
            SslOpts::default().with_root_certs(vec![authority.to_owned().into()]).with_disable_built_in_roots(true);
        Ok(Conn::new(self.login("root", "", None).ssl_opts(tls)).await?)
    }

    /// A new, empty schema with a user who may do everything in it and nothing elsewhere.
    pub async fn schema(&self) -> Result<Schema> {
        let name = run::unique("t");
        let schema = Schema {
            engine: Engine::MariaDb,
            port: self.port,
            authority: self.certificates().authority(),
            user: name.clone(),
            password: format!("pass-{name}"),
            name,
        };
        self.execute(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", schema.name)).await?;
        self.execute(&format!("CREATE USER '{}'@'%' IDENTIFIED BY '{}'", schema.user, schema.password)).await?;
        self.execute(&format!("GRANT ALL ON {}.* TO '{}'@'%'", schema.name, schema.user)).await?;
        Ok(schema)
    }

    fn create(folder: PathBuf, owner: Owner, options: Options) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        copy_template(&folder.join("data"))?;
        std::fs::create_dir_all(folder.join("tmp"))?;
        Certificates::make(&folder.join("tls"))?;
        let port = run::free_port()?;
        std::fs::write(folder.join("port"), port.to_string())?;
        Ok(Self { folder, port, owner, options })
    }

    fn command(&self) -> Vec<String> {
        let tls = self.certificates();
        let mut command: Vec<String> =
            ["mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"]
                .map(str::to_owned)
                .to_vec();
        command.extend([
            format!("--datadir={}", self.folder.join("data").display()),
            // A server that starts deletes what it finds of temporary tables, another server's too.
            format!("--tmpdir={}", self.folder.join("tmp").display()),
            format!("--socket={}", self.folder.join("socket").display()),
            format!("--pid-file={}", self.folder.join("server.pid").display()),
            format!("--port={}", self.port),
            format!("--ssl-ca={}", tls.authority().display()),
            format!("--ssl-cert={}", tls.server().display()),
            format!("--ssl-key={}", tls.server_key().display()),
            format!("--local-infile={}", u8::from(self.options.local_infile)),
            format!("--read-only={}", u8::from(self.options.read_only)),
            format!("--max-connections={}", self.options.max_connections),
            format!("--innodb-buffer-pool-size={}M", self.options.buffer_pool_megabytes),
            format!("--innodb-log-file-size={}M", self.options.buffer_pool_megabytes),
        ]);
        if self.options.binary_log {
            let log = format!("--log-bin={}", self.folder.join("data/binary").display());
            command.extend([log, "--server-id=1".into(), "--binlog-format=ROW".into(), "--sync-binlog=1".into()]);
        }
        command
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        ensure!(self.owner == Owner::Test, "the server that all tests share is not to be stopped");
        let pid = keeper::pid(&self.folder)?;
        process::send(signal, pid)?;
        process::ended(pid, STOP_BOUND).await
    }

    fn login(&self, user: &str, password: &str, schema: Option<&str>) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(user))
            .pass(Some(password))
            .db_name(schema)
            .prefer_socket(false)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if self.owner == Owner::Test {
            keeper::remove(&self.folder);
        }
    }
}

/// Copies an initialised data folder; it is made once and kept between runs beside the build's output.
fn copy_template(destination: &Path) -> Result<()> {
    let own = std::env::current_exe()?;
    let build_folder = own.parent().context("this process has no folder")?;
    let template = build_folder.join("spillway-mariadb-template");
    let lock = File::options().create(true).append(true).open(template.with_extension("lock"))?;
    lock.lock().context("cannot lock the template of the data folder")?;
    if !template.exists() {
        let unfinished = template.with_extension("unfinished");
        let _none_left_over = std::fs::remove_dir_all(&unfinished);
        let output = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .arg(format!("--datadir={}", unfinished.display()))
            .output()
            .context("cannot run mariadb-install-db; install mariadb-server")?;
        ensure!(output.status.success(), "mariadb-install-db failed: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&unfinished, &template)?;
    }
    drop(lock);
    let copied =
        Command::new("cp").arg("-a").args([template.as_path(), destination]).status().context("cannot run cp")?;
    ensure!(copied.success(), "cannot copy {} to {}", template.display(), destination.display());
    Ok(())
}

/// A value of the text protocol as the server wrote it.
fn text(value: Value) -> Result<Option<String>> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(String::from_utf8(bytes).context("a value is not UTF-8")?)),
        typed => anyhow::bail!("the text protocol gave a typed value: {typed:?}"),
    }
}
