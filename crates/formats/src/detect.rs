//! Detects the format and the compression of an object from its key, its headers and its first bytes.
//!
//! The first bytes alone decide the compression. The setting decides the format; otherwise the first bytes or the key do, if
//! they are certain, and otherwise it is CSV. A known format that is not supported is rejected by name, and so is a file that is
//! not data: an office document, an image, or a page of HTML or XML.

pub(crate) mod document;
mod page;

use crate::{Error, ErrorKind, Result};

/// The number of first bytes that detection needs. A tar archive needs the most.
pub const HEAD_BYTES: usize = 512;

/// The endings of supported files, with their formats.
const FORMATS: [(&str, NamedFormat); 6] = [
    (".csv", NamedFormat::Csv),
    (".tsv", NamedFormat::TabSeparated),
    (".json", NamedFormat::Json),
    (".jsonl", NamedFormat::Json),
    (".ndjson", NamedFormat::Json),
    (".parquet", NamedFormat::Parquet),
];
/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
/// The endings that may follow one of [`FORMATS`].
const COMPRESSIONS: [&str; 3] = [".gz", ".zst", ".zip"];
/// The first bytes of a zip archive, and of an Excel workbook.
const ZIP: &[u8] = b"PK\x03\x04";

/// The first bytes of an ORC file. Text may start with them, but not with a zero soon after them.
const ORC: &[u8] = b"ORC";

/// The first bytes of known formats that are not supported, with their names.
const UNSUPPORTED: [(&[u8], &str); 12] = [
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\xff\x06\0\0sNaPpY", "compressed with Snappy"),
    (b"\x1f\x9d", "compressed with compress (.Z)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"Obj\x01", "an Avro file"),
    (b"ARROW1\0\0", "an Arrow or Feather file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, without the content of the file"),
];

/// The configured format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Detected for each file.
    Auto,
    /// CSV.
    Csv,
    /// JSON.
    Json,
    /// Parquet.
    Parquet,
}

/// What S3 says about an object, apart from its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Hints<'a> {
    /// The key.
    pub key: &'a str,
    /// The `Content-Type` header, if any.
    pub content_type: Option<&'a str>,
    /// The `Content-Encoding` header, if any.
    pub content_encoding: Option<&'a str>,
}

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, one member or more.
    Gzip,
    /// Zstandard, one frame or more.
    Zstd,
    /// A zip archive of one file.
    Zip,
}

/// The format that the ending of a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedFormat {
    /// `.csv`.
    Csv,
    /// `.tsv`: CSV with tabs between fields.
    TabSeparated,
    /// `.json`, `.jsonl`, `.ndjson`.
    Json,
    /// `.parquet`.
    Parquet,
}

/// The format of a file, by the way in which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Read from the first byte to the last.
    Streaming(StreamFormat),
    /// Parquet, read by byte ranges.
    Parquet,
}

/// A format that is read from the first byte to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// CSV.
    Csv,
    /// CSV with tabs between fields, unless another delimiter is configured.
    TabSeparated,
    /// JSON objects, in a sequence or an array.
    Json,
}

/// A key with the ending of a supported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName<'a> {
    /// The key without its ending.
    pub stem: &'a str,
    /// The whole ending, such as `.csv.gz`, as it is in the key.
    pub ending: &'a str,
    /// The format that the ending names.
    pub format: NamedFormat,
    /// Whether the ending names a compression.
    pub is_compressed: bool,
}

impl<'a> FileName<'a> {
    /// The parts of a key, or `None` if its ending is not supported. Letter case does not matter.
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

/// All supported endings, for messages.
pub fn known_endings() -> String {
    let formats: Vec<&str> = FORMATS.iter().map(|(ending, _)| *ending).collect();
    format!("{}, with or without {}", formats.join(" or "), COMPRESSIONS.join(" or "))
}

fn strip<'a>(key: &'a str, ending: &str) -> Option<&'a str> {
    let start = key.len().checked_sub(ending.len())?;
    key.get(start..)?.eq_ignore_ascii_case(ending).then_some(&key[..start])
}

/// Whether the key or the header of an object says that it is compressed.
pub fn looks_compressed(key: &str, content_encoding: Option<&str>) -> bool {
    let is_named = COMPRESSIONS.iter().any(|ending| strip(key, ending).is_some());
    is_named || encodings(content_encoding).any(|name| matches!(name, "gzip" | "x-gzip" | "zstd"))
}

/// The compression of an object, from its first [`HEAD_BYTES`] bytes, or all if it has fewer.
///
/// # Errors
/// For a known format or encoding that is not supported.
pub fn compression(hints: Hints<'_>, head: &[u8]) -> Result<Option<Compression>> {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Some(Compression::Gzip));
    }
    if is_zstd(head) {
        return Ok(Some(Compression::Zstd));
    }
    if head.starts_with(ZIP) {
        return document::reject(head).map(|()| Some(Compression::Zip));
    }
    reject_unsupported(head)?;
    match encodings(hints.content_encoding).find(|name| matches!(*name, "br" | "deflate" | "compress")) {
        Some(name) => Err(unsupported(&format!("stored with the content encoding {name}"))),
        None => Ok(None),
    }
}

/// The format of a file, from its first [`HEAD_BYTES`] bytes after decompression, or all if it has fewer.
///
/// # Errors
/// For a known format that is not supported, for a file that is not data, and for a file that is compressed more than once.
pub fn format(setting: FileFormat, hints: Hints<'_>, head: &[u8]) -> Result<Format> {
    if head.starts_with(&[0x1f, 0x8b]) || is_zstd(head) || head.starts_with(ZIP) {
        document::reject(head)?;
        return Err(unsupported("compressed more than once"));
    }
    reject_unsupported(head)?;
    if setting != FileFormat::Parquet {
        page::reject(head)?;
    }
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

/// Whether a file starts like an object with a key, or like an array of objects. No CSV header does.
fn looks_like_json(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // This also drops the byte order mark of UTF-16 and every other byte of UTF-16 text.
    let mut bytes = text.iter().filter(|byte| !matches!(byte, 0 | 0xfe | 0xff | b' ' | b'\t' | b'\r' | b'\n'));
    match bytes.next() {
        Some(b'{') => matches!(bytes.next(), Some(b'"' | b'}')),
        Some(b'[') => matches!(bytes.next(), Some(b'{')),
        _ => false,
    }
}

fn is_zstd(head: &[u8]) -> bool {
    // A frame, or a skippable frame.
    head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn reject_unsupported(head: &[u8]) -> Result<()> {
    document::reject(head)?;
    let by_start = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    let is_bzip2 = matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]);
    let is_orc = head.starts_with(ORC) && head.iter().take(12).any(|byte| *byte == 0);
    let is_tar = head.get(257..263).is_some_and(|magic| matches!(magic, b"ustar\0" | b"ustar "));
    let by_form = [(is_bzip2, "compressed with bzip2"), (is_orc, "an ORC file"), (is_tar, "a tar archive")];
    let what = by_start.or_else(|| by_form.into_iter().find(|(is_form, _)| *is_form).map(|(_, what)| what));
    what.map_or(Ok(()), |what| Err(unsupported(what)))
}

fn unsupported(what: &str) -> Error {
    let message = format!(
        "the object is {what}, which is not supported; upload CSV or JSON, plain or compressed with gzip, zstd or zip, or Parquet"
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
    #[case("a.csv.ZIP", Some(("a", ".csv.ZIP", NamedFormat::Csv, true)))]
    #[case("a.zip", None)]
    #[case("a.txt", None)]
    #[case("a.jsonl.gz", Some(("a", ".jsonl.gz", NamedFormat::Json, true)))]
    #[case("a.NDJSON", Some(("a", ".NDJSON", NamedFormat::Json, false)))]
    #[case("a.parquet", Some(("a", ".parquet", NamedFormat::Parquet, false)))]
    #[case("é", None)]
    #[case("csv", None)]
    fn key_has_a_stem_and_an_ending(#[case] key: &str, #[case] expected: Option<(&str, &str, NamedFormat, bool)>) {
        let found = FileName::of(key).map(|name| (name.stem, name.ending, name.format, name.is_compressed));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(b"\x1f\x8b\x08\0", None, Some(Compression::Gzip))]
    #[case(b"\x28\xb5\x2f\xfd\0", Some("gzip"), Some(Compression::Zstd))]
    #[case(b"\x51\x2a\x4d\x18\0", None, Some(Compression::Zstd))]
    #[case(b"a,b\n1,2\n", Some("gzip"), None)]
    #[case(b"", Some("gzip"), None)]
    #[case(&zip("orders.csv"), None, Some(Compression::Zip))]
    #[case(&zip("xl.csv"), None, Some(Compression::Zip))]
    #[case(b"PK\x03\x04", None, Some(Compression::Zip))]
    #[case(b"BZh9,b\n", None, None)]
    fn first_bytes_decide_the_compression(
        #[case] head: &[u8],
        #[case] content_encoding: Option<&str>,
        #[case] expected: Option<Compression>,
    ) {
        let hints = Hints { key: "uploads/a.csv.gz", content_encoding, ..HINTS };
        assert_eq!(compression(hints, head).unwrap(), expected);
    }

    #[rstest]
    #[case(b"PK\x05\x06rest", "an empty zip archive")]
    #[case(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS")]
    #[case(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "an old Excel workbook")]
    #[case(&zip("[Content_Types].xml"), "an Excel workbook or another office document")]
    #[case(&zip("xl/workbook.xml"), "an Excel workbook")]
    #[case(b"%PDF-1.7\n", "a PDF document")]
    #[case(b"ORC\n\x03\0\0\x0a", "an ORC file")]
    #[case(b"ARROW1\0\0\xff", "an Arrow or Feather file")]
    #[case(b"SQLite format 3\0", "an SQLite database")]
    #[case(b"BZh91AY&SYrest", "compressed with bzip2")]
    #[case(b"\xfd7zXZ\0rest", "compressed with xz")]
    #[case(b"\x04\x22\x4d\x18rest", "compressed with lz4")]
    #[case(&tar(), "a tar archive")]
    fn unsupported_format_is_named(#[case] head: &[u8], #[case] what: &str) {
        for error in [compression(HINTS, head).unwrap_err(), format(FileFormat::Auto, HINTS, head).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().starts_with(&format!("the object is {what}")), "{error}");
        }
    }

    /// The beginning of an archive whose first member has this name.
    fn zip(name: &str) -> Vec<u8> {
        document::tests::archive(&[(name, "")])
    }

    /// A workbook that openpyxl has written.
    const WORKBOOK: &[u8] = include_bytes!("detect/testdata/openpyxl.xlsx");

    #[test]
    fn workbook_of_openpyxl_is_rejected() {
        let head = &WORKBOOK[..HEAD_BYTES];
        for error in [compression(HINTS, head).unwrap_err(), format(FileFormat::Csv, HINTS, head).unwrap_err()] {
            assert!(error.message().starts_with("the object is an Excel workbook"), "{error}");
            assert!(error.message().contains("save each sheet as CSV in UTF-8"), "{error}");
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
    fn unsupported_content_encoding_is_rejected(#[case] content_encoding: Option<&str>) {
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
    #[case("a.csv", b"ORC,id\n1,2\n", Format::Streaming(StreamFormat::Csv))]
    #[case("a.json", b"id,name\n", Format::Streaming(StreamFormat::Json))]
    #[case("a.ndjson.gz", b"", Format::Streaming(StreamFormat::Json))]
    #[case("a.csv", b"", Format::Streaming(StreamFormat::Csv))]
    fn first_bytes_override_the_key(#[case] key: &str, #[case] head: &[u8], #[case] expected: Format) {
        let hints = Hints { key, ..HINTS };
        assert_eq!(format(FileFormat::Auto, hints, head).unwrap(), expected);
        assert_eq!(format(FileFormat::Json, hints, head).unwrap(), Format::Streaming(StreamFormat::Json));
    }

    #[test]
    fn page_is_rejected_in_place_of_csv_and_json() {
        for key in ["a.csv", "a.tsv", "a.json", "a"] {
            for setting in [FileFormat::Auto, FileFormat::Csv, FileFormat::Json] {
                let error = format(setting, Hints { key, ..HINTS }, b"<!DOCTYPE html>\n<html>\n").unwrap_err();
                assert!(error.message().starts_with("the object is an HTML page"), "{error}");
            }
        }
    }

    #[test]
    fn file_that_is_compressed_twice_is_rejected() {
        for head in [&[0x1f, 0x8b, 8, 0][..], &zip("a.csv")] {
            let error = format(FileFormat::Csv, HINTS, head).unwrap_err();
            assert!(error.message().contains("compressed more than once"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_detected_or_rejected(head in prop::collection::vec(any::<u8>(), 0..600), key in "\\PC{0,20}") {
            let hints = Hints { key: &key, ..HINTS };
            let _ = compression(hints, &head);
            let _ = format(FileFormat::Auto, hints, &head);
            if let Some(name) = FileName::of(&key) {
                prop_assert_eq!(format!("{}{}", name.stem, name.ending), key.clone());
            }
        }
    }
}
