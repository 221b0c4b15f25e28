//! The lines above the header: those that a setting skips, Excel's `sep=` line, and comments.

use std::collections::HashSet;

use memchr::{memchr, memchr2};

use super::cursor::LineEnd;
use super::delimiter;
use super::dialect::{CsvDialect, ShortRecords};
use super::division::{Division, Sample, SampledField};
use super::reading::Reading;
use crate::numbers::counted;
use crate::{Error, ErrorKind, Result};

/// The byte that begins a comment unless a setting names another.
const HASH: u8 = b'#';

/// The lines above the header, or above the first record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preamble {
    pub(super) bytes: usize,
    pub(super) lines: usize,
    /// The delimiter that the `sep=` line names.
    pub(super) delimiter: Option<u8>,
}

/// Returns the lines above the header of a file that starts with `sample`.
///
/// # Errors
/// When they contradict a setting, or can be read in two ways.
pub(super) fn detect(sample: Sample<'_>, dialect: &CsvDialect) -> Result<Preamble> {
    if let Some(lines) = dialect.skip_lines {
        return skipped(sample, lines);
    }
    let above = sep_line(sample, dialect)?.unwrap_or_default();
    let has_other_meaning = [dialect.delimiter, above.delimiter, dialect.quote, dialect.escape].contains(&Some(HASH));
    if dialect.comment.is_some() || has_other_meaning {
        return Ok(above);
    }
    let rest = sample.after(above.bytes, above.lines);
    let comments = Comments::find(rest, dialect, above.delimiter.or(dialect.delimiter));
    let (bytes, lines) = comments.map_or(Ok((0, 0)), |comments| comments.decide())?;
    Ok(Preamble { bytes: above.bytes + bytes, lines: above.lines + lines, ..above })
}

/// The lines that a setting skips.
fn skipped(sample: Sample<'_>, count: usize) -> Result<Preamble> {
    let mut lines = Lines::new(sample.text);
    let skipped = lines.by_ref().take(count).count();
    if !sample.is_whole_file && lines.rest.is_empty() && count > 0 {
        let message = format!(
            "the lines above the header (CSV_SKIP_LINES={count}) are longer than {} bytes",
            delimiter::SAMPLE_BYTES
        );
        return Err(Error::new(ErrorKind::Invalid, message).at(sample.start));
    }
    if sample.is_whole_file && lines.rest.is_empty() && skipped > 0 && count > 0 {
        let message =
            format!("the file has no line below the {} that CSV_SKIP_LINES skips", counted(count as u64, "line"));
        return Err(Error::new(ErrorKind::Invalid, message).at(sample.start));
    }
    Ok(Preamble { bytes: lines.offset(), lines: skipped, delimiter: None })
}

/// The first line, if it is one like `sep=;`.
fn sep_line(sample: Sample<'_>, dialect: &CsvDialect) -> Result<Option<Preamble>> {
    let mut lines = Lines::new(sample.text);
    let Some(line) = lines.next() else { return Ok(None) };
    let Some(named) = sep_delimiter(line.text, dialect.quote) else { return Ok(None) };
    match dialect.delimiter {
        Some(delimiter) if delimiter != named => {
            let message = format!(
                "the first line (sep=) says that the delimiter is {}, but CSV_DELIMITER or the extension .tsv says {}; \
                 change the setting, or set CSV_SKIP_LINES to 1 to ignore the line",
                delimiter::name_of(named),
                delimiter::name_of(delimiter)
            );
            Err(Error::new(ErrorKind::Invalid, message).at(sample.start))
        }
        Some(_) | None => Ok(Some(Preamble { bytes: lines.offset(), lines: 1, delimiter: Some(named) })),
    }
}

/// The delimiter that a line like `sep=;` names. The line or the delimiter may be in quotes.
fn sep_delimiter(line: &[u8], quote: Option<u8>) -> Option<u8> {
    let (name, value) = unquoted(line).split_at_checked(4)?;
    if !name.eq_ignore_ascii_case(b"sep=") {
        return None;
    }
    match unquoted(value) {
        b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'"' && Some(*byte) != quote => {
            Some(*byte)
        }
        _ => None,
    }
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// Lines at the top of a file that begin with `#`, and the first line that does not.
///
/// The header is either that line, or one of the lines with `#`.
struct Comments<'a> {
    sample: Sample<'a>,
    dialect: &'a CsvDialect,
    delimiter: Option<u8>,
    /// The lines that begin with `#`; at least one.
    hashed: Vec<Line<'a>>,
    /// The first other line.
    next: Line<'a>,
}

impl<'a> Comments<'a> {
    /// `None` if the first line does not begin with `#`, or if all lines do. Empty lines do not matter.
    fn find(sample: Sample<'a>, dialect: &'a CsvDialect, delimiter: Option<u8>) -> Option<Self> {
        let mut lines = Lines::new(sample.text).filter(|line| !line.text.is_empty());
        let mut hashed = Vec::new();
        let next = loop {
            let line = lines.next()?;
            match line.text[0] == HASH {
                true => hashed.push(line),
                false => break line,
            }
        };
        (!hashed.is_empty()).then_some(Self { sample, dialect, delimiter, hashed, next })
    }

    /// Returns the number of bytes and lines that are comments.
    ///
    /// `docs/formats.md` has this decision as a table.
    fn decide(&self) -> Result<(usize, usize)> {
        let (first, last) = (self.hashed[0], self.hashed[self.hashed.len() - 1]);
        let from_first = self.reading_from(first).ok().filter(|reading| reading.division.is_sound());
        let Ok(below) = self.reading_from(self.next) else {
            return Ok(if from_first.is_some() { (0, 0) } else { self.next.above() });
        };
        let width = below.division.first_width();
        let has_record_width = |line: Line<'_>| self.width_of(line, &below) == width;
        let next_can_be_header = self.could_be_header(first, &below);
        match from_first.map(|reading| reading.division.first_width()) {
            Some(_) if !below.division.is_sound() => Ok((0, 0)),
            // The file has one column from the first line on, but several below the comments.
            Some(1) if width > 1 && !has_record_width(last) && next_can_be_header => Ok(self.next.above()),
            Some(1) if width > 1 && !has_record_width(last) => Err(self.ambiguous()),
            Some(1) if width > 1 => self.decide_on_last(&below, has_record_width),
            Some(_) if next_can_be_header => Err(self.ambiguous()),
            Some(_) => Ok((0, 0)),
            None if has_record_width(last) => self.decide_on_last(&below, has_record_width),
            // A line that is wider than the records can be a header above short records.
            None if self.dialect.short_records == ShortRecords::Fill && self.width_of(last, &below) > width => {
                Err(self.ambiguous())
            }
            None if below.division.fits_header() && self.begins_with_names(&below) => Ok(self.next.above()),
            None => Ok((0, 0)),
        }
    }

    /// Decides on a last line with `#` that has as many fields as the records: it is the header, or may be a comment.
    fn decide_on_last(
        &self,
        below: &Reading<'_>,
        has_record_width: impl Fn(Line<'_>) -> bool,
    ) -> Result<(usize, usize)> {
        let [above @ .., last] = &self.hashed[..] else { return Ok((0, 0)) };
        let lines_above_are_comments = match above.last() {
            None => true,
            Some(line) => self.dialect.has_header && !has_record_width(*line),
        };
        match lines_above_are_comments && !self.could_be_header(*last, below) {
            true if above.is_empty() => Ok((0, 0)),
            true => Ok(last.above()),
            false => Err(self.ambiguous()),
        }
    }

    fn reading_from(&self, line: Line<'_>) -> Result<Reading<'a>> {
        Reading::of(self.sample.after(line.offset, line.number), self.dialect, self.delimiter)
    }

    /// The number of fields of a line, by the syntax of a reading.
    fn width_of(&self, line: Line<'_>, reading: &Reading<'_>) -> usize {
        let sample = Sample { text: line.text, is_whole_file: true, start: self.sample.start };
        Division::of(sample, reading.syntax, 1).first_width()
    }

    /// Whether the header could be the first line of `below`, so that `hashed` is a comment.
    ///
    /// A header has a name for each column, and none of them is a number. It differs from the records by a column of
    /// numbers. Without one, only a `#` before a space or another `#` looks like a comment.
    fn could_be_header(&self, hashed: Line<'_>, below: &Reading<'_>) -> bool {
        if !self.dialect.has_header || !self.begins_with_names(below) {
            return false;
        }
        let mut are_numbers = vec![true; below.division.first_width()];
        let mut records = 0;
        for row in below.division.rows().skip(1) {
            records += 1;
            are_numbers.iter_mut().zip(row).for_each(|(are, field)| *are &= is_like_number(value(&field)));
        }
        let has_numbers = records > 0 && are_numbers.contains(&true);
        has_numbers || hashed.text.get(1).is_none_or(|next| matches!(next, b' ' | b'\t' | b'#'))
    }

    /// Whether the first record can be a header: no field is empty, repeated or like a number. Without a header, any can.
    fn begins_with_names(&self, below: &Reading<'_>) -> bool {
        let mut names = HashSet::new();
        let mut is_name = |name| !is_like_number(name) && !name.is_empty() && names.insert(name);
        !self.dialect.has_header
            || below.division.rows().next().into_iter().flatten().all(|field| is_name(value(&field)))
    }

    #[cold]
    fn ambiguous(&self) -> Error {
        let message = "a line that begins with # is above the records, and it may be a comment or the header; set \
                       CSV_COMMENT to # if it is a comment, or CSV_SKIP_LINES to the number of lines above the header";
        Error::new(ErrorKind::Invalid, message)
            .at(self.sample.after(self.hashed[0].offset, self.hashed[0].number).start)
    }
}

/// A field without its quotes.
fn value<'a>(field: &SampledField<'a>) -> &'a [u8] {
    match field.is_quoted {
        true => field.text.get(1..field.text.len() - 1).unwrap_or_default(),
        false => field.text,
    }
}

/// Whether a value begins like a number or a date.
fn is_like_number(value: &[u8]) -> bool {
    match value {
        [b'+' | b'-' | b'.', next, ..] => next.is_ascii_digit() || *next == b'.',
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    }
}

/// A line of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    /// The line without its end.
    text: &'a [u8],
    /// The offset of its first byte.
    offset: usize,
    /// The number of lines above it.
    number: usize,
}

impl Line<'_> {
    /// The number of bytes and lines above this one.
    fn above(self) -> (usize, usize) {
        (self.offset, self.number)
    }
}

/// The lines of a text, as the record reader finds them: the first line end decides whether lone CRs end lines.
struct Lines<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    line_end: LineEnd,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, rest: text, line_end: LineEnd::Unknown, number: 0 }
    }

    /// The offset of the next line.
    fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// The range of the next line end.
    fn find_end(&mut self) -> (usize, usize) {
        let at = match self.line_end {
            LineEnd::Unknown => memchr2(b'\n', b'\r', self.rest),
            LineEnd::Lf => memchr(b'\n', self.rest),
            LineEnd::Cr => memchr(b'\r', self.rest),
        };
        let Some(at) = at else { return (self.rest.len(), self.rest.len()) };
        if self.line_end == LineEnd::Unknown {
            let crs = self.rest[at..].iter().take_while(|byte| **byte == b'\r').count();
            let is_lf = self.rest.get(at + crs) == Some(&b'\n');
            self.line_end = if is_lf { LineEnd::Lf } else { LineEnd::Cr };
            return (at, if is_lf { at + crs + 1 } else { at + 1 });
        }
        (at, at + 1)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset();
        let (end, next) = self.find_end();
        let mut text = &self.rest[..end];
        while let Some(shorter) = text.strip_suffix(b"\r").filter(|_| self.line_end == LineEnd::Lf) {
            text = shorter;
        }
        self.rest = &self.rest[next..];
        self.number += 1;
        Some(Line { text, offset, number: self.number - 1 })
    }
}
