//! Connections that stay open for the next file of the same run. For a small file, connecting is most of the server's
//! work.
//!
//! A connection is kept only after a confirmed COMMIT or after statements outside of a transaction, so it has no open
//! transaction. All connections are closed at the end of the run, so that a function uses none between two invocations.
//!
//! The process also remembers ledgers that it could not change, so that it does not try again for each file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Credentials, DestinationOptions};
use crate::error::Result;
use crate::ledger::FailedAdditions;

/// Idle connections to servers of one engine. Clones share them.
#[derive(Debug)]
pub(super) struct Idle<C> {
    kept: Arc<Mutex<Vec<(Login, C)>>>,
    /// The ledgers that lack a column and could not be changed.
    pub(super) failed_additions: FailedAdditions,
}

/// The server, user and database of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    host: String,
    port: u16,
    user: String,
    database: String,
}

impl Login {
    fn of(credentials: &Credentials) -> Self {
        let Credentials { host, port, user, database, .. } = credentials;
        Self { host: host.clone(), port: *port, user: user.clone(), database: database.clone() }
    }
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self { kept: Arc::default(), failed_additions: FailedAdditions::default() }
    }
}

impl<C> Clone for Idle<C> {
    fn clone(&self) -> Self {
        Self { kept: self.kept.clone(), failed_additions: self.failed_additions.clone() }
    }
}

/// A session on a server, on a connection that can be used for several loads.
pub(super) trait Session: Send + Sized {
    /// Connects and sets up the session. The host name is resolved for each connection.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Failover`] when the server is read-only, because that happens during a failover.
    fn open(credentials: &Credentials, options: &DestinationOptions) -> impl Future<Output = Result<Self>> + Send;

    /// Whether the server still responds.
    fn is_alive(&mut self) -> impl Future<Output = bool> + Send;

    /// Ends the session and closes the connection.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl<C: Session> Idle<C> {
    /// Removes and returns an idle connection of this login that still works.
    pub(super) async fn take(&self, credentials: &Credentials) -> Option<C> {
        let login = Login::of(credentials);
        loop {
            let mut connection = {
                let mut kept = self.kept();
                let index = kept.iter().position(|(kept, _)| *kept == login)?;
                kept.swap_remove(index).1
            };
            if connection.is_alive().await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next call of [`take`](Self::take).
    pub(super) fn keep(&self, credentials: &Credentials, connection: C) {
        self.kept().push((Login::of(credentials), connection));
    }

    /// Keeps the connection after a success, and closes it after an error. Returns the result.
    pub(super) async fn release<T>(&self, credentials: &Credentials, connection: C, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => self.keep(credentials, connection),
            Err(_) => connection.close().await,
        }
        result
    }

    /// Closes all idle connections.
    pub(super) async fn close(&self) {
        let kept = std::mem::take(&mut *self.kept());
        for (_, connection) in kept {
            connection.close().await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Login, C)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
