//! The command line: options that every command accepts, and the commands.

use clap::{Args, Parser, Subcommand};
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
