//! A database of either engine, as the tests use it: started, stopped, asked, and with a schema of its own for each test.

use std::path::PathBuf;

use anyhow::Result;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::mariadb::MariaDb;
use crate::postgres::{self, Postgres};
use crate::settings::Settings;
use crate::tls::Certificates;

/// The engines that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// MariaDB, for all that speaks MySQL.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    /// The engine of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::MariaDb, Self::Postgres].into_iter().find(|engine| engine.name() == name)
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
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

/// A private server of either engine.
#[derive(Debug)]
pub enum Database {
    /// MariaDB.
    MariaDb(MariaDb),
    /// PostgreSQL.
    Postgres(Postgres),
}

impl Database {
    /// The engine's server that all tests of this run share. Nobody stops it or changes its settings.
    pub async fn shared(engine: Engine) -> Result<Self> {
        Ok(match engine {
            Engine::MariaDb => Self::MariaDb(MariaDb::shared().await?),
            Engine::Postgres => Self::Postgres(Postgres::shared().await?),
        })
    }

    /// A server for this test alone; it ends with the value.
    pub async fn start(engine: Engine, options: Options) -> Result<Self> {
        Ok(match engine {
            Engine::MariaDb => Self::MariaDb(MariaDb::start(options).await?),
            Engine::Postgres => Self::Postgres(Postgres::start(options).await?),
        })
    }

    /// Ends the server in good order: what runs is rolled back, the port refuses.
    pub async fn stop(&self) -> Result<()> {
        match self {
            Self::MariaDb(server) => server.stop().await,
            Self::Postgres(server) => server.stop().await,
        }
    }

    /// Ends the server as a lost machine would.
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

    /// The private authority and its files.
    pub fn certificates(&self) -> Certificates {
        match self {
            Self::MariaDb(server) => server.certificates(),
            Self::Postgres(server) => server.certificates(),
        }
    }

    /// A new, empty schema (in PostgreSQL a database) with a user who may do everything in it.
    pub async fn schema(&self) -> Result<Schema> {
        match self {
            Self::MariaDb(server) => server.schema().await,
            Self::Postgres(server) => server.schema().await,
        }
    }

    /// Runs a statement as the administrator; `{schema}` stands for the schema.
    pub async fn execute(&self, schema: &Schema, statement: &str) -> Result<()> {
        let statement = statement.replace("{schema}", schema.sql_name());
        match self {
            Self::MariaDb(server) => server.execute(&statement).await,
            Self::Postgres(server) => server.execute(&schema.name, &statement).await,
        }
    }

    /// Runs a query as the administrator; `{schema}` stands for the schema. Every value as text, NULL as none.
    pub async fn query(&self, schema: &Schema, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let query = query.replace("{schema}", schema.sql_name());
        match self {
            Self::MariaDb(server) => server.query(&query).await,
            Self::Postgres(server) => server.query(&schema.name, &query).await,
        }
    }

    /// The transactions that the schema's user has open.
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

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether clients of MariaDB may send LOAD DATA LOCAL.
    pub local_infile: bool,
    /// Whether transactions may write nothing, as on a replica; MariaDB still lets administrators.
    pub read_only: bool,
    /// Whether a PostgreSQL offers TLS.
    pub tls: bool,
    /// How many connections there may be, besides one for administrators.
    pub max_connections: u32,
    /// The memory for pages; the redo log of InnoDB is as large.
    pub buffer_pool_megabytes: u32,
    /// Whether MariaDB writes a binary log, of rows, to the disk at each COMMIT.
    pub binary_log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            local_infile: true,
            read_only: false,
            tls: true,
            max_connections: 151,
            buffer_pool_megabytes: 128,
            binary_log: false,
        }
    }
}

/// A schema of its own for one test.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The schema's name: the value of `RDS_DB`.
    pub name: String,
    /// Who owns it.
    pub user: String,
    /// The owner's password.
    pub password: String,
    /// Where it is.
    pub engine: Engine,
    pub(crate) port: u16,
    pub(crate) authority: PathBuf,
}

impl Schema {
    /// The database settings of a binary under test, TLS verified.
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

    /// The name by which SQL reaches its tables: in PostgreSQL they lie in a database of their own.
    pub fn sql_name(&self) -> &str {
        match self.engine {
            Engine::MariaDb => &self.name,
            Engine::Postgres => "public",
        }
    }

    /// A connection as the schema's owner, without TLS, to any port: the server's or a proxy's.
    pub async fn client(&self, port: u16) -> Result<DatabaseClient> {
        Ok(match self.engine {
            Engine::MariaDb => DatabaseClient::MariaDb(Box::new(self.connect(port).await?)),
            Engine::Postgres => {
                DatabaseClient::Postgres(postgres::connect(port, &self.user, &self.password, &self.name).await?)
            }
        })
    }

    /// A connection to a MariaDB as the schema's owner, without TLS, to any port: the server's or a proxy's.
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

/// An open connection of either engine. It is closed with the value.
#[derive(Debug)]
pub enum DatabaseClient {
    /// To MariaDB.
    MariaDb(Box<Conn>),
    /// To PostgreSQL.
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
