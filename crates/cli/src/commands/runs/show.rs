//! `spillway runs show`: every run of one file.

use spillway_core::destination::{Run, RunOutcome};
use spillway_core::error::Result;
use spillway_core::object::ObjectRef;

use super::options::RunsOptions;
use super::retry::load_command;
use super::{note, short, style};
use crate::commands::list::{details, is_id};
use crate::exit::Exit;
use crate::numbers::count;
use crate::output::Styles;
use crate::row_counts;
use crate::session::Session;
use crate::table::{bytes, duration, printable};

/// Number of runs that are shown.
const MAX_RUNS: usize = 50;

/// Shows the runs of an id, a key or a path, newest first.
pub(super) async fn run(run: &str, options: &RunsOptions, session: &Session) -> Result<Exit> {
    let runs = options.find(session, run, MAX_RUNS).await?;
    session.output.result(&runs.json, |styles| match runs.items.is_empty() {
        true => format!("no run has this {}\n", if is_id(run) { "id" } else { "key or path" }),
        false => runs.items.iter().map(|run| run_details(run, styles)).collect::<Vec<_>>().join("\n"),
    });
    note(session, &runs);
    let step = match runs.items.first() {
        Some(run) if run.object().is_local_file() => local_step(run, options),
        Some(run) => object_step(run, options),
        None if options.is_local(session, run)? => None,
        None => Some("spillway status KEY shows whether the object exists".to_owned()),
    };
    if let Some(step) = step {
        session.output.next_step(&printable(&step));
    }
    Ok(if runs.items.is_empty() { Exit::Failed } else { Exit::Done })
}

fn object_step(run: &Run, options: &RunsOptions) -> Option<String> {
    match run.outcome {
        RunOutcome::Failed => {
            Some(format!("spillway runs retry {}{}", short(&run.source_id), options.repeated_options()))
        }
        RunOutcome::FellBack => Some("spillway fallback replay, when the cause is gone".to_owned()),
        RunOutcome::Rejected => Some("correct the file and upload it again".to_owned()),
        RunOutcome::Loaded if run.rows_rejected > 0 => Some("spillway rejects list".to_owned()),
        RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => None,
    }
}

fn local_step(run: &Run, options: &RunsOptions) -> Option<String> {
    match run.outcome {
        RunOutcome::Failed | RunOutcome::Rejected => {
            Some(format!("{}, when the cause is gone", load_command(run, options.repeated_options())))
        }
        RunOutcome::Loaded if run.rows_rejected > 0 => {
            Some("correct the records in the file of rejected records next to the file, and load that file".to_owned())
        }
        RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded | RunOutcome::FellBack => None,
    }
}

fn run_details(run: &Run, styles: Styles) -> String {
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let fields = [
        ("outcome", Some(styles.paint(style(run.outcome), run.outcome.name()))),
        ("reason", run.reason.as_deref().map(printable)),
        ("error kind", run.error_kind.clone()),
        ("attempts", (run.attempts > 1).then(|| run.attempts.to_string())),
        ("first started", run.first_started_at.map(time)),
        ("started", Some(time(run.started_at))),
        ("time", run.elapsed_ms.map(duration)),
        ("table", Some(printable(&run.table)).filter(|table| !table.is_empty())),
        ("load mode", run.load.load_mode.as_deref().map(printable)),
        ("rows", Some(rows(run))),
        ("by key", row_counts::by_key(&run.load, run.rows_stored)),
        ("size", Some(bytes(run.size_bytes))),
        ("cost", run.cost_usd.map(|cost| format!("{cost:.6} USD"))),
        ("table changes", run.table_changes.as_deref().map(printable)),
        ("moved to", run.moved_to.as_deref().map(printable)),
        ("version", run.version_id.as_deref().map(printable)),
        ("worker", Some(format!("{} (version {})", printable(&run.worker), printable(&run.tool_version)))),
        ("id", Some(run.source_id.clone())),
    ];
    let object = ObjectRef::new(&run.bucket, &run.key);
    details(styles, &printable(&object.to_string()), fields)
}

fn rows(run: &Run) -> String {
    let mut text = format!("{} of {} stored", count(run.rows_stored), count(run.rows_parsed));
    if run.rows_rejected > 0 {
        text.push_str(&format!(", {} rejected", count(run.rows_rejected)));
    }
    text
}
