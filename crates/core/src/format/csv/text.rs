//! A file's bytes as UTF-8: the byte order mark goes, UTF-16 is converted, and no bad byte gets any further.
//!
//! What comes before a bad byte is read first, so that the error can name the record it stands in.

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE};

use super::record::RecordReader;
use crate::error::{Error, ErrorKind, Result};

/// As many bytes as it takes to tell the encodings apart.
const HEAD_BYTES: usize = 4;
const CONVERTED_BYTES: usize = 16 * 1024;

/// Turns chunks of a file into chunks of valid UTF-8 for the record reader.
#[derive(Debug)]
pub(super) struct TextReader {
    encoding: Encoding,
}

enum Encoding {
    /// Too few bytes have come to tell.
    Unknown {
        head: Vec<u8>,
    },
    /// `partial` is the beginning of a character that a chunk's end has cut.
    Utf8 {
        partial: Vec<u8>,
    },
    Utf16 {
        decoder: Box<Decoder>,
        converted: Vec<u8>,
    },
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Unknown { .. } => "Unknown",
            Self::Utf8 { .. } => "Utf8",
            Self::Utf16 { .. } => "Utf16",
        })
    }
}

impl Default for TextReader {
    fn default() -> Self {
        Self { encoding: Encoding::Unknown { head: Vec::with_capacity(HEAD_BYTES) } }
    }
}

impl TextReader {
    pub(super) fn feed(&mut self, chunk: &[u8], records: &mut RecordReader) -> Result<()> {
        let mut rest = chunk;
        if let Encoding::Unknown { head } = &mut self.encoding {
            let missing = (HEAD_BYTES - head.len()).min(rest.len());
            head.extend_from_slice(&rest[..missing]);
            rest = &rest[missing..];
            if head.len() < HEAD_BYTES {
                return Ok(());
            }
            self.begin(records)?;
        }
        self.decode(rest, false, records)
    }

    pub(super) fn finish(&mut self, records: &mut RecordReader) -> Result<()> {
        if let Encoding::Unknown { .. } = &self.encoding {
            self.begin(records)?;
        }
        self.decode(&[], true, records)
    }

    /// Tells the encoding from the first bytes and reads those that are text.
    fn begin(&mut self, records: &mut RecordReader) -> Result<()> {
        let Encoding::Unknown { head } = &mut self.encoding else {
            return Ok(());
        };
        let head = std::mem::take(head);
        let utf16 = |encoding: &'static encoding_rs::Encoding| Encoding::Utf16 {
            decoder: Box::new(encoding.new_decoder_without_bom_handling()),
            converted: vec![0; CONVERTED_BYTES],
        };
        let (encoding, mark_bytes) = match head[..] {
            [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => return Err(refused("the file is UTF-32", records)),
            [0xff, 0xfe, ..] => (utf16(UTF_16LE), 2),
            [0xfe, 0xff, ..] => (utf16(UTF_16BE), 2),
            [0xef, 0xbb, 0xbf, ..] => {
                records.skip_mark(3);
                (Encoding::Utf8 { partial: Vec::new() }, 3)
            }
            // Nothing that is text begins so in UTF-8.
            [0, 1..=0xff, ..] | [1..=0xff, 0, ..] => {
                return Err(refused("the file looks like UTF-16 without a byte order mark", records));
            }
            _ => (Encoding::Utf8 { partial: Vec::new() }, 0),
        };
        self.encoding = encoding;
        self.decode(&head[mark_bytes..], false, records)
    }

    fn decode(&mut self, chunk: &[u8], is_last: bool, records: &mut RecordReader) -> Result<()> {
        match &mut self.encoding {
            Encoding::Unknown { .. } => Ok(()),
            Encoding::Utf8 { partial } => {
                let rest = complete(partial, chunk, records)?;
                check(rest, partial, records)?;
                if is_last && !partial.is_empty() {
                    return Err(not_utf8(records));
                }
                Ok(())
            }
            Encoding::Utf16 { decoder, converted } => convert(decoder, converted, chunk, is_last, records),
        }
    }
}

/// Ends the character that the last chunk began; gives what follows it.
fn complete<'a>(partial: &mut Vec<u8>, chunk: &'a [u8], records: &mut RecordReader) -> Result<&'a [u8]> {
    let mut rest = chunk;
    while !partial.is_empty() {
        let [byte, after @ ..] = rest else {
            break;
        };
        partial.push(*byte);
        rest = after;
        match std::str::from_utf8(partial) {
            Ok(_) => {
                records.feed(partial)?;
                partial.clear();
            }
            Err(error) if error.error_len().is_some() => return Err(not_utf8(records)),
            Err(_) => {}
        }
    }
    Ok(rest)
}

/// Passes on what is valid and keeps a character that the chunk's end cuts.
fn check(chunk: &[u8], partial: &mut Vec<u8>, records: &mut RecordReader) -> Result<()> {
    let Err(error) = std::str::from_utf8(chunk) else {
        return records.feed(chunk);
    };
    let (valid, rest) = chunk.split_at(error.valid_up_to());
    records.feed(valid)?;
    if error.error_len().is_some() {
        return Err(not_utf8(records));
    }
    partial.extend_from_slice(rest);
    Ok(())
}

fn convert(
    decoder: &mut Decoder,
    converted: &mut [u8],
    chunk: &[u8],
    is_last: bool,
    records: &mut RecordReader,
) -> Result<()> {
    let mut rest = chunk;
    loop {
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(rest, converted, is_last);
        records.feed(&converted[..written])?;
        rest = &rest[read..];
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                return Err(refused("the file begins as UTF-16 but is not valid UTF-16 here", records));
            }
        }
    }
}

fn not_utf8(records: &RecordReader) -> Error {
    refused(&format!("the byte at {} is not valid UTF-8", records.offset()), records)
}

fn refused(what: &str, records: &RecordReader) -> Error {
    let message = format!("{what}; save the file as UTF-8, or as UTF-16 with a byte order mark");
    Error::new(ErrorKind::FileBroken, message).at(records.position())
}
