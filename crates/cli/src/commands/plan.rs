//! `spillway plan`.

use clap::Args;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let _ = (arguments, session);
    std::future::ready(Err(Error::new(ErrorKind::Internal, "not written yet"))).await
}
