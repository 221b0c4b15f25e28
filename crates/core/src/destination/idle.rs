//! Connections whose work ended well, kept for the next piece of work of the same run: most of what a small file takes from
//! the server is connecting.
//!
//! One is kept only after a COMMIT that was answered or after statements of their own, so nothing is open on it, and only as
//! long as the run: a function that sleeps between two invocations holds none of the server's connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Credentials;
use crate::error::Result;

/// Room for connections of a kind, as many as were ever in use at once. Clones share it.
#[derive(Debug)]
pub(super) struct Idle<C>(Arc<Mutex<Vec<(Login, C)>>>);

/// What a connection is good for.
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
        Self(Arc::default())
    }
}

impl<C> Clone for Idle<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A connection that can be used again.
pub(super) trait Reusable: Send {
    /// Whether the server still answers on it.
    fn is_alive(&mut self) -> impl Future<Output = bool> + Send;
    /// Takes leave of the server and closes.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl<C: Reusable> Idle<C> {
    /// A connection that is kept for this login and lives.
    pub(super) async fn take(&self, credentials: &Credentials) -> Option<C> {
        let login = Login::of(credentials);
        loop {
            let mut connection = {
                let mut kept = self.kept();
                let place = kept.iter().position(|(kept, _)| *kept == login)?;
                kept.swap_remove(place).1
            };
            if connection.is_alive().await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose work ended well.
    pub(super) fn keep(&self, credentials: &Credentials, connection: C) {
        self.kept().push((Login::of(credentials), connection));
    }

    /// Keeps the connection after work that succeeded, and closes it otherwise.
    pub(super) async fn release<T>(&self, credentials: &Credentials, connection: C, work: Result<T>) -> Result<T> {
        match &work {
            Ok(_) => self.keep(credentials, connection),
            Err(_) => connection.close().await,
        }
        work
    }

    /// Closes what is kept.
    pub(super) async fn close(&self) {
        let kept = std::mem::take(&mut *self.kept());
        for (_, connection) in kept {
            connection.close().await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Login, C)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
