//! Recognizes Excel workbooks and other office documents by their content.

use super::ZIP;
use crate::{Error, ErrorKind, Result};

/// The beginnings of the first name in an archive that is an Office document.
const OFFICE_NAMES: [&[u8]; 6] = [b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/", b"word/", b"ppt/"];
/// OpenDocument begins with its media type, which is not compressed.
const OPEN_DOCUMENT: &[u8] = b"mimetypeapplication/vnd.oasis.opendocument";
/// The offset of the first name in an archive.
const NAME_OFFSET: usize = 30;
/// The first bytes of a document of Office before 2007.
const OLD_DOCUMENT: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Rejects a file whose first bytes are those of an office document.
pub(super) fn reject(head: &[u8]) -> Result<()> {
    let name = head.get(NAME_OFFSET..).unwrap_or_default();
    let is_new = OFFICE_NAMES.iter().chain([&OPEN_DOCUMENT]).any(|start| name.starts_with(start));
    let what = match (head.starts_with(OLD_DOCUMENT), head.starts_with(ZIP) && is_new) {
        (true, _) => "an old Excel workbook or office document",
        (false, true) => "an Excel workbook or another office document",
        (false, false) => return Ok(()),
    };
    let message = format!(
        "the object is {what}, which is not supported; save each sheet as CSV in UTF-8, and upload the CSV files instead"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}
