//! A connection: TLS, session settings, and running statements.
//!
//! The driver has no time limits except for connecting, so every call here has one. A task runs the connection. After a
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
use crate::destination::failure::{Phase, connection_lost, read_only, timed_out, unexpected_response};
use crate::destination::idle::Session;
use crate::destination::limits::{CLOSE_TIMEOUT, STATEMENT_TIMEOUT};
use crate::destination::{Credentials, DestinationOptions, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::CheckedLedger;

/// The parameters of a statement. Each has its type, so that no round trip is needed to read the types.
pub(super) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// The session setting for the wait for locks. A second claim on the same source fails after it.
pub(super) const LOCK_WAIT: &str = "SET lock_timeout = '3s'";

/// Session settings, which replace the defaults of server, database and user, except for `search_path`.
///
/// - An idle transaction, or one whose client is gone, ends within two minutes.
/// - `statement_timeout`: a limit for queries must not stop a long load.
/// - `synchronous_commit`: the server confirms COMMIT only when it is on disk.
const SESSION_SETTINGS: &str = "\
    SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET standard_conforming_strings = on; \
    SET client_min_messages = warning; SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = '90s'; SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; \
    SET tcp_keepalives_count = 4; \
    SELECT set_config(name, value, false) FROM (VALUES \
    ('transaction_timeout', '0'), ('client_connection_check_interval', '10s'), ('tcp_user_timeout', '90s')) \
    AS wanted (name, value) WHERE current_setting(name, true) IS NOT NULL; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT pg_catalog.pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only";

/// An open connection with Spillway's session settings. Dropping it closes it.
#[derive(Debug)]
pub(in crate::destination) struct Connection {
    /// `None` after it was closed or lost.
    client: Option<Client>,
    /// The task that runs the connection.
    task: JoinHandle<()>,
    /// The ledger that this connection has checked.
    pub(super) checked_ledger: CheckedLedger,
}

impl Connection {
    /// Connects, also to a server that accepts no writes.
    pub(super) async fn open_to_read(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        let (connection, _) = Self::connect(credentials, options).await?;
        Ok(connection)
    }

    /// Connects. Returns also whether the server accepts writes.
    async fn connect(credentials: &Credentials, options: &DestinationOptions) -> Result<(Self, Access)> {
        let context = connecting(credentials);
        if credentials.host.starts_with('/') {
            let message = format!("{context}: this is a local socket, but a host name or address is required");
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        let limit = options.connect_timeout;
        let (client, task) = tokio::time::timeout(limit, open_session(credentials, options))
            .await
            .map_err(|_| timed_out(Phase::Connecting, &context, limit))?
            .map_err(|error| failure(Phase::Connecting, &context, error))?;
        let mut connection = Self { client: Some(client), task, checked_ledger: CheckedLedger::default() };
        let access = connection.set_up().await?;
        Ok((connection, access))
    }

    async fn set_up(&mut self) -> Result<Access> {
        let context = "cannot set up the session";
        let (messages, end) =
            self.messages(STATEMENT_TIMEOUT, context, &format!("{LOCK_WAIT}; {SESSION_SETTINGS}")).await?;
        end.map_err(|error| failure(Phase::Connected, context, error))?;
        let is_read_only = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get("read_only").ok().flatten(),
            _ => None,
        });
        match is_read_only {
            Some("f") => Ok(Access::Writes),
            Some(_) => Ok(Access::ReadOnly),
            None => Err(unexpected_response(context)),
        }
    }

    /// Runs a statement. The inner error is the driver's, for callers that need its code; the outer error is a timeout.
    pub(super) async fn run_raw(&mut self, context: &str, sql: &str) -> Result<Result<(), tokio_postgres::Error>> {
        let result = tokio::time::timeout(STATEMENT_TIMEOUT, self.client()?.batch_execute(sql)).await;
        self.check_timeout(STATEMENT_TIMEOUT, context, result)
    }

    /// Runs statements in one message. Returns the responses up to the first error, and that error.
    pub(super) async fn messages(
        &mut self,
        limit: Duration,
        context: &str,
        sql: &str,
    ) -> Result<(Vec<SimpleQueryMessage>, Result<(), tokio_postgres::Error>)> {
        let mut messages = Vec::new();
        let client = self.client()?;
        let exchange = async {
            let mut responses = pin!(client.simple_query_raw(sql).await?);
            while let Some(message) = responses.try_next().await? {
                messages.push(message);
            }
            Ok(())
        };
        let result = tokio::time::timeout(limit, exchange).await;
        let end = self.check_timeout(limit, context, result)?;
        Ok((messages, end))
    }

    /// Runs statements in one message. Returns all responses, or the first error.
    pub(super) async fn run_within(
        &mut self,
        limit: Duration,
        context: &str,
        sql: &str,
    ) -> Result<Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>> {
        let (messages, end) = self.messages(limit, context, sql).await?;
        Ok(end.map(|()| messages))
    }

    /// Runs a statement with parameters and returns the number of changed rows, or the driver's error.
    pub(super) async fn execute_raw(
        &mut self,
        context: &str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Result<u64, tokio_postgres::Error>> {
        let result = tokio::time::timeout(STATEMENT_TIMEOUT, self.client()?.execute_typed(sql, params)).await;
        self.check_timeout(STATEMENT_TIMEOUT, context, result)
    }

    /// Returns all rows of a small result.
    pub(super) async fn rows(&mut self, context: &str, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        let result = tokio::time::timeout(STATEMENT_TIMEOUT, self.client()?.query_typed(sql, params)).await;
        let rows = self.check_timeout(STATEMENT_TIMEOUT, context, result)?;
        rows.map_err(|error| failure(Phase::Connected, context, error))
    }

    /// Returns the driver's client.
    pub(super) fn client(&self) -> Result<&Client> {
        match &self.client {
            Some(client) if !client.is_closed() => Ok(client),
            Some(_) | None => Err(connection_lost()),
        }
    }

    /// Closes the connection after a timeout, and returns every other result.
    pub(super) fn check_timeout<T>(&mut self, limit: Duration, context: &str, result: Result<T, Elapsed>) -> Result<T> {
        result.map_err(|_| {
            // The next statement would wait for the end of the unfinished exchange.
            self.client = None;
            self.task.abort();
            timed_out(Phase::Connected, context, limit)
        })
    }

    /// Rolls back, if the server still responds. An error is ignored, because closing the connection also rolls back.
    pub(super) async fn end_transaction(&mut self) {
        let Ok(client) = self.client() else { return };
        let result = tokio::time::timeout(CLOSE_TIMEOUT, client.batch_execute("ROLLBACK")).await;
        let _ = self.check_timeout(CLOSE_TIMEOUT, "cannot roll back", result);
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
        let Ok(client) = self.client() else { return false };
        let result = tokio::time::timeout(CLOSE_TIMEOUT, client.batch_execute("")).await;
        matches!(self.check_timeout(CLOSE_TIMEOUT, "the idle connection does not respond", result), Ok(Ok(())))
    }

    async fn close(mut self) {
        self.client = None;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.task).await;
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

/// Returns a column of a row.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| unexpected_response("cannot read a row").with_source(error))
}

/// Returns the number of rows that the last statement has changed or found.
pub(super) fn last_count(context: &str, messages: &[SimpleQueryMessage]) -> Result<u64> {
    let count = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    count.ok_or_else(|| unexpected_response(context))
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task ends the session when the client is dropped. After the limit the socket is closed.
        self.client = None;
        let task = self.task.abort_handle();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                task.abort();
            });
        }
    }
}

/// Connects, and starts the task that runs the connection.
async fn open_session(
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
    // Each call returns its own error, so the results of the tasks are ignored.
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

/// Returns a TLS connector that trusts only these certificates and verifies the server's name.
fn verified_tls(ca_pem: &[u8]) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca_pem).filter_map(Result::ok));
    MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
