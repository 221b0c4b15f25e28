//! A source's bytes as rows: read once into memory when they are few, streamed once for each pass when they are many.
//!
//! The first pass sees every value and decides the schema; later passes give the same rows again.

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest, Sha256};

use crate::config::FileLimits;
use crate::error::Result;
use crate::fallback::{self, Manifest};
use crate::fault::FaultPoint;
use crate::format::csv::{CsvDecoder, CsvLimits};
use crate::format::{Batch, BatchStream};
use crate::object::hex;
use crate::pipeline::Attempt;
use crate::schema::Schema;
use crate::schema::header::column_names;
use crate::schema::infer::Inference;
use crate::store::read::Body;

/// How much of a held object is decoded at a time, so that other work gets its turn.
const HELD_CHUNK_BYTES: usize = 256 * 1024;

/// Where the rows are read from.
pub(crate) enum Content {
    /// The object's bytes, all of them.
    Held(Bytes),
    /// S3, once for each pass.
    Streamed,
    /// The fallback object that an earlier attempt has written.
    Fallback(Box<Manifest>),
}

/// What the first pass has found.
pub(crate) struct Inspected {
    pub(crate) schema: Schema,
    pub(crate) rows: u64,
    /// SHA-256 of the body in hex.
    pub(crate) body_sha256: String,
    pub(crate) content: Content,
}

/// Reads the whole object once: its schema, its rows' number, its checksum.
pub(crate) async fn inspect(attempt: &Attempt<'_>) -> Result<Inspected> {
    let limits = attempt.road.settings.limits;
    let content = match attempt.source.size_bytes <= limits.hold_max_bytes {
        true => Content::Held(hold(attempt).await?),
        false => Content::Streamed,
    };
    let mut reader = RowReader::open(attempt, &content).await?;
    let mut inference = None;
    let mut rows = 0;
    while let Some(batch) = reader.next().await? {
        if inference.is_none() {
            FaultPoint::HeadersRead.reached().await;
        }
        rows += batch.rows() as u64;
        inference.get_or_insert_with(|| Inference::new(reader.column_names())).observe(&batch);
    }
    let schema = inference.unwrap_or_else(|| Inference::new(reader.column_names())).finish();
    FaultPoint::Inferred.reached().await;
    Ok(Inspected { schema, rows, body_sha256: hex(&reader.hasher.finalize()), content })
}

/// The rows once more, from the first.
pub(crate) async fn rows<'a>(attempt: &'a Attempt<'_>, inspected: &Inspected) -> Result<BatchStream<'a>> {
    if let Content::Fallback(manifest) = &inspected.content {
        return fallback::open_rows(&attempt.road.store, manifest).await;
    }
    let reader = RowReader::open(attempt, &inspected.content).await?;
    Ok(Box::pin(stream::try_unfold(reader, |mut reader| async {
        let batch = reader.next().await?;
        Ok(batch.map(|batch| (batch, reader)))
    })))
}

async fn hold(attempt: &Attempt<'_>) -> Result<Bytes> {
    let mut body = attempt.road.store.open(&attempt.source).await?;
    let mut bytes = Vec::with_capacity(usize::try_from(attempt.source.size_bytes).unwrap_or(0));
    while let Some(chunk) = body.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

enum Chunks {
    Held(Bytes),
    Streamed(Box<Body>),
}

impl Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Held(bytes) if bytes.is_empty() => Ok(None),
            Self::Held(bytes) => Ok(Some(bytes.split_to(bytes.len().min(HELD_CHUNK_BYTES)))),
            Self::Streamed(body) => body.next().await,
        }
    }
}

/// One pass over the rows of a CSV object.
struct RowReader {
    chunks: Chunks,
    decoder: CsvDecoder,
    hasher: Sha256,
    is_finished: bool,
}

impl RowReader {
    async fn open(attempt: &Attempt<'_>, content: &Content) -> Result<Self> {
        let chunks = match content {
            Content::Held(bytes) => Chunks::Held(bytes.clone()),
            Content::Streamed | Content::Fallback(_) => {
                Chunks::Streamed(Box::new(attempt.road.store.open(&attempt.source).await?))
            }
        };
        let decoder = CsvDecoder::new(csv_limits(attempt.road.settings.limits));
        Ok(Self { chunks, decoder, hasher: Sha256::new(), is_finished: false })
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.decoder.take_batch() {
                return Ok(Some(batch));
            }
            if self.is_finished {
                return Ok(None);
            }
            match self.chunks.next().await? {
                Some(chunk) => {
                    self.hasher.update(&chunk);
                    self.decoder.feed(&chunk)?;
                }
                None => {
                    self.decoder.finish()?;
                    self.is_finished = true;
                }
            }
        }
    }

    /// The columns' names; none for an empty file.
    fn column_names(&self) -> Vec<String> {
        self.decoder.header().map(column_names).unwrap_or_default()
    }
}

fn csv_limits(limits: FileLimits) -> CsvLimits {
    CsvLimits { max_record_bytes: limits.max_record_bytes, max_columns: limits.max_columns }
}
