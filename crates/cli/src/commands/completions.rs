//! `spillway completions`: completions for a shell, and the manual page.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", required_unless_present = "man")]
    shell: Option<Shell>,
    /// Print the manual page instead
    #[arg(long, conflicts_with = "shell")]
    man: bool,
}

/// Prints the completions or the manual page.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let mut command = crate::arguments::Arguments::command();
    let mut page = Vec::new();
    match arguments.shell {
        Some(shell) => clap_complete::generate(shell, &mut command, "spillway", &mut page),
        None => clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| Error::new(ErrorKind::Internal, "cannot write the manual page").with_source(error))?,
    }
    session.output.raw(&page);
    Ok(Exit::Done)
}
