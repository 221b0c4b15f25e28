//! Opens the database in the settings with the current credentials.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::destination::{self, Destination, DestinationOptions, IdleConnections};
use crate::error::Result;
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
    /// Connections that the next object can reuse.
    idle: IdleConnections,
}

impl ConfiguredDestinations {
    /// Destinations with these credentials. Nothing is opened yet.
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { secrets, idle: IdleConnections::default() }
    }
}

impl Destinations for ConfiguredDestinations {
    fn open<'a>(&'a self, options: &'a DestinationOptions, fresh: bool) -> BoxFuture<'a, Result<Box<dyn Destination>>> {
        Box::pin(async move {
            let credentials = self.secrets.get(fresh).await?;
            Ok(destination::open(credentials, options.clone(), &self.idle))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.idle.close())
    }
}
