//! A connection: TLS, session settings, and running statements.
//!
//! The driver has no time limits, so every call here has one. A connection is always closed promptly, because the
//! server rolls back and releases its locks only when the connection ends.

use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, SslOpts};
use secrecy::ExposeSecret;

use super::failure::failure;
use crate::destination::failure::{Phase, connection_lost, read_only, timed_out, unexpected_response};
use crate::destination::idle::Session;
use crate::destination::limits::{CLOSE_TIMEOUT, STATEMENT_TIMEOUT};
use crate::destination::{Authentication, Credentials, DestinationOptions, Tls};
use crate::error::{Error, Result};
use crate::ledger::{CheckedLedger, LedgerConnection};
use crate::table_name::TableName;

/// The server ends an idle session after this many seconds, so that a dead worker's locks are released.
const IDLE_SECONDS: u32 = 90;

/// The session settings for the wait for locks on rows and tables. A second claim on the same source fails within 3 seconds.
pub(super) const LOCK_WAIT: &str = "SET SESSION innodb_lock_wait_timeout = 3, lock_wait_timeout = 10";

/// Session settings, which replace the server's defaults.
///
/// - `NO_AUTO_VALUE_ON_ZERO`: a 0 in an AUTO_INCREMENT column stays 0.
/// - `sql_notes`: the server warns of truncated digits.
/// - `lc_messages`: some codes are told apart by the server's message, such as the index of a duplicate key.
/// - `max_statement_time`: a limit for queries must not stop a long load. Only MariaDB has this setting, and only
///   MariaDB runs a comment of this form.
/// - `max_error_count`: the server keeps warnings, so that the reason of one can be read. MySQL allows this setting only to
///   administrators, and keeps 1,024 warnings by default.
fn session_settings() -> String {
    format!(
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION /*M! max_statement_time = 0, max_error_count = 64, */ sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
         ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', \
         time_zone = '+00:00', lc_messages = 'en_US', autocommit = 1, \
         wait_timeout = {IDLE_SECONDS}, net_read_timeout = {IDLE_SECONDS}, net_write_timeout = {IDLE_SECONDS}, \
         foreign_key_checks = 1, unique_checks = 1, sql_notes = 1; {LOCK_WAIT}"
    )
}

/// Facts about the server, read when the session starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerFacts {
    /// Whether LOAD DATA LOCAL is allowed.
    pub(super) local_infile: bool,
    /// Maximum size of a statement in bytes.
    pub(super) max_allowed_packet: usize,
    /// Whether the server is MariaDB, whose collations have other names than those of MySQL.
    pub(super) is_mariadb: bool,
}

/// The result of a statement that changes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatementResult {
    /// Number of changed rows.
    pub(super) affected_rows: u64,
    /// Number of warnings and notes.
    pub(super) warnings: u16,
}

/// An open connection with Spillway's session settings. Dropping it closes it.
#[derive(Debug)]
pub(in crate::destination) struct Connection {
    /// `None` after it was closed or lost.
    conn: Option<Conn>,
    /// Facts about the server.
    pub(super) facts: ServerFacts,
    /// The database of the settings, which contains the ledger and tables without a schema.
    pub(super) database: String,
    /// The ledger that this connection has checked.
    pub(super) checked_ledger: CheckedLedger,
}

impl Connection {
    /// Returns the schema and the own name of a table, as information_schema spells them.
    pub(super) fn schema_and_name(&self, table: &TableName) -> (String, String) {
        (table.schema().unwrap_or(&self.database).to_owned(), table.own_name().to_owned())
    }

    /// Connects, also to a server that accepts no writes.
    pub(super) async fn open_to_read(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        let (connection, _) = Self::connect(credentials, options).await?;
        Ok(connection)
    }

    /// Connects. Returns also whether the server accepts writes.
    async fn connect(credentials: &Credentials, options: &DestinationOptions) -> Result<(Self, Access)> {
        let context = connecting(credentials);
        let limit = options.connect_timeout;
        let connecting = Conn::new(connect_options(credentials, options));
        let conn = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| timed_out(Phase::Connecting, &context, limit))?
            .map_err(|error| failure(Phase::Connecting, &context, error))?;
        let facts = ServerFacts { local_infile: false, max_allowed_packet: 0, is_mariadb: false };
        let database = credentials.database.clone();
        let mut connection = Self { conn: Some(conn), facts, database, checked_ledger: CheckedLedger::default() };
        let access = connection.set_up().await?;
        Ok((connection, access))
    }

    async fn set_up(&mut self) -> Result<Access> {
        let context = "cannot set up the session";
        self.run(context, &session_settings()).await?;
        let sql = "SELECT @@local_infile, @@max_allowed_packet, @@read_only OR @@innodb_read_only, VERSION()";
        let rows: Vec<(bool, u64, bool, String)> = self.rows(context, sql, ()).await?;
        let Some((local_infile, max_allowed_packet, is_read_only, version)) = rows.into_iter().next() else {
            return Err(unexpected_response(context));
        };
        let is_mariadb = version.contains("MariaDB");
        let max_allowed_packet = usize::try_from(max_allowed_packet).unwrap_or(usize::MAX);
        self.facts = ServerFacts { local_infile, max_allowed_packet, is_mariadb };
        Ok(if is_read_only { Access::ReadOnly } else { Access::Writes })
    }

    /// Runs a statement. The inner error is the driver's, for callers that need its code; the outer error is a timeout.
    pub(super) async fn run_raw(
        &mut self,
        limit: Duration,
        context: &str,
        sql: &[u8],
    ) -> Result<Result<StatementResult, mysql_async::Error>> {
        let conn = self.conn()?;
        match tokio::time::timeout(limit, conn.query_drop(sql)).await {
            Ok(Ok(())) => Ok(Ok(self.last_result()?)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(self.abandon(context, limit)),
        }
    }

    /// Runs a statement with parameters, see [`Connection::run_raw`].
    pub(super) async fn execute_raw(
        &mut self,
        context: &str,
        sql: &str,
        params: Params,
    ) -> Result<Result<StatementResult, mysql_async::Error>> {
        let conn = self.conn()?;
        match tokio::time::timeout(STATEMENT_TIMEOUT, conn.exec_drop(sql, params)).await {
            Ok(Ok(())) => Ok(Ok(self.last_result()?)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(self.abandon(context, STATEMENT_TIMEOUT)),
        }
    }

    /// Returns all rows of a small result.
    pub(super) async fn rows<T>(&mut self, context: &str, sql: &str, params: impl Into<Params>) -> Result<Vec<T>>
    where
        T: FromRow + Send + 'static,
    {
        self.rows_within(STATEMENT_TIMEOUT, context, sql, params).await
    }

    /// Returns all rows of a small result, whose statement may take this long.
    pub(super) async fn rows_within<T>(
        &mut self,
        limit: Duration,
        context: &str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Vec<T>>
    where
        T: FromRow + Send + 'static,
    {
        let params = params.into();
        let conn = self.conn()?;
        let query = async {
            if matches!(params, Params::Empty) { conn.query(sql).await } else { conn.exec(sql, params).await }
        };
        match tokio::time::timeout(limit, query).await {
            Ok(rows) => rows.map_err(|error| failure(Phase::Connected, context, error)),
            Err(_) => Err(self.abandon(context, limit)),
        }
    }

    /// Returns the driver's connection, unless it is lost.
    pub(super) fn conn(&mut self) -> Result<&mut Conn> {
        match self.conn.as_mut() {
            Some(conn) if !conn.is_disconnected() => Ok(conn),
            Some(_) | None => Err(connection_lost()),
        }
    }

    /// Closes the socket after a timeout. The server could read another statement as the rest of the unfinished one.
    fn abandon(&mut self, context: &str, limit: Duration) -> Error {
        self.conn = None;
        timed_out(Phase::Connected, context, limit)
    }

    /// Returns the result of the last statement.
    pub(super) fn last_result(&mut self) -> Result<StatementResult> {
        let conn = self.conn()?;
        Ok(StatementResult { affected_rows: conn.affected_rows(), warnings: conn.get_warnings() })
    }

    /// Rolls back, if the server still responds. An error is ignored, because closing the connection also rolls back.
    pub(super) async fn end_transaction(&mut self) {
        let Ok(conn) = self.conn() else {
            self.conn = None;
            return;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, conn.query_drop("ROLLBACK")).await.is_err() {
            self.conn = None;
        }
    }
}

impl Session for Connection {
    async fn open(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        match Self::connect(credentials, options).await? {
            (connection, Access::Writes) => Ok(connection),
            (_, Access::ReadOnly) => Err(read_only(&connecting(credentials))),
        }
    }

    async fn is_alive(&mut self) -> bool {
        let Ok(conn) = self.conn() else { return false };
        let response = tokio::time::timeout(CLOSE_TIMEOUT, conn.ping()).await;
        if response.is_err() {
            self.conn = None;
        }
        matches!(response, Ok(Ok(())))
    }

    async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, conn.disconnect()).await;
        }
    }
}

/// Whether the server accepts writes.
enum Access {
    Writes,
    ReadOnly,
}

/// The action of an error while the connection is opened.
fn connecting(credentials: &Credentials) -> String {
    format!("cannot connect to {}:{}", credentials.host, credentials.port)
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The driver waits for the server without a limit. When this one expires, the socket is closed.
            runtime.spawn(tokio::time::timeout(CLOSE_TIMEOUT, conn.disconnect()));
        }
    }
}

fn connect_options(credentials: &Credentials, options: &DestinationOptions) -> Opts {
    let tls = match &options.tls {
        Tls::Verify { ca_pem } => {
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![ca_pem.to_vec().into()]))
        }
        Tls::Off => None,
    };
    OptsBuilder::default()
        .ip_or_hostname(credentials.host.clone())
        .tcp_port(credentials.port)
        .user(Some(credentials.user.clone()))
        .pass(Some(credentials.password.expose_secret().to_owned()))
        // The server of RDS reads a token only as it is. The settings allow this only with TLS.
        .enable_cleartext_plugin(credentials.authentication == Authentication::Iam)
        .db_name(Some(credentials.database.clone()))
        // A local socket would bypass TLS, and may belong to another database.
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .stmt_cache_size(8)
        .ssl_opts(tls)
        .into()
}
