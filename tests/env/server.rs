//! The part of a database server that does not depend on the engine: its folder, port, certificates and process.

use std::path::PathBuf;

use anyhow::Result;

use crate::database::{Engine, Options, Schema};
use crate::keeper::{self, Owner};
use crate::process::Signal;
use crate::run;
use crate::tls::Certificates;

/// A private server on loopback.
#[derive(Debug)]
pub struct Server {
    pub(crate) folder: PathBuf,
    pub(crate) owner: Owner,
    pub(crate) options: Options,
    port: u16,
}

impl Server {
    /// Creates the folder and the certificates of a server, and reserves a port.
    pub(crate) fn create(folder: PathBuf, owner: Owner, options: Options) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Certificates::create(&folder.join("tls"), options.certificate)?;
        Ok(Self { port: keeper::reserve_port(&folder)?, folder, owner, options })
    }

    /// The running server in this folder, which all tests of the run share.
    pub(crate) fn shared(folder: PathBuf) -> Result<Self> {
        Ok(Self { port: keeper::port(&folder)?, folder, owner: Owner::Run, options: Options::default() })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's first process.
    pub fn pid(&self) -> Result<u32> {
        keeper::pid(&self.folder)
    }

    /// The certificates of the server and of its private authority.
    pub fn certificates(&self) -> Certificates {
        Certificates::in_folder(&self.folder.join("tls"))
    }

    /// Sends a signal to the server and waits for its end. Fails if other tests share the server.
    pub(crate) async fn end(&self, signal: Signal) -> Result<()> {
        keeper::end(self.owner, &self.folder, signal).await
    }

    /// A new schema name with its user and password. The schema does not exist yet.
    pub(crate) fn new_schema(&self, engine: Engine) -> Schema {
        let name = run::unique("t");
        Schema {
            engine,
            port: self.port,
            authority: self.certificates().authority(),
            user: name.clone(),
            password: format!("pass-{name}"),
            name,
        }
    }
}
