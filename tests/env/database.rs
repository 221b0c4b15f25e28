//! A database server of any engine. Each test has its own schema.

use std::path::PathBuf;

use anyhow::Result;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::mariadb::MariaDb;
use crate::mysql_root::MySqlRoot;
use crate::postgres::{self, Postgres};
use crate::settings::Settings;
use crate::tls::{Certificate, Certificates};

/// Rows of a query: each value as text, and `None` for NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Rows with these values, none of which is NULL.
pub fn texts<const N: usize>(rows: &[[&str; N]]) -> Rows {
    rows.iter().map(|row| row.iter().map(|text| Some((*text).to_owned())).collect()).collect()
}

/// The engines that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// MariaDB, for the engines with the MySQL protocol.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    /// The engine of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::MariaDb, Self::Postgres].into_iter().find(|engine| engine.name() == name)
    }

    /// Whether MySQL runs in place of MariaDB (`make test-mysql`).
    pub fn is_mysql(self) -> bool {
        self == Self::MariaDb && MySqlRoot::from_env().is_some()
    }

    /// The product's name.
    pub fn title(self) -> &'static str {
        match self {
            Self::MariaDb if self.is_mysql() => "MySQL",
            Self::MariaDb => "MariaDB",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// The value of `RDS_ENGINE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
        }
    }
}

/// A private server of any engine.
#[derive(Debug)]
pub enum Database {
    /// MariaDB.
    MariaDb(MariaDb),
    /// PostgreSQL.
    Postgres(Postgres),
}

impl Database {
    /// The engine's server that all tests of this run share. Tests must not stop it or change its settings.
    pub async fn shared(engine: Engine) -> Result<Self> {
        Ok(match engine {
            Engine::MariaDb => Self::MariaDb(MariaDb::shared().await?),
            Engine::Postgres => Self::Postgres(Postgres::shared().await?),
        })
    }

    /// Starts a server for this test alone. It stops when the value is dropped.
    pub async fn start(engine: Engine, options: Options) -> Result<Self> {
        Ok(match engine {
            Engine::MariaDb => Self::MariaDb(MariaDb::start(options).await?),
            Engine::Postgres => Self::Postgres(Postgres::start(options).await?),
        })
    }

    /// Shuts the server down: transactions are rolled back, and the port is closed.
    pub async fn stop(&self) -> Result<()> {
        match self {
            Self::MariaDb(server) => server.stop().await,
            Self::Postgres(server) => server.stop().await,
        }
    }

    /// Kills the server, as if its machine was lost.
    pub async fn kill(&self) -> Result<()> {
        match self {
            Self::MariaDb(server) => server.kill().await,
            Self::Postgres(server) => server.kill().await,
        }
    }

    /// Starts the stopped server, on the same port and data.
    pub async fn start_again(&self) -> Result<()> {
        match self {
            Self::MariaDb(server) => server.start_again().await,
            Self::Postgres(server) => server.start_again().await,
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        match self {
            Self::MariaDb(server) => server.port(),
            Self::Postgres(server) => server.port(),
        }
    }

    /// The server's first process; PostgreSQL's others are its children.
    pub fn pid(&self) -> Result<u32> {
        match self {
            Self::MariaDb(server) => server.pid(),
            Self::Postgres(server) => server.pid(),
        }
    }

    /// The certificates of the server and of its private authority.
    pub fn certificates(&self) -> Certificates {
        match self {
            Self::MariaDb(server) => server.certificates(),
            Self::Postgres(server) => server.certificates(),
        }
    }

    /// Creates a schema (in PostgreSQL a database) with a user who has all privileges in it.
    pub async fn schema(&self) -> Result<Schema> {
        match self {
            Self::MariaDb(server) => server.schema().await,
            Self::Postgres(server) => server.schema().await,
        }
    }

    /// Drops a schema and its user. Connections of the user are ended.
    pub async fn drop_schema(&self, schema: &Schema) -> Result<()> {
        match self {
            Self::MariaDb(server) => {
                server.execute(&format!("DROP DATABASE {}", schema.name)).await?;
                server.execute(&format!("DROP USER '{}'@'%'", schema.user)).await
            }
            Self::Postgres(server) => {
                let database = format!("DROP DATABASE {} WITH (FORCE)", schema.name);
                server.execute(postgres::ADMINISTRATOR, &database).await?;
                server.execute(postgres::ADMINISTRATOR, &format!("DROP ROLE {}", schema.user)).await
            }
        }
    }

    /// Runs a statement as the administrator; `{schema}` becomes the schema's name.
    pub async fn execute(&self, schema: &Schema, statement: &str) -> Result<()> {
        let statement = statement.replace("{schema}", schema.sql_name());
        match self {
            Self::MariaDb(server) => server.execute(&statement).await,
            Self::Postgres(server) => server.execute(&schema.name, &statement).await,
        }
    }

    /// Runs a query as the administrator; `{schema}` becomes the schema's name. Values are text, and `None` for NULL.
    pub async fn query(&self, schema: &Schema, query: &str) -> Result<Rows> {
        let query = query.replace("{schema}", schema.sql_name());
        match self {
            Self::MariaDb(server) => server.query(&query).await,
            Self::Postgres(server) => server.query(&schema.name, &query).await,
        }
    }

    /// The number of open transactions of the schema's user.
    pub async fn open_transactions(&self, schema: &Schema) -> Result<usize> {
        let user = &schema.user;
        let query = match self {
            Self::MariaDb(_) => format!(
                "SELECT trx_id FROM information_schema.innodb_trx JOIN information_schema.processlist \
                 ON id = trx_mysql_thread_id WHERE user = '{user}'"
            ),
            Self::Postgres(_) => {
                format!("SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND xact_start IS NOT NULL")
            }
        };
        Ok(self.query(schema, &query).await?.len())
    }
}

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether MariaDB allows LOAD DATA LOCAL.
    pub local_infile: bool,
    /// Whether the server is read-only, as a replica is. MariaDB exempts administrators.
    pub read_only: bool,
    /// Whether the server offers TLS.
    pub tls: bool,
    /// The certificate of the server.
    pub certificate: Certificate,
    /// The number of connections, in addition to one for administrators.
    pub max_connections: u32,
    /// The size of the page cache, and of InnoDB's redo log.
    pub buffer_pool_megabytes: u32,
    /// The folder that the server sees as `/etc/pam.d`. With it, users of a schema log in through PAM.
    pub pam_services: Option<PathBuf>,
    /// Whether MariaDB writes a row-based binary log and syncs it at each COMMIT.
    pub binary_log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            local_infile: true,
            read_only: false,
            tls: true,
            certificate: Certificate::Valid,
            max_connections: 151,
            buffer_pool_megabytes: 128,
            pam_services: None,
            binary_log: false,
        }
    }
}

/// The schema of one test.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The schema's name: the value of `RDS_DB`.
    pub name: String,
    /// The user who owns it.
    pub user: String,
    /// The owner's password.
    pub password: String,
    /// The engine of its server.
    pub engine: Engine,
    /// The server's port on 127.0.0.1.
    pub port: u16,
    /// The file with the certificate of the server's authority.
    pub authority: PathBuf,
}

impl Schema {
    /// The database settings of a binary under test, with verified TLS.
    pub fn settings(&self) -> Settings {
        Settings::default()
            .with("RDS_ENGINE", self.engine.name())
            .with("RDS_HOST", "127.0.0.1")
            .with("RDS_PORT", self.port)
            .with("RDS_USER", &self.user)
            .with("RDS_PASSWORD", &self.password)
            .with("RDS_DB", &self.name)
            .with("RDS_TLS", "verify")
            .with("RDS_CA_FILE", self.authority.display())
    }

    /// The schema's name in SQL. In PostgreSQL each test has a database of its own, with the schema `public`.
    pub fn sql_name(&self) -> &str {
        match self.engine {
            Engine::MariaDb => &self.name,
            Engine::Postgres => "public",
        }
    }

    /// Connects as the schema's owner, without TLS, to the port of the server or of a proxy.
    pub async fn client(&self, port: u16) -> Result<DatabaseClient> {
        Ok(match self.engine {
            Engine::MariaDb => DatabaseClient::MariaDb(Box::new(self.connect(port).await?)),
            Engine::Postgres => {
                DatabaseClient::Postgres(postgres::connect(port, &self.user, &self.password, &self.name).await?)
            }
        })
    }

    /// Connects to MariaDB as the schema's owner, without TLS, to the port of the server or of a proxy.
    pub async fn connect(&self, port: u16) -> Result<Conn> {
        let login = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .db_name(Some(&self.name))
            .prefer_socket(false);
        Ok(Conn::new(login).await?)
    }
}

/// An open connection to a server of any engine. It closes when the value is dropped.
#[derive(Debug)]
pub enum DatabaseClient {
    /// A connection to MariaDB.
    MariaDb(Box<Conn>),
    /// A connection to PostgreSQL.
    Postgres(tokio_postgres::Client),
}

impl DatabaseClient {
    /// Runs a statement.
    pub async fn execute(&mut self, statement: &str) -> Result<()> {
        match self {
            Self::MariaDb(connection) => Ok(connection.query_drop(statement).await?),
            Self::Postgres(client) => Ok(client.batch_execute(statement).await?),
        }
    }
}
