//! Detects the delimiter of a CSV file from its first records, if only one delimiter is possible.
//!
//! A header that contains another delimiter never becomes one column.

use memchr::memchr_iter;

use crate::{Error, ErrorKind, Result};

/// The delimiters that are detected, with their names.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

/// The most text that is used.
pub(super) const SAMPLE_BYTES: usize = 64 * 1024;
/// The most records that are used.
const SAMPLE_RECORDS: usize = 100;

/// The delimiter of a file that starts with `sample`.
///
/// Each delimiter that is in the header results in a reading. Three tests drop readings, unless a test would drop all:
///
/// 1. records have different numbers of fields, or quotes are where RFC 4180 does not allow them
/// 2. both
/// 3. no other record has as many fields as the header
///
/// Returns the delimiter of the one reading that remains. If the header contains no delimiter, the file has one column.
///
/// # Errors
/// When more than one reading remains. The number of fields is no evidence: a text column may contain any character.
pub(super) fn detect(sample: &[u8], is_whole_file: bool, quote: u8) -> Result<u8> {
    let mut readings: Vec<Reading> =
        DELIMITERS.into_iter().map(|delimiter| Reading::of(sample, is_whole_file, delimiter, quote)).collect();
    readings.retain(|reading| reading.fields > 1);
    keep_better(&mut readings, |reading| reading.is_even() && reading.is_quoted_well);
    keep_better(&mut readings, |reading| reading.is_even() || reading.is_quoted_well);
    keep_better(&mut readings, |reading| reading.even_records > 1);
    match &readings[..] {
        [] => Ok(b','),
        [only] => Ok(only.delimiter),
        _ => {
            let names: Vec<String> = readings.iter().map(|reading| format!("the {}", reading.name)).collect();
            let message = format!(
                "the delimiter may be {}, and each results in different columns; set CSV_DELIMITER to the right one",
                names.join(" or ")
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Keeps the readings that pass a test, or all readings if none passes.
fn keep_better(readings: &mut Vec<Reading>, is_better: impl Fn(&Reading) -> bool) {
    if readings.iter().any(&is_better) {
        readings.retain(is_better);
    }
}

/// The result of dividing a sample by one delimiter.
struct Reading {
    delimiter: u8,
    name: &'static str,
    /// Number of fields of the first record; 0 without a record.
    fields: usize,
    /// Number of records.
    records: usize,
    /// Number of records with as many fields as the first, which counts too.
    even_records: usize,
    /// Whether all quotes are at both ends of a field, or doubled between them.
    is_quoted_well: bool,
}

impl Reading {
    fn of(sample: &[u8], is_whole_file: bool, (delimiter, name): (u8, &'static str), quote: u8) -> Self {
        let reading = Self { delimiter, name, fields: 0, records: 0, even_records: 0, is_quoted_well: true };
        let mut scan = Scan { reading, quote, fields: 1, place: Place::FieldStart, is_empty_line: true };
        for byte in sample {
            scan.read(*byte);
            if scan.reading.records == SAMPLE_RECORDS {
                return scan.reading;
            }
        }
        // A record that the end of the sample cuts does not count, unless it is the only one.
        if is_whole_file && scan.place != Place::Quoted || scan.reading.records == 0 {
            scan.end_record();
        }
        scan.reading
    }

    fn is_even(&self) -> bool {
        self.even_records == self.records
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
    reading: Reading,
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
                if byte == self.reading.delimiter {
                    self.fields += 1;
                    self.place = Place::FieldStart;
                } else {
                    self.reading.is_quoted_well &= self.place != Place::Closed && !is_quote;
                    self.place = Place::Unquoted;
                }
            }
        }
    }

    fn end_record(&mut self) {
        if !self.is_empty_line {
            let reading = &mut self.reading;
            if reading.records == 0 {
                reading.fields = self.fields;
            }
            reading.records += 1;
            reading.even_records += usize::from(self.fields == reading.fields);
        }
        (self.fields, self.place, self.is_empty_line) = (1, Place::FieldStart, true);
    }
}

/// Rejects a header that contains another delimiter more often than `delimiter`. Quoted fields do not count.
pub(super) fn check_header(delimiter: u8, header: &[Vec<u8>], is_quoted: &[bool]) -> Result<()> {
    for (other, name) in DELIMITERS.into_iter().filter(|(other, _)| *other != delimiter) {
        let unquoted = header.iter().zip(is_quoted).filter(|(_, is_quoted)| !**is_quoted);
        let count: usize = unquoted.map(|(field, _)| memchr_iter(other, field).count()).sum();
        // There is one delimiter less than there are fields.
        if count >= header.len() {
            let delimiter =
                DELIMITERS.iter().find(|(known, _)| *known == delimiter).map_or("delimiter", |(_, name)| name);
            let message = format!(
                "the fields of the header are separated by the {name}, not by the {delimiter}; separate them by the \
                 {delimiter}, or quote the column names that contain a {name}"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}
