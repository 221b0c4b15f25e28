//! A connection: TLS and timeouts, session settings, and running statements.
//!
//! The driver has no timeouts, so every call here has one. A connection is always closed promptly, because the server
//! rolls back and releases its locks only when the connection ends.

use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, SslOpts};
use secrecy::ExposeSecret;

use super::failure::failure;
use crate::destination::failure::{Phase, timed_out};
use crate::destination::idle::Reusable;
use crate::destination::{Credentials, DestinationOptions, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// Limit for a small statement. Lock waits (3 s) and metadata lock waits (10 s) end sooner.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Limit for ROLLBACK and for closing the connection. After it the socket is closed without an answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The server ends an idle session after this many seconds, so that a dead worker's locks are released.
const IDLE_SECONDS: u32 = 90;

/// Session settings, which replace the server's defaults.
///
/// - `NO_AUTO_VALUE_ON_ZERO`: a 0 in an AUTO_INCREMENT column stays 0.
/// - `sql_notes`: truncated digits count as warnings.
/// - `innodb_lock_wait_timeout`: a second claim on the same source fails within 3 seconds.
/// - `max_statement_time`, only on MariaDB, which alone runs such a comment: a limit for queries must not stop a long
///   load.
fn session_settings() -> String {
    format!(
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION /*M! max_statement_time = 0, */ sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
         ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', \
         time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 3, lock_wait_timeout = 10, \
         wait_timeout = {IDLE_SECONDS}, net_read_timeout = {IDLE_SECONDS}, net_write_timeout = {IDLE_SECONDS}, \
         foreign_key_checks = 1, unique_checks = 1, sql_notes = 1, max_error_count = 64"
    )
}

/// Facts about the server, read when the session starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerFacts {
    /// LOAD DATA LOCAL is allowed.
    pub(super) local_infile: bool,
    /// Maximum size of a statement in bytes.
    pub(super) max_allowed_packet: usize,
    /// The server is MariaDB, whose collations have other names than MySQL's.
    pub(super) is_mariadb: bool,
}

/// The effect of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Number of changed rows.
    pub(super) affected_rows: u64,
    /// Number of warnings and notes.
    pub(super) warnings: u16,
}

/// An open connection with our session settings. Dropping it closes it.
#[derive(Debug)]
pub(in crate::destination) struct Connection {
    /// `None` after it was closed or lost.
    conn: Option<Conn>,
    /// Facts about the server.
    pub(super) facts: ServerFacts,
}

impl Connection {
    /// Connects and sets up the session. The name is resolved again each time.
    ///
    /// # Errors
    /// [`ErrorKind::Failover`] when the server is read-only, because that happens during a failover.
    pub(super) async fn connect(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        let place = format!("cannot connect to {}:{}", credentials.host, credentials.port);
        let limit = options.connect_timeout;
        let connecting = Conn::new(connect_options(credentials, options));
        let conn = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| timed_out(Phase::Connecting, &place, limit))?
            .map_err(|error| failure(Phase::Connecting, &place, error))?;
        let facts = ServerFacts { local_infile: false, max_allowed_packet: 0, is_mariadb: false };
        let mut connection = Self { conn: Some(conn), facts };
        connection.set_up(&place).await?;
        Ok(connection)
    }

    async fn set_up(&mut self, place: &str) -> Result<()> {
        let doing = "cannot set up the session";
        self.run(doing, &session_settings()).await?;
        let sql = "SELECT @@local_infile, @@max_allowed_packet, @@read_only OR @@innodb_read_only, VERSION()";
        let rows: Vec<(bool, u64, bool, String)> = self.rows(doing, sql, ()).await?;
        let Some((local_infile, max_allowed_packet, read_only, version)) = rows.into_iter().next() else {
            return Err(Error::new(ErrorKind::Internal, "the server does not return its settings"));
        };
        if read_only {
            return Err(Error::new(ErrorKind::Failover, format!("{place}: the server is read-only")));
        }
        let is_mariadb = version.contains("MariaDB");
        let max_allowed_packet = usize::try_from(max_allowed_packet).unwrap_or(usize::MAX);
        self.facts = ServerFacts { local_infile, max_allowed_packet, is_mariadb };
        Ok(())
    }

    /// Runs a statement and returns the driver's error, for callers that look at its code. The outer error is a
    /// timeout.
    pub(super) async fn run_raw(
        &mut self,
        limit: Duration,
        doing: &str,
        sql: &[u8],
    ) -> Result<Result<Outcome, mysql_async::Error>> {
        let conn = self.conn()?;
        match tokio::time::timeout(limit, conn.query_drop(sql)).await {
            Ok(Ok(())) => Ok(Ok(self.outcome()?)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(self.abandon(doing, limit)),
        }
    }

    /// Runs a statement with parameters, see [`Connection::run_raw`].
    pub(super) async fn execute_raw(
        &mut self,
        doing: &str,
        sql: &str,
        params: Params,
    ) -> Result<Result<Outcome, mysql_async::Error>> {
        let conn = self.conn()?;
        match tokio::time::timeout(STATEMENT_LIMIT, conn.exec_drop(sql, params)).await {
            Ok(Ok(())) => Ok(Ok(self.outcome()?)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(self.abandon(doing, STATEMENT_LIMIT)),
        }
    }

    /// Returns all rows of a small result.
    pub(super) async fn rows<T>(&mut self, doing: &str, sql: &str, params: impl Into<Params>) -> Result<Vec<T>>
    where
        T: FromRow + Send + 'static,
    {
        let params = params.into();
        let conn = self.conn()?;
        let asking = async {
            if matches!(params, Params::Empty) { conn.query(sql).await } else { conn.exec(sql, params).await }
        };
        match tokio::time::timeout(STATEMENT_LIMIT, asking).await {
            Ok(answer) => answer.map_err(|error| failure(Phase::Connected, doing, error)),
            Err(_) => Err(self.abandon(doing, STATEMENT_LIMIT)),
        }
    }

    /// Returns the driver's connection. A connection with an unfinished exchange is lost.
    pub(super) fn conn(&mut self) -> Result<&mut Conn> {
        match self.conn.as_mut() {
            Some(conn) if !conn.is_disconnected() => Ok(conn),
            Some(_) | None => Err(Error::new(ErrorKind::Failover, "the connection to the database is lost")),
        }
    }

    /// Closes the socket. After an unfinished exchange the server would read the next statement as the rest of the last
    /// one.
    fn abandon(&mut self, doing: &str, limit: Duration) -> Error {
        self.conn = None;
        timed_out(Phase::Connected, doing, limit)
    }

    /// The effect of the last statement.
    pub(super) fn outcome(&mut self) -> Result<Outcome> {
        let conn = self.conn()?;
        Ok(Outcome { affected_rows: conn.affected_rows(), warnings: conn.get_warnings() })
    }

    /// Rolls back, if the server still answers. Its answer does not matter: closing the connection rolls back as well.
    pub(super) async fn end_transaction(&mut self) {
        let Ok(conn) = self.conn() else {
            self.conn = None;
            return;
        };
        if tokio::time::timeout(CLOSE_LIMIT, conn.query_drop("ROLLBACK")).await.is_err() {
            self.conn = None;
        }
    }
}

impl Reusable for Connection {
    async fn is_alive(&mut self) -> bool {
        let Ok(conn) = self.conn() else { return false };
        let answer = tokio::time::timeout(CLOSE_LIMIT, conn.ping()).await;
        if answer.is_err() {
            self.conn = None;
        }
        matches!(answer, Ok(Ok(())))
    }

    async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = tokio::time::timeout(CLOSE_LIMIT, conn.disconnect()).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The driver waits for the server without a limit. After ours the socket is closed.
            runtime.spawn(tokio::time::timeout(CLOSE_LIMIT, conn.disconnect()));
        }
    }
}

fn connect_options(credentials: &Credentials, options: &DestinationOptions) -> Opts {
    let tls = match &options.tls {
        Tls::Verify { ca_pem } => {
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![ca_pem.clone().into()]))
        }
        Tls::Off => None,
    };
    OptsBuilder::default()
        .ip_or_hostname(credentials.host.clone())
        .tcp_port(credentials.port)
        .user(Some(credentials.user.clone()))
        .pass(Some(credentials.password.expose_secret().to_owned()))
        .db_name(Some(credentials.database.clone()))
        // A local socket would bypass TLS, and may belong to another database.
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .stmt_cache_size(8)
        .ssl_opts(tls)
        .into()
}
