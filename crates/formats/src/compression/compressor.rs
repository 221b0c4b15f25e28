//! Compresses with gzip or Zstandard: accepts bytes in any chunks, and appends the compressed bytes.

use async_compression::codecs::flate::params::FlateEncoderParams;
use async_compression::codecs::{EncodeV2, GzipEncoder, ZstdEncoder};
use async_compression::core::Level;
use async_compression::core::util::{PartialBuffer, WriteBuffer};

use crate::{Error, ErrorKind, Result};

/// The most bytes that are compressed at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// The default level of the command `zstd`.
const ZSTD_LEVEL: i32 = 3;

/// Compresses one file.
pub struct Compressor {
    /// `None` leaves the bytes as they are.
    codec: Option<Box<dyn EncodeV2 + Send>>,
    piece: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compressor").field("is_none", &self.codec.is_none()).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Leaves the bytes as they are.
    pub fn none() -> Self {
        Self { codec: None, piece: Vec::new() }
    }

    /// Writes one gzip member.
    pub fn gzip() -> Self {
        Self::of(GzipEncoder::new(FlateEncoderParams::from(Level::Default)))
    }

    /// Writes one Zstandard frame.
    pub fn zstd() -> Self {
        Self::of(ZstdEncoder::new(ZSTD_LEVEL))
    }

    fn of(codec: impl EncodeV2 + Send + 'static) -> Self {
        Self { codec: Some(Box::new(codec)), piece: vec![0; PIECE_BYTES] }
    }

    /// Compresses the next bytes. The codec may keep some of them.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let Some(codec) = &mut self.codec else {
            out.extend_from_slice(bytes);
            return Ok(());
        };
        let mut input = PartialBuffer::new(bytes);
        while !input.unwritten().is_empty() {
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            codec.encode(&mut input, &mut output).map_err(failed)?;
            out.extend_from_slice(output.written());
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let Some(codec) = &mut self.codec else { return Ok(()) };
        loop {
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            let is_done = codec.finish(&mut output).map_err(failed)?;
            out.extend_from_slice(output.written());
            if is_done {
                return Ok(());
            }
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "the data cannot be compressed").with_source(error)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::compression::{DecodedLimits, Decompressor};
    use crate::detect::Compression;

    fn decompressed(compression: Compression, stored: Vec<u8>) -> Vec<u8> {
        let limits = DecodedLimits { max_bytes: u64::MAX, max_ratio: u64::MAX };
        let mut decompressor = Decompressor::new(compression, limits);
        decompressor.push(Bytes::from(stored));
        let mut decoded = Vec::new();
        while let Some(piece) = decompressor.next_piece().unwrap() {
            decoded.extend_from_slice(&piece);
        }
        decompressor.finish().unwrap();
        decoded
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn decompressed_bytes_are_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            repeat in 1_usize..300,
        ) {
            let codecs = [(Compression::Gzip, Compressor::gzip()), (Compression::Zstd, Compressor::zstd())];
            for (compression, mut compressor) in codecs {
                let (mut stored, mut expected) = (Vec::new(), Vec::new());
                for chunk in &chunks {
                    let chunk = chunk.repeat(repeat);
                    compressor.push(&chunk, &mut stored).unwrap();
                    expected.extend(chunk);
                }
                compressor.finish(&mut stored).unwrap();
                prop_assert_eq!(decompressed(compression, stored), expected);
            }
        }
    }
}
