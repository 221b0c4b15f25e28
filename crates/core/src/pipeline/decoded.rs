//! An object's bytes on their way to a decoder: from memory or S3, checksummed as stored, decompressed.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::format::compression::Decompressor;
use crate::format::detect::{self, HEAD_BYTES, Hints};
use crate::format::parquet::{ParquetLimits, ParquetReader};
use crate::object::{ObjectVersion, hex};
use crate::pipeline::Attempt;
use crate::pipeline::read_ahead::ReadAhead;
use crate::store::read::Body;

/// How much of a held object is decoded at a time, so that other work gets its turn.
const BUFFERED_CHUNK_BYTES: usize = 256 * 1024;

/// Where an object's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum ObjectBytes {
    /// Here, all of them, as stored.
    Buffered(Bytes),
    /// In S3, once for each pass.
    Streamed,
}

impl ObjectBytes {
    /// Reads a small object, and leaves a large one where it is.
    pub(super) async fn of(attempt: &Attempt<'_>) -> Result<Self> {
        let size_bytes = attempt.source.size_bytes;
        if size_bytes > attempt.context.settings.files.limits.buffer_max_bytes {
            return Ok(Self::Streamed);
        }
        let mut body = attempt.context.store.open(&attempt.source).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
        while let Some(chunk) = body.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self::Buffered(bytes.into()))
    }
}

/// A Parquet object's reader, on bytes that are here or are asked for by ranges.
pub(super) async fn parquet(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<ParquetReader> {
    let limits = attempt.context.settings.files.limits;
    let limits = ParquetLimits { max_record_bytes: limits.max_record_bytes, max_columns: limits.max_columns };
    let (store, source, bytes) = (attempt.context.store.clone(), attempt.source.clone(), bytes.clone());
    let size_bytes = source.size_bytes;
    let read = move |range: Range<u64>| {
        let (store, source, bytes) = (store.clone(), source.clone(), bytes.clone());
        async move {
            match bytes {
                // The reader asks for nothing outside of the object.
                ObjectBytes::Buffered(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
                ObjectBytes::Streamed => store.read_range(&source.object, &source.etag, range).await,
            }
        }
    };
    ParquetReader::open(size_bytes, read, limits).await
}

/// One pass over an object's decoded bytes.
pub(super) struct DecodedBytes {
    stored: Stored,
    decompressor: Option<Decompressor>,
    /// Decoded bytes that were only looked at so far.
    peeked: VecDeque<Bytes>,
    decoded_bytes: u64,
}

/// What a whole pass has shown of the bytes.
pub(super) struct BodySummary {
    /// SHA-256 of the stored bytes in hex; empty for a later pass, which is not asked for it.
    pub(super) body_sha256: String,
    /// How many came out.
    pub(super) decoded_bytes: u64,
}

impl DecodedBytes {
    /// Begins the first pass, which finds out the checksum.
    pub(super) async fn open_first(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<Self> {
        Self::open_with(attempt, bytes, Some(Sha256::new())).await
    }

    /// Begins a later pass.
    pub(super) async fn open(attempt: &Attempt<'_>, bytes: &ObjectBytes) -> Result<Self> {
        Self::open_with(attempt, bytes, None).await
    }

    /// The stored bytes' beginning says what they are compressed with.
    async fn open_with(attempt: &Attempt<'_>, bytes: &ObjectBytes, hasher: Option<Sha256>) -> Result<Self> {
        let chunks = match bytes {
            ObjectBytes::Buffered(bytes) => Chunks::Buffered(bytes.clone()),
            ObjectBytes::Streamed => Chunks::Streamed(Box::new(attempt.context.store.open(&attempt.source).await?)),
        };
        let mut stored = Stored { chunks, hasher, peeked: VecDeque::new() };
        let mut seen = 0;
        let mut peeked = VecDeque::new();
        while seen < HEAD_BYTES
            && let Some(chunk) = stored.next().await?
        {
            seen += chunk.len();
            peeked.push_back(chunk);
        }
        let compression = detect::compression(hints(&attempt.source), &head_of(&peeked))?;
        stored.peeked = peeked;
        let limits = attempt.context.settings.files.limits.decoded;
        let decompressor = compression.map(|compression| Decompressor::new(compression, limits));
        Ok(Self { stored, decompressor, peeked: VecDeque::new(), decoded_bytes: 0 })
    }

    /// The first decoded bytes: [`HEAD_BYTES`], or all there are. They come again.
    pub(super) async fn head(&mut self) -> Result<Bytes> {
        let mut peeked = std::mem::take(&mut self.peeked);
        let mut seen: usize = peeked.iter().map(Bytes::len).sum();
        while seen < HEAD_BYTES
            && let Some(piece) = self.decode().await?
        {
            seen += piece.len();
            peeked.push_back(piece);
        }
        self.peeked = peeked;
        Ok(head_of(&self.peeked))
    }

    /// The next decoded bytes, or nothing once the object was read to a good end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.peeked.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.decode().await,
        }
    }

    /// Whether the object is compressed as a whole.
    pub(super) fn is_compressed(&self) -> bool {
        self.decompressor.is_some()
    }

    /// Reads on to the object's end for what that shows.
    pub(super) async fn drain(mut self) -> Result<BodySummary> {
        while self.next().await?.is_some() {}
        Ok(self.end())
    }

    /// Reads on in a task of its own.
    pub(super) fn read_ahead(mut self) -> ReadAhead<Bytes, BodySummary> {
        ReadAhead::start(async |sender| {
            while let Some(piece) = self.next().await? {
                sender.put(piece).await;
            }
            Ok(self.end())
        })
    }

    /// What the pass has shown; of use only after the last byte.
    fn end(self) -> BodySummary {
        let body_sha256 = self.stored.hasher.map(|hasher| hex(&hasher.finalize())).unwrap_or_default();
        BodySummary { body_sha256, decoded_bytes: self.decoded_bytes }
    }

    async fn decode(&mut self) -> Result<Option<Bytes>> {
        let piece = match &mut self.decompressor {
            None => self.stored.next().await?,
            Some(decompressor) => loop {
                if let Some(piece) = decompressor.next_piece()? {
                    // Much can come out of little: others get their turn.
                    tokio::task::yield_now().await;
                    break Some(piece);
                }
                match self.stored.next().await? {
                    Some(chunk) => decompressor.push(chunk),
                    None => {
                        decompressor.finish()?;
                        break None;
                    }
                }
            },
        };
        self.decoded_bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }
}

/// The stored bytes, in order.
struct Stored {
    chunks: Chunks,
    hasher: Option<Sha256>,
    /// Chunks that were only looked at so far.
    peeked: VecDeque<Bytes>,
}

enum Chunks {
    Buffered(Bytes),
    Streamed(Box<Body>),
}

impl Stored {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(chunk) = self.peeked.pop_front() {
            return Ok(Some(chunk));
        }
        let chunk = match &mut self.chunks {
            Chunks::Buffered(bytes) if bytes.is_empty() => None,
            Chunks::Buffered(bytes) => Some(bytes.split_to(bytes.len().min(BUFFERED_CHUNK_BYTES))),
            Chunks::Streamed(body) => body.next().await?,
        };
        if let (Some(hasher), Some(chunk)) = (&mut self.hasher, &chunk) {
            hasher.update(chunk);
        }
        Ok(chunk)
    }
}

/// What is known of a source besides its bytes.
pub(super) fn hints(source: &ObjectVersion) -> Hints<'_> {
    Hints {
        key: &source.object.key,
        content_type: source.content_type.as_deref(),
        content_encoding: source.content_encoding.as_deref(),
    }
}

fn head_of(chunks: &VecDeque<Bytes>) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    for chunk in chunks {
        let wanted = HEAD_BYTES - head.len();
        head.extend_from_slice(&chunk[..chunk.len().min(wanted)]);
    }
    head.freeze()
}
