//! Recognizes a page of HTML or XML, which a download job often saves under the name of a data file.

use crate::{Error, ErrorKind, Result};

/// The first characters of a page in lower case, with its name. The next character must end the name of the tag.
const OPENINGS: [(&[u8], &str); 5] =
    [(b"<!doctype", HTML), (b"<html", HTML), (b"<head", HTML), (b"<body", HTML), (b"<?xml", "an XML document")];
/// A comment before the page, with any character after it.
const COMMENT: &[u8] = b"<!--";
const HTML: &str = "an HTML page";

/// Rejects a file whose first bytes are those of a page.
pub(super) fn reject(head: &[u8]) -> Result<()> {
    let Some(what) = page(head) else { return Ok(()) };
    let message = format!(
        "the object is {what}, not CSV, JSON or Parquet; such a page is usually the sign-in or error page that a \
         download job saved in place of the file; check that job and upload the file again"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

/// The name of the page that starts with these bytes, in any letter case, also after white space.
fn page(head: &[u8]) -> Option<&'static str> {
    // This also drops the byte order marks, and every other byte of a page in UTF-16.
    let text: Vec<u8> = head
        .iter()
        .filter(|byte| !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff))
        .skip_while(|byte| byte.is_ascii_whitespace())
        .map(u8::to_ascii_lowercase)
        .collect();
    if text.starts_with(COMMENT) {
        return Some(HTML);
    }
    OPENINGS.into_iter().find_map(|(opening, what)| {
        let next = text.strip_prefix(opening)?.first();
        next.is_none_or(|next| matches!(next, b'>' | b'/') || next.is_ascii_whitespace()).then_some(what)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[rstest]
    #[case::doctype("<!DOCTYPE html>\n<html>", "an HTML page")]
    #[case::lower_case("<!doctype html>", "an HTML page")]
    #[case::html("<HTML lang=\"en\">", "an HTML page")]
    #[case::head("<head>", "an HTML page")]
    #[case::body("<body\nclass=x>", "an HTML page")]
    #[case::comment("<!-- Copyright -->\r\n<!DOCTYPE html>", "an HTML page")]
    #[case::xml("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "an XML document")]
    #[case::white_space("\r\n\t <html>", "an HTML page")]
    #[case::mark("\u{feff}<?XML version=\"1.0\"?>", "an XML document")]
    #[case::mark_and_white_space("\u{feff}\n<html>", "an HTML page")]
    #[case::nothing_else("<html", "an HTML page")]
    fn page_is_rejected_by_name(#[case] text: &str, #[case] what: &str) {
        for head in [text.as_bytes().to_vec(), utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)] {
            let error = reject(&head).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().starts_with(&format!("the object is {what}, not CSV")), "{error}");
            assert!(error.message().contains("sign-in or error page"), "{error}");
        }
    }

    #[rstest]
    #[case::longer_name("<html_title>,id\n")]
    #[case::other_tag("<id>,<name>\n1,2\n")]
    #[case::quoted("\"<html>\",id\n")]
    #[case::second_column("id,<html>\n")]
    #[case::xml_name("<?xmlid,b\n")]
    #[case::less_than("<5,>=5\n1,2\n")]
    #[case::empty("")]
    fn other_text_is_accepted(#[case] text: &str) {
        assert!(reject(text.as_bytes()).is_ok());
    }
}
