//! Decompresses gzip, Zstandard and zip: accepts bytes in any chunks, returns pieces of bounded size.
//!
//! A file may have several gzip members or Zstandard frames. Zeros after the last gzip member are padding. A zip archive has one
//! file; see `zip`. A file is rejected if it ends early, does not match its checksum, exceeds its limits, or has other data after the compressed data.

mod compressor;
mod zip;

use async_compression::codecs::zstd::params::DParameter;
use async_compression::codecs::{DecodeV2, GzipDecoder, ZstdDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::Bytes;

use crate::detect::Compression;
use crate::{Error, ErrorKind, Result};
pub use compressor::Compressor;
use zip::ZipDecoder;

/// The most bytes that are decoded at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// The largest window of a Zstandard frame, as a power of two: 32 MiB. The window is in memory while the frame is read.
const ZSTD_WINDOW_LOG: u32 = 25;
/// The ratio is not checked below this many decoded bytes.
const RATIO_FROM_BYTES: u64 = 64 << 20;

/// Limits on the decompressed size, so that a small file cannot occupy a disk or a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedLimits {
    /// The most bytes after decompression.
    pub max_bytes: u64,
    /// The most decompressed bytes per stored byte; checked above 64 MiB.
    pub max_ratio: u64,
}

/// Decompresses one file.
pub struct Decompressor {
    codec: Codec,
    limits: DecodedLimits,
    place: Place,
    input: Bytes,
    /// Whether the last piece was full, so that the codec may have more without more input.
    has_more: bool,
    piece: Vec<u8>,
    stored_bytes: u64,
    decoded_bytes: u64,
}

enum Codec {
    Gzip(Box<GzipDecoder>),
    Zstd(Box<ZstdDecoder>),
    Zip(Box<ZipDecoder>),
}

/// The part of the file that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A member or frame.
    Inside,
    /// After a complete member or frame.
    Between,
    /// The zeros after the last member.
    Padding,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Decompressor")
            .field("codec", &self.codec.name())
            .field("place", &self.place)
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
            Self::Zip(_) => "zip",
        }
    }

    fn decoder(&mut self) -> &mut dyn DecodeV2 {
        match self {
            Self::Gzip(decoder) => decoder.as_mut(),
            Self::Zstd(decoder) => decoder.as_mut(),
            Self::Zip(decoder) => decoder.as_mut(),
        }
    }
}

impl Decompressor {
    /// A decompressor for one file.
    pub fn new(compression: Compression, limits: DecodedLimits) -> Self {
        let codec = match compression {
            Compression::Gzip => Codec::Gzip(Box::default()),
            Compression::Zip => Codec::Zip(Box::default()),
            Compression::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
                Codec::Zstd(Box::new(ZstdDecoder::new_with_params(&[window])))
            }
        };
        Self {
            codec,
            limits,
            place: Place::Inside,
            input: Bytes::new(),
            has_more: false,
            piece: vec![0; PIECE_BYTES],
            stored_bytes: 0,
            decoded_bytes: 0,
        }
    }

    /// Adds the next stored bytes. All pieces of earlier bytes must have been taken.
    pub fn push(&mut self, stored: Bytes) {
        debug_assert!(self.input.is_empty(), "stored bytes are added before all pieces were taken");
        self.input = stored;
    }

    /// The next decompressed bytes, or `None` until more stored bytes are added.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.place {
                _ if self.input.is_empty() && !self.has_more => return Ok(None),
                Place::Inside => {
                    let written = self.decode()?;
                    if written > 0 {
                        self.decoded_bytes += written as u64;
                        self.check_limits()?;
                        return Ok(Some(Bytes::copy_from_slice(&self.piece[..written])));
                    }
                }
                Place::Between | Place::Padding => self.begin_next()?,
            }
        }
    }

    /// Ends the file. All pieces must have been taken.
    pub fn finish(&mut self) -> Result<()> {
        match self.place {
            Place::Inside => {
                let message = format!("the {} data ends early, after {}", self.codec.name(), self.progress());
                Err(Error::new(ErrorKind::Invalid, message))
            }
            Place::Between | Place::Padding => Ok(()),
        }
    }

    /// Decodes until a piece is full, the input is used up, or the member ends. Returns the number of decoded bytes.
    fn decode(&mut self) -> Result<usize> {
        let mut input = PartialBuffer::new(&self.input[..]);
        let mut output = WriteBuffer::new_initialized(&mut self.piece);
        let result = self.codec.decoder().decode(&mut input, &mut output);
        let (read, written, is_full) = (input.written_len(), output.written_len(), output.has_no_spare_space());
        self.stored_bytes += read as u64;
        let _read = self.input.split_to(read);
        let has_ended = result.map_err(|error| {
            let mut message = match &self.codec {
                Codec::Gzip(_) | Codec::Zstd(_) => {
                    format!("the {} data cannot be decoded after {}", self.codec.name(), self.progress())
                }
                Codec::Zip(_) => format!("the zip archive cannot be read: {error}, after {}", self.progress()),
            };
            if matches!(self.codec, Codec::Zstd(_)) && self.decoded_bytes == 0 {
                message += &format!("; the largest supported window has {} MiB", (1 << ZSTD_WINDOW_LOG) >> 20);
            }
            let is_in_message = matches!(self.codec, Codec::Zip(_));
            let failure = Error::new(ErrorKind::Invalid, message);
            if is_in_message { failure } else { failure.with_source(error) }
        })?;
        if has_ended {
            self.place = Place::Between;
        }
        // Only zstd can have more output without more input. gzip still needs its trailer then, and zip its directory.
        self.has_more = is_full && !has_ended && matches!(self.codec, Codec::Zstd(_));
        Ok(written)
    }

    /// Starts what follows a complete member or frame: another one, or padding.
    fn begin_next(&mut self) -> Result<()> {
        let may_pad = matches!(self.codec, Codec::Gzip(_));
        let zeros = self.input.iter().take_while(|byte| **byte == 0).count();
        if may_pad && zeros > 0 {
            self.place = Place::Padding;
            self.stored_bytes += zeros as u64;
            let _padding = self.input.split_to(zeros);
        }
        match (self.place, self.input.first()) {
            (_, None) => Ok(()),
            (Place::Padding, Some(_)) => Err(self.other_data()),
            (Place::Inside | Place::Between, Some(first)) => {
                let is_next = match &self.codec {
                    Codec::Gzip(_) => *first == 0x1f,
                    Codec::Zstd(_) => matches!(first, 0x28 | 0x50..=0x5f),
                    Codec::Zip(_) => false,
                };
                if !is_next {
                    return Err(self.other_data());
                }
                self.codec.decoder().reinit().map_err(|error| {
                    Error::new(ErrorKind::Internal, "the decoder cannot be reset").with_source(error)
                })?;
                self.place = Place::Inside;
                Ok(())
            }
        }
    }

    fn check_limits(&self) -> Result<()> {
        let DecodedLimits { max_bytes, max_ratio } = self.limits;
        let message = if self.decoded_bytes > max_bytes {
            format!(
                "the file decompresses to more than MAX_DECODED_BYTES ({max_bytes}); raise it if the file is expected to be this large"
            )
        } else if self.decoded_bytes > RATIO_FROM_BYTES && self.decoded_bytes / max_ratio > self.stored_bytes {
            format!(
                "the file decompresses to more than MAX_DECODED_RATIO ({max_ratio}) times its size, after {}; raise it if \
                 the file is expected to compress this well",
                self.progress()
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, message))
    }

    fn other_data(&self) -> Error {
        let message =
            format!("other data follows the end of the {} data, after {}", self.codec.name(), self.progress());
        Error::new(ErrorKind::Invalid, message)
    }

    fn progress(&self) -> String {
        format!("{} stored and {} decoded bytes", self.stored_bytes, self.decoded_bytes)
    }
}

#[cfg(test)]
mod tests;
