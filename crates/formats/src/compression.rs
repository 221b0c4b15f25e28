//! Compressed bytes as what they were before: pushed in as they come, taken out in pieces of bounded size.
//!
//! Members and frames are read one behind the other, and zeros behind the last gzip member are padding. A stream that ends
//! early, does not match its checksum, grows beyond its limits or goes on as something else is broken.

use async_compression::codecs::zstd::params::DParameter;
use async_compression::codecs::{DecodeV2, GzipDecoder, ZstdDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::Bytes;

use crate::detect::Compression;
use crate::{Error, ErrorKind, Result};

/// How much is decoded at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// The largest window of a Zstandard frame, as a power of two: 32 MiB, held in memory while such a frame is read.
const ZSTD_WINDOW_LOG: u32 = 25;
/// Below so much output a high ratio means nothing.
const RATIO_FROM_BYTES: u64 = 64 << 20;

/// Limits on what comes out of a compressed file, so that a small one cannot fill a disk or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedLimits {
    /// The most bytes.
    pub max_bytes: u64,
    /// The most decoded bytes for each stored one, once there are many of them.
    pub max_ratio: u64,
}

/// Decodes one file.
pub struct Decompressor {
    codec: Codec,
    limits: DecodedLimits,
    stage: Stage,
    input: Bytes,
    /// Whether the last piece was full, so that more may come without more input.
    has_more: bool,
    piece: Vec<u8>,
    stored_bytes: u64,
    decoded_bytes: u64,
}

enum Codec {
    Gzip(Box<GzipDecoder>),
    Zstd(Box<ZstdDecoder>),
}

/// Where in the file the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In a member or frame.
    Inside,
    /// Behind a whole one.
    Between,
    /// In the zeros behind the last one.
    Padding,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Decompressor")
            .field("codec", &self.codec.name())
            .field("stage", &self.stage)
            .field("stored_bytes", &self.stored_bytes)
            .field("decoded_bytes", &self.decoded_bytes)
            .finish_non_exhaustive()
    }
}

impl Codec {
    fn name(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        }
    }

    fn decoder(&mut self) -> &mut dyn DecodeV2 {
        match self {
            Self::Gzip(decoder) => decoder.as_mut(),
            Self::Zstd(decoder) => decoder.as_mut(),
        }
    }
}

impl Decompressor {
    /// A decoder for one file.
    pub fn new(compression: Compression, limits: DecodedLimits) -> Self {
        let codec = match compression {
            Compression::Gzip => Codec::Gzip(Box::default()),
            Compression::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
                Codec::Zstd(Box::new(ZstdDecoder::new_with_params(&[window])))
            }
        };
        Self {
            codec,
            limits,
            stage: Stage::Inside,
            input: Bytes::new(),
            has_more: false,
            piece: vec![0; PIECE_BYTES],
            stored_bytes: 0,
            decoded_bytes: 0,
        }
    }

    /// Takes the next stored bytes. What came before must have been taken out.
    pub fn push(&mut self, stored: Bytes) {
        debug_assert!(self.input.is_empty(), "stored bytes come before the last ones were used");
        self.input = stored;
    }

    /// The next decoded bytes, or nothing until more stored ones have come.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.stage {
                _ if self.input.is_empty() && !self.has_more => return Ok(None),
                Stage::Inside => {
                    let written = self.decode()?;
                    if written > 0 {
                        self.decoded_bytes += written as u64;
                        self.check_limits()?;
                        return Ok(Some(Bytes::copy_from_slice(&self.piece[..written])));
                    }
                }
                Stage::Between | Stage::Padding => self.begin_next()?,
            }
        }
    }

    /// Says that the file has ended; everything must have been taken out.
    pub fn finish(&mut self) -> Result<()> {
        match self.stage {
            Stage::Inside => {
                let message = format!("the {} data ends early, after {}", self.codec.name(), self.place());
                Err(Error::new(ErrorKind::Invalid, message))
            }
            Stage::Between | Stage::Padding => Ok(()),
        }
    }

    /// Decodes until a piece is full, the input is used up or the member has ended; gives how many bytes came out.
    fn decode(&mut self) -> Result<usize> {
        let mut input = PartialBuffer::new(&self.input[..]);
        let mut output = WriteBuffer::new_initialized(&mut self.piece);
        let result = self.codec.decoder().decode(&mut input, &mut output);
        let (usage, written, is_full) = (input.written_len(), output.written_len(), output.has_no_spare_space());
        self.stored_bytes += usage as u64;
        let _used = self.input.split_to(usage);
        let has_ended = result.map_err(|error| {
            let mut message = format!("the {} data cannot be decoded after {}", self.codec.name(), self.place());
            if matches!(self.codec, Codec::Zstd(_)) && self.decoded_bytes == 0 {
                message += &format!("; its window may have {} MiB at most", (1 << ZSTD_WINDOW_LOG) >> 20);
            }
            Error::new(ErrorKind::Invalid, message).with_source(error)
        })?;
        if has_ended {
            self.stage = Stage::Between;
        }
        // What gzip holds back is never more than its trailer lets out; only zstd can fill a piece and have more.
        self.has_more = is_full && !has_ended && matches!(self.codec, Codec::Zstd(_));
        Ok(written)
    }

    /// Looks at what follows a whole member: another one, or zeros to the end.
    fn begin_next(&mut self) -> Result<()> {
        let may_pad = matches!(self.codec, Codec::Gzip(_));
        let zeros = self.input.iter().take_while(|byte| **byte == 0).count();
        if may_pad && zeros > 0 {
            self.stage = Stage::Padding;
            self.stored_bytes += zeros as u64;
            let _padding = self.input.split_to(zeros);
        }
        match (self.stage, self.input.first()) {
            (_, None) => Ok(()),
            (Stage::Padding, Some(_)) => Err(self.garbage()),
            (Stage::Inside | Stage::Between, Some(first)) => {
                let is_next = match &self.codec {
                    Codec::Gzip(_) => *first == 0x1f,
                    Codec::Zstd(_) => matches!(first, 0x28 | 0x50..=0x5f),
                };
                if !is_next {
                    return Err(self.garbage());
                }
                self.codec.decoder().reinit().map_err(|error| {
                    Error::new(ErrorKind::Internal, "a decoder cannot begin again").with_source(error)
                })?;
                self.stage = Stage::Inside;
                Ok(())
            }
        }
    }

    fn check_limits(&self) -> Result<()> {
        let DecodedLimits { max_bytes, max_ratio } = self.limits;
        let message = if self.decoded_bytes > max_bytes {
            format!("the file decodes to more than MAX_DECODED_BYTES ({max_bytes}); raise it if the file is honest")
        } else if self.decoded_bytes > RATIO_FROM_BYTES && self.decoded_bytes / max_ratio > self.stored_bytes {
            format!(
                "the file decodes to more than MAX_DECODED_RATIO ({max_ratio}) times its size, seen after {}; raise it if \
                 the file is honest",
                self.place()
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, message))
    }

    fn garbage(&self) -> Error {
        let message =
            format!("something that is no {} data follows the end of it, after {}", self.codec.name(), self.place());
        Error::new(ErrorKind::Invalid, message)
    }

    fn place(&self) -> String {
        format!("{} stored and {} decoded bytes", self.stored_bytes, self.decoded_bytes)
    }
}

#[cfg(test)]
mod tests;
