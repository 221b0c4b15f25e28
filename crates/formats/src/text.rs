//! A file's bytes as UTF-8: the byte order mark goes, other encodings are converted, and no bad byte gets any further.
//!
//! A byte order mark wins over what the settings say, as no text of another encoding begins with one.
//!
//! What comes before a bad byte is read first, so that the error can name the record it stands in.

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE};

use crate::{Error, ErrorKind, Position, Result};

type Charset = &'static encoding_rs::Encoding;

/// As many bytes as it takes to tell the encodings apart.
const HEAD_BYTES: usize = 4;
const CONVERTED_BYTES: usize = 16 * 1024;

/// What takes the text: a format's own reader.
pub(super) trait TextSink {
    /// What to do about a file that is no text in a known encoding.
    const ENCODING_HINT: &'static str;
    /// Reads what was put off, before an error is told of what follows it.
    fn finalize(&mut self) -> Result<()>;
    /// Reads on. The text is valid UTF-8, cut between any two characters.
    fn push(&mut self, text: &[u8]) -> Result<()>;
    /// Counts the bytes of a byte order mark in front of the text.
    fn skip_mark(&mut self, mark_bytes: u64);
    /// Hears that the text is converted: places in it are none in the file.
    fn keep_every_record(&mut self);
    /// Bytes read so far.
    fn offset(&self) -> u64;
    /// Where the record that is being read, or would come next, stands.
    fn position(&self) -> Position;
}

/// Turns chunks of a file into chunks of valid UTF-8 for a format's reader.
#[derive(Debug)]
pub(super) struct TextReader {
    /// What a file without a byte order mark is, when it is not UTF-8.
    charset: Option<Charset>,
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
    Other {
        decoder: Box<Decoder>,
        is_marked: bool,
        converted: Vec<u8>,
    },
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Unknown { .. } => "Unknown",
            Self::Utf8 { .. } => "Utf8",
            Self::Other { .. } => "Other",
        })
    }
}

impl TextReader {
    pub(super) fn new(charset: Option<Charset>) -> Self {
        let charset = charset.filter(|charset| *charset != encoding_rs::UTF_8);
        Self { charset, encoding: Encoding::Unknown { head: Vec::with_capacity(HEAD_BYTES) } }
    }

    /// What the file's text is converted from, where it is.
    pub(super) fn converted_from(&self) -> Option<Charset> {
        match &self.encoding {
            Encoding::Other { decoder, .. } => Some(decoder.encoding()),
            Encoding::Unknown { .. } | Encoding::Utf8 { .. } => self.charset,
        }
    }

    pub(super) fn push<Sink: TextSink>(&mut self, chunk: &[u8], records: &mut Sink) -> Result<()> {
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

    pub(super) fn finish(&mut self, records: &mut impl TextSink) -> Result<()> {
        if let Encoding::Unknown { .. } = &self.encoding {
            self.begin(records)?;
        }
        self.decode(&[], true, records)
    }

    /// Tells the encoding from the first bytes and reads those that are text.
    fn begin(&mut self, records: &mut impl TextSink) -> Result<()> {
        let Encoding::Unknown { head } = &mut self.encoding else {
            return Ok(());
        };
        let head = std::mem::take(head);
        let other = |charset: Charset, is_marked| Encoding::Other {
            decoder: Box::new(charset.new_decoder_without_bom_handling()),
            is_marked,
            converted: vec![0; CONVERTED_BYTES],
        };
        let (encoding, mark_bytes) = match head[..] {
            [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => return Err(refused("the file is UTF-32", records)),
            [0xff, 0xfe, ..] => (other(UTF_16LE, true), 2),
            [0xfe, 0xff, ..] => (other(UTF_16BE, true), 2),
            [0xef, 0xbb, 0xbf, ..] => {
                records.skip_mark(3);
                (Encoding::Utf8 { partial: Vec::new() }, 3)
            }
            _ if let Some(charset) = self.charset => (other(charset, false), 0),
            // Nothing that is text begins so in UTF-8.
            [0, 1..=0xff, ..] | [1..=0xff, 0, ..] => {
                return Err(refused("the file looks like UTF-16 without a byte order mark", records));
            }
            _ => (Encoding::Utf8 { partial: Vec::new() }, 0),
        };
        self.encoding = encoding;
        if let Encoding::Other { .. } = self.encoding {
            records.keep_every_record();
        }
        self.decode(&head[mark_bytes..], false, records)
    }

    fn decode(&mut self, chunk: &[u8], is_last: bool, records: &mut impl TextSink) -> Result<()> {
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
            Encoding::Other { decoder, is_marked, converted } => {
                convert(decoder, *is_marked, converted, chunk, is_last, records)
            }
        }
    }
}

/// Ends the character that the last chunk began; gives what follows it.
fn complete<'a>(partial: &mut Vec<u8>, chunk: &'a [u8], records: &mut impl TextSink) -> Result<&'a [u8]> {
    let mut rest = chunk;
    while !partial.is_empty() {
        let [byte, after @ ..] = rest else {
            break;
        };
        partial.push(*byte);
        rest = after;
        match std::str::from_utf8(partial) {
            Ok(_) => {
                records.push(partial)?;
                partial.clear();
            }
            Err(error) if error.error_len().is_some() => return Err(not_utf8(records)),
            Err(_) => {}
        }
    }
    Ok(rest)
}

/// Passes on what is valid and keeps a character that the chunk's end cuts.
fn check(chunk: &[u8], partial: &mut Vec<u8>, records: &mut impl TextSink) -> Result<()> {
    let Err(error) = std::str::from_utf8(chunk) else {
        return records.push(chunk);
    };
    let (valid, rest) = chunk.split_at(error.valid_up_to());
    records.push(valid)?;
    if error.error_len().is_some() {
        return Err(not_utf8(records));
    }
    partial.extend_from_slice(rest);
    Ok(())
}

fn convert(
    decoder: &mut Decoder,
    is_marked: bool,
    converted: &mut [u8],
    chunk: &[u8],
    is_last: bool,
    records: &mut impl TextSink,
) -> Result<()> {
    let mut rest = chunk;
    loop {
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(rest, converted, is_last);
        records.push(&converted[..written])?;
        rest = &rest[read..];
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                let name = decoder.encoding().name();
                return Err(match is_marked {
                    true => refused("the file begins as UTF-16 but is not valid UTF-16 here", records),
                    false => refused(&format!("the file is not valid {name} (CSV_ENCODING) here"), records),
                });
            }
        }
    }
}

fn not_utf8<Sink: TextSink>(records: &mut Sink) -> Error {
    if let Err(error) = records.finalize() {
        return error;
    }
    refused(&format!("the byte at {} is not valid UTF-8", records.offset()), records)
}

fn refused<Sink: TextSink>(what: &str, records: &mut Sink) -> Error {
    // What came before is read first, so that its own trouble is told first.
    if let Err(error) = records.finalize() {
        return error;
    }
    let message = format!("{what}; {}", Sink::ENCODING_HINT);
    Error::new(ErrorKind::Invalid, message).at(records.position())
}
