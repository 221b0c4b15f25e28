//! `spillway load`: loads files into a table, each exactly once.
//!
//! A failure of one file does not stop the others. The command exits with 1 if any file failed.

mod document;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;

use clap::Args;
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

use self::document::{FileDocument, LoadDocument};
use crate::database::DatabaseOptions;
use crate::exit::{self, Exit};
use crate::file_name::{FileName, is_empty_marker, is_in_s3};
use crate::file_pattern::{ObjectPattern, expand};
use crate::numbers::counted;
use crate::output::{Format, Style, Styles};
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
    /// Files, patterns such as 'data/*.csv' or 's3://bucket/in/*.csv', s3://bucket/key, s3://bucket/prefix/, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,
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
    /// The results so far.
    document: LoadDocument,
    exit: Exit,
}

/// Runs the command.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<Exit> {
    let values = [arguments.table.settings()?, arguments.database.settings()?].concat();
    let settings = session.settings(values)?;
    if settings.database == DatabaseChoice::Missing {
        return Err(no_database());
    }
    if arguments.files.iter().any(|file| is_in_s3(file)) {
        check_options_of_objects(&arguments)?;
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
        document: LoadDocument::default(),
        exit: Exit::Done,
    };
    if files.iter().any(|file| is_in_s3(file)) {
        loader.log_in().await?;
    }
    let mut remaining = files.len();
    for file in &files {
        remaining -= 1;
        let is_interrupted = match ObjectPattern::of(file)? {
            Some(pattern) => Box::pin(loader.load_matching(&file.to_string_lossy(), &pattern)).await,
            None => {
                let result = Box::pin(loader.load(file)).await;
                loader.add(&file.to_string_lossy(), result)
            }
        };
        if is_interrupted {
            break;
        }
    }
    loader.close().await;
    let Loader { mut document, exit, .. } = loader;
    document.not_tried = remaining;
    if session.output.format() == Format::Json {
        session.output.result(&document, |_| String::new());
    } else if document.count() > 1 {
        session.output.result(&document, |styles| document.summary(styles));
    }
    for step in document.next_steps() {
        session.output.next_step(step);
    }
    Ok(exit)
}

/// Fails for options that do not apply to objects in S3.
fn check_options_of_objects(arguments: &Arguments) -> Result<()> {
    if !arguments.again && arguments.rejects.is_none() && arguments.table.key.is_none() {
        return Ok(());
    }
    let message = "--again, --rejects and --as apply only to local files; to load the rows of an object once more, upload it under \
                   another key";
    Err(Error::new(ErrorKind::EventInvalid, message).with_advice())
}

/// The files, with patterns replaced by the names that match.
fn names(arguments: &Arguments) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for pattern in &arguments.files {
        // A wrong pattern stops the command before any file is loaded.
        ObjectPattern::of(pattern)?;
        names.extend(expand(pattern)?);
    }
    // A shell expands a pattern to names, so a marker among other files was hardly meant.
    if names.iter().any(|name| !is_empty_marker(name)) {
        names.retain(|name| !is_empty_marker(name));
    }
    if arguments.rejects.is_some() && names.len() > 1 {
        let message = "--rejects names one file, so load one file at a time with it";
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(names)
}

impl Loader<'_> {
    /// Logs in to the database before any object in S3 is claimed: after a mistake in a setting, all objects stay where they are.
    async fn log_in(&mut self) -> Result<()> {
        let pipeline = self.settings.pipeline.clone();
        let dispatch = DispatchSettings { service: "terminal", pipeline, tasks: None, upload_queue_url: None };
        let dispatcher = Box::pin(Dispatcher::connect(dispatch)).await.for_terminal();
        Box::pin(dispatcher.log_in(&self.deadline)).await?;
        self.dispatcher = Some(dispatcher);
        Ok(())
    }

    async fn close(&self) {
        if let Some(local) = &self.local {
            local.close().await;
        }
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.close().await;
        }
    }

    /// Prints the result of a file and adds it to the results. Returns whether the command was interrupted.
    fn add(&mut self, file: &str, result: Result<Report>) -> bool {
        self.exit = self.exit.and(result.as_ref().map_or_else(Exit::of, Exit::of_report));
        let is_interrupted = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted);
        let result = self.print(file, result);
        // A bucket may have more objects than fit into memory. Only a document for scripts lists all of them.
        self.document.add(result, self.session.output.format() == Format::Json);
        is_interrupted
    }

    /// Loads the objects that match a pattern, in the order of their keys. Returns whether the command was interrupted.
    async fn load_matching(&mut self, name: &str, pattern: &ObjectPattern) -> bool {
        let Some(mut pages) = self.dispatcher.as_ref().map(|found| found.objects(&pattern.bucket, &pattern.prefix))
        else {
            return self.add(name, Err(Error::new(ErrorKind::Internal, "the dispatcher is missing")));
        };
        let (mut found, mut own, mut others) = (0, 0, 0);
        loop {
            let page = match pages.next(|key| pattern.matches(key)).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => return self.add(name, Err(error.for_object(name))),
            };
            (own, others) = (own + page.own, others + page.others);
            for object in page.objects {
                found += 1;
                let file = object.to_string();
                let result = Box::pin(self.load_object(object)).await;
                if self.add(&file, result) {
                    return true;
                }
            }
        }
        for (count, why) in
            [(own, "that Spillway itself has written"), (others, "whose names are not those of data files")]
        {
            if count > 0 {
                self.session.output.note(&format!(
                    "{}: skipped {} {why}",
                    printable(name),
                    counted(count as u64, "object")
                ));
            }
        }
        match found {
            0 => self.add(name, Err(no_object(name))),
            _ => false,
        }
    }

    async fn load(&mut self, file: &OsStr) -> Result<Report> {
        let name = FileName::of(file)?;
        match &name {
            FileName::Local(path) => self.load_local(path, &name.key()).await,
            FileName::Object(object) => self.load_object(object.clone()).await,
        }
    }

    async fn load_local(&mut self, path: &Path, key: &str) -> Result<Report> {
        if path.as_os_str() == STANDARD_INPUT && std::io::stdin().is_terminal() {
            self.session.output.note("reading standard input; end it with Ctrl-D");
        }
        // A pipe may never be closed.
        let opened = tokio::select! {
            opened = LocalFile::open(path) => opened,
            error = self.deadline.reached() => Err(error),
        };
        let file = opened.map_err(|error| error.for_object(path.display()))?;
        if self.local.is_none() {
            self.local = Some(LocalLoader::new(self.settings.pipeline.clone()).await);
        }
        let Some(local) = &self.local else { return Err(Error::new(ErrorKind::Internal, "the loader is missing")) };
        let Arguments { table, again, rejects, .. } = self.arguments;
        let progress = Progress::default();
        let request = LocalRequest {
            file: &file,
            table: table.table.as_deref(),
            key: table.key_of(key),
            repeat: if *again { Repeat::LoadAgain } else { Repeat::Skip },
            rejects: rejects.as_deref().map(RejectFiles::named).transpose()?,
            progress: progress.clone(),
        };
        let work = local.load(request, &self.deadline);
        progress::watch(&self.session.output, (file.name(), file.size_bytes()), &progress, work).await
    }

    /// Loads an object in S3 as a function would: with its lease, its fallback and its move.
    async fn load_object(&mut self, object: ObjectRef) -> Result<Report> {
        let Some(dispatcher) = &self.dispatcher else {
            return Err(Error::new(ErrorKind::Internal, "the dispatcher is missing"));
        };
        dispatcher.check_table(&object, self.arguments.table.table.as_deref())?;
        Box::pin(dispatcher.load(&object, &self.deadline)).await
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

fn no_object(name: &str) -> Error {
    Error::new(ErrorKind::SourceMissing, format!("{name} matches no object"))
        .advised("check the name; a name that ends in / means all objects below it, and * is a pattern")
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
