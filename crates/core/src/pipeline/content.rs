//! A source's rows, pass after pass: the bytes are decompressed, the decoder of the file's format makes batches of them.
//!
//! The first pass sees every value and decides the schema; later passes give the same rows again, by the layout that the
//! first one has found.

use futures_util::{TryStreamExt, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::fallback::{self, Manifest};
use crate::fault::FaultPoint;
use crate::format::decoder::{Decoder, Layout};
use crate::format::detect::Format;
use crate::format::parquet::ParquetReader;
use crate::format::{Batch, BatchStream, detect};
use crate::pipeline::Attempt;
use crate::pipeline::decoded::{self, BytesEnd, DecodedBytes, ObjectBytes, hints};
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
pub(crate) struct Inspected {
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

impl Inspected {
    /// Whether a row can be left out later on: it must be possible to cut it out of the file by its place.
    pub(crate) fn can_cut(&self) -> bool {
        match &self.content {
            Content::Object(_, Layout::Csv(dialect)) => dialect.encoding.is_none(),
            Content::Object(_, Layout::Json { is_plain, .. }) => *is_plain,
            Content::Parquet(_) | Content::Fallback(_) => false,
        }
    }
}

/// Reads the whole object once: its layout, its schema, its rows' number, its checksum.
pub(crate) async fn inspect(attempt: &Attempt<'_>) -> Result<Inspected> {
    let bytes = ObjectBytes::of(attempt).await?;
    let mut reader = RowReader::first(attempt, &bytes).await?;
    let mut inference = None;
    let mut rows = 0;
    while let Some(batch) = reader.next().await? {
        if inference.is_none() {
            FaultPoint::HeadersRead.reached().await;
        }
        rows += batch.rows() as u64;
        inference.get_or_insert_with(|| reader.inference()).observe(&batch);
    }
    let rejects = reader.take_rejects();
    check_limit(attempt, rows, &rejects)?;
    let mut schema = inference.unwrap_or_else(|| reader.inference()).finish_as(reader.column_names());
    attempt.key_fields.extend(&mut schema, rows);
    FaultPoint::Inferred.reached().await;
    let (layout, BytesEnd { body_sha256, decoded_bytes }) = reader.end();
    let content = match layout {
        Some(layout) => Content::Object(bytes, layout),
        None => Content::Parquet(bytes),
    };
    let rows_rejected = rejects.len() as u64;
    Ok(Inspected { schema, rows, rejects, rows_rejected, body_sha256, decoded_bytes, content })
}

/// Refuses a file with more bad records than the settings allow, and one without any good one.
fn check_limit(attempt: &Attempt<'_>, rows: u64, rejects: &[Reject]) -> Result<()> {
    let Some(first) = rejects.first() else { return Ok(()) };
    let bad = rejects.len() as u64;
    let records = rows + bad;
    if rows > 0 && bad <= attempt.road.settings.files.limits.rejects.most(records) {
        return Ok(());
    }
    let message =
        format!("{bad} of {records} records are bad, more than MAX_REJECTS allows; the first: {}", first.reason);
    Err(Error::new(ErrorKind::FileBroken, message).at(first.position))
}

/// The rows once more, from the first.
pub(crate) async fn rows<'a>(attempt: &'a Attempt<'_>, inspected: &Inspected) -> Result<BatchStream<'a>> {
    let rows: BatchStream<'a> = match &inspected.content {
        Content::Object(bytes, layout) => {
            let rows = FedRows::again(attempt, bytes, layout).await?;
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
        Content::Fallback(manifest) => return fallback::open_rows(&attempt.road.store, manifest).await,
    };
    Ok(with_key_fields(attempt, rows))
}

/// The rows with what the key adds to them; as they are when it adds nothing.
fn with_key_fields<'a>(attempt: &'a Attempt<'_>, rows: BatchStream<'a>) -> BatchStream<'a> {
    match attempt.key_fields.is_empty() {
        true => rows,
        false => Box::pin(rows.map_ok(|batch| attempt.key_fields.widen(&batch))),
    }
}

/// The first pass over the rows of an object.
enum RowReader {
    Fed(Box<FedRows>),
    /// The rows are read by ranges; what reading all of the object has shown stands beside.
    Parquet(Box<ParquetReader>, BytesEnd),
}

impl RowReader {
    /// What the file is shows in its first bytes.
    async fn first(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<Self> {
        let settings = &attempt.road.settings.files;
        let mut decoded = DecodedBytes::open(attempt, bytes).await?;
        let head = decoded.head().await?;
        match detect::format(settings.format, hints(&attempt.source), &head)? {
            Format::Fed(format) => {
                let decoder = Decoder::new(format, settings);
                Ok(Self::Fed(Box::new(FedRows { bytes: decoded, decoder, is_finished: false, rejects: Vec::new() })))
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
            Self::Fed(rows) => rows.next().await,
            Self::Parquet(reader, _) => reader.next().await,
        }
    }

    /// The bad records that were left out, once the pass has ended.
    fn take_rejects(&mut self) -> Vec<Reject> {
        match self {
            Self::Fed(rows) => std::mem::take(&mut rows.rejects),
            Self::Parquet(..) => Vec::new(),
        }
    }

    /// What chooses the columns' types.
    fn inference(&self) -> Inference {
        match self {
            // The decoder may know more columns already than its first batch has.
            Self::Fed(rows) => {
                let inference = Inference::new(Vec::new());
                if rows.decoder.has_null_tokens() { inference } else { inference.without_null_tokens() }
            }
            Self::Parquet(reader, _) => {
                let types = reader.columns().map(|(_, column_type)| column_type);
                Inference::declared(self.column_names().into_iter().zip(types))
            }
        }
    }

    /// The columns' names; none for an empty file.
    fn column_names(&self) -> Vec<String> {
        match self {
            Self::Fed(rows) => rows.decoder.column_names(),
            Self::Parquet(reader, _) => {
                let names: Vec<Vec<u8>> = reader.columns().map(|(name, _)| name.as_bytes().to_vec()).collect();
                column_names(&names)
            }
        }
    }

    /// What the whole pass has shown: how the file is laid out, unless it is Parquet, and what its bytes are.
    fn end(self) -> (Option<Layout>, BytesEnd) {
        match self {
            Self::Fed(rows) => (Some(rows.decoder.layout()), rows.bytes.end()),
            Self::Parquet(_, end) => (None, end),
        }
    }
}

/// Rows of a file that is read from its first byte to its last.
struct FedRows {
    bytes: DecodedBytes,
    decoder: Decoder,
    is_finished: bool,
    /// Bad records that were left out so far.
    rejects: Vec<Reject>,
}

impl FedRows {
    /// A later pass.
    async fn again(attempt: &Attempt<'_>, bytes: &ObjectBytes, layout: &Layout) -> Result<Self> {
        let settings = &attempt.road.settings.files;
        let bytes = DecodedBytes::open(attempt, bytes).await?;
        Ok(Self { bytes, decoder: Decoder::with_layout(layout, settings), is_finished: false, rejects: Vec::new() })
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.decoder.take_batch() {
                return Ok(Some(batch));
            }
            self.rejects.append(&mut self.decoder.take_rejects());
            if self.is_finished {
                return Ok(None);
            }
            match self.bytes.next().await? {
                Some(piece) => self.decoder.feed(&piece)?,
                None => {
                    self.decoder.finish()?;
                    self.is_finished = true;
                }
            }
        }
    }
}
