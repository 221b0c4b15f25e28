//! `spillway config`.

use clap::Subcommand;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::session::Session;

/// The commands about settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the settings file
    Check,
}

/// Runs the command.
pub(crate) fn run(command: Command, session: &Session) -> Result<Exit> {
    let _ = (command, session);
    Err(Error::new(ErrorKind::Internal, "not written yet"))
}
