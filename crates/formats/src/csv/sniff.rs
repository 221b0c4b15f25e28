//! Detects, from the first text of a file, what its dialect leaves open. Every later record must agree.

use super::delimiter::{self, DelimiterSource};
use super::dialect::{CsvDialect, Detected, ExtraField, ExtraFieldPlace};
use super::division::{Division, Sample, Syntax};
use super::preamble;
use super::reading::Reading;
use crate::schema::value::is_null_token;
use crate::{Error, ErrorKind, Result};

/// Returns the complete dialect of a file that starts with `sample`.
///
/// # Errors
/// When the file can be read in two ways, or contradicts a setting. The message names the setting that decides.
pub(super) fn complete(sample: Sample<'_>, dialect: &CsvDialect) -> Result<CsvDialect> {
    check_line_ends(sample)?;
    let above = preamble::detect(sample, dialect)?;
    let delimiter = above.delimiter.or(dialect.delimiter);
    let sample = sample.after(above.bytes, above.lines);
    let reading = Reading::of(sample, dialect, delimiter).map_err(|error| error.at(sample.start))?;
    let Reading { syntax, backslash, division } = &reading;
    let source = match (above.delimiter, dialect.delimiter) {
        (_, Some(_)) => DelimiterSource::Setting,
        (Some(_), None) => DelimiterSource::SepLine,
        (None, None) => DelimiterSource::Detected,
    };
    if dialect.has_header {
        check_header(sample, *syntax, division, source)?;
    }
    check_single_quotes(sample, dialect, division)?;
    check_spaced_quotes(sample, dialect, division)?;
    let extra_field = if dialect.has_header { extra_field(sample, dialect, division)? } else { ExtraField::Absent };
    Ok(CsvDialect {
        delimiter: Some(syntax.delimiter),
        skip_lines: Some(above.lines),
        detected: Some(Detected { backslash: *backslash, extra_field }),
        ..dialect.clone()
    })
}

/// The field without a name, in a file with a header.
fn extra_field(sample: Sample<'_>, dialect: &CsvDialect, division: &Division<'_>) -> Result<ExtraField> {
    match (dialect.extra_field, division.extra_field()) {
        (ExtraFieldPlace::First, _) if division.is_wider_than_header() => Ok(ExtraField::Unnamed),
        (ExtraFieldPlace::First, _) => Ok(ExtraField::Absent),
        (ExtraFieldPlace::Auto, ExtraField::Empty) if begins_with_row_numbers(division) => {
            let message = "every record has one field more than the header: it may be the first one, which looks like a row \
                           number, or the last one, which is empty; set CSV_EXTRA_FIELD to first or last";
            let (bytes, lines) = division.first_start();
            Err(Error::new(ErrorKind::Invalid, message).at(sample.after(bytes, lines).start))
        }
        (ExtraFieldPlace::Auto | ExtraFieldPlace::Last, extra_field) => Ok(extra_field),
    }
}

/// Whether the records may begin with row numbers as R writes them: the writer quotes texts, but not other values, and the first
/// field is a number in quotes. So it is the name of a row, not data.
fn begins_with_row_numbers(division: &Division<'_>) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut has_bare_value = false;
    for (record, mut row) in division.rows().enumerate() {
        if record == 0 {
            if !row.all(|name| name.is_quoted) {
                return false;
            }
            continue;
        }
        let is_row_number = row
            .next()
            .is_some_and(|first| first.is_quoted && first.text.get(1..first.text.len() - 1).is_some_and(is_number));
        if !is_row_number {
            return false;
        }
        has_bare_value |= row.any(|field| !field.is_quoted && is_unquoted_by_r(field.text));
    }
    has_bare_value
}

/// Whether R writes such a field without quotes: numbers, dates, times and booleans.
fn is_unquoted_by_r(field: &[u8]) -> bool {
    match field {
        [b'0'..=b'9', ..] | [b'-' | b'.', b'0'..=b'9' | b'.', ..] => true,
        other => matches!(other, b"TRUE" | b"FALSE" | b"Inf" | b"-Inf"),
    }
}

fn check_header(sample: Sample<'_>, syntax: Syntax, division: &Division<'_>, source: DelimiterSource) -> Result<()> {
    let (bytes, lines) = division.first_start();
    delimiter::check_header(sample, syntax, division, source)
        .map_err(|error| error.at(sample.after(bytes, lines).start))
}

/// Rejects a file in which single quotes are around the text fields, so that they would become part of the values.
///
/// Every field that begins with one also ends with one, and no field has double quotes. All names have them, or a column
/// has them in all its data fields while the other columns have none.
fn check_single_quotes(sample: Sample<'_>, dialect: &CsvDialect, division: &Division<'_>) -> Result<()> {
    if dialect.quote != Some(b'"') || memchr::memchr(b'\'', sample.text).is_none() {
        return Ok(());
    }
    let mut columns = vec![SingleQuotes::default(); division.first_width()];
    let mut names = SingleQuotes::default();
    for (record, row) in division.rows().enumerate() {
        for (column, field) in row.enumerate() {
            if field.is_quoted {
                return Ok(());
            }
            let seen = match dialect.has_header && record == 0 {
                true => Some(&mut names),
                false => columns.get_mut(column),
            };
            if !seen.is_none_or(|seen| seen.see(field.text)) {
                return Ok(());
            }
        }
    }
    let has_records = division.records() > usize::from(dialect.has_header);
    let are_names_quoted = names.with > 0 && names.without == 0;
    let is_column_quoted = columns.iter().any(|column| column.with > 0);
    let are_columns_whole = columns.iter().all(|column| column.with == 0 || column.without == 0);
    let are_fields_quoted = are_names_quoted || is_column_quoted && are_columns_whole;
    if !has_records || !are_fields_quoted {
        return Ok(());
    }
    let message = "single quotes are around the text fields, but the quote character is the double quote; set CSV_QUOTE to \
                   the single quote, or to none if the quotes belong to the values";
    let (bytes, lines) = division.first_start();
    Err(Error::new(ErrorKind::Invalid, message).at(sample.after(bytes, lines).start))
}

/// Rejects UTF-16 without a byte order mark, whose first characters are not Latin: a zero byte is before or after every line end.
fn check_line_ends(sample: Sample<'_>) -> Result<()> {
    let line_ends = || memchr::memchr_iter(b'\n', sample.text);
    let is_zero = |index: Option<usize>| index.and_then(|index| sample.text.get(index)) == Some(&0);
    // The sample may end within a character.
    let is_cut = |end: usize| end + 1 == sample.text.len() && !sample.is_whole_file;
    let is_little = line_ends().all(|end| is_cut(end) || is_zero(end.checked_add(1)));
    let is_big = line_ends().all(|end| is_zero(end.checked_sub(1)));
    let first = line_ends().find(|end| !is_cut(*end));
    let name = match (first, is_little, is_big) {
        (Some(_), true, _) => "utf-16le",
        (Some(_), false, true) => "utf-16be",
        (Some(_), false, false) | (None, ..) => return Ok(()),
    };
    let message = format!("the file looks like UTF-16 without a byte order mark; set CSV_ENCODING to {name}");
    Err(Error::new(ErrorKind::Invalid, message).at(sample.start))
}

/// Rejects a file with a space between delimiter and quote, so that the quotes would become part of the values: in a column, all
/// fields have both.
fn check_spaced_quotes(sample: Sample<'_>, dialect: &CsvDialect, division: &Division<'_>) -> Result<()> {
    if dialect.quote != Some(b'"') || memchr::memmem::find(sample.text, b" \"").is_none() {
        return Ok(());
    }
    let is_spaced = |field: &[u8]| {
        field.starts_with(b" ") && matches!(field.trim_ascii_start(), [b'"', .., b'"'] | [b'"', .., b'"', b' '])
    };
    // For each column, whether all fields so far are spaced.
    let mut columns: Vec<Option<bool>> = vec![None; division.first_width()];
    for row in division.rows().skip(usize::from(dialect.has_header)) {
        for (column, field) in columns.iter_mut().zip(row) {
            if field.text.is_empty() || is_null_token(field.text) {
                continue;
            }
            let is_spaced = !field.is_quoted && is_spaced(field.text);
            // Elsewhere, quotes belong to values.
            if !is_spaced && !field.is_quoted && field.text.contains(&b'"') {
                return Ok(());
            }
            *column = Some(column.unwrap_or(true) && is_spaced);
        }
    }
    if !columns.contains(&Some(true)) {
        return Ok(());
    }
    let message = "a space is before the double quotes around fields, so the quotes would be part of the values; remove the space, or \
                   set CSV_QUOTE to none if the quotes belong to the values";
    let (bytes, lines) = division.first_start();
    Err(Error::new(ErrorKind::Invalid, message).at(sample.after(bytes, lines).start))
}

/// The number of fields with and without single quotes. Empty fields and null tokens do not count.
#[derive(Debug, Clone, Copy, Default)]
struct SingleQuotes {
    with: usize,
    without: usize,
}

impl SingleQuotes {
    /// Counts a field; returns whether a single quote at its start also ends it.
    fn see(&mut self, field: &[u8]) -> bool {
        match field {
            [b'\'', .., b'\''] => self.with += 1,
            [b'\'', ..] => return false,
            _ => self.without += usize::from(!field.is_empty() && !is_null_token(field)),
        }
        true
    }
}
