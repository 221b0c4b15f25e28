//! The commands, one file each. A command has `Arguments` and `run`.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod extract;
pub(crate) mod fallback;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod rejects;
pub(crate) mod reports;
pub(crate) mod runs;
pub(crate) mod sample;
pub(crate) mod status;
pub(crate) mod sweep;
pub(crate) mod sync;

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
        Command::Diff(arguments) => diff::run(&arguments, session).await,
        Command::Publish(arguments) => publish::run(&arguments, session).await,
        Command::Exports(command) => exports::run(command, session).await,
        Command::Status(arguments) => status::run(&arguments, session).await,
        Command::Runs(command) => runs::run(command, session).await,
        Command::Fallback(command) => fallback::run(command, session).await,
        Command::Rejects(command) => rejects::run(command, session).await,
        Command::Sweep(arguments) => sweep::run(&arguments, session).await,
        Command::Sync(arguments) => sync::run(&arguments, session).await,
        Command::Extract(arguments) => extract::run(arguments, session).await,
        Command::Check(arguments) => check::run(&arguments, session).await,
        Command::Config(command) => config::run(command, session),
        Command::Events(arguments) => events::run(&arguments, session),
        Command::Sample(arguments) => sample::run(&arguments, session).await,
        Command::Completions(arguments) => completions::run(&arguments, session),
    }
}
