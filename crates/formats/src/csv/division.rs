//! Divides the first text of a file into records and fields, so that several readings of it can be compared.
//!
//! It divides as the record reader does, but it has no errors: it notes what the reader would reject.

use memchr::memchr_iter;

use super::cursor::LineEnd;
use super::dialect::ExtraField;
use super::state::NO_BYTE;
use crate::Position;

/// The first text of a file, or what follows some lines of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample<'a> {
    pub(super) text: &'a [u8],
    /// Whether the text reaches to the end of the file.
    pub(super) is_whole_file: bool,
    /// The position of its first byte.
    pub(super) start: Position,
}

/// The bytes with a meaning outside of values; [`NO_BYTE`] for one that the dialect does not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
    pub(super) escape: u8,
    pub(super) comment: u8,
}

/// A field of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampledField<'a> {
    /// The field as it is in the file, with its quotes.
    pub(super) text: &'a [u8],
    pub(super) is_quoted: bool,
}

/// The records of a sample by one syntax. A record that the end of the sample cuts is absent, unless it is the only one.
#[derive(Debug)]
pub(super) struct Division<'a> {
    text: &'a [u8],
    fields: Vec<FieldRange>,
    /// The number of fields up to the end of each record.
    ends: Vec<usize>,
    faults: Faults,
}

/// A field in the text. A sample is short enough for these numbers.
#[derive(Debug, Clone, Copy)]
struct FieldRange {
    start: u32,
    end: u32,
    is_quoted: bool,
}

/// The faults that a division found.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// The reader rejects such a record.
    has_text_after_quote: bool,
    /// The reader rejects such a file.
    is_never_closed: bool,
    /// A quote within an unquoted field, which is data.
    has_quote_as_data: bool,
    has_doubled_quote: bool,
    /// A lone CR is outside quotes in a file with LF, or the other way round. The reader rejects such a file.
    has_mixed_line_ends: bool,
    /// An escape in quotes is not before a quote or an escape, or one outside quotes is before a byte with a meaning.
    has_other_escape: bool,
}

impl<'a> Sample<'a> {
    /// The text after so many bytes, which are so many lines.
    pub(super) fn after(self, bytes: usize, lines: usize) -> Self {
        let Position { record, line, byte } = self.start;
        let start = Position { record, line: line + lines as u64, byte: byte + bytes as u64 };
        Self { text: &self.text[bytes..], start, ..self }
    }
}

impl<'a> Division<'a> {
    /// Divides a sample, at most into `max_records` records.
    pub(super) fn of(sample: Sample<'a>, syntax: Syntax, max_records: usize) -> Self {
        let Sample { text, is_whole_file, .. } = sample;
        let division = Self { text, fields: Vec::new(), ends: Vec::new(), faults: Faults::default() };
        let mut scan = Scan {
            division,
            syntax,
            line_end: LineEnd::Unknown,
            field_start: 0,
            is_quoted: false,
            place: Place::FieldStart,
            is_empty_line: true,
        };
        for (at, byte) in text.iter().enumerate() {
            scan.read(at, *byte);
            if scan.division.ends.len() == max_records {
                return scan.division;
            }
        }
        let is_in_quotes = matches!(scan.place, Place::Quoted | Place::Escaped);
        scan.division.faults.is_never_closed = is_whole_file && is_in_quotes;
        if is_whole_file && !is_in_quotes || scan.division.ends.is_empty() {
            scan.end_record(text.len());
        }
        scan.division
    }

    /// The text up to the end of the last complete record.
    pub(super) fn complete_records(&self) -> &'a [u8] {
        let fields = self.ends.last().copied().unwrap_or(0);
        let end = fields.checked_sub(1).map_or(0, |last| self.fields[last].end as usize);
        &self.text[..end]
    }

    /// The number of records.
    pub(super) fn records(&self) -> usize {
        self.ends.len()
    }

    /// The number of fields of each record.
    pub(super) fn widths(&self) -> impl Iterator<Item = usize> {
        self.ends.iter().scan(0, |start, end| Some(end - std::mem::replace(start, *end)))
    }

    /// The number of fields of the first record; 0 without records.
    pub(super) fn first_width(&self) -> usize {
        self.ends.first().copied().unwrap_or(0)
    }

    /// The fields of each record.
    pub(super) fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = SampledField<'a>>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let fields = &self.fields[std::mem::replace(&mut start, *end)..*end];
            let text = self.text;
            fields.iter().map(move |field| SampledField {
                text: &text[field.start as usize..field.end as usize],
                is_quoted: field.is_quoted,
            })
        })
    }

    /// The number of bytes, and of line ends, before the first record.
    pub(super) fn first_start(&self) -> (usize, usize) {
        let bytes = self.fields.first().map_or(0, |field| field.start as usize);
        let before = &self.text[..bytes];
        let lines = memchr_iter(b'\n', before).count();
        // Only line ends without any LF are lone CRs.
        (bytes, if lines == 0 { memchr_iter(b'\r', before).count() } else { lines })
    }

    /// Whether every record has as many fields as the first.
    pub(super) fn is_uniform(&self) -> bool {
        self.widths().all(|width| width == self.first_width())
    }

    /// Whether the first record can be the header of the others: one of them is as wide, or each has one empty field more.
    pub(super) fn fits_header(&self) -> bool {
        let is_as_wide = self.widths().skip(1).any(|width| width == self.first_width());
        self.records() == 1 || is_as_wide || self.extra_field() == ExtraField::Empty
    }

    /// Whether each data record has one more field than the first record.
    pub(super) fn is_wider_than_header(&self) -> bool {
        self.records() > 1 && self.widths().skip(1).all(|width| width == self.first_width() + 1)
    }

    /// Whether each data record has one more field than the first record, which is empty and unquoted.
    pub(super) fn extra_field(&self) -> ExtraField {
        let is_extra = |end: &usize| self.fields[end - 1].start == self.fields[end - 1].end;
        match self.is_wider_than_header() && self.ends[1..].iter().all(is_extra) {
            true => ExtraField::Empty,
            false => ExtraField::Absent,
        }
    }

    /// Whether the reader accepts every record, without regard to `ShortRecords`.
    pub(super) fn is_sound(&self) -> bool {
        let Faults { has_text_after_quote, is_never_closed, has_mixed_line_ends, .. } = self.faults;
        let is_broken = has_text_after_quote || is_never_closed || has_mixed_line_ends;
        !is_broken && (self.is_uniform() || self.extra_field() == ExtraField::Empty)
    }

    /// Whether every quote is at an end of its field, or doubled within it.
    pub(super) fn is_quoted_well(&self) -> bool {
        !self.faults.has_text_after_quote && !self.faults.has_quote_as_data
    }

    /// Whether all escapes can be detected ones: each one in quotes is before a quote or an escape, and no quote is doubled.
    pub(super) fn is_escaped_well(&self) -> bool {
        !self.faults.has_other_escape && !self.faults.has_doubled_quote
    }
}

/// The part of a field that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    /// In an unquoted field, after an escape.
    EscapedOutside,
    Quoted,
    /// In quotes, after an escape.
    Escaped,
    /// After a quote that closes the field, unless another quote follows.
    Closed,
    Comment,
}

/// A division that is being made.
struct Scan<'a> {
    division: Division<'a>,
    syntax: Syntax,
    line_end: LineEnd,
    /// The start of the open field.
    field_start: usize,
    is_quoted: bool,
    place: Place,
    /// Whether the open line is empty so far.
    is_empty_line: bool,
}

impl Scan<'_> {
    fn read(&mut self, at: usize, byte: u8) {
        let Syntax { delimiter, quote, escape, comment } = self.syntax;
        let is_line_end = matches!(byte, b'\n' | b'\r');
        match self.place {
            Place::Quoted if byte == escape => self.place = Place::Escaped,
            Place::Quoted if byte == quote => self.place = Place::Closed,
            Place::Quoted => {}
            Place::Escaped => {
                self.division.faults.has_other_escape |= byte != quote && byte != escape;
                self.place = Place::Quoted;
            }
            Place::EscapedOutside => {
                self.division.faults.has_other_escape |=
                    is_line_end || byte == quote || byte == escape || byte == delimiter;
                self.place = Place::Unquoted;
            }
            Place::Comment if !is_line_end || byte == b'\r' && self.line_end == LineEnd::Lf => {}
            Place::FieldStart | Place::Closed if byte == quote => self.open_quote(),
            Place::Comment | Place::FieldStart | Place::Unquoted | Place::Closed if is_line_end => self.end_line(at),
            Place::FieldStart if self.is_empty_line && byte == comment => self.place = Place::Comment,
            Place::Comment | Place::FieldStart | Place::Unquoted | Place::Closed => self.read_unquoted(at, byte),
        }
    }

    fn open_quote(&mut self) {
        self.division.faults.has_doubled_quote |= self.place == Place::Closed;
        self.place = Place::Quoted;
        self.is_quoted = true;
        self.is_empty_line = false;
    }

    /// Reads a byte other than a line end outside quotes.
    fn read_unquoted(&mut self, at: usize, byte: u8) {
        self.is_empty_line = false;
        if byte == self.syntax.delimiter {
            self.end_field(at);
            return;
        }
        let faults = &mut self.division.faults;
        faults.has_text_after_quote |= self.place == Place::Closed;
        faults.has_quote_as_data |= self.place == Place::Unquoted && byte == self.syntax.quote;
        self.place = if byte == self.syntax.escape { Place::EscapedOutside } else { Place::Unquoted };
    }

    fn end_field(&mut self, at: usize) {
        let (start, end) = (self.field_start as u32, at as u32);
        self.division.fields.push(FieldRange { start, end, is_quoted: self.is_quoted });
        (self.field_start, self.is_quoted, self.place) = (at + 1, false, Place::FieldStart);
    }

    /// Reads a line end, or one CR of several.
    fn end_line(&mut self, at: usize) {
        let line_end = match (self.division.text[at], self.division.text.get(at + 1)) {
            (b'\n', _) => LineEnd::Lf,
            // The byte after the CRs decides.
            (_, Some(b'\r' | b'\n') | None) => self.line_end,
            (_, Some(_)) => LineEnd::Cr,
        };
        self.division.faults.has_mixed_line_ends |= self.line_end != LineEnd::Unknown && self.line_end != line_end;
        self.line_end = line_end;
        self.end_record(at);
    }

    fn end_record(&mut self, at: usize) {
        if !self.is_empty_line {
            self.end_field(at);
            self.division.ends.push(self.division.fields.len());
        }
        (self.field_start, self.place, self.is_empty_line) = (at + 1, Place::FieldStart, true);
    }
}

const _: () = assert!(super::delimiter::SAMPLE_BYTES < u32::MAX as usize && NO_BYTE > 0x7f);
