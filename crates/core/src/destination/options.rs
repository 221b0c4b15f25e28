//! Settings of a database connection and of the loads on it.

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

use super::redshift::RedshiftKeys;

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// MySQL or MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    /// Returns the engine of this name, as settings and the secrets of RDS spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "mysql" | "mariadb" | "aurora" | "aurora-mysql" => Some(Self::MySql),
            "postgres" | "postgresql" | "aurora-postgresql" => Some(Self::Postgres),
            _ => None,
        }
    }

    /// Returns the engine with this default port, and MySQL for every other port.
    pub fn from_port(port: Option<u16>) -> Self {
        if port == Some(Self::Postgres.default_port()) { Self::Postgres } else { Self::MySql }
    }

    /// Returns the port that the engine listens on by default.
    pub fn default_port(self) -> u16 {
        match self {
            Self::MySql => 3306,
            Self::Postgres => 5432,
        }
    }
}

/// What `RDS_ENGINE` names: a server that is reached by a login, or Redshift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// MySQL, MariaDB or PostgreSQL.
    Server(Engine),
    /// Amazon Redshift.
    Redshift,
}

impl DatabaseKind {
    /// Returns the kind of this name, as `RDS_ENGINE` spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "redshift" => Some(Self::Redshift),
            name => Engine::from_name(name).map(Self::Server),
        }
    }
}

/// A database product. MySQL and MariaDB share an engine, but they differ in new tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

/// How the server verifies the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// By a password.
    Password,
    /// By a token of IAM, which is sent in place of the password.
    Iam,
}

/// Server, user and database of a connection, read from settings or from a secret.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The kind of server.
    pub engine: Engine,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Password; may be empty. `Debug` does not print it.
    pub password: SecretString,
    /// Whether the password is one.
    pub authentication: Authentication,
    /// The database (schema) that contains the loaded tables and the ledger.
    pub database: String,
}

/// How rows are sent to MySQL and MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMethod {
    /// LOAD DATA LOCAL if the server allows it, otherwise INSERT.
    Auto,
    /// LOAD DATA LOCAL only.
    LoadData,
    /// INSERT with many rows each.
    Insert,
}

/// The treatment of file columns that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownColumns {
    /// The load fails with [`crate::error::ErrorKind::TableMismatch`].
    Refuse,
    /// The columns are added to the table, nullable.
    Add,
    /// The columns are not loaded.
    Ignore,
    /// The columns are kept in one JSON column, as an object by column name.
    Json,
}

/// The treatment of table columns that a file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingColumns {
    /// The server fills them, if it can.
    Default,
    /// The load fails with [`crate::error::ErrorKind::TableMismatch`].
    Refuse,
}

/// The treatment of values that need another type than their column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedTypes {
    /// The values are refused.
    Refuse,
    /// The column gets a wider type that holds its old and its new values, if there is one.
    Widen,
}

/// What a file's rows do to the rows that the table already has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadMode {
    /// The file's rows are added to the table.
    Append,
    /// The file's rows replace all rows of the table.
    Replace,
    /// The file's rows update the rows with the same key; rows with a new key are inserted.
    Merge {
        /// The key's columns; empty for the table's primary key.
        key: Vec<String>,
    },
    /// The table gets exactly the file's rows, by key, and its other rows are deleted.
    Mirror(Mirror),
    /// Each row of the file inserts, updates or deletes the row with its key.
    Changes(Changes),
}

/// How a file of changes is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The key's columns; empty for the table's primary key.
    pub key: Vec<String>,
    /// The file's column that says whether a row is inserted, updated or deleted.
    pub operation_column: String,
}

/// How a file's rows become all rows of a table, or all rows of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The key's columns; empty for the table's primary key.
    pub key: Vec<String>,
    /// The columns of the scope, which have one value each in a file; empty if a file has all rows of the table.
    pub scope: Vec<String>,
    /// The share of the rows that a file may delete, in percent.
    pub max_deletes_percent: u8,
}

impl LoadMode {
    /// Returns the name that `LOAD_MODE` accepts and the ledger stores.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Merge { .. } => "merge",
            Self::Mirror(_) => "mirror",
            Self::Changes(_) => "changes",
        }
    }

    /// Returns the wanted key of a mode that finds the table's rows by key. It is empty for the table's primary key.
    pub(crate) fn key(&self) -> Option<&[String]> {
        match self {
            Self::Append | Self::Replace => None,
            Self::Merge { key } | Self::Mirror(Mirror { key, .. }) | Self::Changes(Changes { key, .. }) => Some(key),
        }
    }

    /// Returns the name of the file's column of operations; empty in other modes.
    pub(super) fn operation_column(&self) -> String {
        match self {
            Self::Changes(changes) => changes.operation_column.clone(),
            Self::Append | Self::Replace | Self::Merge { .. } | Self::Mirror(_) => String::new(),
        }
    }

    /// Whether a file deletes the table's rows that it does not have.
    pub(crate) fn deletes_missing(&self) -> bool {
        match self {
            Self::Append | Self::Replace | Self::Merge { .. } | Self::Changes(_) => false,
            Self::Mirror(_) => true,
        }
    }

    /// Whether a file can delete single rows of the table, which the ledger counts.
    pub(crate) fn deletes_by_key(&self) -> bool {
        match self {
            Self::Append | Self::Replace | Self::Merge { .. } => false,
            Self::Mirror(_) | Self::Changes(_) => true,
        }
    }

    /// Whether each row of a file has an operation, whose row may be missing in the table.
    pub(crate) fn has_operations(&self) -> bool {
        match self {
            Self::Append | Self::Replace | Self::Merge { .. } | Self::Mirror(_) => false,
            Self::Changes(_) => true,
        }
    }

    /// Whether each file is a full export, so that the newest one decides which rows the table has.
    pub(crate) fn loads_full_exports(&self) -> bool {
        match self {
            Self::Append | Self::Merge { .. } | Self::Changes(_) => false,
            Self::Replace | Self::Mirror(_) => true,
        }
    }
}

/// Where the rows of a table's files are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// In the table of the database.
    Database,
    /// As Parquet in the lake. The database has only the ledger.
    Lake,
    /// In both.
    Both,
}

impl Output {
    /// Whether the rows are stored in the lake.
    pub fn has_lake(self) -> bool {
        match self {
            Self::Database => false,
            Self::Lake | Self::Both => true,
        }
    }

    /// Whether the rows are stored in the database.
    pub fn has_database(self) -> bool {
        match self {
            Self::Lake => false,
            Self::Database | Self::Both => true,
        }
    }
}

/// Options of connections and loads; the same for every file.
#[derive(Debug, Clone)]
pub struct DestinationOptions {
    /// Encryption of the connection.
    pub tls: Tls,
    /// How rows are sent to MySQL and MariaDB.
    pub load_method: LoadMethod,
    /// What a file's rows do to the rows of the table.
    pub load_mode: LoadMode,
    /// The treatment of file columns that the table does not have.
    pub unknown_columns: UnknownColumns,
    /// The JSON column that keeps unknown columns, with [`UnknownColumns::Json`].
    pub extra_column: String,
    /// The treatment of table columns that a file does not have.
    pub missing_columns: MissingColumns,
    /// The treatment of values that need another type than their column has.
    pub changed_types: ChangedTypes,
    /// Where the rows are stored.
    pub output: Output,
    /// The keys of tables that are created in Redshift.
    pub redshift_keys: RedshiftKeys,
    /// The ledger table's name.
    pub ledger_table: String,
    /// Time limit of one attempt to connect.
    pub connect_timeout: Duration,
    /// Size above which a file is loaded through a staging table in committed chunks, on engines that need that.
    pub atomic_max_bytes: u64,
}

impl DestinationOptions {
    /// Whether the rows of the table do not depend on the order of the files, and no file could block another.
    ///
    /// Of two files that replace or update the same rows the later one wins. A column cannot be added to a table or changed
    /// while another transaction inserts into it.
    pub(crate) fn allows_any_order(&self) -> bool {
        let keeps_table = match self.unknown_columns {
            UnknownColumns::Refuse | UnknownColumns::Ignore => self.changed_types == ChangedTypes::Refuse,
            UnknownColumns::Add | UnknownColumns::Json => false,
        };
        self.load_mode == LoadMode::Append && keeps_table
    }

    /// Returns the load mode of a file, as the ledger and reports name it.
    pub(crate) fn stored_mode(&self) -> &'static str {
        if self.output.has_database() { self.load_mode.name() } else { "lake" }
    }

    /// Whether a file must be the newest of its table. A mirror with a scope claims the scope instead, when its rows are staged.
    pub(super) fn claims_table(&self) -> bool {
        match &self.load_mode {
            LoadMode::Append | LoadMode::Merge { .. } | LoadMode::Changes(_) => false,
            LoadMode::Replace => true,
            LoadMode::Mirror(mirror) => mirror.scope.is_empty(),
        }
    }

    /// The treatment of columns that only the file or only the table has.
    pub(super) fn contract(&self) -> Contract<'_> {
        Contract { unknown: self.unknown_columns, extra: &self.extra_column, missing: self.missing_columns }
    }
}

/// The treatment of columns that only the file or only the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contract<'a> {
    /// Columns that only the file has.
    pub(super) unknown: UnknownColumns,
    /// The JSON column for them.
    pub(super) extra: &'a str,
    /// Columns that only the table has.
    pub(super) missing: MissingColumns,
}

impl Contract<'_> {
    /// Unknown columns are refused, and missing ones get their default.
    pub(super) const REFUSE: Contract<'static> =
        Contract { unknown: UnknownColumns::Refuse, extra: "", missing: MissingColumns::Default };
}

/// Encryption of a connection.
#[derive(Debug, Clone)]
pub enum Tls {
    /// The server's certificate and host name are verified against these certificates.
    Verify {
        /// One or more certificates as PEM. Clones share them: options are cloned for each file, and the certificates of RDS
        /// are longer than many files.
        ca_pem: Bytes,
    },
    /// No encryption. A setting must request this explicitly.
    Off,
}
