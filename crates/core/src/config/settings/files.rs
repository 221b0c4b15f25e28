//! How files are read, and limits on them.

use std::time::Duration;

use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};
use spillway_formats::TextEncoding;
use spillway_formats::csv::{BlankRecords, ExtraFieldPlace, RepeatedHeaders, ShortRecords};
use spillway_formats::detect::FileFormat;
use spillway_formats::json::{JsonValues, RecordsPath};
use spillway_formats::reject::RejectLimit;

settings! { Files FILES {
    /// Format of the files. `auto` detects the format of each file.
    FILE_FORMAT: FileFormat = Value::Choice(&[
        Choice::new("auto", FileFormat::Auto),
        Choice::new("csv", FileFormat::Csv),
        Choice::new("json", FileFormat::Json),
        Choice::new("parquet", FileFormat::Parquet),
    ]), All, Template::Parameter("FileFormat"), default "auto";

    /// Delimiter between the fields of CSV. `auto` detects comma, semicolon, tab or pipe in each file.
    CSV_DELIMITER: Option<u8> = Value::Text {
        form: "auto, comma, semicolon, tab, pipe, space, one ASCII character other than the quote, or its code, such as \\x01",
        parse: delimiter,
    }, All, Template::Parameter("CsvDelimiter"), default "auto";

    /// Quote character for CSV fields that contain delimiters or line breaks.
    CSV_QUOTE: Option<u8> = Value::Choice(&[
        Choice::new("\"", Some(b'"')),
        Choice::new("'", Some(b'\'')),
        Choice::new("none", None),
    ]), All, Template::Parameter("CsvQuote"), default "\"";

    /// Whether the first record of a CSV file contains the column names. Without names, columns are called `col_1`,
    /// `col_2` and so on.
    CSV_HEADER: bool = Value::boolean(),
        All, Template::Parameter("CsvHeader"), default "true";

    /// Character that makes the next one literal in CSV. `auto` detects a backslash that escapes quotes. With `none`, only
    /// doubled quotes escape.
    CSV_ESCAPE: CsvEscape = Value::Text {
        form: "auto, none or one ASCII character",
        parse: escape,
    }, All, Template::NotSet, default "auto";

    /// First character of CSV lines that are skipped. `auto` detects lines above the header that begin with `#`.
    CSV_COMMENT: Option<u8> = Value::Text {
        form: "auto or one ASCII character other than the delimiter and the quote",
        parse: character_or_auto,
    }, All, Template::NotSet, default "auto";

    /// Number of lines above the CSV header that are skipped; empty lines count. `auto` detects comments and the `sep=` line of
    /// Excel.
    CSV_SKIP_LINES: Option<usize> = Value::Text {
        form: "auto, or a number of lines up to 1000",
        parse: skip_lines,
    }, All, Template::NotSet, default "auto";

    /// Number of lines at the end of CSV files that are skipped, such as a line with totals; empty lines count.
    CSV_SKIP_FOOTER_LINES: usize = Value::number("number of lines", 0, 100), All, Template::NotSet, default "0";

    /// Place of the extra field, in CSV files whose data records all have one field more than the header. `last` drops the last
    /// field, which is always empty. `first` names the first field `col_1`: it contains row numbers, as R writes them. `auto`
    /// means `last`, and rejects files for which `first` is likely.
    CSV_EXTRA_FIELD: ExtraFieldPlace = Value::Choice(&[
        Choice::new("auto", ExtraFieldPlace::Auto),
        Choice::new("first", ExtraFieldPlace::First),
        Choice::new("last", ExtraFieldPlace::Last),
    ]), All, Template::NotSet, default "auto";

    /// Action for CSV records of nothing but delimiters. `keep` loads them as rows of NULLs, `skip` skips them.
    CSV_BLANK_RECORDS: BlankRecords =
        Value::Choice(&[Choice::new("keep", BlankRecords::Keep), Choice::new("skip", BlankRecords::Skip)]),
        All, Template::NotSet, default "keep";

    /// Action for CSV records that are equal to the header in all fields, as in a file that was joined from several files. `keep`
    /// loads them as rows, `skip` skips them.
    CSV_REPEATED_HEADERS: RepeatedHeaders =
        Value::Choice(&[Choice::new("keep", RepeatedHeaders::Keep), Choice::new("skip", RepeatedHeaders::Skip)]),
        All, Template::NotSet, default "keep";

    /// Action for CSV records with fewer fields than the header. `refuse` treats them as bad records, `fill` loads NULL for
    /// the fields at their end.
    CSV_SHORT_RECORDS: ShortRecords =
        Value::Choice(&[Choice::new("refuse", ShortRecords::Refuse), Choice::new("fill", ShortRecords::Fill)]),
        All, Template::NotSet, default "refuse";

    /// Encoding of CSV files without a byte order mark. `auto` detects it from all bytes of a file. A
    /// file above `BUFFER_MAX_BYTES` is then read once or twice more.
    CSV_ENCODING: TextEncoding = Value::Text {
        form: "auto, or the name of an encoding, such as utf-8, windows-1252, shift_jis or utf-16le",
        parse: |text| TextEncoding::parse(text).ok_or(Reason::Form),
    }, All, Template::Parameter("CsvEncoding"), default "utf-8";

    /// Keys of the array that contains the records, in JSON files that are one document around them, such as `$.data` or
    /// `Records`. Unset, each object of the file is a record.
    JSON_RECORDS: RecordsPath = Value::Text {
        form: "object keys separated by dots, such as $.data or result.rows",
        parse: |text| RecordsPath::parse(text.trim()).ok_or(Reason::Form),
    }, All, Template::NotSet;

    /// How values are written in JSON files. `dynamodb` reads items that DynamoDB exported, such as
    /// `{"Item": {"id": {"S": "a1"}}}`. `changes` reads changes of Debezium and `spillway diff`, such as
    /// `{"op": "u", "before": {…}, "after": {…}}`; the operation becomes the column `op`.
    JSON_VALUES: JsonValues = Value::Choice(&[
        Choice::new("plain", JsonValues::Plain),
        Choice::new("dynamodb", JsonValues::DynamoDb),
        Choice::new("changes", JsonValues::Changes),
    ]), All, Template::NotSet, default "plain";

    /// Number of levels of objects within a JSON record whose members are columns. `{"a": {"b": 1}}` has the column `a_b` with 1,
    /// and the column `a` with 0.
    JSON_FLATTEN_DEPTH: usize = Value::number("number of levels", 0, 16), All, Template::NotSet, default "0";

    /// CSV fields that mean NULL in every column, unless they are quoted. They replace the default null tokens.
    NULL_VALUES: Vec<String> =
        Value::list("tokens separated by commas"), All, Template::Parameter("NullValues");
}}

settings! { Limits LIMITS {
    /// Maximum number of rejected records in a file. They are set aside, and the other records are loaded. A file with more is
    /// rejected or falls back as a whole.
    MAX_REJECTS: RejectLimit = Value::Text {
        form: "a number, or a share such as 1%",
        parse: reject_limit,
    }, All, Template::Parameter("MaxRejects"), default "0";

    /// Longest record, including the header. A file with a longer one is rejected.
    MAX_RECORD_BYTES: usize = Value::number("number of bytes", 1024, 1 << 30), All, Template::NotSet, default "33554432";

    /// Maximum number of columns. A file with more is rejected.
    MAX_COLUMNS: usize = Value::number("number", 1, 65_535), All, Template::NotSet, default "4096";

    /// Maximum size of a file after decompression. A larger file is rejected.
    MAX_DECODED_BYTES: u64 = Value::number("number of bytes", 1, u64::MAX),
        All, Template::Parameter("MaxDecodedBytes"), default "107374182400";

    /// Maximum ratio of decompressed to stored bytes, checked after the first 64 MiB. A file above it is rejected.
    MAX_DECODED_RATIO: u64 = Value::number("number", 1, 1_000_000),
        All, Template::Parameter("MaxDecodedRatio"), default "200";

    /// Objects up to this stored size are read once and kept in memory.
    BUFFER_MAX_BYTES: u64 = Value::number("number of bytes", 0, 1 << 30), All, Template::NotSet, default "8388608";

    /// Maximum number of small files that one run loads concurrently; their total size is at most `BUFFER_MAX_BYTES`. Only with
    /// `LOAD_MODE=append`, `UNKNOWN_COLUMNS` `refuse` or `ignore`, and `CHANGED_TYPES=refuse`.
    MAX_CONCURRENT_FILES: usize = Value::number("number", 1, 64), All, Template::NotSet, default "4";

    /// Memory of a comparison of two exports, in addition to the buffers of the two readers. Other rows are in temporary files
    /// in the folder that `TMPDIR` names.
    DIFF_MEMORY: u64 = Value::number("number of bytes", 1 << 20, 1 << 40),
        ExportsAndCommandLine, Template::NotSet, default "67108864";

    /// How long a file stays locked after its worker has died.
    LEASE_SECONDS: Duration = Value::number("number of seconds", 5, 3600), All, Template::NotSet, default "60";
}}

/// A character; `None` to detect it. The text is not trimmed, since a tab is white space.
fn delimiter(text: &str) -> Result<Option<u8>, Reason> {
    match (text.to_ascii_lowercase().as_str(), text.as_bytes()) {
        ("auto", _) => Ok(None),
        ("tab" | "\\t", _) => Ok(Some(b'\t')),
        ("comma", _) => Ok(Some(b',')),
        ("semicolon", _) => Ok(Some(b';')),
        ("pipe", _) => Ok(Some(b'|')),
        ("space", _) => Ok(Some(b' ')),
        (_, [byte]) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Ok(Some(*byte)),
        (code, _) => {
            let byte = code.strip_prefix("\\x").filter(|digits| digits.len() == 2);
            let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let is_delimiter = |byte: &u8| byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0);
            byte.filter(is_delimiter).map(Some).ok_or(Reason::Form)
        }
    }
}

/// How values are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsvEscape {
    /// Detected in each file.
    Auto,
    /// Only by doubled quotes.
    None,
    /// By this character.
    Character(u8),
}

fn escape(text: &str) -> Result<CsvEscape, Reason> {
    match (text.to_ascii_lowercase().as_str(), text.as_bytes()) {
        ("auto", _) => Ok(CsvEscape::Auto),
        ("none", _) => Ok(CsvEscape::None),
        (_, [byte]) if is_character(*byte) => Ok(CsvEscape::Character(*byte)),
        _ => Err(Reason::Form),
    }
}

fn character_or_auto(text: &str) -> Result<Option<u8>, Reason> {
    match (text.to_ascii_lowercase().as_str(), text.as_bytes()) {
        ("auto", _) => Ok(None),
        (_, [byte]) if is_character(*byte) => Ok(Some(*byte)),
        _ => Err(Reason::Form),
    }
}

fn is_character(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0)
}

fn skip_lines(text: &str) -> Result<Option<usize>, Reason> {
    match text.trim().to_ascii_lowercase().as_str() {
        "auto" => Ok(None),
        number => number.parse().ok().filter(|lines| *lines <= 1000).map(Some).ok_or(Reason::Form),
    }
}

/// A number of records, or a share of them with a percent sign.
fn reject_limit(text: &str) -> Result<RejectLimit, Reason> {
    let limit = match text.trim().strip_suffix('%') {
        None => text.trim().parse().ok().map(RejectLimit::Count),
        Some(share) => {
            let percent = share.trim().parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            percent.map(|percent| RejectLimit::PerMillion((percent * 10_000.0).round() as u64))
        }
    };
    limit.ok_or(Reason::Form)
}
