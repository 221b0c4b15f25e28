//! `spillway load`: loads files into a table, each exactly once.
//!
//! A failure of one file does not stop the others. The command exits with 1 if any file failed.

use std::collections::HashSet;
use std::io::IsTerminal;

use clap::Args;
use serde::Serialize;
use spillway_core::config::{CommandSettings, DatabaseChoice};
use spillway_core::deadline::Deadline;
use spillway_core::destination::LoadDetails;
use spillway_core::dispatch::{DispatchSettings, Dispatcher};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::local_file::{LocalFile, STANDARD_INPUT};
use spillway_core::local_load::{LocalLoader, LocalRequest, RejectFiles, Repeat};
use spillway_core::object::ObjectRef;
use spillway_core::progress::Progress;
use spillway_core::report::{Outcome, Report};
use spillway_core::request::Request;

use crate::database::DatabaseOptions;
use crate::exit::{self, Exit};
use crate::file_name::{FileName, expand};
use crate::numbers::counted;
use crate::output::{ErrorDocument, Format, Style, Styles};
use crate::progress;
use crate::request::no_database;
use crate::row_counts;
use crate::session::Session;
use crate::table::{duration, printable};
use crate::table_options::TableOptions;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(after_help = "Example: spillway load data/*.csv --to mysql://loader@db.example/shop --table orders")]
pub(crate) struct Arguments {
    /// Files, patterns such as 'data/*.csv', s3://bucket/key, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    table: TableOptions,
    /// Load the files even if the same content was loaded into the table before
    #[arg(long)]
    again: bool,
    /// File for rejected records; must not exist. By default it is next to the loaded file
    #[arg(long, value_name = "FILE")]
    rejects: Option<String>,
}

/// The result of all files.
#[derive(Debug, Serialize)]
struct LoadDocument {
    files: Vec<FileDocument>,
    loaded: usize,
    already_loaded: usize,
    superseded: usize,
    fell_back: usize,
    rejected: usize,
    skipped: usize,
    failed: usize,
    /// Files after an interruption.
    not_tried: usize,
    rows_stored: u64,
    /// The sums of loads by key.
    rows_inserted: u64,
    rows_updated: u64,
    rows_unchanged: u64,
    rows_deleted: u64,
    rows_rejected: u64,
    /// The load mode of all loads, if it is the same.
    #[serde(skip)]
    load_mode: Option<String>,
}

/// The result of one file: its report or its error.
#[derive(Debug, Serialize)]
struct FileDocument {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDocument>,
}

/// Loads the files of one command.
struct Loader<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    settings: CommandSettings,
    deadline: Deadline,
    local: Option<LocalLoader>,
    dispatcher: Option<Dispatcher>,
    /// The kinds of errors whose advice was printed.
    hinted: HashSet<ErrorKind>,
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let values = [arguments.table.settings()?, arguments.database.settings()?].concat();
    let settings = CommandSettings::read(&session.environment.fixed(values))?;
    if settings.database == DatabaseChoice::Missing {
        return Err(no_database());
    }
    let files = names(&arguments)?;
    let deadline = exit::until_signal()?;
    let mut loader = Loader {
        arguments: &arguments,
        session,
        settings,
        deadline,
        local: None,
        dispatcher: None,
        hinted: HashSet::new(),
    };
    let mut results = Vec::with_capacity(files.len());
    let mut exit = Exit::Done;
    for file in &files {
        let result = Box::pin(loader.load(file)).await;
        exit = exit.and(result.as_ref().map_or_else(Exit::of, exit_of));
        let is_interrupted = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted);
        results.push(loader.print(file, result));
        if is_interrupted {
            break;
        }
    }
    if let Some(local) = &loader.local {
        local.close().await;
    }
    let document = LoadDocument::of(results, files.len());
    if session.output.format() == Format::Json {
        session.output.result(&document, |_| String::new());
    } else if files.len() > 1 {
        session.output.result(&document, |styles| document.summary(styles));
    }
    for step in document.next_steps() {
        session.output.next_step(step);
    }
    Ok(exit)
}

fn exit_of(report: &Report) -> Exit {
    match report.outcome {
        Outcome::Loaded | Outcome::AlreadyLoaded | Outcome::Superseded | Outcome::HandedOver | Outcome::Replayed => {
            Exit::Done
        }
        // The object does not exist, or Spillway never loads it.
        Outcome::Skipped => Exit::Failed,
        // Only objects in S3 have these outcomes.
        Outcome::FellBack | Outcome::Rejected => Exit::NeedsAttention,
    }
}

/// The files, with patterns replaced by the names that match.
fn names(arguments: &Arguments) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for pattern in &arguments.files {
        names.extend(expand(pattern)?);
    }
    if arguments.rejects.is_some() && names.len() > 1 {
        let message = "--rejects names one file, so load one file at a time with it";
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(names)
}

impl Loader<'_> {
    async fn load(&mut self, file: &str) -> Result<Report> {
        match FileName::of(file)? {
            FileName::Local(path) => self.load_local(&path).await,
            FileName::Object(object) => self.load_object(object).await,
        }
    }

    async fn load_local(&mut self, path: &str) -> Result<Report> {
        if path == STANDARD_INPUT && std::io::stdin().is_terminal() {
            self.session.output.note("reading standard input; end it with Ctrl-D");
        }
        // A pipe may never be closed.
        let opened = tokio::select! {
            opened = LocalFile::open(path) => opened,
            error = self.deadline.reached() => Err(error),
        };
        let file = opened.map_err(|error| error.for_object(path))?;
        if self.local.is_none() {
            self.local = Some(LocalLoader::new(self.settings.pipeline.clone()).await);
        }
        let Some(local) = &self.local else { return Err(Error::new(ErrorKind::Internal, "the loader is missing")) };
        let Arguments { table, again, rejects, .. } = self.arguments;
        let progress = Progress::default();
        let request = LocalRequest {
            file: &file,
            table: table.table.as_deref(),
            key: table.key_of(path),
            repeat: if *again { Repeat::LoadAgain } else { Repeat::Skip },
            rejects: rejects.as_deref().map(RejectFiles::named).transpose()?,
            progress: progress.clone(),
        };
        let work = local.load(request, &self.deadline);
        progress::watch(&self.session.output, (path, file.size_bytes()), &progress, work).await
    }

    /// Loads an object in S3 as a function would: with its lease, its fallback and its move.
    async fn load_object(&mut self, object: ObjectRef) -> Result<Report> {
        if self.arguments.again || self.arguments.rejects.is_some() || self.arguments.table.key.is_some() {
            let message = "--again, --rejects and --as apply only to local files; to load the rows of an object once more, upload it \
                           under another key";
            return Err(Error::new(ErrorKind::EventInvalid, message).for_object(object));
        }
        if self.dispatcher.is_none() {
            let pipeline = self.settings.pipeline.clone();
            let dispatch = DispatchSettings { service: "terminal", pipeline, tasks: None, upload_queue_url: None };
            self.dispatcher = Some(Box::pin(Dispatcher::connect(dispatch)).await.without_metrics());
        }
        let Some(dispatcher) = &self.dispatcher else {
            return Err(Error::new(ErrorKind::Internal, "the dispatcher is missing"));
        };
        if let Some(table) = &self.arguments.table.table {
            dispatcher.check_table(&object, table).await?;
        }
        let result = Box::pin(dispatcher.run(Request::Object(object.clone()), &self.deadline)).await?;
        let mut results = result.results;
        match (results.failures.pop(), results.reports.pop()) {
            (Some(error), _) => Err(error),
            (None, Some(report)) => Ok(report),
            (None, None) => Err(Error::new(ErrorKind::Internal, "the object has no outcome").for_object(object)),
        }
    }

    /// Prints the result of a file as one line.
    fn print(&mut self, file: &str, result: Result<Report>) -> FileDocument {
        let output = &self.session.output;
        let is_text = output.format() == Format::Text;
        match result {
            Ok(report) => {
                if is_text {
                    output.result(&report, |styles| describe(file, &report, styles) + "\n");
                    report.hint.iter().for_each(|hint| output.note(&format!("hint: {}", printable(hint))));
                }
                FileDocument { file: file.to_owned(), report: Some(report), error: None }
            }
            Err(error) => {
                // The same advice after each of many files hides their errors.
                match self.hinted.insert(error.kind()) {
                    true => output.error_text(&error),
                    false => output.error_line(&error),
                }
                FileDocument { file: file.to_owned(), report: None, error: Some(output.error_document(&error)) }
            }
        }
    }
}

/// The result of a file on one line.
fn describe(file: &str, report: &Report, styles: Styles) -> String {
    let file = printable(file);
    let table = printable(report.table.as_deref().unwrap_or_default());
    let time = duration(report.elapsed_ms);
    let style = if report.outcome == Outcome::Loaded { Style::Good } else { Style::Warning };
    let outcome = styles.paint(style, &report.outcome.name().replace('_', " "));
    let mut line = match report.outcome {
        // A file without rows and without a header creates no table.
        Outcome::Loaded if report.load_mode.is_none() => format!("{file}: nothing to load"),
        Outcome::Loaded => match row_counts::rows_by_key(&LoadDetails::of(report), report.rows_stored) {
            Some(counts) => {
                let load = LoadDetails::of(report);
                let replaced =
                    row_counts::replaced(&load, report.rows_parsed, report.rows_rejected, report.rows_stored);
                format!("{file}: {outcome} into {table} in {time}: {counts}{replaced}")
            }
            None => format!("{file}: {outcome} {} into {table} in {time}", counted(report.rows_stored, "row")),
        },
        Outcome::AlreadyLoaded
        | Outcome::Superseded
        | Outcome::FellBack
        | Outcome::Rejected
        | Outcome::Skipped
        | Outcome::HandedOver
        | Outcome::Replayed => format!("{file}: {outcome}"),
    };
    if report.rows_rejected > 0 {
        line += &format!(", {} rejected", counted(report.rows_rejected, "record"));
    }
    if let Some(rejects) = &report.rejects {
        line += &format!(" ({})", printable(rejects));
    }
    if let Some(reason) = &report.reason {
        line += &format!(": {}", printable(reason));
    }
    line
}

/// What the user can do about local files that were loaded before.
const AGAIN: &str = "the same content is loaded once into a table; add --again to load it once more";

/// What the user can do about local files that were loaded with another load mode.
const AGAIN_IN_MODE: &str =
    "another load mode does not load a file again by itself; add --again to load it once more with this mode";

/// What the user can do about local files that are older than the one that has replaced the table.
const AGAIN_OLDER: &str = "add --again to replace the table with the older file";

/// What the user can do about objects in S3 that were loaded before.
const OTHER_KEY: &str = "an object is loaded once; upload it under another key to load its rows once more";

impl LoadDocument {
    /// What the user can do about files that needed no load.
    fn next_steps(&self) -> Vec<&'static str> {
        let reports = || self.files.iter().filter_map(|file| file.report.as_ref());
        let is_known = |report: &Report| report.outcome == Outcome::AlreadyLoaded && report.object.is_local_file();
        let has = |outcome: Outcome, is_local: bool| {
            reports().any(|report| (report.outcome, report.object.is_local_file()) == (outcome, is_local))
        };
        let has_other_mode = |report: &Report| report.object.is_local_file() && report.earlier_load_mode.is_some();
        let steps = [
            (AGAIN_IN_MODE, reports().any(has_other_mode)),
            (AGAIN, reports().any(|report| is_known(report) && !has_other_mode(report))),
            (AGAIN_OLDER, has(Outcome::Superseded, true)),
            (OTHER_KEY, has(Outcome::AlreadyLoaded, false)),
        ];
        steps.into_iter().filter(|(_, applies)| *applies).map(|(step, _)| step).collect()
    }

    /// The sums of the results so far, of `all` files.
    fn of(files: Vec<FileDocument>, all: usize) -> Self {
        let reports = || files.iter().filter_map(|file| file.report.as_ref());
        let with = |wanted: &[Outcome]| reports().filter(|report| wanted.contains(&report.outcome)).count();
        let loads = || reports().filter(|report| report.outcome == Outcome::Loaded);
        let sum = |number: fn(&Report) -> u64| loads().map(number).sum::<u64>();
        let details = || loads().map(|report| (LoadDetails::of(report), report.rows_stored));
        let by_key = || details().filter(|(load, _)| load.is_by_key());
        let first = details().next().and_then(|(load, _)| load.load_mode);
        Self {
            loaded: with(&[Outcome::Loaded]),
            already_loaded: with(&[Outcome::AlreadyLoaded]),
            superseded: with(&[Outcome::Superseded]),
            fell_back: with(&[Outcome::FellBack]),
            rejected: with(&[Outcome::Rejected]),
            skipped: with(&[Outcome::Skipped, Outcome::HandedOver, Outcome::Replayed]),
            failed: files.iter().filter(|file| file.error.is_some()).count(),
            not_tried: all.saturating_sub(files.len()),
            rows_stored: sum(|report| report.rows_stored),
            rows_inserted: by_key().map(|(load, rows_stored)| load.rows_inserted(rows_stored)).sum(),
            rows_updated: sum(|report| report.rows_updated),
            rows_unchanged: sum(|report| report.rows_unchanged),
            rows_deleted: sum(|report| report.rows_deleted),
            rows_rejected: sum(|report| report.rows_rejected),
            load_mode: first.filter(|mode| details().all(|(load, _)| load.load_mode.as_ref() == Some(mode))),
            files,
        }
    }

    fn summary(&self, styles: Styles) -> String {
        let outcomes = [
            ("already loaded", self.already_loaded),
            ("superseded", self.superseded),
            ("fell back", self.fell_back),
            ("rejected", self.rejected),
            ("skipped", self.skipped),
            ("failed", self.failed),
            ("not tried", self.not_tried),
        ];
        let mut text =
            format!("{}: {} loaded", counted((self.files.len() + self.not_tried) as u64, "file"), self.loaded);
        for (name, files) in outcomes.into_iter().filter(|(_, files)| *files > 0) {
            text += &format!(", {files} {name}");
        }
        text += &format!("; {}", self.rows());
        if self.rows_rejected > 0 {
            text += &format!(", {} rejected", counted(self.rows_rejected, "record"));
        }
        let has_failed = self.failed + self.fell_back + self.rejected + self.not_tried > 0;
        styles.paint(if has_failed { Style::Bad } else { Style::Good }, &text) + "\n"
    }

    /// The rows of all loads.
    fn rows(&self) -> String {
        let load = LoadDetails {
            load_mode: self.load_mode.clone(),
            rows_updated: self.rows_updated,
            rows_unchanged: self.rows_unchanged,
            rows_deleted: self.rows_deleted,
            // Each file's line has them.
            rows_missing: 0,
        };
        row_counts::rows_by_key(&load, self.rows_stored)
            .unwrap_or_else(|| format!("{} stored", counted(self.rows_stored, "row")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn next_steps_depend_on_where_the_files_are() {
        let steps = |bucket: &str, outcome| {
            let report = Some(Report::new(ObjectRef::new(bucket, "a.csv"), outcome));
            LoadDocument::of(vec![FileDocument { file: "a.csv".to_owned(), report, error: None }], 1).next_steps()
        };
        assert_eq!(steps("file://laptop", Outcome::AlreadyLoaded), [AGAIN]);
        assert_eq!(steps("file://laptop", Outcome::Superseded), [AGAIN_OLDER]);
        assert_eq!(steps("bucket", Outcome::AlreadyLoaded), [OTHER_KEY]);
        assert!(steps("bucket", Outcome::Superseded).is_empty() && steps("file://laptop", Outcome::Loaded).is_empty());
    }

    /// The document of loads with these outcomes, modes and counts: stored, updated, deleted.
    fn document(results: &[(Outcome, &str, [u64; 3])], all: usize) -> LoadDocument {
        let file = |(outcome, mode, [stored, updated, deleted]): &(Outcome, &str, [u64; 3])| {
            let mut report = Report::new(ObjectRef::new("file://laptop", "a.csv"), *outcome);
            report.load_mode = Some((*mode).to_owned());
            (report.rows_stored, report.rows_updated, report.rows_deleted) = (*stored, *updated, *deleted);
            FileDocument { file: "a.csv".to_owned(), report: Some(report), error: None }
        };
        LoadDocument::of(results.iter().map(file).collect(), all)
    }

    #[test]
    fn summary_counts_every_file_once() {
        let summary = |results, all| document(results, all).summary(Styles(Color::Off));
        let mirror = |outcome, counts| (outcome, "mirror", counts);
        let superseded = [mirror(Outcome::Loaded, [5, 2, 1]), mirror(Outcome::Superseded, [9, 9, 9])];
        assert_eq!(
            summary(&superseded, 3),
            "3 files: 1 loaded, 1 superseded, 1 not tried; 3 rows inserted, 2 updated, 0 unchanged, 1 deleted\n"
        );
        // Loads of different modes have only one number in common.
        let mixed = [mirror(Outcome::Loaded, [5, 2, 1]), (Outcome::Loaded, "append", [7, 0, 0])];
        assert_eq!(summary(&mixed, 2), "2 files: 2 loaded; 12 rows stored\n");
        let in_s3 = [(Outcome::FellBack, "append", [7, 0, 0]), (Outcome::Rejected, "append", [0, 0, 0])];
        assert_eq!(summary(&in_s3, 2), "2 files: 0 loaded, 1 fell back, 1 rejected; 0 rows stored\n");
        assert_eq!(document(&mixed, 2).rows_inserted, 3);
    }
}
