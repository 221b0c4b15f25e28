//! The settings of the pipeline, and those of one table.
//!
//! The environment sets the defaults, and the table settings override them for single tables.

use std::time::Duration;

use spillway_formats::decoder::ReadOptions;

use crate::catalog::GlueSettings;
use crate::cost::Compute;
use crate::destination::{DestinationOptions, RedshiftSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::glue_jobs::GlueJobSettings;
use crate::key_columns::KeyColumn;
use crate::object::ObjectRef;
use crate::pattern::KeyParts;
use crate::pipeline::Tables;
use crate::route::{self, Prefixes};
use crate::secret::CredentialSettings;
use crate::table_name::TableName;

/// The settings that every program needs to process an object.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// `AWS_REGION`.
    pub region: String,
    /// The prefixes in the bucket.
    pub prefixes: Prefixes,
    /// The Glue database and table.
    pub glue: GlueSettings,
    /// `GLUE_JOB`: the Glue job for large files, if it is set up.
    pub glue_job: Option<GlueJobSettings>,
    /// The database.
    pub database: DatabaseSettings,
    /// `KEY_COLUMNS`: columns that are added after the file's own, with parts of the object's key, such as a folder's date.
    pub key_columns: Vec<KeyColumn>,
    /// `EXPORT_KEY`: the columns that identify a row when exports are compared. Empty if it is unset.
    pub export_key: Vec<String>,
    /// `DEDUPE`: what makes a file a duplicate.
    pub dedupe: Dedupe,
    /// `AFTER_LOAD`: what happens to a loaded object.
    pub after_load: AfterLoad,
    /// `CATALOG_RAW`: whether files that stay in place are registered in Glue.
    pub catalog_raw: bool,
    /// `RAW_DATABASE`: the Glue database of the tables over raw zones.
    pub raw_database: String,
    /// `LAKE_DATABASE`: the Glue database of the lake's tables.
    pub lake_database: String,
    /// Format, dialect and limits of the files.
    pub files: ReadOptions,
    /// `BUFFER_MAX_BYTES`: objects of at most this size, as stored, are read once and kept in memory.
    pub buffer_max_bytes: u64,
    /// `MAX_CONCURRENT_FILES`.
    pub max_concurrent_files: usize,
    /// `LEASE_SECONDS`: how long a file stays locked after its worker has died.
    pub lease: Duration,
    /// `SYNC_OVERLAP_HOURS`: how far before the watermark a sync begins.
    pub sync_overlap: Duration,
    /// The function or task that this process runs in, if known.
    pub compute: Option<Compute>,
    /// The host in this worker's name, for leases and the ledger.
    pub host: String,
    /// `STACK_NAME`, for metrics and events.
    pub stack: String,
    /// `EVENT_BUS`: where events about outcomes are published, if anywhere.
    pub event_bus: Option<String>,
}

/// The database.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// How the database is reached.
    pub access: DatabaseAccess,
    /// `RDS_CA_SECRET_NAME`: a secret with the certificates to verify the server with.
    pub ca_secret: Option<String>,
    /// `TABLE_PATTERN`, `RDS_TABLE` and the table settings.
    pub tables: Tables,
    /// How connections are opened and rows are loaded.
    pub options: DestinationOptions,
    /// `HISTORY_DAYS`: how long the attempt history keeps an attempt.
    pub history_days: u64,
    /// `RDS_RETRY_SECONDS`: how long an outage is retried before a file falls back.
    pub retry_budget: Duration,
}

/// How the database is reached.
#[derive(Debug, Clone)]
pub enum DatabaseAccess {
    /// By a login to the server: the credentials, or the secret with them.
    Login(CredentialSettings),
    /// By the Data API of Redshift.
    Redshift(RedshiftSettings),
}

/// Whether the same bytes under the same key are loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedupe {
    /// The same content under the same key is loaded once.
    Content,
    /// Every version of an object is loaded.
    Version,
}

/// What happens to an object whose rows need no load any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLoad {
    /// It moves to the processed prefix.
    Move,
    /// It stays at its key, and only the ledger shows that it is done.
    Keep,
    /// Its version is deleted.
    Delete,
}

/// The settings of one table.
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// The table in the database.
    pub name: TableName,
    /// Load mode with its merge key, load method and unknown columns.
    pub destination: DestinationOptions,
    /// Format, dialect and limits of the files, including the limit of rejected records.
    pub files: ReadOptions,
    /// The columns after the file's own.
    pub key_columns: Vec<KeyColumn>,
    /// The columns that identify a row when exports are compared. Empty if they are unknown.
    pub export_key: Vec<String>,
    /// Whether the same bytes under the same key are loaded again.
    pub dedupe: Dedupe,
    /// What happens to an object whose rows need no load any more.
    pub after_load: AfterLoad,
    /// Whether files that stay in place are registered in Glue.
    pub catalog_raw: bool,
    /// The Glue table of its fallback.
    pub glue: GlueSettings,
}

impl PipelineConfig {
    /// The settings of a table for files with this key: those of its entry in the table settings, or else the defaults.
    pub fn table(&self, name: &TableName, key: &str) -> TableConfig {
        let own = self.database.tables.current().entry(name, key).map(|entry| entry.config.clone());
        let config = own.unwrap_or_else(|| self.table_defaults(name));
        let glue = GlueSettings { table: self.glue_table(name), ..config.glue };
        TableConfig { name: name.clone(), glue, ..config }
    }

    /// The settings of a table without an entry.
    pub(crate) fn table_defaults(&self, name: &TableName) -> TableConfig {
        TableConfig {
            name: name.clone(),
            destination: self.database.options.clone(),
            files: self.files.clone(),
            key_columns: self.key_columns.clone(),
            export_key: self.export_key.clone(),
            dedupe: self.dedupe,
            after_load: self.after_load,
            catalog_raw: self.catalog_raw,
            glue: self.glue.clone(),
        }
    }

    /// Whether any table keeps its loaded files in place.
    pub(crate) fn keeps_files(&self) -> bool {
        let entries = &self.database.tables.current().entries;
        self.after_load == AfterLoad::Keep || entries.iter().any(|entry| entry.config.after_load == AfterLoad::Keep)
    }

    /// Whether the files of any table are registered in Glue where they are.
    pub(crate) fn catalogs_raw(&self) -> bool {
        let entries = &self.database.tables.current().entries;
        self.catalog_raw || entries.iter().any(|entry| entry.config.catalog_raw)
    }

    /// The settings of a key's table; `None` if the key names no table.
    pub(crate) fn table_of_key(&self, key: &str) -> Option<TableConfig> {
        self.key_parts(key).ok().map(|parts| self.table(&parts.table, key))
    }

    /// The name of a table's Glue table.
    pub fn glue_table(&self, table: &TableName) -> String {
        route::glue_table(&self.database.tables.current().routes, &self.glue.table, table)
    }

    /// Fails if a table that an object in the bucket names is one of Spillway's own.
    ///
    /// # Errors
    /// See `route::check_not_own`.
    pub(crate) fn check_not_own(&self, table: &TableName) -> Result<()> {
        route::check_not_own(table, &self.database.tables.current().routes, &self.database.options.ledger_table)
    }

    /// The table of a key, and the named parts of the key.
    ///
    /// # Errors
    /// See `route::key_parts`.
    pub fn key_parts(&self, key: &str) -> Result<KeyParts> {
        self.database.tables.current().key_parts(key, &self.database.options.ledger_table)
    }

    /// Fails if a caller names another table than the key of an object. The key alone decides, so that each attempt at the object and
    /// its replay agree.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`], or the error of [`Self::key_parts`].
    pub(crate) fn check_table(&self, object: &ObjectRef, named: &str) -> Result<()> {
        let table = self.key_parts(&object.key)?.table;
        if *table == *named {
            return Ok(());
        }
        let message = format!(
            "by TABLE_PATTERN or the table settings, the key belongs to the table {table}, not to {named}; an object is loaded into \
             the table of its key"
        );
        Err(Error::new(ErrorKind::Settings, message).for_object(object))
    }
}
