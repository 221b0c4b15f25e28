//! `spillway load`: loads files into a table, each exactly once.
//!
//! A failure of one file does not stop the others. The command exits with 1 if any file failed.

use clap::Args;
use serde::Serialize;
use spillway_core::config::{CommandSettings, DatabaseChoice};
use spillway_core::deadline::Deadline;
use spillway_core::dispatch::{DispatchSettings, Dispatcher};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::local_file::LocalFile;
use spillway_core::local_load::{LocalLoader, LocalRequest, RejectFiles, Repeat};
use spillway_core::object::ObjectRef;
use spillway_core::progress::Progress;
use spillway_core::report::{Outcome, Report};
use spillway_core::request::Request;

use crate::database::DatabaseOptions;
use crate::exit::Exit;
use crate::file_name::{FileName, expand};
use crate::numbers::{count, counted};
use crate::output::{ErrorDocument, Format, Style, Styles};
use crate::progress;
use crate::request::no_database;
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
    failed: usize,
    rows_stored: u64,
    rows_rejected: u64,
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
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let values = [arguments.table.settings(), arguments.database.settings()?].concat();
    let settings = CommandSettings::read(&session.environment.fixed(values))?;
    if settings.database == DatabaseChoice::Missing {
        return Err(no_database());
    }
    let files = names(&arguments)?;
    let deadline = Deadline::until_signal(|| {})?;
    let mut loader = Loader { arguments: &arguments, session, settings, deadline, local: None, dispatcher: None };
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
    let document = LoadDocument::of(results);
    if session.output.format() == Format::Json {
        session.output.result(&document, |_| String::new());
    } else if document.files.len() > 1 {
        session.output.result(&document, |styles| document.summary(styles));
    }
    for step in document.next_steps() {
        session.output.next_step(step);
    }
    Ok(exit)
}

fn exit_of(report: &Report) -> Exit {
    match report.outcome {
        Outcome::Loaded
        | Outcome::AlreadyLoaded
        | Outcome::Superseded
        | Outcome::Skipped
        | Outcome::HandedOver
        | Outcome::Replayed => Exit::Done,
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
        let file = LocalFile::open(path).await.map_err(|error| error.for_object(path))?;
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
        if self.arguments.again || self.arguments.rejects.is_some() {
            let message = "--again and --rejects apply only to local files; to load the rows of an object once more, upload it \
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
        let result = Box::pin(dispatcher.run(Request::Object(object.clone()), &self.deadline)).await?;
        let mut results = result.results;
        match (results.failures.pop(), results.reports.pop()) {
            (Some(error), _) => Err(error),
            (None, Some(report)) => Ok(report),
            (None, None) => Err(Error::new(ErrorKind::Internal, "the object has no outcome").for_object(object)),
        }
    }

    /// Prints the result of a file as one line.
    fn print(&self, file: &str, result: Result<Report>) -> FileDocument {
        let output = &self.session.output;
        let is_text = output.format() == Format::Text;
        match result {
            Ok(report) => {
                if is_text {
                    output.result(&report, |styles| describe(file, &report, styles) + "\n");
                }
                FileDocument { file: file.to_owned(), report: Some(report), error: None }
            }
            Err(error) => {
                output.error_text(&error);
                FileDocument { file: file.to_owned(), report: None, error: Some(ErrorDocument::of(&error)) }
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
        Outcome::Loaded => {
            format!("{file}: {outcome} {} into {table} in {time}", counted(report.rows_stored, "row"))
        }
        Outcome::AlreadyLoaded
        | Outcome::Superseded
        | Outcome::FellBack
        | Outcome::Rejected
        | Outcome::Skipped
        | Outcome::HandedOver
        | Outcome::Replayed => format!("{file}: {outcome}"),
    };
    if report.rows_updated > 0 || report.rows_unchanged > 0 {
        line += &format!(", {} updated, {} unchanged", count(report.rows_updated), count(report.rows_unchanged));
    }
    if report.rows_deleted > 0 {
        line += &format!(", {} deleted from the table", count(report.rows_deleted));
    }
    if report.rows_missing > 0 {
        line += &format!(", {} of rows that were not in the table", counted(report.rows_missing, "change"));
    }
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

/// What the user can do about local files that are older than the one that has replaced the table.
const AGAIN_OLDER: &str = "add --again to replace the table with the older file";

/// What the user can do about objects in S3 that were loaded before.
const OTHER_KEY: &str = "an object is loaded once; upload it under another key to load its rows once more";

impl LoadDocument {
    /// What the user can do about files that needed no load.
    fn next_steps(&self) -> Vec<&'static str> {
        let reports = || self.files.iter().filter_map(|file| file.report.as_ref());
        let has = |outcome: Outcome, is_local: bool| {
            reports().any(|report| (report.outcome, report.object.is_local_file()) == (outcome, is_local))
        };
        let steps = [
            (AGAIN, has(Outcome::AlreadyLoaded, true)),
            (AGAIN_OLDER, has(Outcome::Superseded, true)),
            (OTHER_KEY, has(Outcome::AlreadyLoaded, false)),
        ];
        steps.into_iter().filter(|(_, applies)| *applies).map(|(step, _)| step).collect()
    }

    fn of(files: Vec<FileDocument>) -> Self {
        let reports = || files.iter().filter_map(|file| file.report.as_ref());
        let with = |wanted: Outcome| reports().filter(|report| report.outcome == wanted).count();
        let loaded_now = || reports().filter(|report| report.outcome == Outcome::Loaded);
        Self {
            loaded: with(Outcome::Loaded),
            already_loaded: with(Outcome::AlreadyLoaded),
            failed: files.iter().filter(|file| file.error.is_some()).count(),
            rows_stored: loaded_now().map(|report| report.rows_stored).sum(),
            rows_rejected: loaded_now().map(|report| report.rows_rejected).sum(),
            files,
        }
    }

    fn summary(&self, styles: Styles) -> String {
        let mut text = format!(
            "{}: {} loaded, {} already loaded, {} failed; {} stored",
            counted(self.files.len() as u64, "file"),
            self.loaded,
            self.already_loaded,
            self.failed,
            counted(self.rows_stored, "row")
        );
        if self.rows_rejected > 0 {
            text += &format!(", {} rejected", counted(self.rows_rejected, "record"));
        }
        let style = if self.failed == 0 { Style::Good } else { Style::Bad };
        styles.paint(style, &text) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_steps_depend_on_where_the_files_are() {
        let steps = |bucket: &str, outcome| {
            let report = Some(Report::new(ObjectRef::new(bucket, "a.csv"), outcome));
            LoadDocument::of(vec![FileDocument { file: "a.csv".to_owned(), report, error: None }]).next_steps()
        };
        assert_eq!(steps("file://laptop", Outcome::AlreadyLoaded), [AGAIN]);
        assert_eq!(steps("file://laptop", Outcome::Superseded), [AGAIN_OLDER]);
        assert_eq!(steps("bucket", Outcome::AlreadyLoaded), [OTHER_KEY]);
        assert!(steps("bucket", Outcome::Superseded).is_empty() && steps("file://laptop", Outcome::Loaded).is_empty());
    }
}
