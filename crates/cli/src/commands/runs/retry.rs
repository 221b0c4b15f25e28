//! `spillway runs retry`: tries objects again. A local file is only loaded by `spillway load`, which this names.

use clap::Args;
use spillway_core::destination::{Run, RunOutcome};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::local_file::STANDARD_INPUT;

use super::options::RunsOptions;
use crate::commands::list::is_id;
use crate::commands::reports;
use crate::exit::Exit;
use crate::file_name::{bucket_and_key, shell_word};
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The ids of runs, or the keys of files
    #[arg(value_name = "ID|KEY", required = true)]
    runs: Vec<String>,
    #[command(flatten)]
    options: RunsOptions,
}

/// Tries the objects again, one after the other. An error does not stop the others.
pub(super) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let mut exit = Exit::Done;
    for run in &arguments.runs {
        let result = match retry(run, &arguments.options, session).await {
            Ok(body) => reports::print(session, &body),
            Err(error) => {
                session.output.error(&error);
                Exit::of(&error)
            }
        };
        exit = exit.and(result);
        if result == Exit::Interrupted {
            break;
        }
    }
    Ok(exit)
}

async fn retry(run: &str, options: &RunsOptions, session: &Session) -> Result<serde_json::Value> {
    let invalid = |message: String| Err(Error::new(ErrorKind::EventInvalid, message));
    let (bucket, key) = bucket_and_key(run);
    let is_local = bucket.is_none() && options.is_local(session, run)?;
    if !is_id(run) && !is_local {
        return options.load(session, bucket, key).await;
    }
    match options.find(session, run, 1).await?.items.first() {
        Some(found) if found.object().is_local_file() && is_loaded(found) => {
            invalid(format!("{} is loaded; there is nothing to retry", found.object()))
        }
        Some(found) if found.object().is_local_file() => {
            let (object, command) = (found.object(), load_command(found, options.repeated_options()));
            invalid(match found.key == STANDARD_INPUT {
                true => format!("{object} was standard input; send the rows again to: {command}"),
                false => format!("{object} is a local file; load it again with: {command}"),
            })
        }
        Some(found) => options.load(session, Some(&found.bucket), &found.key).await,
        None if is_id(run) => invalid(format!("no run has the id {run}")),
        None => invalid(format!(
            "no run has the path {run}; a local file is loaded with: spillway load {}",
            shell_word(run)
        )),
    }
}

/// Whether the rows of a local file are in the table, or are not needed there.
fn is_loaded(run: &Run) -> bool {
    match run.outcome {
        RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => true,
        RunOutcome::FellBack | RunOutcome::Rejected | RunOutcome::Failed => false,
    }
}

/// The command that loads a local file again. `end` follows the command.
pub(super) fn load_command(run: &Run, end: &str) -> String {
    let table = if run.table.is_empty() { String::new() } else { format!(" --table {}", shell_word(&run.table)) };
    format!("spillway load {}{table}{end}", shell_word(&run.key))
}
