//! The dialect of a file: what the settings say, and what the first pass detects.

use super::state::Escape;
use crate::text::TextEncoding;

/// How the text of a file is divided into records and fields.
///
/// A first pass detects the delimiter, the lines to skip, and the rest of `detected`, if they are `None`. The decoder then
/// returns the dialect with these values, so that later passes read the same records. In other fields, `None` has its own meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvDialect {
    /// The delimiter between two fields: an ASCII byte other than the quote, CR and LF. `None` detects it.
    pub delimiter: Option<u8>,
    /// The quote character: an ASCII byte. `None` means that delimiters always separate fields.
    pub quote: Option<u8>,
    /// Whether the first record contains the column names. If not, the columns are `col_1`, `col_2` and so on.
    pub has_header: bool,
    /// The encoding of a file without a byte order mark.
    pub encoding: TextEncoding,
    /// Unquoted fields that mean NULL in every column. `None` means the usual null tokens, which are not NULL in text columns.
    pub null_values: Option<Vec<Vec<u8>>>,
    /// The escape character, which makes the next character literal, in and outside quotes: an ASCII byte other than the
    /// delimiter, CR and LF. `None` detects a backslash that escapes quotes. The quote itself means doubled quotes only.
    pub escape: Option<u8>,
    /// The first byte of lines that are skipped everywhere outside quotes: an ASCII byte other than the delimiter and the
    /// quote. `None` detects lines above the header that begin with `#`.
    pub comment: Option<u8>,
    /// The number of lines above the header that are skipped, whatever they contain; empty lines count. `None` detects
    /// comments and Excel's `sep=` line.
    pub skip_lines: Option<usize>,
    /// The number of lines at the end that are skipped, whatever they contain; empty lines count.
    pub skip_footer_lines: usize,
    /// The place of the extra field, if every data record has one more field than the header.
    pub extra_field: ExtraFieldPlace,
    /// What happens to records of nothing but delimiters.
    pub blank_records: BlankRecords,
    /// What happens to records that repeat the header.
    pub repeated_headers: RepeatedHeaders,
    /// What happens to records with fewer fields than the header.
    pub short_records: ShortRecords,
    /// What the first pass has detected beyond the other fields; `None` before.
    pub detected: Option<Detected>,
}

/// The treatment of records whose fields are all empty and unquoted, as Excel leaves them at the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlankRecords {
    /// They are rows of NULLs.
    #[default]
    Keep,
    /// They are skipped like empty lines, with any number of fields.
    Skip,
}

/// The treatment of records that are equal to the header in all fields, as in a file that was joined from several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RepeatedHeaders {
    /// They are rows.
    #[default]
    Keep,
    /// They are skipped like empty lines.
    Skip,
}

/// The treatment of records with fewer fields than the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortRecords {
    /// They are bad records.
    #[default]
    Refuse,
    /// Their last fields are NULL.
    Fill,
}

/// What the first records show. Every later record must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detected {
    /// The meaning of a backslash, if no escape character is set.
    pub backslash: Backslash,
    /// The field without a name.
    pub extra_field: ExtraField,
}

/// The meaning of a backslash in a file without a configured escape character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backslash {
    /// It is data.
    #[default]
    Data,
    /// In quotes it escapes a quote or a backslash, and nothing else follows it.
    Escape,
}

/// The place of the field without a name, in files whose data records all have one more field than the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExtraFieldPlace {
    /// The last field, which is always empty. A file whose first fields look like row numbers of R is rejected.
    #[default]
    Auto,
    /// The first field, such as row numbers. It becomes a column without a name.
    First,
    /// The last field, which is always empty.
    Last,
}

/// Which field of the data records has no name, as detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExtraField {
    /// Records have as many fields as the header.
    #[default]
    Absent,
    /// A delimiter at the end of every data record opens one more field than the header has, which is empty and unquoted. It is
    /// dropped.
    Empty,
    /// Every data record begins with a field that has no name in the header.
    Unnamed,
}

/// With commas. Unlike the CSV settings, it does not detect the delimiter.
impl Default for CsvDialect {
    fn default() -> Self {
        Self {
            delimiter: Some(b','),
            quote: Some(b'"'),
            has_header: true,
            encoding: TextEncoding::Utf8,
            null_values: None,
            escape: None,
            comment: None,
            skip_lines: None,
            skip_footer_lines: 0,
            extra_field: ExtraFieldPlace::Auto,
            blank_records: BlankRecords::Keep,
            repeated_headers: RepeatedHeaders::Keep,
            short_records: ShortRecords::Refuse,
            detected: None,
        }
    }
}

impl CsvDialect {
    /// Whether the first records still decide something.
    pub(super) fn is_incomplete(&self) -> bool {
        self.delimiter.is_none() || self.detected.is_none()
    }

    /// Whether backslashes escape quotes although no escape character is set.
    pub fn has_detected_escape(&self) -> bool {
        self.escape.is_none() && self.detected.is_some_and(|detected| detected.backslash == Backslash::Escape)
    }

    /// The escape character, configured or detected.
    pub(super) fn escape(&self) -> Option<Escape> {
        match (self.escape, self.detected) {
            (Some(byte), _) => (self.quote != Some(byte)).then_some(Escape::Configured(byte)),
            (None, Some(Detected { backslash: Backslash::Escape, .. })) => Some(Escape::Detected),
            (None, Some(_) | None) => None,
        }
    }
}
