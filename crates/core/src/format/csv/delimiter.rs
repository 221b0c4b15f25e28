//! The mark between fields: a header that another mark divides must not quietly become a table of one column.

use memchr::memchr_iter;

use crate::error::{Error, ErrorKind, Result};

/// What divides files that are called CSV, with the names people know.
const DELIMITERS: [(u8, &str); 4] = [(b',', "comma"), (b';', "semicolon"), (b'\t', "tab"), (b'|', "pipe")];

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
            return Err(Error::new(ErrorKind::FileBroken, message));
        }
    }
    Ok(())
}
