//! The commands, one file each. A command has `Arguments` and `run`.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod load;
pub(crate) mod plan;
pub(crate) mod sample;

use spillway_core::error::Result;

use crate::arguments::Command;
use crate::exit::Exit;
use crate::session::Session;

/// Runs a command.
///
/// # Errors
/// When the command failed. Then it has printed no result.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Plan(arguments) => plan::run(arguments, session).await,
        Command::Load(arguments) => load::run(arguments, session).await,
        Command::Config(command) => config::run(command, session),
        Command::Events(arguments) => events::run(&arguments, session),
        Command::Sample(arguments) => sample::run(&arguments, session),
        Command::Completions(arguments) => completions::run(&arguments, session),
    }
}
