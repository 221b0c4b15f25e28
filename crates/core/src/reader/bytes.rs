//! One pass over a file's bytes: reads them from memory, S3 or a local file, computes their checksum, decompresses them.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::local_file::LocalFile;
use crate::object::{ObjectVersion, hex};
use crate::progress::Progress;
use crate::reader::read_ahead::ReadAhead;
use crate::store::Store;
use crate::store::read::BodyReader;
use spillway_formats::compression::{DecodedLimits, Decompressor};
use spillway_formats::detect::{self, Compression, HEAD_BYTES, Hints};

/// Number of bytes of a buffered file that are decoded at a time. Other tasks can run in between.
const BUFFERED_CHUNK_BYTES: usize = 256 * 1024;

/// The location of a file's stored bytes.
#[derive(Debug, Clone)]
pub(super) enum StoredFile {
    /// In memory.
    Memory(Bytes),
    /// In S3, from where each pass reads them.
    S3(Store),
    /// In a file of this machine, which each pass reads.
    Local(LocalFile),
}

impl StoredFile {
    /// Reads an object of at most `buffer_max_bytes` into memory; leaves a larger one in S3.
    pub(super) async fn open(store: &Store, object: &ObjectVersion, buffer_max_bytes: u64) -> Result<Self> {
        if object.size_bytes > buffer_max_bytes {
            return Ok(Self::S3(store.clone()));
        }
        let mut body = store.open(object).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(object.size_bytes).unwrap_or(0));
        while let Some(chunk) = body.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self::Memory(bytes.into()))
    }

    /// Reads a local file of at most `buffer_max_bytes` into memory; leaves a larger one where it is.
    pub(super) async fn open_local(file: &LocalFile, buffer_max_bytes: u64) -> Result<Self> {
        if file.size_bytes() > buffer_max_bytes {
            return Ok(Self::Local(file.clone()));
        }
        let mut bytes = BytesMut::new();
        loop {
            let piece = file.piece_at(bytes.len() as u64).await?;
            if piece.is_empty() {
                return Ok(Self::Memory(bytes.freeze()));
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// The stored bytes in `range`, which lies within the file.
    pub(super) async fn read_range(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::S3(store) => store.read_range(&object.object, &object.etag, range).await,
            Self::Local(file) => file.read_exactly(range.start, range.end - range.start).await,
        }
    }
}

/// Whether a pass computes the checksum of the stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// In the first pass.
    Compute,
    /// In later passes.
    Skip,
}

/// One pass over a file's decompressed bytes.
pub(crate) struct DecodedBytes {
    stored: StoredBytes,
    compression: Option<Compression>,
    decompressor: Option<Decompressor>,
    /// Decompressed pieces that were peeked at and not returned.
    peeked: VecDeque<Bytes>,
    decoded_bytes: u64,
}

/// Checksum and size of a body, after a complete pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodySummary {
    /// SHA-256 of the stored bytes in hex; `None` if the pass did not compute it.
    sha256: Option<String>,
    /// Number of bytes after decompression.
    pub(crate) decoded_bytes: u64,
}

impl BodySummary {
    /// SHA-256 of the stored bytes in hex.
    ///
    /// # Errors
    /// When the pass computed none, because it was not the first.
    pub(crate) fn sha256(&self) -> Result<&str> {
        self.sha256.as_deref().ok_or_else(|| Error::new(ErrorKind::Internal, "the pass computed no checksum"))
    }
}

impl DecodedBytes {
    /// Starts a pass. The first stored bytes decide the compression.
    pub(super) async fn open(
        file: &StoredFile,
        object: &ObjectVersion,
        limits: DecodedLimits,
        checksum: Checksum,
        progress: Progress,
    ) -> Result<Self> {
        let chunks = match file {
            StoredFile::Memory(bytes) => Chunks::Memory(bytes.clone()),
            StoredFile::S3(store) => Chunks::S3(Box::new(store.open(object).await?)),
            StoredFile::Local(file) => Chunks::Local { file: file.clone(), next: 0 },
        };
        let hasher = (checksum == Checksum::Compute).then(Sha256::new);
        progress.begin_pass();
        let mut stored = StoredBytes { chunks, hasher, peeked: VecDeque::new(), progress };
        let mut seen = 0;
        let mut peeked = VecDeque::new();
        while seen < HEAD_BYTES
            && let Some(chunk) = stored.next().await?
        {
            seen += chunk.len();
            peeked.push_back(chunk);
        }
        let compression = detect::compression(hints(object), &head_of(&peeked))?;
        stored.peeked = peeked;
        let decompressor = compression.map(|compression| Decompressor::new(compression, limits));
        Ok(Self { stored, compression, decompressor, peeked: VecDeque::new(), decoded_bytes: 0 })
    }

    /// Peeks at the first [`HEAD_BYTES`] decompressed bytes, or all if there are fewer.
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

    /// Returns the next decompressed bytes, or `None` at the end of the file.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.peeked.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.decode().await,
        }
    }

    /// The compression of the file as a whole.
    pub(super) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Reads to the end of the file and returns only the summary.
    pub(super) async fn drain(mut self) -> Result<BodySummary> {
        while self.next().await?.is_some() {}
        Ok(self.summary())
    }

    /// Continues the pass in a separate task.
    pub(super) fn read_ahead(mut self) -> ReadAhead<Bytes, BodySummary> {
        ReadAhead::start(async |sender| {
            while let Some(piece) = self.next().await? {
                sender.send(piece).await;
            }
            Ok(self.summary())
        })
    }

    /// The summary; complete only after the last byte.
    pub(crate) fn summary(self) -> BodySummary {
        let sha256 = self.stored.hasher.map(|hasher| hex(&hasher.finalize()));
        BodySummary { sha256, decoded_bytes: self.decoded_bytes }
    }

    async fn decode(&mut self) -> Result<Option<Bytes>> {
        let piece = match &mut self.decompressor {
            None => self.stored.next().await?,
            Some(decompressor) => loop {
                if let Some(piece) = decompressor.next_piece()? {
                    // A small input can decompress to many pieces: let other tasks run.
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
struct StoredBytes {
    chunks: Chunks,
    hasher: Option<Sha256>,
    /// Chunks that were peeked at and not returned.
    peeked: VecDeque<Bytes>,
    progress: Progress,
}

enum Chunks {
    Memory(Bytes),
    S3(Box<BodyReader>),
    Local { file: LocalFile, next: u64 },
}

impl StoredBytes {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(chunk) = self.peeked.pop_front() {
            return Ok(Some(chunk));
        }
        let chunk = match &mut self.chunks {
            Chunks::Memory(bytes) if bytes.is_empty() => None,
            Chunks::Memory(bytes) => Some(bytes.split_to(bytes.len().min(BUFFERED_CHUNK_BYTES))),
            Chunks::S3(body) => body.next().await?,
            Chunks::Local { file, next } => {
                let piece = file.piece_at(*next).await?;
                *next += piece.len() as u64;
                Some(piece).filter(|piece| !piece.is_empty())
            }
        };
        self.progress.add_bytes(chunk.as_ref().map_or(0, Bytes::len));
        if let (Some(hasher), Some(chunk)) = (&mut self.hasher, &chunk) {
            hasher.update(chunk);
        }
        Ok(chunk)
    }
}

/// The properties of an object that help to detect its format.
pub(super) fn hints(object: &ObjectVersion) -> Hints<'_> {
    Hints {
        key: &object.object.key,
        content_type: object.content_type.as_deref(),
        content_encoding: object.content_encoding.as_deref(),
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
