//! `spillway publish`: publishes the changes of a delta to a Kinesis data stream.

use std::ffi::OsString;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;
use spillway_core::config::CommandSettings;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::exports::{
    DeltaPublisher, ExportSource, MessageFormat, Publication, PublishRequest, PublishSummary, Scope, Start,
};
use spillway_core::local_file::{LocalFile, STANDARD_INPUT};
use spillway_core::progress::Progress;

use crate::exit::{self, Exit};
use crate::file_name::FileName;
use crate::numbers::{count, counted};
use crate::progress;
use crate::session::Session;
use crate::table::printable;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  spillway publish delta.jsonl.zst --stream shop-changes --table orders\n  \
                  spillway publish s3://exports/acme/orders/delta.jsonl.zst --stream shop-changes --table orders --tenant acme")]
pub(crate) struct Arguments {
    /// The delta that spillway diff wrote: a file or s3://bucket/key
    #[arg(value_name = "DELTA")]
    file: OsString,
    /// Kinesis stream: a name or an ARN
    #[arg(long, value_name = "STREAM")]
    stream: String,
    /// Table in the messages; by default the one that the settings name for the new export
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Tenant in the messages
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Version of the new export in the messages; by default the beginning of its checksum
    #[arg(long, value_name = "LABEL")]
    version: Option<String>,
    /// Format of the messages (overrides PUBLISH_FORMAT)
    #[arg(long, value_name = "FORMAT")]
    format: Option<PublishFormat>,
    /// Publish all changes again, also those that were published
    #[arg(long)]
    again: bool,
    /// The most changes per second
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

/// The format of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PublishFormat {
    /// The envelope of Debezium
    Debezium,
    /// The JSON of AWS DMS
    Dms,
}

/// What the run has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// All changes that were left are sent.
    Published,
    /// No change was left.
    AlreadyPublished,
    /// A signal stopped the run before the last change.
    Interrupted,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct PublishDocument {
    state: State,
    #[serde(flatten)]
    summary: PublishSummary,
    seconds: f64,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let settings = session.settings(Vec::new())?;
    let deadline = exit::until_signal()?;
    let (started, progress) = (Instant::now(), Progress::default());
    let preparing = Box::pin(prepare(arguments, settings, &progress, session));
    let publication = tokio::select! {
        publication = preparing => publication?,
        error = deadline.reached() => return Err(error),
    };
    note_start(&publication, session);
    let is_finished = *publication.start() == Start::Finished;
    let size_bytes = Some(publication.size_bytes());
    let sending = Box::pin(publication.send(&deadline));
    let summary = watch(session, (&arguments.file.to_string_lossy(), size_bytes), &progress, sending).await?;
    let state = match summary.left() {
        0 if is_finished => State::AlreadyPublished,
        0 => State::Published,
        _ => State::Interrupted,
    };
    let document = PublishDocument { state, summary, seconds: started.elapsed().as_secs_f64() };
    session.output.result(&document, |_| document.text());
    Ok(match state {
        State::Published => Exit::Done,
        State::AlreadyPublished => {
            session.output.next_step("--again publishes all changes again");
            Exit::Done
        }
        State::Interrupted => {
            session.output.next_step("run the command again to publish the other changes");
            Exit::Interrupted
        }
    })
}

/// Checks the delta.
async fn prepare(
    arguments: &Arguments,
    settings: CommandSettings,
    progress: &Progress,
    session: &Session,
) -> Result<Publication> {
    let local;
    let (delta, size_bytes) = match FileName::of(&arguments.file)? {
        FileName::Object(object) => (ExportSource::Object(object), None),
        FileName::Local(path) if path.as_os_str() == STANDARD_INPUT => return Err(no_file()),
        FileName::Local(path) => {
            local = LocalFile::open(&path).await.map_err(|error| error.for_object(path.display()))?;
            (ExportSource::Local(&local), Some(local.size_bytes()))
        }
    };
    let request = PublishRequest {
        delta,
        stream: &arguments.stream,
        table: arguments.table.as_deref(),
        tenant: arguments.tenant.as_deref(),
        version: arguments.version.as_deref(),
        format: match arguments.format {
            None => settings.publish_format,
            Some(PublishFormat::Debezium) => MessageFormat::Debezium,
            Some(PublishFormat::Dms) => MessageFormat::Dms,
        },
        max_record_bytes: settings.publish_max_record_bytes,
        scope: if arguments.again { Scope::All } else { Scope::Rest },
        rate: arguments.rate,
        progress: progress.clone(),
    };
    let publisher = Box::pin(DeltaPublisher::new(settings.pipeline)).await;
    watch(session, (&arguments.file.to_string_lossy(), size_bytes), progress, Box::pin(publisher.prepare(request)))
        .await
}

/// Runs the work with a progress bar, if the size is known.
async fn watch<T>(
    session: &Session,
    (name, size_bytes): (&str, Option<u64>),
    progress: &Progress,
    work: impl Future<Output = T>,
) -> T {
    match size_bytes {
        Some(size_bytes) => progress::watch(&session.output, (name, size_bytes), progress, work).await,
        None => work.await,
    }
}

/// Says where the publication begins, if that is not the first change of a new one.
fn note_start(publication: &Publication, session: &Session) {
    let progress = publication.progress_name();
    let line = match publication.start() {
        Start::Beginning | Start::Finished => return,
        Start::OtherPublication { differs_in } => {
            format!("{progress} belongs to another {}, so all changes are sent", differs_in.join(" and "))
        }
        Start::After(published) => {
            format!("continues after change {} of {}", count(*published), count(publication.changes()))
        }
    };
    session.output.note(&printable(&line));
}

fn no_file() -> Error {
    let message = "a delta from standard input cannot be published, because the progress is stored next to the file";
    Error::new(ErrorKind::Settings, message)
}

impl PublishDocument {
    fn text(&self) -> String {
        let PublishSummary { stream, table, version, changes, sent, published_before, requests, sent_again, .. } =
            &self.summary;
        let target = printable(&format!("{stream} (table {table}, version {version})"));
        match self.state {
            State::AlreadyPublished => format!("{} already published to {target}\n", counted(*changes, "change")),
            State::Published | State::Interrupted => {
                let left = match self.summary.left() {
                    0 => String::new(),
                    left => format!(", {} left", count(left)),
                };
                let before = match published_before {
                    0 => String::new(),
                    before => format!(", {} before", count(*before)),
                };
                format!(
                    "{} published to {target}{before}{left} in {:.1} s ({}, {} sent again)\n",
                    counted(*sent, "change"),
                    self.seconds,
                    counted(*requests, "request"),
                    count(*sent_again),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_was_sent_now_and_before() {
        let summary = PublishSummary {
            stream: "shop".to_owned(),
            delta: "d.jsonl".to_owned(),
            progress: "d.jsonl.published-shop.json".to_owned(),
            table: "orders".to_owned(),
            tenant: None,
            version: "v1".to_owned(),
            format: "debezium".to_owned(),
            changes: 2_000,
            published_before: 500,
            sent: 1_500,
            requests: 4,
            sent_again: 7,
        };
        let text = |state, summary| PublishDocument { state, summary, seconds: 1.25 }.text();
        assert_eq!(
            text(State::Published, summary.clone()),
            "1,500 changes published to shop (table orders, version v1), 500 before in 1.2 s (4 requests, 7 sent again)\n"
        );
        let first = PublishSummary { published_before: 0, sent: 2_000, ..summary.clone() };
        assert!(text(State::Published, first).contains("version v1) in 1.2 s"));
        let stopped = PublishSummary { sent: 1_000, ..summary.clone() };
        assert!(text(State::Interrupted, stopped).contains("version v1), 500 before, 500 left in 1.2 s"));
        assert_eq!(
            text(State::AlreadyPublished, summary),
            "2,000 changes already published to shop (table orders, version v1)\n"
        );
    }
}
