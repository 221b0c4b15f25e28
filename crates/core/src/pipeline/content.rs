//! A source's rows, pass after pass: the bytes are decompressed, the decoder of the file's format makes batches of them.
//!
//! A file that is read from its first byte to its last goes through a chain of tasks, each ahead of the next.
//! The first pass sees every value and decides the schema; later passes give the same rows again, by the layout that the
//! first one has found.

use std::sync::{Arc, OnceLock};

use futures_util::{TryStreamExt, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::fallback::{self, Manifest};
use crate::format::decoder::{Decoder, Layout};
use crate::format::detect::Format;
use crate::format::parquet::ParquetReader;
use crate::format::{Batch, BatchStream, detect};
use crate::pipeline::Attempt;
use crate::pipeline::decoded::{self, BodySummary, DecodedBytes, ObjectBytes, hints};
use crate::pipeline::read_ahead::ReadAhead;
use crate::reject::Reject;
use crate::schema::Schema;
use crate::schema::header::column_names;
use crate::schema::infer::Inference;

/// Where the rows are read from, after the first pass.
pub(crate) enum Content {
    /// The source object, which is laid out like this.
    Object(ObjectBytes, Layout),
    /// The source object, which is Parquet.
    Parquet(ObjectBytes),
    /// The fallback object that an earlier attempt has written.
    Fallback(Box<Manifest>),
}

/// What the first pass has found.
pub(crate) struct ScanResult {
    pub(crate) schema: Schema,
    /// Good rows: those of the later passes.
    pub(crate) rows: u64,
    /// Bad records that every pass leaves out, in the file's order.
    pub(crate) rejects: Vec<Reject>,
    /// How many these are, or were when the file was first read.
    pub(crate) rows_rejected: u64,
    /// SHA-256 of the body in hex, as it is stored.
    pub(crate) body_sha256: String,
    /// How many bytes the rows are read from, decompressed.
    pub(crate) decoded_bytes: u64,
    pub(crate) content: Content,
}

impl ScanResult {
    /// Whether a row can be left out later on: it must be possible to cut it out of the file by its place.
    pub(crate) fn can_cut(&self) -> bool {
        match &self.content {
            Content::Object(_, Layout::Csv(dialect)) => dialect.encoding.is_none(),
            Content::Object(_, Layout::Json { is_plain, .. }) => *is_plain,
            Content::Parquet(_) | Content::Fallback(_) => false,
        }
    }
}

/// Reads the whole object once: its layout, its schema, its rows' number, its checksum. A pass that has begun is read on.
pub(super) async fn scan(attempt: &Attempt<'_>, begun: Option<StreamedRows>) -> Result<ScanResult> {
    let bytes = ObjectBytes::of(attempt).await?;
    let mut reader = match begun {
        Some(rows) => RowReader::Streaming(rows),
        None => RowReader::first(attempt, &bytes).await?,
    };
    let mut inference = reader.inference();
    let mut rows = 0;
    while let Some(batch) = reader.next().await? {
        if rows == 0 {
            Failpoint::HeadersRead.reached().await;
        }
        rows += batch.rows() as u64;
        inference.observe(&batch);
    }
    let ScanSummary { column_names, layout, rejects, bytes: BodySummary { body_sha256, decoded_bytes } } =
        reader.end()?;
    check_limit(attempt, rows, &rejects)?;
    let mut schema = inference.finish_as(column_names);
    attempt.key_fields.extend(&mut schema, rows);
    Failpoint::Inferred.reached().await;
    let content = match layout {
        Some(layout) => Content::Object(bytes, layout),
        None => Content::Parquet(bytes),
    };
    let rows_rejected = rejects.len() as u64;
    Ok(ScanResult { schema, rows, rejects, rows_rejected, body_sha256, decoded_bytes, content })
}

/// Refuses a file with more bad records than the settings allow, and one without any good one.
fn check_limit(attempt: &Attempt<'_>, rows: u64, rejects: &[Reject]) -> Result<()> {
    let Some(first) = rejects.first() else { return Ok(()) };
    let bad = rejects.len() as u64;
    let records = rows + bad;
    if rows > 0 && bad <= attempt.context.settings.files.limits.rejects.most(records) {
        return Ok(());
    }
    let message =
        format!("{bad} of {records} records are bad, more than MAX_REJECTS allows; the first: {}", first.reason);
    Err(Error::new(ErrorKind::FileBroken, message).at(first.position))
}

/// The rows once more, from the first.
pub(crate) async fn rows<'a>(attempt: &'a Attempt<'_>, scanned: &ScanResult) -> Result<BatchStream<'a>> {
    let rows: BatchStream<'a> = match &scanned.content {
        Content::Object(bytes, layout) => {
            let bytes = DecodedBytes::open(attempt, bytes).await?;
            let decoder = Decoder::with_layout(layout, &attempt.context.settings.files);
            let rows = StreamedRows::start(bytes, decoder, BadRecords::Reject);
            Box::pin(stream::try_unfold(rows, |mut rows| async {
                let batch = rows.next().await?;
                Ok(batch.map(|batch| (batch, rows)))
            }))
        }
        Content::Parquet(bytes) => {
            let reader = decoded::parquet(attempt, bytes).await?;
            Box::pin(stream::try_unfold(reader, |mut reader| async {
                let batch = reader.next().await?;
                Ok(batch.map(|batch| (batch, reader)))
            }))
        }
        Content::Fallback(manifest) => return fallback::open_rows(&attempt.context.store, manifest).await,
    };
    Ok(with_key_fields(attempt, rows))
}

/// The rows with what the key adds to them; as they are when it adds nothing.
pub(super) fn with_key_fields<'a>(attempt: &'a Attempt<'_>, rows: BatchStream<'a>) -> BatchStream<'a> {
    match attempt.key_fields.is_empty() {
        true => rows,
        false => Box::pin(rows.map_ok(|batch| attempt.key_fields.widen(&batch))),
    }
}

/// What a whole pass has shown.
pub(super) struct ScanSummary {
    /// None for an empty file.
    pub(super) column_names: Vec<String>,
    /// How the file is laid out, unless it is Parquet.
    layout: Option<Layout>,
    /// The bad records that were left out.
    rejects: Vec<Reject>,
    pub(super) bytes: BodySummary,
}

/// The first pass over the rows of an object.
enum RowReader {
    Streaming(StreamedRows),
    /// The rows are read by ranges; what reading all of the object has shown stands beside.
    Parquet(Box<ParquetReader>, BodySummary),
}

impl RowReader {
    async fn first(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<Self> {
        let (decoded, format) = open_first(attempt, bytes).await?;
        match format {
            Format::Streaming(format) => {
                let decoder = Decoder::new(format, &attempt.context.settings.files);
                Ok(Self::Streaming(StreamedRows::start(decoded, decoder, BadRecords::Reject)))
            }
            Format::Parquet if decoded.is_compressed() => {
                let message = "the object is Parquet that is compressed as a whole, which no reader can read by ranges; \
                     upload it as it is: its columns are compressed within";
                Err(Error::new(ErrorKind::FileBroken, message))
            }
            Format::Parquet => {
                let reader = decoded::parquet(attempt, bytes).await?;
                Ok(Self::Parquet(Box::new(reader), decoded.drain().await?))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        match self {
            Self::Streaming(rows) => rows.next().await,
            Self::Parquet(reader, _) => reader.next().await,
        }
    }

    /// What chooses the columns' types.
    fn inference(&self) -> Inference {
        match self {
            Self::Streaming(rows) => rows.inference(),
            Self::Parquet(reader, _) => {
                let types = reader.columns().map(|(_, column_type)| column_type);
                Inference::declared(parquet_names(reader).into_iter().zip(types))
            }
        }
    }

    /// Once the pass has come to its end.
    fn end(self) -> Result<ScanSummary> {
        match self {
            Self::Streaming(mut rows) => rows.end(),
            Self::Parquet(reader, bytes) => {
                Ok(ScanSummary { column_names: parquet_names(&reader), layout: None, rejects: Vec::new(), bytes })
            }
        }
    }
}

fn parquet_names(reader: &ParquetReader) -> Vec<String> {
    let names: Vec<Vec<u8>> = reader.columns().map(|(name, _)| name.as_bytes().to_vec()).collect();
    column_names(&names)
}

/// Begins to read an object for the first time. What the file is shows in its first bytes.
pub(super) async fn open_first(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<(DecodedBytes, Format)> {
    let mut decoded = DecodedBytes::open_first(attempt, bytes).await?;
    let head = decoded.head().await?;
    let format = detect::format(attempt.context.settings.files.format, hints(&attempt.source), &head)?;
    Ok((decoded, format))
}

/// What a pass does about a bad record, within the limits on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadRecords {
    /// Leaves it out and tells at the end.
    Reject,
    /// Gives up: [`ErrorKind::Unread`].
    Abort,
}

/// The rows of a file that is read from its first byte to its last: bytes and batches are made ready in tasks of their own.
pub(super) struct StreamedRows {
    rows: ReadAhead<Batch, ScanSummary>,
    /// The first rows, while they were only looked at.
    first: Option<Batch>,
    /// The columns' names as they were known with the first batch.
    names: Arc<OnceLock<Vec<String>>>,
    has_null_tokens: bool,
}

impl StreamedRows {
    pub(super) fn start(bytes: DecodedBytes, mut decoder: Decoder, bad_records: BadRecords) -> Self {
        let names = Arc::new(OnceLock::new());
        let has_null_tokens = decoder.has_null_tokens();
        let first_names = names.clone();
        let rows = ReadAhead::start(async move |batches| {
            let mut bytes = bytes.read_ahead();
            let mut rejects = Vec::new();
            loop {
                let piece = bytes.next().await?;
                match &piece {
                    Some(piece) => decoder.push(piece)?,
                    None => decoder.finish()?,
                }
                while let Some(batch) = decoder.take_batch() {
                    first_names.get_or_init(|| decoder.column_names());
                    batches.put(batch).await;
                }
                rejects.append(&mut decoder.take_rejects());
                if bad_records == BadRecords::Abort && !rejects.is_empty() {
                    return Err(Error::new(ErrorKind::Unread, "the file has a bad record"));
                }
                if piece.is_none() {
                    break;
                }
            }
            let layout = Some(decoder.layout());
            Ok(ScanSummary { column_names: decoder.column_names(), layout, rejects, bytes: bytes.end()? })
        });
        Self { rows, first: None, names, has_null_tokens }
    }

    /// The first rows, before any were taken. They come again.
    pub(super) async fn look(&mut self) -> Result<Option<&Batch>> {
        if self.first.is_none() {
            self.first = self.rows.next().await?;
        }
        Ok(self.first.as_ref())
    }

    /// Whether the rows were only looked at, so that whoever comes next gets all of them.
    pub(super) fn is_peeked(&self) -> bool {
        self.first.is_some()
    }

    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rows.next().await,
        }
    }

    /// The names of the first columns, as many as the first batch has, once that was given.
    pub(super) fn first_names(&self, width: usize) -> Vec<String> {
        self.names.get().map(|names| names.iter().take(width).cloned().collect()).unwrap_or_default()
    }

    /// What chooses the columns' types. What they are, and are called, shows as they come.
    pub(super) fn inference(&self) -> Inference {
        match self.has_null_tokens {
            true => Inference::new(Vec::new()),
            false => Inference::new(Vec::new()).without_null_tokens(),
        }
    }

    /// Once the pass has come to its end.
    pub(super) fn end(&mut self) -> Result<ScanSummary> {
        self.rows.end()
    }
}
