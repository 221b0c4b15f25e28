//! The delimiter of a CSV file: found in its first records when they can be read in one way only.
//!
//! A header that another delimiter divides never becomes one column.

use memchr::memchr_iter;

use crate::{Error, ErrorKind, Result};

/// What divides files that are called CSV, with the names people know.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

/// As much text as the delimiter is looked for in.
pub(super) const SAMPLE_BYTES: usize = 64 * 1024;
/// As many records.
const SAMPLE_RECORDS: usize = 100;

/// Finds the delimiter of a file that begins with this text; `is_whole` when the text is the whole file.
///
/// Every delimiter that divides the header gives a reading. Readings are dropped in this order, unless all would be:
/// 1. records of the sample have different numbers of fields, or quotes are where RFC 4180 allows none;
/// 2. both are so;
/// 3. no other record has as many fields as the header.
///
/// The delimiter of the one reading that remains is returned. When none divides the header, the file has one column.
///
/// # Errors
/// When more than one delimiter remains. The number of fields decides nothing: a text column may hold any character.
pub(super) fn find(sample: &[u8], is_whole: bool, quote: u8) -> Result<u8> {
    let mut readings: Vec<Reading> =
        DELIMITERS.into_iter().map(|delimiter| Reading::of(sample, is_whole, delimiter, quote)).collect();
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
                "the delimiter may be {}, and each reading gives other columns; set CSV_DELIMITER to the right one",
                names.join(" or ")
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Keeps the readings that pass a test, or all of them when none does.
fn keep_better(readings: &mut Vec<Reading>, is_better: impl Fn(&Reading) -> bool) {
    if readings.iter().any(&is_better) {
        readings.retain(is_better);
    }
}

/// How one delimiter divides a sample.
struct Reading {
    delimiter: u8,
    name: &'static str,
    /// Fields of the first record; 0 without a record.
    fields: usize,
    /// Whole records, the first one included.
    records: usize,
    /// Records with as many fields as the first, itself included.
    even_records: usize,
    /// Whether quotes are only at both ends of a field, or doubled between them.
    is_quoted_well: bool,
}

impl Reading {
    fn of(sample: &[u8], is_whole: bool, (delimiter, name): (u8, &'static str), quote: u8) -> Self {
        let reading = Self { delimiter, name, fields: 0, records: 0, even_records: 0, is_quoted_well: true };
        let mut scan = Scan { reading, quote, fields: 1, place: Place::FieldStart, is_blank: true };
        for byte in sample {
            scan.read(*byte);
            if scan.reading.records == SAMPLE_RECORDS {
                return scan.reading;
            }
        }
        // A record that the sample's end cuts says little, unless it is the only one.
        if is_whole && scan.place != Place::Quoted || scan.reading.records == 0 {
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

/// Reads a sample by one delimiter.
struct Scan {
    reading: Reading,
    quote: u8,
    /// Fields of the open record so far.
    fields: usize,
    place: Place,
    /// Whether the open line is empty so far.
    is_blank: bool,
}

impl Scan {
    fn read(&mut self, byte: u8) {
        let is_quote = byte == self.quote;
        match self.place {
            Place::Quoted if is_quote => self.place = Place::Closed,
            Place::Quoted => {}
            Place::FieldStart | Place::Closed if is_quote => {
                self.place = Place::Quoted;
                self.is_blank = false;
            }
            Place::FieldStart | Place::Unquoted | Place::Closed if matches!(byte, b'\n' | b'\r') => self.end_record(),
            Place::FieldStart | Place::Unquoted | Place::Closed => {
                self.is_blank = false;
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
        if !self.is_blank {
            let reading = &mut self.reading;
            if reading.records == 0 {
                reading.fields = self.fields;
            }
            reading.records += 1;
            reading.even_records += usize::from(self.fields == reading.fields);
        }
        (self.fields, self.place, self.is_blank) = (1, Place::FieldStart, true);
    }
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
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}
