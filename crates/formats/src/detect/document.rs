//! Recognizes files that are not data: workbooks and other office documents, PDF documents, images.
//!
//! An archive is recognized by the name of its first file, because a workbook is a zip archive. Folders are ignored. The name of
//! the archive itself does not matter.

use super::{FileName, ZIP};
use crate::{Error, ErrorKind, Result};

/// The first bytes of a document of Office before 2007, and of a newer one with a password.
const OLD_DOCUMENT: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
/// The beginnings of the names in an Office document, with the kind of document that has them. Only a name with one of
/// [`PART_ENDINGS`] counts, because a data file may be in a folder of the same name.
const OFFICE_NAMES: [(&[u8], Kind); 9] = [
    (b"xl/", Kind::Excel),
    (b"word/", Kind::Word),
    (b"ppt/", Kind::PowerPoint),
    (b"[Content_Types].xml", Kind::Office),
    (b"_rels/", Kind::Office),
    (b"docProps/", Kind::Office),
    (b"customXml/", Kind::Office),
    (b"package/services/metadata/", Kind::Office),
    (b"Metadata/Properties.plist", Kind::Apple),
];
/// The endings of the parts of an Office document, and of a property list of Apple.
const PART_ENDINGS: [&[u8]; 6] = [b".xml", b".rels", b".bin", b".vml", b".psmdcp", b".plist"];
/// The ending of the names in a document of Numbers, Pages or Keynote.
const APPLE_ENDING: &[u8] = b".iwa";
/// The only member of a document that is stored as it is, with the media type of the document.
const MEDIA_TYPE: &[u8] = b"mimetype";
/// The beginnings of the media types, with their kinds. An archive with another one is a document of another program.
const MEDIA_TYPES: [(&[u8], Kind); 2] = [
    (b"application/vnd.oasis.opendocument.spreadsheet", Kind::OpenSpreadsheet),
    (b"application/vnd.oasis.opendocument", Kind::OpenDocument),
];
/// The length of a member's header before its name.
const HEADER_BYTES: usize = 30;

/// The first bytes of other files without records, with their names.
const NOT_DATA: [(&[u8], &str); 8] = [
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\x05\x16\x07", "a file that macOS writes next to another one (its name begins with ._)"),
    (b"\0\x05\x16\0", "a file of macOS that contains another one (AppleSingle)"),
];

/// A kind of office document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Excel,
    Word,
    PowerPoint,
    /// One of the three.
    Office,
    Old,
    OpenSpreadsheet,
    OpenDocument,
    Apple,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Excel => "an Excel workbook",
            Self::Word => "a Word document",
            Self::PowerPoint => "a PowerPoint presentation",
            Self::Office => "an Excel workbook or another office document",
            Self::Old => "an old Excel workbook, one with a password, or another office document",
            Self::OpenSpreadsheet => "an OpenDocument spreadsheet",
            Self::OpenDocument => "an OpenDocument file",
            Self::Apple => "a document of Numbers, Pages or Keynote",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Excel | Self::Office | Self::Old | Self::OpenSpreadsheet | Self::Apple => {
                "save each sheet as CSV in UTF-8, and upload the CSV files instead"
            }
            Self::Word | Self::PowerPoint | Self::OpenDocument => UPLOAD_DATA,
        }
    }
}

const UPLOAD_DATA: &str = "upload the data as CSV, JSON or Parquet";

/// Rejects a file whose first bytes are those of a file without records.
pub(super) fn reject(head: &[u8]) -> Result<()> {
    if let Some(kind) = kind(head) {
        return Err(not_data(kind.name(), kind.advice()));
    }
    let found = NOT_DATA.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    match found.or_else(|| binary_image(head)) {
        Some(what) => Err(not_data(what, UPLOAD_DATA)),
        None => Ok(()),
    }
}

/// Why an archive with a member of this name is rejected; `None` if the name is not that of an office document's part.
pub(crate) fn reason_for_member(name: &[u8]) -> Option<String> {
    let kind = kind_of_name(name)?;
    Some(format!("it is {}; {}", kind.name(), kind.advice()))
}

fn not_data(what: &str, advice: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the object is {what}, not a data file; {advice}"))
}

/// An image whose first bytes alone could be text. The bytes after them could not.
fn binary_image(head: &[u8]) -> Option<&'static str> {
    let has_nul = |from: usize, to: usize| head.get(from..to).is_some_and(|bytes| bytes.contains(&0));
    match head {
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] if has_nul(6, 13) => Some("a GIF image"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', b'V', b'P', b'8', ..] => Some("a WebP image"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("a BMP image"),
        _ => None,
    }
}

/// The kind of office document that starts with these bytes.
fn kind(head: &[u8]) -> Option<Kind> {
    if head.starts_with(OLD_DOCUMENT) {
        return Some(Kind::Old);
    }
    if !head.starts_with(ZIP) {
        return None;
    }
    let starts = head.windows(ZIP.len()).enumerate().filter(|(_, window)| *window == ZIP);
    let mut files = starts.map(|(start, _)| member(&head[start..])).filter(|(name, _)| !name.ends_with(b"/"));
    let (name, data) = files.next()?;
    if name == MEDIA_TYPE {
        return MEDIA_TYPES.iter().find(|(start, _)| data.starts_with(start)).map(|(_, kind)| *kind);
    }
    let first = kind_of_name(name)?;
    // The files after the first one tell which office document it is.
    let mut kinds = files.filter_map(|(name, _)| kind_of_name(name));
    Some(if first == Kind::Office { kinds.find(|kind| *kind != Kind::Office).unwrap_or(first) } else { first })
}

/// The name of the first member, and its data, as far as they are known.
fn member(archive: &[u8]) -> (&[u8], &[u8]) {
    let length = |at: usize| match archive.get(at..at + 2) {
        Some(bytes) => usize::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        None => 0,
    };
    let rest = archive.get(HEADER_BYTES..).unwrap_or_default();
    let (name, rest) = rest.split_at(length(26).min(rest.len()));
    (name, rest.get(length(28)..).unwrap_or_default())
}

/// The kind of document that has a member of this name. A member with the ending of a data file is data.
fn kind_of_name(name: &[u8]) -> Option<Kind> {
    if std::str::from_utf8(name).is_ok_and(|name| FileName::of(name).is_some()) {
        return None;
    }
    if name.ends_with(APPLE_ENDING) {
        return Some(Kind::Apple);
    }
    if !PART_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return None;
    }
    OFFICE_NAMES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, kind)| *kind)
}

#[cfg(test)]
pub(super) mod tests {
    use rstest::rstest;

    use super::*;

    /// The beginning of an archive: the headers of members with these names and data.
    pub(crate) fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let member = |(name, data): &(&str, &str)| {
            let lengths = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
            [ZIP, &[0; 22], &lengths, name.as_bytes(), data.as_bytes()].concat()
        };
        members.iter().flat_map(member).collect()
    }

    #[rstest]
    #[case::excel(&["[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"], "an Excel workbook, not")]
    #[case::sheet_first(&["xl/worksheets/sheet1.xml"], "an Excel workbook, not")]
    #[case::binary_workbook(&["_rels/.rels", "xl/workbook.bin"], "an Excel workbook, not")]
    #[case::word(&["_rels/.rels", "docProps/app.xml", "word/document.xml"], "a Word document, not")]
    #[case::powerpoint(&["[Content_Types].xml", "ppt/presentation.xml"], "a PowerPoint presentation, not")]
    #[case::other_name_first(&["customXml/item1.xml"], "an Excel workbook or another office document, not")]
    #[case::folders_first(&["_rels/", "xl/", "xl/workbook.xml"], "an Excel workbook, not")]
    #[case::unknown_program(&["docProps/app.xml"], "an Excel workbook or another office document, not")]
    #[case::numbers(&["Index/Document.iwa"], "a document of Numbers, Pages or Keynote, not")]
    fn office_document_is_rejected_by_name(#[case] names: &[&str], #[case] what: &str) {
        let members: Vec<_> = names.iter().map(|name| (*name, "data")).collect();
        let error = reject(&archive(&members)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().starts_with(&format!("the object is {what}")), "{error}");
    }

    #[rstest]
    #[case("application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet", "save each sheet as CSV")]
    #[case("application/vnd.oasis.opendocument.spreadsheet-template", "an OpenDocument spreadsheet", "as CSV in UTF-8")]
    #[case("application/vnd.oasis.opendocument.text", "an OpenDocument file", "upload the data as CSV")]
    fn open_document_is_rejected_by_its_media_type(#[case] media_type: &str, #[case] what: &str, #[case] advice: &str) {
        let error = reject(&archive(&[("mimetype", media_type)])).unwrap_err();
        assert!(error.message().starts_with(&format!("the object is {what}, not a data file")), "{error}");
        assert!(error.message().contains(advice), "{error}");
    }

    #[rstest]
    #[case(b"%PDF-1.7\n", "a PDF document")]
    #[case(b"{\\rtf1\\ansi", "an RTF document")]
    #[case(b"\x89PNG\r\n\x1a\n\0\0", "a PNG image")]
    #[case(b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image")]
    #[case(b"II*\0\x08\0", "a TIFF image")]
    #[case(b"MM\0*\0\0", "a TIFF image")]
    #[case(b"GIF89a\x01\0\x01\0\x80\0\0", "a GIF image")]
    #[case(b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP image")]
    #[case(b"BM\x46\0\0\0\0\0\0\0\x36\0", "a BMP image")]
    #[case(b"\0\x05\x16\x07\0\x02\0\0", "a file that macOS writes next to another one")]
    fn document_or_image_is_rejected_by_name(#[case] head: &[u8], #[case] what: &str) {
        let error = reject(head).unwrap_err();
        assert!(error.message().starts_with(&format!("the object is {what}")), "{error}");
        assert!(error.message().ends_with("upload the data as CSV, JSON or Parquet"), "{error}");
    }

    #[rstest]
    #[case::csv_in_a_folder(&archive(&[("xl/orders.csv", "id\n1\n")]))]
    #[case::csv_in_a_folder_with_its_own_entry(&archive(&[("xl/", ""), ("xl/orders.csv", "id\n1\n")]))]
    #[case::file_without_extension(&archive(&[("xl/", ""), ("xl/orders", "id\n1\n")]))]
    #[case::text_in_a_folder(&archive(&[("word/", ""), ("word/orders.txt", "id\n1\n")]))]
    #[case::folders_only(&archive(&[("xl/", ""), ("word/", "")]))]
    #[case::json_in_a_folder(&archive(&[("word/a.json.gz", "")]))]
    #[case::similar_name(&archive(&[("xl.csv", "")]))]
    #[case::other_media_type(&archive(&[("mimetype", "text/csv")]))]
    #[case::csv_that_mentions_a_workbook(&archive(&[("a.csv", "PK\x03\x04 xl/")]))]
    #[case::header_only(ZIP)]
    #[case::bmi(b"BMI,weight\n21,70\n")]
    #[case::gif(b"GIF89a,GIF87a\n1,2\n")]
    #[case::riff(b"RIFF,a\nWEBPVP8,b\n")]
    #[case::percent(b"%PDF,a\n")]
    #[case::brace(b"{\\r,a\n")]
    #[case::empty(b"")]
    fn data_is_accepted(#[case] head: &[u8]) {
        assert!(reject(head).is_ok());
    }

    #[test]
    fn member_of_a_workbook_is_recognized() {
        let reason = reason_for_member(b"xl/workbook.xml").unwrap();
        assert!(reason.starts_with("it is an Excel workbook; save each sheet as CSV in UTF-8"), "{reason}");
        assert_eq!(reason_for_member(b"xl/orders.csv"), None);
        assert_eq!(reason_for_member(b"xl/"), None);
    }
}
