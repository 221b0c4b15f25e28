//! A connection: TLS and timeouts, session settings, and running statements.
//!
//! The driver has no timeouts except for connecting, so every call here has one. A task drives the connection. After a
//! timeout the task is aborted, which closes the socket. A connection is always closed promptly, because the server
//! rolls back and releases its locks only when the connection ends.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::failure;
use crate::destination::failure::{Phase, timed_out};
use crate::destination::idle::Reusable;
use crate::destination::{Credentials, DestinationOptions, Tls};
use crate::error::{Error, ErrorKind, Result};

/// Limit for a small statement. Lock waits end sooner.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Limit for ROLLBACK and for closing the connection. After it the socket is closed without an answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The parameters of a statement, each with its type, so that no round trip asks the server for them.
pub(super) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Session settings, which replace the defaults of server, database and user, except for `search_path`.
///
/// - An idle transaction, or one whose client is gone, ends within two minutes.
/// - `lock_timeout`: a second claim on the same source fails within 3 seconds.
/// - `statement_timeout`: a limit for queries must not stop a long load.
/// - `synchronous_commit`: the server confirms COMMIT only when it is on disk.
const SESSION_SETTINGS: &str = "\
    SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET standard_conforming_strings = on; \
    SET client_min_messages = warning; SET lock_timeout = '3s'; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = '90s'; SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; \
    SET tcp_keepalives_count = 4; \
    SELECT set_config(name, value, false) FROM (VALUES \
    ('transaction_timeout', '0'), ('client_connection_check_interval', '10s'), ('tcp_user_timeout', '90s')) \
    AS wanted (name, value) WHERE current_setting(name, true) IS NOT NULL; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT pg_catalog.pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only";

/// An open connection with our session settings. Dropping it closes it.
#[derive(Debug)]
pub(in crate::destination) struct Connection {
    /// `None` after it was closed or lost.
    client: Option<Client>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects and sets up the session. The name is resolved again each time.
    ///
    /// # Errors
    /// [`ErrorKind::Failover`] when the server is read-only, because that happens during a failover.
    pub(super) async fn connect(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        let place = format!("cannot connect to {}:{}", credentials.host, credentials.port);
        if credentials.host.starts_with('/') {
            let message = format!("{place}: this is a local socket, but a host name or address is required");
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        let limit = options.connect_timeout;
        let (client, driver) = tokio::time::timeout(limit, dial(credentials, options))
            .await
            .map_err(|_| timed_out(Phase::Connecting, &place, limit))?
            .map_err(|error| failure(Phase::Connecting, &place, error))?;
        let mut connection = Self { client: Some(client), driver };
        connection.set_up(&place).await?;
        Ok(connection)
    }

    async fn set_up(&mut self, place: &str) -> Result<()> {
        let doing = "cannot set up the session";
        let (messages, end) = self.messages(STATEMENT_LIMIT, doing, SESSION_SETTINGS).await?;
        end.map_err(|error| failure(Phase::Connected, doing, error))?;
        let read_only = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get("read_only").ok().flatten(),
            _ => None,
        });
        match read_only {
            Some("f") => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Failover, format!("{place}: the server is read-only"))),
            None => Err(Error::new(ErrorKind::Internal, "the server does not return its settings")),
        }
    }

    /// Runs a statement and returns the driver's error, for callers that look at its code. The outer error is a
    /// timeout.
    pub(super) async fn run_raw(&mut self, doing: &str, sql: &str) -> Result<Result<(), tokio_postgres::Error>> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.client()?.batch_execute(sql)).await;
        self.answered(STATEMENT_LIMIT, doing, answer)
    }

    /// Runs statements in one message and returns the answers up to the first error. The outer error is a timeout.
    pub(super) async fn messages(
        &mut self,
        limit: Duration,
        doing: &str,
        sql: &str,
    ) -> Result<(Vec<SimpleQueryMessage>, Result<(), tokio_postgres::Error>)> {
        let mut messages = Vec::new();
        let client = self.client()?;
        let exchange = async {
            let mut answers = pin!(client.simple_query_raw(sql).await?);
            while let Some(message) = answers.try_next().await? {
                messages.push(message);
            }
            Ok(())
        };
        let answer = tokio::time::timeout(limit, exchange).await;
        let end = self.answered(limit, doing, answer)?;
        Ok((messages, end))
    }

    /// Runs statements in one message within a limit and returns all answers, or the driver's error. The outer error is
    /// a timeout.
    pub(super) async fn run_within(
        &mut self,
        limit: Duration,
        doing: &str,
        sql: &str,
    ) -> Result<Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>> {
        let (messages, end) = self.messages(limit, doing, sql).await?;
        Ok(end.map(|()| messages))
    }

    /// Runs a statement with parameters and returns the number of changed rows, or the driver's error.
    pub(super) async fn execute_raw(
        &mut self,
        doing: &str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Result<u64, tokio_postgres::Error>> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.client()?.execute_typed(sql, params)).await;
        self.answered(STATEMENT_LIMIT, doing, answer)
    }

    /// Returns all rows of a small result.
    pub(super) async fn rows(&mut self, doing: &str, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, self.client()?.query_typed(sql, params)).await;
        let rows = self.answered(STATEMENT_LIMIT, doing, answer)?;
        rows.map_err(|error| failure(Phase::Connected, doing, error))
    }

    /// Returns the driver's client.
    pub(super) fn client(&self) -> Result<&Client> {
        match &self.client {
            Some(client) if !client.is_closed() => Ok(client),
            Some(_) | None => Err(Error::new(ErrorKind::Failover, "the connection to the database is lost")),
        }
    }

    /// Returns the answer, or closes the connection after a timeout.
    pub(super) fn answered<T>(&mut self, limit: Duration, doing: &str, answer: Result<T, Elapsed>) -> Result<T> {
        answer.map_err(|_| {
            // The next statement would wait for the end of the unfinished exchange.
            self.client = None;
            self.driver.abort();
            timed_out(Phase::Connected, doing, limit)
        })
    }

    /// Rolls back, if the server still answers. Its answer does not matter: closing the connection rolls back as well.
    pub(super) async fn end_transaction(&mut self) {
        let Ok(client) = self.client() else { return };
        let answer = tokio::time::timeout(CLOSE_LIMIT, client.batch_execute("ROLLBACK")).await;
        let _ = self.answered(CLOSE_LIMIT, "cannot roll back", answer);
    }
}

impl Reusable for Connection {
    async fn is_alive(&mut self) -> bool {
        let Ok(client) = self.client() else { return false };
        let answer = tokio::time::timeout(CLOSE_LIMIT, client.batch_execute("")).await;
        matches!(self.answered(CLOSE_LIMIT, "the idle connection does not answer", answer), Ok(Ok(())))
    }

    async fn close(mut self) {
        self.client = None;
        let _ = tokio::time::timeout(CLOSE_LIMIT, &mut self.driver).await;
    }
}

/// Returns a column of a row.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| {
        Error::new(ErrorKind::Internal, "the server's answer does not have the expected form").with_source(error)
    })
}

/// Returns the number of rows that the last statement has changed or found.
pub(super) fn last_count(doing: &str, messages: &[SimpleQueryMessage]) -> Result<u64> {
    let count = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    count.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{doing}: the server does not return a row count")))
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The driver says goodbye when its client is dropped. After the limit the socket is closed.
        self.client = None;
        let driver = self.driver.abort_handle();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(CLOSE_LIMIT).await;
                driver.abort();
            });
        }
    }
}

/// Connects, and starts the task that drives the connection.
async fn dial(
    credentials: &Credentials,
    options: &DestinationOptions,
) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(&credentials.host)
        .port(credentials.port)
        .user(&credentials.user)
        .password(credentials.password.expose_secret())
        .dbname(&credentials.database)
        .application_name("spillway")
        .connect_timeout(options.connect_timeout)
        .tcp_user_timeout(Duration::from_secs(90))
        .keepalives_idle(Duration::from_secs(20))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(4);
    // Each call returns its own errors, so the results of the tasks are dropped.
    match &options.tls {
        Tls::Verify { ca_pem } => {
            // The driver's default accepts an unencrypted connection if the server does not offer TLS.
            config.ssl_mode(SslMode::Require);
            let (client, connection) = config.connect(verified_tls(ca_pem)).await?;
            Ok((client, tokio::spawn(async move { drop(connection.await) })))
        }
        Tls::Off => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await?;
            Ok((client, tokio::spawn(async move { drop(connection.await) })))
        }
    }
}

/// TLS that trusts only these certificates and verifies the server's name.
fn verified_tls(ca_pem: &[u8]) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca_pem).filter_map(Result::ok));
    MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
