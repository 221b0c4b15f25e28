//! Publishes the changes of a delta to a Kinesis data stream, each at least once.
//!
//! The delta is read twice: first to its end, so that no change of a broken delta is sent, then to send its changes. The progress is
//! kept beside the delta. All changes of a row have the same partition key, and a delta has at most one change of a row (the
//! reader checks that keys ascend). So Kinesis may refuse some records of a request: they are sent again after later records,
//! which belong to other rows, and before the next batch. The order of the changes of one row remains.

mod batch;
mod message;
mod partition_key;
mod progress;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

pub use message::MessageFormat;

use super::{DeltaChange, DeltaFile, ExportSource, Summary};
use crate::aws::sdk_config;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::kinesis::{DataStream, PutSummary, StreamRecord};
use crate::pipeline::PipelineConfig;
use crate::progress::Progress;
use crate::store::Store;
use batch::{Batch, BatchLimit, wait_for_rate};
use message::{MessageContext, Snapshot};
use partition_key::partition_key;
use progress::{Identity, ProgressFile, Recorded};

/// Number of hex digits of the SHA-256 that a version has by default.
const VERSION_DIGITS: usize = 16;

/// How long a request may still take after a signal.
const LAST_REQUEST: Duration = Duration::from_secs(2);

/// Publishes deltas with the same settings.
#[derive(Debug)]
pub struct DeltaPublisher {
    pipeline: PipelineConfig,
    store: Store,
}

/// What to publish, and how.
#[derive(Debug)]
pub struct PublishRequest<'a> {
    /// The delta. Standard input has no place for the progress beside it.
    pub delta: ExportSource<'a>,
    /// The name or the ARN of the stream.
    pub stream: &'a str,
    /// The table in messages; `None` for the one that the settings name for the new export.
    pub table: Option<&'a str>,
    /// The tenant in messages.
    pub tenant: Option<&'a str>,
    /// The version of the new export in messages; `None` for one that is derived from its checksum.
    pub version: Option<&'a str>,
    /// The format of messages.
    pub format: MessageFormat,
    /// `PUBLISH_MAX_RECORD_BYTES`: the largest record, with its partition key.
    pub max_record_bytes: usize,
    /// Which changes to send.
    pub scope: Scope,
    /// The most changes per second.
    pub rate: Option<u32>,
    /// Counts the bytes and changes of each pass.
    pub progress: Progress,
}

/// Which changes of a delta to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those after the recorded progress.
    Rest,
    /// All, whatever the progress says.
    All,
}

/// Where a publication begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the first change: nothing was published, or [`Scope::All`] asks for it.
    Beginning,
    /// At the first change, because the recorded progress belongs to another publication.
    OtherPublication {
        /// The parts in which it differs, such as `delta`.
        differs_in: Vec<&'static str>,
    },
    /// After this change, where an earlier run ended.
    After(u64),
    /// Nowhere: all changes were published.
    Finished,
}

/// A delta that was read to its end, and can be sent.
#[derive(Debug)]
pub struct Publication {
    delta: DeltaFile,
    context: MessageContext,
    stream: DataStream,
    progress: ProgressFile,
    recorded: Recorded,
    start: Start,
    max_record_bytes: usize,
    rate: Option<u32>,
}

/// Whether to go on after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    /// The deadline was reached.
    Stopped,
}

/// The result of a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishSummary {
    /// The name or the ARN of the stream.
    pub stream: String,
    /// The delta.
    pub delta: String,
    /// The file with the progress.
    pub progress: String,
    /// The table in messages.
    pub table: String,
    /// The tenant in messages.
    pub tenant: Option<String>,
    /// The version of the new export in messages.
    pub version: String,
    /// The format of messages.
    pub format: String,
    /// Number of changes in the delta.
    pub changes: u64,
    /// Number of changes that earlier runs had published.
    pub published_before: u64,
    /// Number of changes that this run has sent.
    pub sent: u64,
    /// Requests to Kinesis.
    pub requests: u64,
    /// Records that Kinesis refused at first, and that were sent again.
    pub sent_again: u64,
}

impl PublishSummary {
    /// Number of changes that were not sent before the deadline.
    pub fn left(&self) -> u64 {
        self.changes - self.published_before - self.sent
    }
}

impl DeltaPublisher {
    /// Connects to nothing yet.
    pub async fn new(pipeline: PipelineConfig) -> Self {
        let config = Box::pin(sdk_config(&pipeline.region)).await;
        Self { pipeline, store: Store::new(&config) }
    }

    /// Reads the delta to its end, checks the size of each record, and finds out where to begin. Sends nothing.
    ///
    /// # Errors
    /// When the delta cannot be read or is broken, a record is too large, no table is named, or the progress cannot be read.
    pub async fn prepare(&self, request: PublishRequest<'_>) -> Result<Publication> {
        let progress = ProgressFile::beside(&request.delta, request.stream, &self.store);
        let delta = DeltaFile::open(&self.pipeline, &self.store, &request.delta, request.progress.clone()).await?;
        let mut reader = delta.read().await?;
        let context = self.context(&request, &delta, reader.summary()).await?;
        while let Some(change) = reader.next_change().await? {
            record(&context, &change, request.max_record_bytes).map_err(|error| error.for_object(delta.name()))?;
        }
        let changes = reader.summary().counts.changes();
        let identity = Identity {
            delta_sha256: reader.into_sha256()?,
            stream: request.stream.to_owned(),
            region: self.pipeline.region.clone(),
            table: context.table.clone(),
            tenant: context.tenant.clone(),
            export_version: context.export_version.clone(),
            message_format: context.format.name().to_owned(),
        };
        let start = match (request.scope, progress.load().await?) {
            (Scope::All, _) | (Scope::Rest, None) => Start::Beginning,
            (Scope::Rest, Some(found)) => start_after(&identity, changes, &found),
        };
        let published = match start {
            Start::Beginning | Start::OtherPublication { .. } => 0,
            Start::After(published) => published,
            Start::Finished => changes,
        };
        Ok(Publication {
            stream: DataStream::named(&self.pipeline.region, request.stream).await,
            recorded: Recorded::new(identity, changes, published),
            delta,
            context,
            progress,
            start,
            max_record_bytes: request.max_record_bytes,
            rate: request.rate,
        })
    }

    async fn context(
        &self,
        request: &PublishRequest<'_>,
        delta: &DeltaFile,
        summary: &Summary,
    ) -> Result<MessageContext> {
        let table = match request.table {
            Some(table) => table.to_owned(),
            None => self.table_of(&summary.new.file).await.map_err(|error| error.for_object(delta.name()))?,
        };
        let version = request.version.map_or_else(|| derived_version(&summary.new.sha256), str::to_owned);
        for (name, text) in [("--table", Some(&*table)), ("--tenant", request.tenant), ("--version", Some(&*version))] {
            if text == Some("") {
                return Err(Error::new(ErrorKind::Settings, format!("{name} is empty")));
            }
        }
        Ok(MessageContext {
            format: request.format,
            name: self.pipeline.stack.clone(),
            table,
            tenant: request.tenant.map(str::to_owned),
            export_version: version,
            snapshot: if summary.old.is_none() { Snapshot::First } else { Snapshot::Later },
            written_at: delta.written_at(),
            key: summary.key.clone(),
        })
    }

    /// The table that the settings name for an export.
    async fn table_of(&self, export: &str) -> Result<String> {
        self.pipeline.database.tables.refresh(&self.store).await?;
        let key =
            export.strip_prefix("s3://").and_then(|address| address.split_once('/')).map_or(export, |(_, key)| key);
        let parts = self.pipeline.key_parts(key).map_err(|error| {
            let message = format!("no setting names a table for the export {export}; name it with --table");
            Error::new(ErrorKind::Settings, message).with_source(error)
        })?;
        Ok(parts.table.to_string())
    }
}

impl Publication {
    /// Where the publication begins.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Number of stored bytes of the delta.
    pub fn size_bytes(&self) -> u64 {
        self.delta.size_bytes()
    }

    /// The file with the progress.
    pub fn progress_name(&self) -> String {
        self.progress.name()
    }

    /// Number of changes in the delta.
    pub fn changes(&self) -> u64 {
        self.recorded.changes
    }

    /// Sends the changes that are left, and records the progress after each batch. At the deadline, it stops after a batch.
    ///
    /// # Errors
    /// When Kinesis does not accept a record, or the progress cannot be written. The next run sends the rest.
    pub async fn send(mut self, deadline: &Deadline) -> Result<PublishSummary> {
        let before = self.recorded.published;
        let mut total = PutSummary::default();
        if self.start != Start::Finished {
            // If the progress cannot be written, no change is sent.
            self.progress.save(&self.recorded).await?;
            let sent = self.send_rest(&mut total, deadline).await;
            // After an error too: the progress may be newer than the file.
            let saved = self.progress.save(&self.recorded).await;
            sent.map_err(|error| self.after_part(error))?;
            saved?;
        }
        Ok(self.summary(before, total))
    }

    async fn send_rest(&mut self, total: &mut PutSummary, deadline: &Deadline) -> Result<()> {
        let (before, started) = (self.recorded.published, Instant::now());
        let mut batch = Batch::new(BatchLimit::of_rate(self.rate));
        let mut reader = self.delta.read().await?;
        while let Some(change) = reader.next_change().await? {
            if change.seq <= before {
                continue;
            }
            let record = record(&self.context, &change, self.max_record_bytes)?;
            if batch.is_full_with(&record) {
                if self.put(&mut batch, total, deadline).await? == Step::Stopped {
                    return Ok(());
                }
                let sent = self.recorded.published - before;
                if wait_for_rate(self.rate, (sent, started), deadline).await == Step::Stopped {
                    return Ok(());
                }
            }
            batch.push(record);
        }
        self.put(&mut batch, total, deadline).await?;
        match reader.into_sha256()? == self.recorded.identity.delta_sha256 {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::SourceChanged, "the delta was changed while it was published")),
        }
    }

    /// Sends a batch, and records it when Kinesis has stored all of it.
    async fn put(&mut self, batch: &mut Batch, total: &mut PutSummary, deadline: &Deadline) -> Result<Step> {
        let records = batch.take();
        let mut put = std::pin::pin!(self.stream.put(&records));
        let (result, step) = tokio::select! {
            result = &mut put => (result, Step::Next),
            _ = deadline.reached() => match tokio::time::timeout(LAST_REQUEST, put).await {
                Ok(result) => (result, Step::Stopped),
                Err(_) => return Ok(Step::Stopped),
            },
        };
        let sent = result?;
        total.requests += sent.requests;
        total.sent_again += sent.sent_again;
        let published = self.recorded.published + records.len() as u64;
        self.recorded = Recorded::new(self.recorded.identity.clone(), self.recorded.changes, published);
        self.progress.save_if_due(&self.recorded).await?;
        Ok(step)
    }

    /// Adds the number of published changes to an error.
    fn after_part(&self, error: Error) -> Error {
        let Recorded { published, changes, .. } = &self.recorded;
        let message = format!("{published} of {changes} changes are published, and the same command sends the rest");
        Error::new(error.kind(), message).with_source(error).for_object(self.delta.name())
    }

    fn summary(&self, before: u64, total: PutSummary) -> PublishSummary {
        let identity = &self.recorded.identity;
        PublishSummary {
            stream: identity.stream.clone(),
            delta: self.delta.name().to_owned(),
            progress: self.progress.name(),
            table: identity.table.clone(),
            tenant: identity.tenant.clone(),
            version: identity.export_version.clone(),
            format: identity.message_format.clone(),
            changes: self.recorded.changes,
            published_before: before,
            sent: self.recorded.published - before,
            requests: total.requests,
            sent_again: total.sent_again,
        }
    }
}

/// Where a publication begins, by the progress that was found.
fn start_after(identity: &Identity, changes: u64, found: &Recorded) -> Start {
    let differs_in = identity.differences(&found.identity);
    match found.published {
        _ if !differs_in.is_empty() => Start::OtherPublication { differs_in },
        published if published == changes => Start::Finished,
        0 => Start::Beginning,
        published => Start::After(published),
    }
}

/// The version of an export by its checksum: the same in each run, and another one for another content.
fn derived_version(sha256: &str) -> String {
    sha256.chars().take(VERSION_DIGITS).collect()
}

/// The record of a change.
///
/// # Errors
/// When it is larger than the limit.
fn record(context: &MessageContext, change: &DeltaChange, max_bytes: usize) -> Result<StreamRecord> {
    let partition_key = partition_key(&change.key)?;
    let data = context.message(change, &partition_key, Timestamp::now())?;
    let size = data.len() + partition_key.len();
    if size > max_bytes {
        let message = format!(
            "the record of change {} (key columns {}) has {size} bytes, more than PUBLISH_MAX_RECORD_BYTES ({max_bytes}); raise it if \
             the stream accepts larger records",
            change.seq,
            change.key.columns().join(", ")
        );
        return Err(Error::new(ErrorKind::Settings, message));
    }
    Ok(StreamRecord { data, partition_key })
}
