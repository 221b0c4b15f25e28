//! Reads a delta: its summary, then each change, with the memory of one line.
//!
//! The reader is strict. The first line must be a summary, each other line a change with the columns of the summary. Changes are
//! numbered from 1, their keys ascend, and their counts are those of the summary. So a file that is truncated or was changed is
//! an error at the latest at its end: a caller that must not act on a part of it reads it to the end first.

mod parse;
mod row;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes};
use jiff::Timestamp;
use spillway_formats::compression::DecodedLimits;

pub use row::{DeltaChange, DeltaRow, DeltaValue};

use super::{ChangeCounts, ExportSource, Operation, Summary, name_of, version_of};
use crate::error::{Error, ErrorKind, Position, Result};
use crate::key_columns::KeyFields;
use crate::local_load::{self, Repeat};
use crate::pipeline::PipelineConfig;
use crate::progress::Progress;
use crate::reader::{DecodedBytes, FileReader};
use crate::store::Store;
use crate::table_name::TableName;
use parse::RowColumns;

/// The longest line. A change contains the key and up to two rows, and JSON may need six bytes for one.
const MAX_LINE_BYTES: usize = 1 << 30;

/// A delta in a local file or in S3. It can be read any number of times.
#[derive(Debug)]
pub struct DeltaFile {
    reader: FileReader,
    name: String,
    written_at: Timestamp,
    size_bytes: u64,
}

/// One pass over a delta.
pub struct DeltaReader {
    lines: Lines,
    progress: Progress,
    name: String,
    summary: Summary,
    columns: RowColumns,
    counts: ChangeCounts,
    last_key: Option<DeltaRow>,
}

impl DeltaFile {
    /// Opens a delta. The file must not change until the last pass.
    ///
    /// # Errors
    /// When the file does not exist or cannot be read.
    pub async fn open(
        pipeline: &PipelineConfig,
        store: &Store,
        source: &ExportSource<'_>,
        progress: Progress,
    ) -> Result<Self> {
        let name = name_of(source);
        Self::open_now(pipeline, store, source, progress).await.map_err(|error| error.for_object(name))
    }

    async fn open_now(
        pipeline: &PipelineConfig,
        store: &Store,
        source: &ExportSource<'_>,
        progress: Progress,
    ) -> Result<Self> {
        let config = pipeline.table_defaults(&TableName::default());
        let (mut options, buffer, fields) = (config.files.clone(), pipeline.buffer_max_bytes, KeyFields::default());
        // The memory does not depend on the size, and the rows of a delta often repeat, so it may compress well.
        options.limits.decoded = DecodedLimits { max_bytes: u64::MAX, max_ratio: u64::MAX };
        let (reader, version) = match source {
            ExportSource::Local(file) => {
                let version = local_load::version(pipeline, file, &config, Repeat::Skip);
                (FileReader::open_local(file, &version, buffer, &options, (fields, progress)).await?, version)
            }
            ExportSource::Object(_) | ExportSource::Version(_) => {
                let version = version_of(store, source).await?;
                let reader = FileReader::open(store, &version, buffer, &options, &fields).await?;
                (reader.with_progress(progress), version)
            }
        };
        let (written_at, size_bytes) = (version.last_modified, version.size_bytes);
        Ok(Self { reader, name: name_of(source), written_at, size_bytes })
    }

    /// The name, as the user wrote it, or `s3://bucket/key`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the file was written.
    pub fn written_at(&self) -> Timestamp {
        self.written_at
    }

    /// Number of stored bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Starts a pass, and reads the summary.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a delta.
    pub async fn read(&self) -> Result<DeltaReader> {
        DeltaReader::start(&self.reader, &self.name).await.map_err(|error| error.for_object(&self.name))
    }
}

impl DeltaReader {
    async fn start(reader: &FileReader, name: &str) -> Result<Self> {
        let mut lines = Lines::new(reader.bytes().await?);
        let line = lines.next().await?.ok_or_else(|| broken("the file is empty"))?;
        let summary = parse::summary(&line).map_err(|reason| broken(reason).at(lines.position()))?;
        let (columns, progress) = (RowColumns::of(&summary), reader.progress().clone());
        let counts = ChangeCounts::default();
        Ok(Self { lines, progress, name: name.to_owned(), summary, columns, counts, last_key: None })
    }

    /// The first line.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns the next change; `None` after the last one, if the delta is complete.
    ///
    /// # Errors
    /// When the file cannot be read, is truncated, or was changed. The error names line and reason.
    pub async fn next_change(&mut self) -> Result<Option<DeltaChange>> {
        let change = self.next_now().await.map_err(|error| error.for_object(&self.name))?;
        self.progress.add_rows(usize::from(change.is_some()));
        Ok(change)
    }

    /// Returns SHA-256 of the stored bytes in hex. Call it after the last change.
    ///
    /// # Errors
    /// Never, unless the reader has a bug.
    pub fn into_sha256(self) -> Result<String> {
        self.lines.bytes.summary().sha256().map(str::to_owned)
    }

    async fn next_now(&mut self) -> Result<Option<DeltaChange>> {
        let Some(line) = self.lines.next().await? else { return self.check_counts().map(|()| None) };
        let change = parse::change(&line, &self.columns).and_then(|change| self.in_order(change));
        let change = change.map_err(|reason| broken(reason).at(self.lines.position()))?;
        match change.operation {
            Operation::Create => self.counts.inserted += 1,
            Operation::Update => self.counts.updated += 1,
            Operation::Delete => self.counts.deleted += 1,
        }
        self.last_key = Some(change.key.clone());
        Ok(Some(change))
    }

    fn in_order(&self, change: DeltaChange) -> Result<DeltaChange, String> {
        let expected = self.counts.changes() + 1;
        if change.seq != expected {
            return Err(format!("seq is {}, not {expected}: a line was removed, added or moved", change.seq));
        }
        match &self.last_key {
            Some(last) if parts(last).ge(parts(&change.key)) => {
                Err("the key is not greater than that of the line before".to_owned())
            }
            Some(_) | None => Ok(change),
        }
    }

    fn check_counts(&self) -> Result<()> {
        let (expected, found) = (&self.summary.counts, &self.counts);
        for (name, expected, found) in [
            ("inserted", expected.inserted, found.inserted),
            ("updated", expected.updated, found.updated),
            ("deleted", expected.deleted, found.deleted),
        ] {
            if expected != found {
                let message = format!(
                    "the summary counts {expected} {name} rows, and the file has {found}: it is truncated or was changed"
                );
                return Err(broken(message).at(self.lines.position()));
            }
        }
        Ok(())
    }
}

/// The bytes of each column of a key, whose order is the order of the changes.
fn parts(key: &DeltaRow) -> impl Iterator<Item = Option<&[u8]>> {
    key.values().iter().map(DeltaValue::bytes)
}

fn broken(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::FileBroken, message)
}

/// The lines of a file, without their line ends.
struct Lines {
    bytes: DecodedBytes,
    piece: Bytes,
    /// The beginning of a line that the piece before contained.
    begun: Vec<u8>,
    /// Number of lines that were returned.
    count: u64,
    /// The offset of the line that was returned last.
    start: u64,
    /// The offset of the next line.
    next_start: u64,
}

impl Lines {
    fn new(bytes: DecodedBytes) -> Self {
        Self { bytes, piece: Bytes::new(), begun: Vec::new(), count: 0, start: 0, next_start: 0 }
    }

    /// The position of the line that was returned last.
    fn position(&self) -> Position {
        Position { record: self.count.saturating_sub(1), line: self.count, byte: self.start }
    }

    /// The position of the line that follows it.
    fn next_position(&self) -> Position {
        Position { record: self.count, line: self.count + 1, byte: self.next_start }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.piece) {
                let end = self.piece.split_to(length);
                self.piece.advance(1);
                let line = if self.begun.is_empty() {
                    end
                } else {
                    self.begun.extend_from_slice(&end);
                    std::mem::take(&mut self.begun).into()
                };
                (self.count, self.start) = (self.count + 1, self.next_start);
                self.next_start += line.len() as u64 + 1;
                return Ok(Some(line));
            }
            self.begun.extend_from_slice(&self.piece);
            if self.begun.len() > MAX_LINE_BYTES {
                return Err(broken(format!("the line is longer than {MAX_LINE_BYTES} bytes")).at(self.next_position()));
            }
            let piece = self.bytes.next().await.map_err(|error| match error.kind() {
                // The compressed data is truncated, or does not match its checksum.
                ErrorKind::FileBroken => error.at(self.next_position()),
                _ => error,
            });
            match piece? {
                Some(piece) => self.piece = piece,
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(broken("the line has no end: the file is truncated").at(self.next_position())),
            }
        }
    }
}
