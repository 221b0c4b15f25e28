//! Finds the array of records in a JSON document (`JSON_RECORDS`), and skips everything around it.
//!
//! A file contains one document or several, one after the other, and each has the array exactly once. The skipped text is
//! checked only for its brackets and strings. Memory does not depend on its size.

use memchr::memchr2;

use super::nesting::Nesting;
use super::path::RecordsPath;
use crate::schema::value::json::MAX_DEPTH;

/// The document around the records.
#[derive(Debug)]
pub(super) struct Envelope {
    path: RecordsPath,
    place: Place,
    /// All open brackets of the document.
    nesting: Nesting,
    /// The number of open objects on the path. The document itself is the first.
    on_path: usize,
    /// The number of keys of the path that were found in the open document.
    found: usize,
    /// Whether the last key is the next one of the path.
    is_next: bool,
    /// The open key as it is in the file, or its beginning if it is longer than any spelling of the next key of the path.
    key: Vec<u8>,
}

/// What comes next. All but the last three places are outside of skipped values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A document, or the end of the file.
    Between,
    /// The first key of an object on the path, or its end.
    ObjectStart,
    /// A key of an object on the path.
    BeforeKey,
    /// The rest of a key.
    Key,
    /// In a key, after a backslash.
    KeyEscape,
    /// A colon.
    AfterKey,
    /// The value of a key.
    BeforeValue,
    /// A comma, or the end of an object on the path.
    AfterValue,
    /// The rest of a skipped value.
    Skipped,
    /// The rest of a string within a skipped value.
    SkippedString,
    /// In a string within a skipped value, after a backslash.
    SkippedEscape,
}

/// How far a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnvelopeRead {
    /// To its end.
    All,
    /// Up to and including the opening bracket of the array of records, so many bytes. The caller reads the array, to its
    /// closing bracket, and then continues.
    ArrayStart(usize),
}

/// Why a text is invalid, and the number of bytes before the fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// What happened to a byte.
enum Step {
    Used,
    /// The place has changed, and the byte comes next.
    Again,
    /// It opens the array of records.
    ArrayStart,
}

impl Envelope {
    pub(super) fn new(path: RecordsPath) -> Self {
        Self {
            path,
            place: Place::Between,
            nesting: Nesting::default(),
            on_path: 0,
            found: 0,
            is_next: false,
            key: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.key.capacity()
    }

    /// Reads valid UTF-8, in any chunks, to its end or to the next array of records.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<EnvelopeRead, Fault> {
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            let step = match self.place {
                Place::Key if byte == b'"' => self.end_key(),
                Place::Key if byte == b'\\' => self.escaped(&text[at..=at], Place::KeyEscape),
                Place::Key => {
                    at += self.read_key(&text[at..]);
                    continue;
                }
                Place::SkippedString => {
                    at += self.skip_string(&text[at..]);
                    continue;
                }
                Place::KeyEscape => self.escaped(&text[at..=at], Place::Key),
                Place::SkippedEscape => {
                    self.place = Place::SkippedString;
                    Ok(Step::Used)
                }
                _ if is_space => Ok(Step::Used),
                Place::Skipped => self.skip(byte),
                Place::BeforeValue => self.start_value(byte),
                Place::Between | Place::ObjectStart | Place::BeforeKey | Place::AfterKey | Place::AfterValue => {
                    self.read_structure(byte)
                }
            };
            match step.map_err(|message| Fault { offset: at, message })? {
                Step::Used => at += 1,
                Step::Again => {}
                Step::ArrayStart => return Ok(EnvelopeRead::ArrayStart(at + 1)),
            }
        }
        Ok(EnvelopeRead::All)
    }

    /// Ends the file.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.place {
            Place::Between => Ok(()),
            _ => Err("the file ends within the document around the records".to_owned()),
        }
    }

    /// Reads a byte between the keys and values of the objects on the path.
    fn read_structure(&mut self, byte: u8) -> Result<Step, String> {
        self.place = match (self.place, byte) {
            (Place::Between, b'{') => {
                (self.nesting, self.on_path, self.found) = (Nesting::default(), 0, 0);
                return self.open_object();
            }
            (Place::ObjectStart | Place::AfterValue, b'}') => self.close_object()?,
            (Place::ObjectStart | Place::BeforeKey, b'"') => {
                self.key.clear();
                Place::Key
            }
            (Place::AfterKey, b':') => Place::BeforeValue,
            (Place::AfterValue, b',') => Place::BeforeKey,
            (Place::Between, _) => return Err(self.not_found("is not an object")),
            (Place::ObjectStart | Place::BeforeKey, _) => return Err(not_json("a key is missing")),
            (Place::AfterKey, _) => return Err(not_json("a colon is missing")),
            (_, _) => return Err(not_json("a comma or a closing brace is missing")),
        };
        Ok(Step::Used)
    }

    /// Reads the first byte of a value.
    fn start_value(&mut self, byte: u8) -> Result<Step, String> {
        let is_last = self.found == self.path.keys().len();
        match byte {
            _ if !self.is_next => {
                self.place = Place::Skipped;
                Ok(Step::Again)
            }
            b'[' if is_last => {
                self.place = Place::AfterValue;
                Ok(Step::ArrayStart)
            }
            b'{' if !is_last => self.open_object(),
            _ if is_last => Err(self.not_found("has another value there")),
            _ => Err(self.not_found("has a value that is not an object on this path")),
        }
    }

    /// Opens an object on the path.
    fn open_object(&mut self) -> Result<Step, String> {
        self.nesting.read(b'{').ok_or_else(too_deep)?;
        self.on_path += 1;
        self.place = Place::ObjectStart;
        Ok(Step::Used)
    }

    /// Closes an object on the path. Returns the next place.
    fn close_object(&mut self) -> Result<Place, String> {
        if self.found < self.on_path {
            return Err(self.not_found(&format!("lacks the key {:?}", self.next_key())));
        }
        self.nesting.read(b'}').ok_or_else(wrong_bracket)?;
        self.on_path -= 1;
        Ok(if self.on_path == 0 { Place::Between } else { Place::AfterValue })
    }

    /// Reads a part of a key, up to a quote or a backslash. Returns its length.
    fn read_key(&mut self, text: &[u8]) -> usize {
        let length = memchr2(b'"', b'\\', text).unwrap_or(text.len());
        self.keep_key(&text[..length]);
        length
    }

    /// Reads a backslash in a key, or the byte after it.
    fn escaped(&mut self, byte: &[u8], place: Place) -> Result<Step, String> {
        self.keep_key(byte);
        self.place = place;
        Ok(Step::Used)
    }

    /// Reads the closing quote of a key.
    fn end_key(&mut self) -> Result<Step, String> {
        self.place = Place::AfterKey;
        self.is_next = self.is_next_key();
        if self.is_next && self.found >= self.on_path {
            return Err(format!(
                "the document has the key {:?} of {} (JSON_RECORDS) twice",
                self.next_key(),
                self.path
            ));
        }
        if self.is_next {
            self.found = self.on_path;
        }
        Ok(Step::Used)
    }

    /// The key of the path that belongs to the open object.
    fn next_key(&self) -> &str {
        &self.path.keys()[self.on_path - 1]
    }

    /// Keeps a part of the open key, unless the key is too long to be the next one.
    fn keep_key(&mut self, part: &[u8]) {
        // The longest spelling of a character has six bytes for each of its own.
        let max = 6 * self.next_key().len() + 1;
        let free = max.saturating_sub(self.key.len());
        self.key.extend_from_slice(&part[..part.len().min(free)]);
    }

    fn is_next_key(&self) -> bool {
        let next = self.next_key();
        let Ok(key) = std::str::from_utf8(&self.key) else { return false };
        match key.contains('\\') {
            true => serde_json::from_str::<String>(&format!("\"{key}\"")).is_ok_and(|key| key == next),
            false => key == next,
        }
    }

    /// Skips a byte of a value.
    fn skip(&mut self, byte: u8) -> Result<Step, String> {
        let is_inside = self.nesting.depth > self.on_path;
        match byte {
            b'"' => self.place = Place::SkippedString,
            b'{' | b'[' => self.nesting.read(byte).ok_or_else(too_deep)?,
            b'}' | b']' if is_inside => self.nesting.read(byte).ok_or_else(wrong_bracket)?,
            b',' | b'}' | b']' if !is_inside => {
                self.place = Place::AfterValue;
                return Ok(Step::Again);
            }
            _ => {}
        }
        Ok(Step::Used)
    }

    /// Skips a part of a string. Returns its length.
    fn skip_string(&mut self, text: &[u8]) -> usize {
        let Some(end) = memchr2(b'"', b'\\', text) else { return text.len() };
        self.place = if text[end] == b'"' { Place::Skipped } else { Place::SkippedEscape };
        end + 1
    }

    #[cold]
    fn not_found(&self, what: &str) -> String {
        format!("the document has no array at {} (JSON_RECORDS): it {what}", self.path)
    }
}

#[cold]
fn not_json(what: &str) -> String {
    format!("the document around the records is not valid JSON: {what}")
}

#[cold]
fn wrong_bracket() -> String {
    not_json("a closing bracket does not match the open one")
}

#[cold]
fn too_deep() -> String {
    format!("objects and arrays are nested more than {MAX_DEPTH} deep in the document around the records")
}
