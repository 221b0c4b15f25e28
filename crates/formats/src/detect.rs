//! What an object is: its format, and what it is compressed with, from its name, its headers and its first bytes.
//!
//! Compression shows in the first bytes alone, whatever a name or a header says. A format is the setting's, else what the
//! first bytes or the name say for certain, else CSV. What is known but not read is refused by its name.

use crate::{Error, ErrorKind, Result};

/// As many first bytes as it takes to tell what an object is; a tar archive shows itself last.
pub const HEAD_BYTES: usize = 512;

/// Endings of files that hold rows.
const FORMATS: [(&str, NamedFormat); 6] = [
    (".csv", NamedFormat::Csv),
    (".tsv", NamedFormat::TabSeparated),
    (".json", NamedFormat::Json),
    (".jsonl", NamedFormat::Json),
    (".ndjson", NamedFormat::Json),
    (".parquet", NamedFormat::Parquet),
];
/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";
/// Endings that may stand behind one of [`FORMATS`].
const COMPRESSIONS: [&str; 2] = [".gz", ".zst"];

/// The names of what begins with these bytes and is not read.
const FOREIGN: [(&[u8], &str); 11] = [
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\xff\x06\0\0sNaPpY", "compressed with Snappy"),
    (b"\x1f\x9d", "compressed with compress (.Z)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"Obj\x01", "an Avro file"),
    (b"%PDF-", "a PDF document"),
];

/// What files are, as far as it is not seen from each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Each file is looked at.
    Auto,
    /// CSV.
    Csv,
    /// JSON.
    Json,
    /// Parquet.
    Parquet,
}

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Hints<'a> {
    /// Its key.
    pub key: &'a str,
    /// The `Content-Type` header, where there is one.
    pub content_type: Option<&'a str>,
    /// The `Content-Encoding` header, where there is one.
    pub content_encoding: Option<&'a str>,
}

/// What a file is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// One gzip member behind the other.
    Gzip,
    /// One Zstandard frame behind the other.
    Zstd,
}

/// What a file's name says of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedFormat {
    /// `.csv`.
    Csv,
    /// `.tsv`: CSV whose fields are divided by tabs.
    TabSeparated,
    /// `.json`, `.jsonl`, `.ndjson`.
    Json,
    /// `.parquet`.
    Parquet,
}

/// What a file is, as far as it decides how its rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A format whose decoder is fed with the file's bytes.
    Streaming(StreamFormat),
    /// Parquet, read by ranges.
    Parquet,
}

/// A format that is read from the first byte to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// Text in records and fields.
    Csv,
    /// The same, divided by tabs unless the settings say otherwise.
    TabSeparated,
    /// Objects, one after the other or in an array.
    Json,
}

/// A key whose ending says that it is a file with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName<'a> {
    /// The key without its ending.
    pub stem: &'a str,
    /// All of the ending, such as `.csv.gz`, as it is written.
    pub ending: &'a str,
    /// The format that it names.
    pub format: NamedFormat,
    /// Whether it names a compression.
    pub is_compressed: bool,
}

impl<'a> FileName<'a> {
    /// The parts of a key, or nothing when it does not end like a file of rows, in any letter case.
    pub fn of(key: &'a str) -> Option<Self> {
        let (rest, is_compressed) = match COMPRESSIONS.iter().find_map(|ending| strip(key, ending)) {
            Some(rest) => (rest, true),
            None => (key, false),
        };
        FORMATS.iter().find_map(|(ending, format)| {
            let stem = strip(rest, ending)?;
            Some(Self { stem, ending: &key[stem.len()..], format: *format, is_compressed })
        })
    }
}

/// How a file of rows may end, for messages.
pub fn known_endings() -> String {
    let formats: Vec<&str> = FORMATS.iter().map(|(ending, _)| *ending).collect();
    format!("{}, with or without {}", formats.join(" or "), COMPRESSIONS.join(" or "))
}

fn strip<'a>(key: &'a str, ending: &str) -> Option<&'a str> {
    let start = key.len().checked_sub(ending.len())?;
    key.get(start..)?.eq_ignore_ascii_case(ending).then_some(&key[..start])
}

/// Whether an object of which only name and headers are known is probably compressed.
pub fn looks_compressed(key: &str, content_encoding: Option<&str>) -> bool {
    let is_named = COMPRESSIONS.iter().any(|ending| strip(key, ending).is_some());
    is_named || encodings(content_encoding).any(|name| matches!(name, "gzip" | "x-gzip" | "zstd"))
}

/// What the stored bytes are compressed with, from the first of them (as many as [`HEAD_BYTES`], or all there are).
///
/// # Errors
/// `FileBroken` for what is known and not read.
pub fn compression(hints: Hints<'_>, head: &[u8]) -> Result<Option<Compression>> {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Some(Compression::Gzip));
    }
    if is_zstd(head) {
        return Ok(Some(Compression::Zstd));
    }
    refuse_foreign(head)?;
    match encodings(hints.content_encoding).find(|name| matches!(*name, "br" | "deflate" | "compress")) {
        Some(name) => Err(unsupported(&format!("stored with the content encoding {name}"))),
        None => Ok(None),
    }
}

/// What the decoded bytes are, from the first of them (as many as [`HEAD_BYTES`], or all there are).
///
/// # Errors
/// `FileBroken` for what is known and not read.
pub fn format(setting: FileFormat, hints: Hints<'_>, head: &[u8]) -> Result<Format> {
    if head.starts_with(&[0x1f, 0x8b]) || is_zstd(head) {
        return Err(unsupported("compressed more than once"));
    }
    refuse_foreign(head)?;
    let named = FileName::of(hints.key).map(|name| name.format);
    let is_tab_separated = named == Some(NamedFormat::TabSeparated)
        || hints.content_type.is_some_and(|header| header.starts_with("text/tab-separated-values"));
    let csv = if is_tab_separated { StreamFormat::TabSeparated } else { StreamFormat::Csv };
    Ok(match setting {
        FileFormat::Csv => Format::Streaming(csv),
        FileFormat::Json => Format::Streaming(StreamFormat::Json),
        FileFormat::Parquet => Format::Parquet,
        FileFormat::Auto if head.starts_with(PARQUET) => Format::Parquet,
        FileFormat::Auto if named == Some(NamedFormat::Json) || looks_like_json(head) => {
            Format::Streaming(StreamFormat::Json)
        }
        FileFormat::Auto => Format::Streaming(csv),
    })
}

/// Whether a file begins as an object with a key, or as an array of objects: no header of a CSV file does.
fn looks_like_json(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // Of UTF-16 the marks and every other byte go.
    let mut marks = text.iter().filter(|byte| !matches!(byte, 0 | 0xfe | 0xff | b' ' | b'\t' | b'\r' | b'\n'));
    match marks.next() {
        Some(b'{') => matches!(marks.next(), Some(b'"' | b'}')),
        Some(b'[') => matches!(marks.next(), Some(b'{')),
        _ => false,
    }
}

fn is_zstd(head: &[u8]) -> bool {
    // A frame, or one to be skipped.
    head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn refuse_foreign(head: &[u8]) -> Result<()> {
    let by_start = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    let is_bzip2 = matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]);
    let is_tar = head.get(257..263).is_some_and(|magic| matches!(magic, b"ustar\0" | b"ustar "));
    let what = match (by_start, is_bzip2, is_tar) {
        (Some(what), _, _) => what,
        (None, true, _) => "compressed with bzip2",
        (None, false, true) => "a tar archive",
        (None, false, false) => return Ok(()),
    };
    Err(unsupported(what))
}

fn unsupported(what: &str) -> Error {
    let message = format!(
        "the object is {what}, which is unsupported; upload CSV or JSON, plain or compressed with gzip or zstd, or Parquet"
    );
    Error::new(ErrorKind::Invalid, message)
}

fn encodings(header: Option<&str>) -> impl Iterator<Item = &str> {
    header.unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HINTS: Hints<'_> = Hints { key: "uploads/a.csv", content_type: None, content_encoding: None };

    #[rstest]
    #[case("a/orders.csv", Some(("a/orders", ".csv", NamedFormat::Csv, false)))]
    #[case("ORDERS.CSV.GZ", Some(("ORDERS", ".CSV.GZ", NamedFormat::Csv, true)))]
    #[case("a.b.tsv.zst", Some(("a.b", ".tsv.zst", NamedFormat::TabSeparated, true)))]
    #[case(".csv", Some(("", ".csv", NamedFormat::Csv, false)))]
    #[case("a.gz", None)]
    #[case("a.gz.csv", Some(("a.gz", ".csv", NamedFormat::Csv, false)))]
    #[case("a.csv.gz.gz", None)]
    #[case("a.txt", None)]
    #[case("a.jsonl.gz", Some(("a", ".jsonl.gz", NamedFormat::Json, true)))]
    #[case("a.NDJSON", Some(("a", ".NDJSON", NamedFormat::Json, false)))]
    #[case("a.parquet", Some(("a", ".parquet", NamedFormat::Parquet, false)))]
    #[case("é", None)]
    #[case("csv", None)]
    fn names_have_a_stem_and_an_ending(#[case] key: &str, #[case] expected: Option<(&str, &str, NamedFormat, bool)>) {
        let found = FileName::of(key).map(|name| (name.stem, name.ending, name.format, name.is_compressed));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(b"\x1f\x8b\x08\0", None, Some(Compression::Gzip))]
    #[case(b"\x28\xb5\x2f\xfd\0", Some("gzip"), Some(Compression::Zstd))]
    #[case(b"\x51\x2a\x4d\x18\0", None, Some(Compression::Zstd))]
    #[case(b"a,b\n1,2\n", Some("gzip"), None)]
    #[case(b"", Some("gzip"), None)]
    #[case(b"BZh9,b\n", None, None)]
    fn compression_shows_in_the_bytes(
        #[case] head: &[u8],
        #[case] content_encoding: Option<&str>,
        #[case] expected: Option<Compression>,
    ) {
        let hints = Hints { key: "uploads/a.csv.gz", content_encoding, ..HINTS };
        assert_eq!(compression(hints, head).unwrap(), expected);
    }

    #[rstest]
    #[case(b"PK\x03\x04rest", "a zip archive")]
    #[case(b"BZh91AY&SYrest", "compressed with bzip2")]
    #[case(b"\xfd7zXZ\0rest", "compressed with xz")]
    #[case(b"\x04\x22\x4d\x18rest", "compressed with lz4")]
    #[case(&tar(), "a tar archive")]
    fn what_is_not_read_is_named(#[case] head: &[u8], #[case] what: &str) {
        for error in [compression(HINTS, head).unwrap_err(), format(FileFormat::Auto, HINTS, head).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().starts_with(&format!("the object is {what}")), "{error}");
        }
    }

    fn tar() -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..5].copy_from_slice(b"a.csv");
        head[257..263].copy_from_slice(b"ustar\0");
        head
    }

    #[rstest]
    #[case(Some("br"))]
    #[case(Some("utf-8, deflate"))]
    fn an_encoding_that_does_not_show_is_refused(#[case] content_encoding: Option<&str>) {
        assert!(compression(Hints { content_encoding, ..HINTS }, b"a,b\n").is_err());
    }

    #[rstest]
    #[case("a.csv", b"PAR1\x15\0", Format::Parquet)]
    #[case("a.parquet", b"id,name\n1,x\n", Format::Streaming(StreamFormat::Csv))]
    #[case("a.csv", b"{\"a\":1}\n", Format::Streaming(StreamFormat::Json))]
    #[case("a.csv", b"\xef\xbb\xbf\n[ {", Format::Streaming(StreamFormat::Json))]
    #[case("a.csv", b"\xff\xfe{\0\n\0\"\0", Format::Streaming(StreamFormat::Json))]
    #[case("a.csv", b"{a},[b]\n", Format::Streaming(StreamFormat::Csv))]
    #[case("a.csv", b"[a],{b}\n", Format::Streaming(StreamFormat::Csv))]
    #[case("a.json", b"id,name\n", Format::Streaming(StreamFormat::Json))]
    #[case("a.ndjson.gz", b"", Format::Streaming(StreamFormat::Json))]
    #[case("a.csv", b"", Format::Streaming(StreamFormat::Csv))]
    fn the_first_bytes_say_more_than_the_name(#[case] key: &str, #[case] head: &[u8], #[case] expected: Format) {
        let hints = Hints { key, ..HINTS };
        assert_eq!(format(FileFormat::Auto, hints, head).unwrap(), expected);
        assert_eq!(format(FileFormat::Json, hints, head).unwrap(), Format::Streaming(StreamFormat::Json));
    }

    #[test]
    fn what_is_compressed_twice_is_refused() {
        let error = format(FileFormat::Csv, HINTS, &[0x1f, 0x8b, 8, 0]).unwrap_err();
        assert!(error.message().contains("compressed more than once"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_something_or_refused(head in prop::collection::vec(any::<u8>(), 0..600), key in "\\PC{0,20}") {
            let hints = Hints { key: &key, ..HINTS };
            let _ = compression(hints, &head);
            let _ = format(FileFormat::Auto, hints, &head);
            if let Some(name) = FileName::of(&key) {
                prop_assert_eq!(format!("{}{}", name.stem, name.ending), key.clone());
            }
        }
    }
}
