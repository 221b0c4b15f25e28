//! `spillway runs`: what happened to files, from the ledger and the attempt history.

mod filter;
mod options;
mod retry;
mod show;

use clap::{Args, Subcommand};
use serde_json::json;
use spillway_core::destination::{Run, RunOutcome};
use spillway_core::error::{Error, ErrorKind, Result};

use crate::commands::list::List;
use crate::exit::Exit;
use crate::numbers::{count, counted};
use crate::output::{Style, Styles};
use crate::report;
use crate::row_counts;
use crate::session::Session;
use crate::table::{Align, Table, bytes, duration};
use filter::Filter;
use options::RunsOptions;

/// Number of runs that a request for the report page returns at most.
const PAGE: usize = 1000;

/// The number of characters of a reason that a list shows.
const REASON_CHARACTERS: usize = 160;

/// The commands about runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List runs of S3 objects and local files, newest first: loads, fallbacks, rejected files and failed attempts
    List(ListArguments),
    /// Show all runs of a file
    Show(ShowArguments),
    /// Try objects in S3 again
    Retry(retry::Arguments),
    /// Write a page with charts, for a browser
    Report(ReportArguments),
}

/// The arguments of `runs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: Filter,
    /// The largest number of runs, at most 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// Continue where the previous list ended: the value that it printed for --after
    #[arg(long, value_name = "TOKEN")]
    after: Option<String>,
    #[command(flatten)]
    options: RunsOptions,
}

/// The arguments of `runs show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The id of a run, or its first eight or more digits; the key of an object; or the path of a local file
    #[arg(value_name = "ID|KEY")]
    run: String,
    #[command(flatten)]
    options: RunsOptions,
}

/// The arguments of `runs report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// File for the page
    #[arg(long, value_name = "FILE.html")]
    out: std::path::PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// The largest number of runs
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    limit: usize,
    #[command(flatten)]
    options: RunsOptions,
}

/// Runs the command.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::List(arguments) => list(&arguments, session).await,
        Command::Show(arguments) => show::run(&arguments.run, &arguments.options, session).await,
        Command::Retry(arguments) => retry::run(&arguments, session).await,
        Command::Report(arguments) => write_report(&arguments, session).await,
    }
}

async fn list(arguments: &ListArguments, session: &Session) -> Result<Exit> {
    let mut fields = arguments.filter.fields()?;
    fields["limit"] = json!(arguments.limit);
    if let Some(after) = &arguments.after {
        fields["after"] = json!(after);
    }
    let runs = arguments.options.list(session, fields).await?;
    session.output.result(&runs.json, |styles| match runs.items.is_empty() {
        true => "no runs\n".to_owned(),
        false => table(&runs.items, styles),
    });
    note(session, &runs);
    if let Some(next) = runs.next() {
        session.output.next_step(&format!("for older runs, add --after {next}"));
    } else if let Some(run) = runs.items.iter().find(|run| run.outcome == RunOutcome::Failed) {
        let end = arguments.options.repeated_options();
        session.output.next_step(&format!("spillway runs show {}{end}", short(&run.source_id)));
    }
    Ok(Exit::Done)
}

/// Shows what the list lacks.
fn note(session: &Session, runs: &List<Run>) {
    if let Some(note) = runs.note() {
        session.output.note(&format!("note: {note}"));
    }
}

/// The first digits of an id, which suffice to find it.
fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}

/// The style of an outcome.
fn style(outcome: RunOutcome) -> Style {
    match outcome {
        RunOutcome::Loaded => Style::Good,
        RunOutcome::Duplicate | RunOutcome::Superseded => Style::Dim,
        RunOutcome::FellBack => Style::Warning,
        RunOutcome::Rejected | RunOutcome::Failed => Style::Bad,
    }
}

fn table(runs: &[Run], styles: Styles) -> String {
    let mut table = Table::new(&[
        ("started (UTC)", Align::Left),
        ("outcome", Align::Left),
        ("table", Align::Left),
        ("mode", Align::Left),
        ("rows", Align::Right),
        ("rejected", Align::Right),
        ("size", Align::Right),
        ("time", Align::Right),
        ("id", Align::Left),
        ("key", Align::Left),
    ]);
    for run in runs {
        let outcome = match run.attempts {
            1 => run.outcome.name().to_owned(),
            attempts => format!("{} {attempts}x", run.outcome.name()),
        };
        table.row(vec![
            run.started_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            outcome,
            run.table.clone(),
            run.load.load_mode.clone().unwrap_or_default(),
            count(run.rows_stored),
            count(run.rows_rejected),
            bytes(run.size_bytes),
            run.elapsed_ms.map_or_else(String::new, duration),
            short(&run.source_id).to_owned(),
            run.key.clone(),
        ]);
        table.paint(1, style(run.outcome));
        if let Some(counts) = row_counts::by_key(&run.load, run.rows_stored) {
            table.below(&counts);
        }
        if let Some(reason) = reason(run) {
            table.below(&reason);
        }
    }
    table.text(styles)
}

/// The beginning of the reason, with the kind of the error.
fn reason(run: &Run) -> Option<String> {
    let reason = run.reason.as_deref()?;
    let kind = run.error_kind.as_deref().filter(|kind| !reason.starts_with(*kind));
    let text = kind.map_or_else(|| reason.to_owned(), |kind| format!("{kind}: {reason}"));
    let end = text.char_indices().nth(REASON_CHARACTERS).map(|(end, _)| end);
    Some(end.map_or_else(|| text.clone(), |end| format!("{}…", &text[..end])))
}

async fn write_report(arguments: &ReportArguments, session: &Session) -> Result<Exit> {
    let fields = arguments.filter.fields()?;
    let (mut runs, mut after, mut lacks_history) = (Vec::new(), None::<String>, false);
    while runs.len() < arguments.limit {
        let mut page = fields.clone();
        page["limit"] = json!(PAGE.min(arguments.limit - runs.len()));
        if let Some(after) = &after {
            page["after"] = json!(after);
        }
        let list = arguments.options.list(session, page).await?;
        lacks_history |= list.note().is_some();
        after = list.next().map(str::to_owned);
        runs.extend(list.items);
        if after.is_none() {
            break;
        }
        session.output.note(&format!("{} read", counted(runs.len() as u64, "run")));
    }
    let page = report::Page {
        runs: &runs,
        filter: arguments.filter.description(),
        is_cut: after.is_some(),
        lacks_history,
        created_at: jiff::Timestamp::now(),
    };
    let html = page.html();
    std::fs::write(&arguments.out, &html).map_err(|error| {
        let message = format!("cannot write the page {}", arguments.out.display());
        Error::new(ErrorKind::Settings, message).with_source(error)
    })?;
    let written = json!({"file": arguments.out, "runs": runs.len(), "bytes": html.len()});
    session.output.result(&written, |_| {
        let verb = if runs.len() == 1 { "is" } else { "are" };
        let (runs, page) = (counted(runs.len() as u64, "run"), arguments.out.display());
        format!("{runs} {verb} in {page} ({})\n", bytes(html.len() as u64))
    });
    Ok(Exit::Done)
}
