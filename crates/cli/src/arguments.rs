//! The command line: options that every command accepts, and the commands.

use std::any::TypeId;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use spillway_core::policy::Purpose;

use crate::commands::{
    check, completions, config, diff, events, exports, extract, fallback, load, plan, publish, rejects, runs, sample,
    status, sweep, sync,
};

/// Loads files into MySQL, MariaDB or PostgreSQL exactly once.
#[derive(Debug, Parser)]
#[command(name = "spillway", version, arg_required_else_help = true, infer_subcommands = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 the result needs attention, 64 wrong use or setting, 75 stopped by SIGTERM, 130 by Ctrl-C."
)]
pub(crate) struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    /// When it is invalid, or asks for help or the version.
    pub(crate) fn of_command_line() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&without_empty_values(Self::command()).try_get_matches()?)
    }
}

/// Refuses empty texts everywhere. A script passes one if a variable is not set, and an empty name would mean another thing.
fn without_empty_values(command: clap::Command) -> clap::Command {
    let refuse = |argument: Arg| match argument.get_value_parser().type_id() == TypeId::of::<String>() {
        true => argument.value_parser(NonEmptyStringValueParser::new()),
        false => argument,
    };
    command.mut_args(refuse).mut_subcommands(without_empty_values)
}

/// Options that every command accepts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Turn colors off, as NO_COLOR does
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Table settings file (overrides SPILLWAY_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// Set a setting, such as MAX_REJECTS=10; takes precedence over table settings and environment variables
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Command {
    /// What the command does, for its advice on errors.
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Extract(_) => Purpose::Extract,
            Self::Diff(_) | Self::Publish(_) | Self::Exports(_) => Purpose::ReadExports,
            Self::Plan(_)
            | Self::Load(_)
            | Self::Status(_)
            | Self::Runs(_)
            | Self::Fallback(_)
            | Self::Rejects(_)
            | Self::Sweep(_)
            | Self::Sync(_)
            | Self::Check(_)
            | Self::Config(_)
            | Self::Events(_)
            | Self::Sample(_)
            | Self::Completions(_) => Purpose::Load,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a load of a file would do, and write nothing
    Plan(plan::Arguments),
    /// Load files into a table, each exactly once
    Load(load::Arguments),
    /// Compare two full exports of a table by key
    Diff(diff::Arguments),
    /// Publish the changes of a delta to a Kinesis stream
    Publish(publish::Arguments),
    /// Import full exports, and show their versions
    #[command(subcommand)]
    Exports(exports::Command),
    /// Show what waits, or where a file is and why
    Status(status::Arguments),
    /// List, show, retry and report runs (what happened to files)
    #[command(subcommand)]
    Runs(runs::Command),
    /// List, show and replay rows that the database did not accept
    #[command(subcommand)]
    Fallback(fallback::Command),
    /// List, show and load records that were rejected
    #[command(subcommand)]
    Rejects(rejects::Command),
    /// Load files that no event delivered, and clean up after dead workers
    Sweep(sweep::Arguments),
    /// Load the files of a time window, and store a watermark for each table
    Sync(sync::Arguments),
    /// Write a table or a query of a database into a raw zone in S3
    Extract(extract::Arguments),
    /// Test everything that a load needs
    Check(check::Arguments),
    /// Check and explain the settings of tables
    #[command(subcommand)]
    Config(config::Command),
    /// Print sample events for an object in S3
    Events(events::Arguments),
    /// Print sample data (events of a shop), or put it into a Kinesis stream
    Sample(sample::Arguments),
    /// Print completions for a shell, or the manual page
    Completions(completions::Arguments),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        without_empty_values(Arguments::command()).debug_assert();
    }

    #[test]
    fn empty_texts_are_refused() {
        for arguments in
            ["load a.csv --table=", "load a.csv --set=", "runs list --table=", "extract --to=", "sync --from="]
        {
            let words = std::iter::once("spillway").chain(arguments.split(' '));
            let error = without_empty_values(Arguments::command()).try_get_matches_from(words).unwrap_err();
            assert!(error.to_string().contains("a value is required for"), "{arguments}: {error}");
        }
    }
}
