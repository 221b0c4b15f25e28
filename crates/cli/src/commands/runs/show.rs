//! `spillway runs show`: every run of one file.

use serde_json::json;
use spillway_core::destination::{Run, RunOutcome};
use spillway_core::error::Result;

use super::{is_id, note, runs_of, short, style};
use crate::exit::Exit;
use crate::output::{Style, Styles};
use crate::request::{Target, send};
use crate::session::Session;
use crate::table::{bytes, duration, printable};

/// Number of runs that are shown.
const MAX_RUNS: usize = 50;

/// Shows the runs of an id or a key, newest first.
pub(super) async fn run(run: &str, target: &Target, session: &Session) -> Result<Exit> {
    let field = if is_id(run) { "id" } else { "key" };
    let body = send(session, target, json!({"runs": {field: run, "limit": MAX_RUNS}})).await?;
    let runs = runs_of(&body)?;
    session.output.result(&body["list"], |styles| match runs.is_empty() {
        true => format!("no run has this {field}\n"),
        false => runs.iter().map(|run| details(run, styles)).collect::<Vec<_>>().join("\n"),
    });
    note(session, &body);
    match runs.first() {
        Some(run) => next_step(session, run),
        None => session.output.next_step("spillway status KEY shows whether the object exists"),
    }
    Ok(if runs.is_empty() { Exit::Failed } else { Exit::Done })
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

fn details(run: &Run, styles: Styles) -> String {
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let lines = [
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
        ("moved to", run.moved_to.as_deref().map(printable)),
        ("version", run.version_id.as_deref().map(printable)),
        ("worker", Some(format!("{} (version {})", printable(&run.worker), printable(&run.tool_version)))),
        ("id", Some(run.source_id.clone())),
    ];
    let mut text = format!("{}\n", styles.paint(Style::Bold, &printable(&format!("s3://{}/{}", run.bucket, run.key))));
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<14}{value}\n"));
        }
    }
    text
}

fn rows(run: &Run) -> String {
    let mut text = format!("{} of {} stored", run.rows_stored, run.rows_parsed);
    if run.rows_rejected > 0 {
        text.push_str(&format!(", {} rejected", run.rows_rejected));
    }
    text
}
