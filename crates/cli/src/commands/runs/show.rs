//! `spillway runs show`: every run of one file.

use serde_json::json;
use spillway_core::destination::{Run, RunOutcome};
use spillway_core::error::Result;

use super::{note, short, style};
use crate::commands::list::{List, details, is_id};
use crate::exit::Exit;
use crate::output::Styles;
use crate::request::Target;
use crate::session::Session;
use crate::table::{bytes, duration, printable};

/// Number of runs that are shown.
const MAX_RUNS: usize = 50;

/// Shows the runs of an id or a key, newest first.
pub(super) async fn run(run: &str, target: &Target, session: &Session) -> Result<Exit> {
    let field = if is_id(run) { "id" } else { "key" };
    let request = json!({"runs": {field: run, "limit": MAX_RUNS}});
    let runs = List::<Run>::request(session, target, &request).await?;
    session.output.result(&runs.json, |styles| match runs.items.is_empty() {
        true => format!("no run has this {field}\n"),
        false => runs.items.iter().map(|run| run_details(run, styles)).collect::<Vec<_>>().join("\n"),
    });
    note(session, &runs);
    match runs.items.first() {
        Some(run) => next_step(session, run),
        None => session.output.next_step("spillway status KEY shows whether the object exists"),
    }
    Ok(if runs.items.is_empty() { Exit::Failed } else { Exit::Done })
}

fn next_step(session: &Session, run: &Run) {
    match run.outcome {
        RunOutcome::Failed => session.output.next_step(&format!("spillway runs retry {}", short(&run.source_id))),
        RunOutcome::FellBack => session.output.next_step("spillway fallback replay, when the cause is gone"),
        RunOutcome::Rejected => session.output.next_step("correct the file and upload it again"),
        RunOutcome::Loaded if run.rows_rejected > 0 => session.output.next_step("spillway rejects list"),
        RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => {}
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
        ("rows", Some(rows(run))),
        ("size", Some(bytes(run.size_bytes))),
        ("cost", run.cost_usd.map(|cost| format!("{cost:.6} USD"))),
        ("table changes", run.table_changes.as_deref().map(printable)),
        ("moved to", run.moved_to.as_deref().map(printable)),
        ("version", run.version_id.as_deref().map(printable)),
        ("worker", Some(format!("{} (version {})", printable(&run.worker), printable(&run.tool_version)))),
        ("id", Some(run.source_id.clone())),
    ];
    details(styles, &printable(&format!("s3://{}/{}", run.bucket, run.key)), fields)
}

fn rows(run: &Run) -> String {
    let mut text = format!("{} of {} stored", run.rows_stored, run.rows_parsed);
    if run.rows_rejected > 0 {
        text.push_str(&format!(", {} rejected", run.rows_rejected));
    }
    text
}
