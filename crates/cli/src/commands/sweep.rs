//! `spillway sweep`: loads files that no event delivered, and cleans up after dead workers.

use clap::Args;
use serde_json::json;
use spillway_core::error::Result;

use crate::commands::reports;
use crate::exit::Exit;
use crate::request::RequestOptions;
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only files and leftovers of at least this age in seconds; by default 900
    #[arg(long, value_name = "SECONDS")]
    older_than_seconds: Option<u64>,
    #[command(flatten)]
    options: RequestOptions,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let request = json!({"sweep": {"older_than_seconds": arguments.older_than_seconds}});
    let body = arguments.options.send(session, request).await?;
    let exit = reports::print(session, &body);
    let cleared = &body["cleared"];
    session.output.note(&format!(
        "cleared: {} leases, {} uploads, {} staging tables, {} old attempts",
        cleared["leases"],
        cleared["uploads"],
        cleared["staging_tables"].as_array().map_or(0, Vec::len),
        cleared["attempts"].as_u64().unwrap_or_default()
    ));
    Ok(exit)
}
