//! A folder with files and a schema of a database, for commands that need no AWS.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::run::Scratch;
use spillway_test_env::settings::Settings;
use spillway_test_env::terminal::{Ended, spillway};

/// The table of the tests.
pub(crate) const TABLE: &str = "orders";

/// A folder and a schema.
pub(crate) struct Site {
    pub(crate) server: Database,
    pub(crate) schema: Schema,
    folder: Scratch,
}

impl Site {
    pub(crate) async fn on(engine: Engine) -> Result<Self> {
        Self::with(Database::shared(engine).await?).await
    }

    /// A server for this test alone, which the test may stop.
    pub(crate) async fn with_own_server(engine: Engine) -> Result<Self> {
        Self::with(Database::start(engine, Options::default()).await?).await
    }

    async fn with(server: Database) -> Result<Self> {
        let schema = server.schema().await?;
        Ok(Self { server, schema, folder: Scratch::new("site")? })
    }

    /// The settings of the database. Loads of any size are single-pass loads if the test removes the buffer.
    pub(crate) fn settings(&self) -> Settings {
        self.schema.settings().with("RDS_RETRY_SECONDS", 3)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Loads files into the table of the tests.
    pub(crate) async fn load(&self, settings: &Settings, arguments: &[&str]) -> Result<Ended> {
        spillway(settings, &[&["load", "--json", "--table", TABLE], arguments].concat()).await
    }

    /// Plans a load of a file into the table of the tests.
    pub(crate) async fn plan(&self, settings: &Settings, arguments: &[&str]) -> Result<Ended> {
        spillway(settings, &[&["plan", "--json", "--table", TABLE], arguments].concat()).await
    }

    pub(crate) async fn sql(&self, statement: &str) -> Result<()> {
        self.server.execute(&self.schema, statement).await
    }

    /// The first value of a query.
    pub(crate) async fn value(&self, query: &str) -> Result<String> {
        let rows = self.server.query(&self.schema, query).await?;
        rows.into_iter().flatten().flatten().next().with_context(|| format!("no value: {query}"))
    }

    /// The number of rows of the table.
    pub(crate) async fn rows(&self) -> Result<u64> {
        Ok(self.value(&format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?.parse()?)
    }

    /// The number of tables in the schema.
    pub(crate) async fn tables(&self) -> Result<u64> {
        let query =
            format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{}'", self.schema.sql_name());
        Ok(self.value(&query).await?.parse()?)
    }

    /// The states in the ledger, in order.
    pub(crate) async fn states(&self) -> Result<Vec<String>> {
        self.values("SELECT state FROM {schema}.spillway_ledger ORDER BY started_at").await
    }

    /// The buckets in the ledger, in order.
    pub(crate) async fn buckets(&self) -> Result<Vec<String>> {
        self.values("SELECT bucket FROM {schema}.spillway_ledger ORDER BY started_at").await
    }

    /// All values of a query.
    pub(crate) async fn values(&self, query: &str) -> Result<Vec<String>> {
        Ok(self.server.query(&self.schema, query).await?.into_iter().flatten().flatten().collect())
    }
}

/// The report of the only file.
pub(crate) fn report(ended: &Ended) -> Result<Value> {
    Ok(ended.json()?["files"][0]["report"].clone())
}

/// The error of the only file.
pub(crate) fn error(ended: &Ended) -> Result<Value> {
    Ok(ended.json()?["files"][0]["error"].clone())
}
