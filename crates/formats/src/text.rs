//! A file's bytes as UTF-8: drops the byte order mark, converts other encodings, and stops at the first invalid byte.
//!
//! A byte order mark overrides the configured encoding, because no text in another encoding starts with one. Without both,
//! a file is UTF-16 if every other of its first bytes is zero: no text in UTF-8 starts like that. The whole file must then
//! be valid UTF-16.

use std::ops::Range;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use memchr::memchr_iter;

use crate::{Error, ErrorKind, Position};

type Charset = &'static Encoding;

/// The number of bytes that tell the encodings apart.
const HEAD_BYTES: usize = 4;
/// The number of bytes that tell UTF-16 without a byte order mark.
const UTF16_HEAD_BYTES: usize = 64;
const CONVERTED_BYTES: usize = 16 * 1024;

/// The encoding of a file without a byte order mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextEncoding {
    /// UTF-8, or UTF-16 if the first bytes show it.
    #[default]
    Utf8,
    /// This encoding, whatever the bytes are.
    Named(&'static Encoding),
    /// To be detected from all bytes, see [`crate::encoding`]. Until then the file is read as UTF-8.
    Auto,
    /// This encoding, which was detected from all bytes.
    Detected(&'static Encoding),
}

impl TextEncoding {
    /// `auto`, or the encoding of a label such as `windows-1252`. Letter case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Some(Self::Auto);
        }
        Encoding::for_label_no_replacement(text.as_bytes()).map(Self::of)
    }

    /// A known encoding.
    pub fn of(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 { Self::Utf8 } else { Self::Named(encoding) }
    }

    /// The name of the encoding, as in the Encoding Standard. UTF-8 if it is not known yet.
    pub fn name(self) -> &'static str {
        self.charset().map_or("UTF-8", Encoding::name)
    }

    /// The encoding that the file is converted from, if it is known and not UTF-8.
    fn charset(self) -> Option<Charset> {
        match self {
            Self::Utf8 | Self::Auto => None,
            Self::Named(charset) | Self::Detected(charset) => Some(charset),
        }
    }
}

/// Turns the chunks of a file into chunks of valid UTF-8.
///
/// The caller passes each chunk to [`TextReader::next`] again and again until that returns `None`.
#[derive(Debug)]
pub(crate) struct TextReader {
    /// The encoding of a file without a byte order mark.
    encoding: TextEncoding,
    state: State,
}

/// What [`TextReader::next`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextPiece<'a> {
    /// Returned once, before the first text.
    Start {
        /// The length of the byte order mark of UTF-8; 0 if the text is converted.
        mark_bytes: u64,
        /// Whether the text is converted, so that its offsets are not offsets in the file.
        is_converted: bool,
    },
    /// Valid UTF-8. A chunk never ends within a character.
    Text(&'a [u8]),
}

/// Why the bytes are not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvalidText {
    /// The file starts with the byte order mark of UTF-32.
    Utf32,
    /// The file looks like UTF-16, but has no byte order mark, and its first characters are not all Latin.
    Utf16WithoutMark,
    /// The next byte is not valid UTF-8.
    NotUtf8,
    /// The file starts as UTF-16, but the next bytes are not UTF-16.
    NotUtf16,
    /// The next bytes are not valid in the configured encoding.
    NotConfigured(Charset),
    /// The next bytes are not text in the encoding that was detected.
    NotDetected(Charset),
}

enum State {
    /// Too few bytes to tell the encoding.
    Unknown {
        head: Vec<u8>,
    },
    Utf8(Partial),
    Converted(Box<Converter>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Unknown { .. } => "Unknown",
            Self::Utf8(_) => "Utf8",
            Self::Converted(_) => "Converted",
        })
    }
}

impl InvalidText {
    /// The error for invalid text at `offset`, in the record at `position`. `hint` tells the user what to do.
    pub(crate) fn into_error(self, offset: u64, position: Position, hint: &str) -> Error {
        let what = match self {
            Self::Utf32 => "the file is UTF-32".to_owned(),
            Self::Utf16WithoutMark => "the file looks like UTF-16 without a byte order mark".to_owned(),
            Self::NotUtf8 => format!("the byte at {offset} is not valid UTF-8"),
            Self::NotUtf16 => "the file begins as UTF-16 but is not valid UTF-16 here".to_owned(),
            Self::NotDetected(charset) => {
                format!(
                    "the bytes of the file look like {}, but they are not valid in that encoding here",
                    charset.name()
                )
            }
            Self::NotConfigured(charset) => format!("the file is not valid {} (CSV_ENCODING) here", charset.name()),
        };
        Error::new(ErrorKind::Invalid, format!("{what}; {hint}")).at(position)
    }
}

impl TextReader {
    /// A reader for a file that is in `encoding` unless it has a byte order mark.
    pub(crate) fn new(encoding: TextEncoding) -> Self {
        Self { encoding, state: State::Unknown { head: Vec::with_capacity(HEAD_BYTES) } }
    }

    /// The encoding of the file as far as it is known.
    pub(crate) fn encoding(&self) -> TextEncoding {
        match &self.state {
            State::Converted(converter) if self.encoding.charset() != Some(converter.decoder.encoding()) => {
                TextEncoding::Named(converter.decoder.encoding())
            }
            State::Unknown { .. } | State::Utf8(_) | State::Converted(_) => self.encoding,
        }
    }

    /// Whether the text is converted from another encoding than UTF-8.
    pub(crate) fn is_converted(&self) -> bool {
        self.encoding().charset().is_some()
    }

    /// Takes bytes off the front of `input` and returns the next piece; `None` when all input is used.
    ///
    /// `is_last` says that no byte follows the input.
    pub(crate) fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        is_last: bool,
    ) -> Result<Option<TextPiece<'a>>, InvalidText> {
        if let State::Unknown { head } = &mut self.state {
            let mut needed = HEAD_BYTES;
            fill(head, needed, input);
            if self.encoding.charset().is_none() && starts_like_utf16(head) {
                needed = UTF16_HEAD_BYTES;
                fill(head, needed, input);
            }
            if head.len() < needed && !is_last {
                return Ok(None);
            }
            let head = std::mem::take(head);
            return self.start(&head).map(Some);
        }
        let text = match &mut self.state {
            State::Unknown { .. } => None,
            State::Utf8(partial) => partial.next(input, is_last)?,
            State::Converted(converter) => converter.next(input, is_last)?,
        };
        Ok(text.map(TextPiece::Text))
    }

    /// Detects the encoding from the first bytes.
    fn start(&mut self, head: &[u8]) -> Result<TextPiece<'static>, InvalidText> {
        let (charset, mark_bytes) = match *head {
            [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => return Err(InvalidText::Utf32),
            [0xff, 0xfe, ..] => (Some(UTF_16LE), 2),
            [0xfe, 0xff, ..] => (Some(UTF_16BE), 2),
            [0xef, 0xbb, 0xbf, ..] => (None, 3),
            _ if self.encoding.charset().is_some() => (self.encoding.charset(), 0),
            // No text in UTF-8 starts like this.
            _ if starts_like_utf16(head) => (Some(utf16_without_mark(head)?), 0),
            _ => (None, 0),
        };
        let rest = head[mark_bytes..].to_vec();
        self.state = match charset {
            None => State::Utf8(Partial { bytes: rest, returned: 0 }),
            Some(charset) => State::Converted(Box::new(Converter {
                decoder: charset.new_decoder_without_bom_handling(),
                source: match self.encoding {
                    TextEncoding::Named(_) if mark_bytes == 0 => CharsetSource::Setting,
                    TextEncoding::Detected(_) if mark_bytes == 0 => CharsetSource::AllBytes,
                    _ => CharsetSource::FirstBytes,
                },
                head: rest,
                converted: vec![0; CONVERTED_BYTES],
                is_malformed: false,
                has_ended: false,
            })),
        };
        let is_converted = charset.is_some();
        Ok(TextPiece::Start { mark_bytes: if is_converted { 0 } else { mark_bytes as u64 }, is_converted })
    }
}

/// Moves bytes from the front of `input` to `head` until that has `length` bytes.
fn fill(head: &mut Vec<u8>, length: usize, input: &mut &[u8]) {
    let (taken, rest) = input.split_at(length.saturating_sub(head.len()).min(input.len()));
    head.extend_from_slice(taken);
    *input = rest;
}

/// Whether one of the first two bytes is zero, as in UTF-16 whose first character is ASCII.
fn starts_like_utf16(head: &[u8]) -> bool {
    matches!(head, [0, 1..=0xff, ..] | [1..=0xff, 0, ..])
}

/// The byte order of UTF-16 without a byte order mark, from its first characters: at least two, and all Latin.
fn utf16_without_mark(head: &[u8]) -> Result<Charset, InvalidText> {
    if head.len() < HEAD_BYTES {
        return Err(InvalidText::Utf16WithoutMark);
    }
    let are_zero = |first: usize| head.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    let is_any_zero = |first: usize| head.iter().skip(first).step_by(2).any(|byte| *byte == 0);
    match (are_zero(0) && !is_any_zero(1), are_zero(1) && !is_any_zero(0)) {
        (true, _) => Ok(UTF_16BE),
        (_, true) => Ok(UTF_16LE),
        (false, false) => Err(InvalidText::Utf16WithoutMark),
    }
}

/// The beginning of a character that the end of a chunk cut, or the first bytes of the file.
struct Partial {
    bytes: Vec<u8>,
    /// How many of the bytes the last call returned.
    returned: usize,
}

impl Partial {
    fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        is_last: bool,
    ) -> Result<Option<&'a [u8]>, InvalidText> {
        if let Some(range) = self.complete(input)? {
            self.returned = range.end;
            return Ok(Some(&self.bytes[range]));
        }
        let valid = match std::str::from_utf8(input) {
            Ok(_) => input.len(),
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_some() => return Err(InvalidText::NotUtf8),
            Err(error) => error.valid_up_to(),
        };
        let (text, rest) = input.split_at(valid);
        *input = rest;
        if text.is_empty() {
            self.bytes.extend_from_slice(rest);
            *input = &[];
        }
        match text.is_empty() {
            true if is_last && !self.bytes.is_empty() => Err(InvalidText::NotUtf8),
            true => Ok(None),
            false => Ok(Some(text)),
        }
    }

    /// Appends input until the bytes start with a whole character; returns the range of the whole characters.
    fn complete(&mut self, input: &mut &[u8]) -> Result<Option<Range<usize>>, InvalidText> {
        self.bytes.drain(..std::mem::take(&mut self.returned));
        while !self.bytes.is_empty() {
            match std::str::from_utf8(&self.bytes) {
                Ok(_) => return Ok(Some(0..self.bytes.len())),
                Err(error) if error.valid_up_to() > 0 => return Ok(Some(0..error.valid_up_to())),
                Err(error) if error.error_len().is_some() => return Err(InvalidText::NotUtf8),
                Err(_) => {}
            }
            let Some((byte, rest)) = input.split_first() else { break };
            self.bytes.push(*byte);
            *input = rest;
        }
        Ok(None)
    }
}

/// How the encoding of a file became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharsetSource {
    Setting,
    /// The encoding is UTF-16.
    FirstBytes,
    /// All bytes together look like text in it.
    AllBytes,
}

/// Converts another encoding to UTF-8.
struct Converter {
    decoder: Decoder,
    source: CharsetSource,
    /// First bytes of the file that are not converted yet.
    head: Vec<u8>,
    converted: Vec<u8>,
    /// Whether the input is invalid after the text that was returned last.
    is_malformed: bool,
    has_ended: bool,
}

impl Converter {
    fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        is_last: bool,
    ) -> Result<Option<&'a [u8]>, InvalidText> {
        let mut written = 0;
        while written == 0 && !self.is_malformed {
            if self.head.is_empty() && input.is_empty() && (!is_last || self.has_ended) {
                return Ok(None);
            }
            let is_head = !self.head.is_empty();
            let (bytes, is_last) = if is_head { (&self.head[..], false) } else { (*input, is_last) };
            let (result, read, count) =
                self.decoder.decode_to_utf8_without_replacement(bytes, &mut self.converted, is_last);
            written = count;
            match is_head {
                true => drop(self.head.drain(..read)),
                false => *input = &input[read..],
            }
            match result {
                DecoderResult::InputEmpty => self.has_ended = is_last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.is_malformed = true,
            }
        }
        // Bytes without a character in a Windows encoding are decoded to these control characters.
        if self.source == CharsetSource::AllBytes && has_c1_control(&self.converted[..written]) {
            return Err(InvalidText::NotDetected(self.decoder.encoding()));
        }
        if written > 0 {
            return Ok(Some(&self.converted[..written]));
        }
        Err(match self.source {
            CharsetSource::FirstBytes => InvalidText::NotUtf16,
            CharsetSource::Setting => InvalidText::NotConfigured(self.decoder.encoding()),
            CharsetSource::AllBytes => InvalidText::NotDetected(self.decoder.encoding()),
        })
    }
}

/// Whether UTF-8 contains a control character from U+0080 to U+009F, which no text has.
fn has_c1_control(text: &[u8]) -> bool {
    memchr_iter(0xc2, text).any(|at| matches!(text.get(at + 1), Some(0x80..=0x9f)))
}

/// Whether a file starts with a byte order mark, or like UTF-16. Then [`TextReader`] knows its encoding from these bytes.
pub(crate) fn tells_encoding(head: &[u8]) -> bool {
    starts_like_utf16(head)
        || matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0xef, 0xbb, 0xbf, ..] | [0, 0, 0xfe, 0xff, ..])
}
