//! The mark between fields: found in the first records, and a header that another mark divides never becomes one column.

use memchr::memchr_iter;

use crate::error::{Error, ErrorKind, Result};

/// What divides files that are called CSV, with the names people know.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

/// As much text as the delimiter is looked for in.
pub(super) const SAMPLE_BYTES: usize = 64 * 1024;
/// As many records.
const SAMPLE_RECORDS: usize = 100;

/// Finds what divides the fields of a file that begins with this text; `is_whole` when that is all of it.
///
/// A delimiter fits when it divides the header, and every record of the sample into as many fields. The one that gives the
/// most fields wins. When none fits, the header alone decides, and when nothing divides that, the file has one column.
///
/// # Errors
/// When two of them give as many fields.
pub(super) fn find(sample: &[u8], is_whole: bool, quote: u8) -> Result<u8> {
    let counts =
        DELIMITERS.map(|(delimiter, name)| (delimiter, name, count_fields(sample, is_whole, delimiter, quote)));
    let divides = |(_, _, count): &(u8, &str, Count)| count.first > 1;
    let fitting: Vec<_> = counts.iter().filter(|each| divides(each) && each.2.is_even).collect();
    let candidates = match fitting.is_empty() {
        true => counts.iter().filter(|each| divides(each)).collect(),
        false => fitting,
    };
    let Some(most) = candidates.iter().map(|(_, _, count)| count.first).max() else { return Ok(b',') };
    let best: Vec<_> = candidates.into_iter().filter(|(_, _, count)| count.first == most).collect();
    match best[..] {
        [(_, one, _), (_, other, _), ..] => {
            let message =
                format!("its fields may be divided by the {one} or by the {other}; say by which with CSV_DELIMITER");
            Err(Error::new(ErrorKind::FileBroken, message))
        }
        [(delimiter, _, _)] => Ok(*delimiter),
        [] => Ok(b','),
    }
}

/// How a delimiter divides a sample.
struct Count {
    /// Fields of the first record.
    first: usize,
    /// Whether all whole records have as many.
    is_even: bool,
}

impl Count {
    fn end_record(&mut self, fields: usize) {
        match self.first {
            0 => self.first = fields,
            first => self.is_even &= first == fields,
        }
    }
}

fn count_fields(sample: &[u8], is_whole: bool, delimiter: u8, quote: u8) -> Count {
    let mut count = Count { first: 0, is_even: true };
    let (mut fields, mut records) = (1, 0);
    let (mut is_quoted, mut may_open, mut is_blank) = (false, true, true);
    for byte in sample {
        if is_quoted {
            // A quote closes, unless another one follows, which then opens again.
            is_quoted = *byte != quote;
            may_open = !is_quoted;
        } else if *byte == quote && may_open {
            (is_quoted, is_blank) = (true, false);
        } else if matches!(byte, b'\n' | b'\r') {
            if !is_blank {
                count.end_record(fields);
                records += 1;
                if records == SAMPLE_RECORDS {
                    return count;
                }
            }
            (fields, may_open, is_blank) = (1, true, true);
        } else {
            may_open = *byte == delimiter;
            fields += usize::from(may_open);
            is_blank = false;
        }
    }
    // What the sample's end has cut says little, unless there is nothing else.
    if !is_blank && (is_whole && !is_quoted || count.first == 0) {
        count.end_record(fields);
    }
    count
}

/// Refuses a header in which another delimiter stands more often than `delimiter` does, quoted fields left aside.
pub(super) fn check_header(delimiter: u8, header: &[Vec<u8>], is_quoted: &[bool]) -> Result<()> {
    for (other, name) in DELIMITERS.into_iter().filter(|(other, _)| *other != delimiter) {
        let unquoted = header.iter().zip(is_quoted).filter(|(_, is_quoted)| !**is_quoted);
        let count: usize = unquoted.map(|(field, _)| memchr_iter(other, field).count()).sum();
        // As many as there are fields is one more than there are delimiters between them.
        if count >= header.len() {
            let delimiter =
                DELIMITERS.iter().find(|(known, _)| *known == delimiter).map_or("delimiter", |(_, name)| name);
            let message = format!(
                "the header is divided by the {name}, not by the {delimiter}; divide fields by the {delimiter}, or quote \
                 the column names that hold a {name}"
            );
            return Err(Error::new(ErrorKind::FileBroken, message));
        }
    }
    Ok(())
}
