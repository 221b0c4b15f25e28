//! One connection: how it is made (TLS, timeouts), what the session is set to, and how statements are sent on it.
//!
//! The driver has no timeouts of its own, so every call here has one. Closing is prompt in every case, because the server
//! rolls back and lets go of its locks only when the connection ends.

use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Params, SslOpts};
use secrecy::ExposeSecret;

use super::failure::failure;
use crate::destination::idle::Reusable;
use crate::destination::limits::{Phase, timed_out};
use crate::destination::{Credentials, DestinationOptions, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// How long a small statement may take; lock waits (3 s) and metadata lock waits (10 s) end sooner.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// How long clean ends (ROLLBACK, quit) are waited for before the socket is simply closed.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// An idle session of a dead worker, or one whose rows stopped coming, ends after this many seconds.
const IDLE_SECONDS: u32 = 90;

/// What the session needs to be, whatever the server's defaults are.
///
/// `NO_AUTO_VALUE_ON_ZERO` keeps a 0 in an AUTO_INCREMENT column a 0; `sql_notes` makes truncated digits count as
/// warnings; a lock wait of 3 s lets a second claimant fail fast; on MariaDB, which alone reads such a comment, a limit meant
/// for queries would stop a long load half-way.
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

/// What the server said of itself when the session began.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerFacts {
    /// LOAD DATA LOCAL is allowed.
    pub(super) local_infile: bool,
    /// The largest statement it takes, in bytes.
    pub(super) max_allowed_packet: usize,
    /// MariaDB, whose collations have other names than MySQL's.
    pub(super) is_mariadb: bool,
}

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Rows changed.
    pub(super) affected_rows: u64,
    /// Warnings and notes.
    pub(super) warnings: u16,
}

/// An open connection with our session settings. Dropping it closes it.
#[derive(Debug)]
pub(in crate::destination) struct Connection {
    /// `None` once it is closed or given up.
    conn: Option<Conn>,
    /// What the server said of itself.
    pub(super) facts: ServerFacts,
}

impl Connection {
    /// Connects, with a fresh name lookup, and sets the session up. A read-only server is a failover in progress.
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
        let doing = "cannot set the session up";
        self.run(doing, &session_settings()).await?;
        let sql = "SELECT @@local_infile, @@max_allowed_packet, @@read_only OR @@innodb_read_only, VERSION()";
        let rows: Vec<(bool, u64, bool, String)> = self.rows(doing, sql, ()).await?;
        let Some((local_infile, max_allowed_packet, read_only, version)) = rows.into_iter().next() else {
            return Err(Error::new(ErrorKind::Internal, "the server does not answer for its settings"));
        };
        if read_only {
            return Err(Error::new(ErrorKind::Failover, format!("{place}: the server is read-only")));
        }
        let is_mariadb = version.contains("MariaDB");
        let max_allowed_packet = usize::try_from(max_allowed_packet).unwrap_or(usize::MAX);
        self.facts = ServerFacts { local_infile, max_allowed_packet, is_mariadb };
        Ok(())
    }

    /// Sends a statement and hands the driver's error out, for callers that look at its code. No answer in time is the
    /// outer error.
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

    /// Runs a statement with parameters and returns the driver's error, for callers that look at its code.
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

    /// Reads all rows of a small answer.
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

    /// The driver's connection, for LOAD DATA. One that was left in the middle of an exchange is lost.
    pub(super) fn conn(&mut self) -> Result<&mut Conn> {
        match self.conn.as_mut() {
            Some(conn) if !conn.is_disconnected() => Ok(conn),
            Some(_) | None => Err(Error::new(ErrorKind::Failover, "the connection to the database is lost")),
        }
    }

    /// Closes the socket at once: after an exchange that was cut off, the server would take anything sent as its rest.
    fn abandon(&mut self, doing: &str, limit: Duration) -> Error {
        self.conn = None;
        timed_out(Phase::Connected, doing, limit)
    }

    /// What the last statement did.
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
        if tokio::time::timeout(FAREWELL_LIMIT, conn.query_drop("ROLLBACK")).await.is_err() {
            self.conn = None;
        }
    }
}

impl Reusable for Connection {
    async fn is_alive(&mut self) -> bool {
        let Ok(conn) = self.conn() else { return false };
        let answer = tokio::time::timeout(FAREWELL_LIMIT, conn.ping()).await;
        if answer.is_err() {
            self.conn = None;
        }
        matches!(answer, Ok(Ok(())))
    }

    async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = tokio::time::timeout(FAREWELL_LIMIT, conn.disconnect()).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The driver would wait for the server without a limit; past the limit the socket is closed.
            runtime.spawn(tokio::time::timeout(FAREWELL_LIMIT, conn.disconnect()));
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
        // A socket would go around TLS, and is never the database that was asked for.
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .stmt_cache_size(8)
        .ssl_opts(tls)
        .into()
}
