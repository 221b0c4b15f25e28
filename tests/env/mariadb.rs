//! A private MariaDB on loopback, with its own data folder, port and certificate. It restarts on the same port and data.
//!
//! `make test-mysql` runs MySQL in its place (`mysql_root`).
//!
//! Most tests use a schema of the server that the whole run shares ([`MariaDb::shared`]). A test that stops or
//! reconfigures the server starts its own ([`MariaDb::start`]), which takes about a second.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, SslOpts, Value};

use crate::database::Engine;
pub use crate::database::{Options, Rows, Schema};
use crate::keeper::{self, Owner};
use crate::mysql_root::MySqlRoot;
use crate::process::Signal;
use crate::server::Server;
use crate::token_service::{SERVICE, with_services};
use crate::{run, template, wait};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const FULL_TIMEOUT: Duration = Duration::from_secs(10);

/// A MariaDB server.
#[derive(Debug)]
pub struct MariaDb(Server);

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl MariaDb {
    /// The server that all tests of this run share. Tests must not stop it or change its settings.
    pub async fn shared() -> Result<Self> {
        let folder = keeper::shared("mariadb", async |folder| {
            let server = Self::create(folder, Owner::Run, Options::default())?;
            server.start_again().await
        })
        .await?;
        Ok(Self(Server::shared(folder)?))
    }

    /// Starts a server for this test alone. It stops when the value is dropped.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = run::folder()?.join(run::unique("mariadb"));
        let server = Self::create(folder, Owner::Test, options)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Shuts the server down: transactions are rolled back, and the port is closed.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::Terminate).await
    }

    /// Kills the server, as if its machine was lost.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::Kill).await
    }

    /// Starts the stopped server, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        keeper::start(self.owner, &self.folder, &self.command(), &[]).await?;
        wait::until("MariaDB to accept connections", START_TIMEOUT, async || {
            keeper::ensure_alive(&self.folder)?;
            Ok(self.administrator().await.is_ok())
        })
        .await
    }

    /// Connects as the administrator.
    ///
    /// Retries while the server is full: it notices closed connections late.
    pub async fn administrator(&self) -> Result<Conn> {
        const TOO_MANY_CONNECTIONS: u16 = 1040;
        let begun = Instant::now();
        loop {
            match Conn::new(self.login("root", "", None)).await {
                Err(mysql_async::Error::Server(rejection))
                    if rejection.code == TOO_MANY_CONNECTIONS && begun.elapsed() < FULL_TIMEOUT =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                connected => return Ok(connected?),
            }
        }
    }

    /// Runs one statement as the administrator.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let mut connection = self.administrator().await?;
        connection.query_drop(statement).await.with_context(|| format!("refused: {statement}"))?;
        Ok(connection.disconnect().await?)
    }

    /// Runs one query as the administrator. Values are text, and `None` for NULL.
    pub async fn query(&self, query: &str) -> Result<Rows> {
        let mut connection = self.administrator().await?;
        let rows: Vec<Row> = connection.query(query).await.with_context(|| format!("refused: {query}"))?;
        connection.disconnect().await?;
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// Connects with TLS that trusts only this authority.
    pub async fn connect_verified(&self, authority: &Path) -> Result<Conn> {
        let tls =
            SslOpts::default().with_root_certs(vec![authority.to_owned().into()]).with_disable_built_in_roots(true);
        Ok(Conn::new(self.login("root", "", None).ssl_opts(tls)).await?)
    }

    /// Creates a schema with a user who has all privileges in it and none elsewhere.
    pub async fn schema(&self) -> Result<Schema> {
        let schema = self.new_schema(Engine::MariaDb);
        self.execute(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", schema.name)).await?;
        self.execute(&format!("CREATE USER '{}'@'%' IDENTIFIED BY '{}'", schema.user, schema.password)).await?;
        self.execute(&format!("GRANT ALL ON {}.* TO '{}'@'%'", schema.name, schema.user)).await?;
        if self.options.pam_services.is_some() {
            self.execute(&format!("ALTER USER '{}'@'%' IDENTIFIED VIA pam USING '{SERVICE}'", schema.user)).await?;
        }
        Ok(schema)
    }

    fn create(folder: PathBuf, owner: Owner, options: Options) -> Result<Self> {
        let server = Server::create(folder, owner, options)?;
        let data = server.folder.join("data");
        match MySqlRoot::from_env() {
            None => template::copy("mariadb", &data, initialize)?,
            Some(root) => template::copy("mysql", &data, |folder| root.initialize(folder))?,
        }
        std::fs::create_dir_all(server.folder.join("tmp"))?;
        Ok(Self(server))
    }

    fn command(&self) -> Vec<String> {
        let tls = self.certificates();
        let mysql = MySqlRoot::from_env();
        let mut command = match &mysql {
            None => ["mariadbd", "--no-defaults", "--user=root"].map(str::to_owned).to_vec(),
            Some(root) => root.server(),
        };
        command.extend([
            "--bind-address=127.0.0.1".to_owned(),
            "--skip-name-resolve".to_owned(),
            format!("--datadir={}", self.folder.join("data").display()),
            // At start a server deletes all temporary tables in this folder, also those of other servers.
            format!("--tmpdir={}", self.folder.join("tmp").display()),
            format!("--socket={}", self.folder.join("socket").display()),
            format!("--pid-file={}", self.folder.join("server.pid").display()),
            format!("--port={}", self.port()),
            format!("--local-infile={}", u8::from(self.options.local_infile)),
            format!("--read-only={}", u8::from(self.options.read_only)),
            format!("--max-connections={}", self.options.max_connections),
            format!("--innodb-buffer-pool-size={}M", self.options.buffer_pool_megabytes),
        ]);
        if self.options.tls {
            command.extend([
                format!("--ssl-ca={}", tls.authority().display()),
                format!("--ssl-cert={}", tls.server().display()),
                format!("--ssl-key={}", tls.server_key().display()),
            ]);
        }
        match mysql {
            None => command.push(format!("--innodb-log-file-size={}M", self.options.buffer_pool_megabytes)),
            Some(_) => command.extend(MySqlRoot::options(&self.options)),
        }
        if let Some(services) = &self.options.pam_services {
            command.extend(["--plugin-load-add=auth_pam", "--pam-use-cleartext-plugin=ON"].map(str::to_owned));
            command = [with_services(services), command].concat();
        }
        if self.options.binary_log {
            let log = format!("--log-bin={}", self.folder.join("data/binary").display());
            command.extend([log, "--server-id=1".into(), "--binlog-format=ROW".into(), "--sync-binlog=1".into()]);
        }
        command
    }

    fn login(&self, user: &str, password: &str, schema: Option<&str>) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port())
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

/// Creates a data folder.
fn initialize(folder: &Path) -> Result<()> {
    run::command(
        Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--skip-name-resolve"])
            .arg(format!("--datadir={}", folder.display())),
    )
    .context("cannot create a data folder; install mariadb-server")
}

/// A value of the text protocol.
fn text(value: Value) -> Result<Option<String>> {
    match value {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(String::from_utf8(bytes).context("a value is not UTF-8")?)),
        typed => anyhow::bail!("the text protocol returned a typed value: {typed:?}"),
    }
}
