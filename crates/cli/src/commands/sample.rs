//! `spillway sample`.

use clap::Args;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let _ = (arguments, session);
    Err(Error::new(ErrorKind::Internal, "not written yet"))
}
