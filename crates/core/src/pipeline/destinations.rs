//! Opens the database in the settings with the current credentials.

use std::fmt::Debug;

use aws_config::SdkConfig;
use futures_util::future::BoxFuture;

use crate::deadline::Deadline;
use crate::destination::{self, Destination, DestinationOptions, IdleConnections, RedshiftDatabase, Tls};
use crate::error::{ErrorKind, Result};
use crate::pipeline::{Context, DatabaseAccess, DatabaseSettings};
use crate::secret::{CredentialSettings, Secrets};
use crate::store::Store;

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
pub(crate) enum ConfiguredDestinations {
    /// A server with a login.
    Server {
        /// The credentials.
        secrets: Box<Secrets>,
        /// `RDS_CA_SECRET_NAME`: a secret with the certificates to verify the server with.
        ca_secret: Option<String>,
        /// Connections that the next object can reuse.
        idle: IdleConnections,
    },
    /// Redshift.
    Redshift(Box<RedshiftDatabase>),
}

impl ConfiguredDestinations {
    /// Destinations in the database of the settings. Nothing is opened yet.
    pub(crate) fn new(config: &SdkConfig, settings: &DatabaseSettings, store: &Store) -> Self {
        match &settings.access {
            DatabaseAccess::Login(credentials) => Self::Server {
                secrets: Box::new(Secrets::new(config, credentials.clone())),
                ca_secret: settings.ca_secret.clone(),
                idle: IdleConnections::default(),
            },
            DatabaseAccess::Redshift(redshift) => {
                Self::Redshift(Box::new(RedshiftDatabase::new(config, store.clone(), redshift.clone())))
            }
        }
    }
}

impl Destinations for ConfiguredDestinations {
    fn open<'a>(&'a self, options: &'a DestinationOptions, fresh: bool) -> BoxFuture<'a, Result<Box<dyn Destination>>> {
        Box::pin(async move {
            let (secrets, ca_secret, idle) = match self {
                Self::Server { secrets, ca_secret, idle } => (secrets, ca_secret, idle),
                // The Data API reads the secret.
                Self::Redshift(database) => return Ok(database.open(options.clone())),
            };
            let credentials = secrets.get(fresh).await?;
            let mut options = options.clone();
            if let (Some(name), Tls::Verify { ca_pem }) = (ca_secret, &mut options.tls) {
                *ca_pem = secrets.certificates(name).await?;
            }
            Ok(destination::open(credentials, options, idle))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            match self {
                Self::Server { idle, .. } => idle.close().await,
                Self::Redshift(_) => {}
            }
        })
    }
}

/// Sends a query to the database in the settings, until the deadline.
///
/// If the database rejects a password from a secret, the secret is read again: it may have been rotated.
pub(crate) async fn ask<T>(
    context: &Context,
    deadline: &Deadline,
    query: impl AsyncFn(Box<dyn Destination>) -> Result<T>,
) -> Result<T> {
    let options = &context.settings.database.options;
    let is_in_secret = matches!(context.settings.database.access, DatabaseAccess::Login(CredentialSettings::Secret(_)));
    let send = async |fresh| query(context.destinations.open(options, fresh).await?).await;
    let response = async {
        match send(false).await {
            Err(error) if error.kind() == ErrorKind::Credentials && is_in_secret => send(true).await,
            result => result,
        }
    };
    tokio::select! {
        result = response => result,
        error = deadline.reached() => Err(error),
    }
}
