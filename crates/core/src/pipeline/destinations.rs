//! Opens the database in the settings with the current credentials.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::deadline::Deadline;
use crate::destination::{self, Destination, DestinationOptions, IdleConnections, Tls};
use crate::error::{ErrorKind, Result};
use crate::pipeline::Context;
use crate::secret::Secrets;

/// Opens destinations for a run.
pub(crate) trait Destinations: Debug + Send + Sync {
    /// A destination with these options and the current credentials; `fresh` reads the secret again.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    fn open<'a>(&'a self, options: &'a DestinationOptions, fresh: bool) -> BoxFuture<'a, Result<Box<dyn Destination>>>;

    /// Closes the idle connections of the run.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The database in the settings.
#[derive(Debug)]
pub(crate) struct ConfiguredDestinations {
    secrets: Secrets,
    /// `RDS_CA_SECRET_NAME`: a secret with the certificates to verify the server with.
    ca_secret: Option<String>,
    /// Connections that the next object can reuse.
    idle: IdleConnections,
}

impl ConfiguredDestinations {
    /// Destinations with these credentials. Nothing is opened yet.
    pub(crate) fn new(secrets: Secrets, ca_secret: Option<String>) -> Self {
        Self { secrets, ca_secret, idle: IdleConnections::default() }
    }
}

impl Destinations for ConfiguredDestinations {
    fn open<'a>(&'a self, options: &'a DestinationOptions, fresh: bool) -> BoxFuture<'a, Result<Box<dyn Destination>>> {
        Box::pin(async move {
            let credentials = self.secrets.get(fresh).await?;
            let mut options = options.clone();
            if let (Some(name), Tls::Verify { ca_pem }) = (&self.ca_secret, &mut options.tls) {
                *ca_pem = self.secrets.certificates(name).await?;
            }
            Ok(destination::open(credentials, options, &self.idle))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.idle.close())
    }
}

/// Sends a query to the database in the settings, until the deadline.
///
/// If the database rejects the password, the secret is read again: it may have been rotated.
pub(crate) async fn ask<T>(
    context: &Context,
    deadline: &Deadline,
    query: impl AsyncFn(Box<dyn Destination>) -> Result<T>,
) -> Result<T> {
    let options = &context.settings.database.options;
    let send = async |fresh| query(context.destinations.open(options, fresh).await?).await;
    let response = async {
        match send(false).await {
            Err(error) if error.kind() == ErrorKind::Credentials => send(true).await,
            result => result,
        }
    };
    tokio::select! {
        result = response => result,
        error = deadline.reached() => Err(error),
    }
}
