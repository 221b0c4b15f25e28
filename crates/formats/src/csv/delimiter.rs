//! Detects the delimiter of a CSV file from its first records, and rejects the file if more than one is likely.
//!
//! Also rejects a header that another common delimiter divides into more columns; see [`check_header`].

use memchr::memchr_iter;

use crate::{Error, ErrorKind, Result};

/// The delimiters that are detected, with their names.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

/// The most text that is used.
pub(super) const SAMPLE_BYTES: usize = 64 * 1024;
/// The most records that are used.
const SAMPLE_RECORDS: usize = 100;

/// Returns the delimiter of a file that starts with `sample`.
///
/// The candidates are the delimiters that divide the first record. Three filters follow. Each keeps the candidates for
/// which its condition holds, or all of them if it holds for none:
///
/// 1. every record has the same number of fields, and all quotes are where RFC 4180 allows them
/// 2. one of these two
/// 3. at least one other record has as many fields as the first
///
/// If no delimiter divides the first record, the file has one column.
///
/// # Errors
/// When more than one candidate remains. The number of fields does not decide: a text column may contain any character.
pub(super) fn detect(sample: &[u8], is_whole_file: bool, quote: u8) -> Result<u8> {
    let mut candidates: Vec<Candidate> =
        DELIMITERS.into_iter().map(|delimiter| Candidate::of(sample, is_whole_file, delimiter, quote)).collect();
    candidates.retain(|candidate| candidate.fields > 1);
    keep_better(&mut candidates, |candidate| candidate.is_uniform() && candidate.is_quoted_well);
    keep_better(&mut candidates, |candidate| candidate.is_uniform() || candidate.is_quoted_well);
    keep_better(&mut candidates, |candidate| candidate.records_as_wide_as_first > 1);
    match &candidates[..] {
        [] => Ok(b','),
        [only] => Ok(only.delimiter),
        _ => {
            let names: Vec<String> = candidates.iter().map(|candidate| format!("the {}", candidate.name)).collect();
            let message = format!(
                "the delimiter may be {}, and each results in different columns; set CSV_DELIMITER to the right one",
                names.join(" or ")
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Keeps the candidates for which the condition holds, or all candidates if it holds for none.
fn keep_better(candidates: &mut Vec<Candidate>, is_better: impl Fn(&Candidate) -> bool) {
    if candidates.iter().any(&is_better) {
        candidates.retain(is_better);
    }
}

/// A delimiter, and what dividing the sample by it shows.
struct Candidate {
    delimiter: u8,
    name: &'static str,
    /// Number of fields in the first record; 0 if there is no record.
    fields: usize,
    /// Number of records.
    records: usize,
    /// Number of records with as many fields as the first record, including the first.
    records_as_wide_as_first: usize,
    /// Whether every quote is at an end of its field, or doubled within it.
    is_quoted_well: bool,
}

impl Candidate {
    fn of(sample: &[u8], is_whole_file: bool, (delimiter, name): (u8, &'static str), quote: u8) -> Self {
        let candidate =
            Self { delimiter, name, fields: 0, records: 0, records_as_wide_as_first: 0, is_quoted_well: true };
        let mut scan = Scan { candidate, quote, fields: 1, place: Place::FieldStart, is_empty_line: true };
        for byte in sample {
            scan.read(*byte);
            if scan.candidate.records == SAMPLE_RECORDS {
                return scan.candidate;
            }
        }
        // A record that the end of the sample cuts does not count, unless it is the only one.
        if is_whole_file && scan.place != Place::Quoted || scan.candidate.records == 0 {
            scan.end_record();
        }
        scan.candidate
    }

    fn is_uniform(&self) -> bool {
        self.records_as_wide_as_first == self.records
    }
}

/// The part of a field that the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote that closes the field, unless another quote follows.
    Closed,
}

/// Divides a sample by one delimiter.
struct Scan {
    candidate: Candidate,
    quote: u8,
    /// Number of fields of the open record.
    fields: usize,
    place: Place,
    /// Whether the open line is empty so far.
    is_empty_line: bool,
}

impl Scan {
    fn read(&mut self, byte: u8) {
        let is_quote = byte == self.quote;
        match self.place {
            Place::Quoted if is_quote => self.place = Place::Closed,
            Place::Quoted => {}
            Place::FieldStart | Place::Closed if is_quote => {
                self.place = Place::Quoted;
                self.is_empty_line = false;
            }
            Place::FieldStart | Place::Unquoted | Place::Closed if matches!(byte, b'\n' | b'\r') => self.end_record(),
            Place::FieldStart | Place::Unquoted | Place::Closed => {
                self.is_empty_line = false;
                if byte == self.candidate.delimiter {
                    self.fields += 1;
                    self.place = Place::FieldStart;
                } else {
                    self.candidate.is_quoted_well &= self.place != Place::Closed && !is_quote;
                    self.place = Place::Unquoted;
                }
            }
        }
    }

    fn end_record(&mut self) {
        if !self.is_empty_line {
            let candidate = &mut self.candidate;
            if candidate.records == 0 {
                candidate.fields = self.fields;
            }
            candidate.records += 1;
            candidate.records_as_wide_as_first += usize::from(self.fields == candidate.fields);
        }
        (self.fields, self.place, self.is_empty_line) = (1, Place::FieldStart, true);
    }
}

/// Rejects a header that another delimiter would divide into more columns. Delimiters in quoted fields do not count.
pub(super) fn check_header(delimiter: u8, header: &[Vec<u8>], is_quoted: &[bool]) -> Result<()> {
    for (other, name) in DELIMITERS.into_iter().filter(|(other, _)| *other != delimiter) {
        let unquoted = header.iter().zip(is_quoted).filter(|(_, is_quoted)| !**is_quoted);
        let count: usize = unquoted.map(|(field, _)| memchr_iter(other, field).count()).sum();
        // There is one delimiter less than there are fields.
        if count >= header.len() {
            let delimiter = DELIMITERS
                .iter()
                .find(|(known, _)| *known == delimiter)
                .map_or("another character".to_owned(), |(_, name)| format!("the {name}"));
            let message = format!(
                "the header looks {name}-separated, but the delimiter is {delimiter}; set CSV_DELIMITER, or quote the \
                 column names that contain a {name}"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}
