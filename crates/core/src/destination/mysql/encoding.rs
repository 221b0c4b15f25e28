//! Encodes rows for INSERT and LOAD DATA. Each value is checked before it is written.

use crate::destination::encoding::{write_escaped, write_hex};
use crate::destination::rows::Rows;
use crate::error::Result;

use super::check::{Encoded, check};
use super::column::{Storage, TableColumn, is_sent_in_hex};

/// The text format of a statement's rows.
pub(super) trait RowFormat {
    /// The byte between two fields.
    const SEPARATOR: u8;

    /// Writes NULL.
    fn null(out: &mut Vec<u8>);

    /// Writes a value with escapes.
    fn value(column: &TableColumn, value: &[u8], out: &mut Vec<u8>);
}

/// Appends the current row. Returns `false`, and appends nothing, for a rejected row.
pub(super) fn write<F: RowFormat>(
    rows: &mut Rows<'_, Storage>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<bool> {
    rows.encode_row(out, |rows, out| write_fields::<F>(rows, scratch, out))
}

fn write_fields<F: RowFormat>(rows: &Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
    for (index, (column, field)) in rows.fields().enumerate() {
        if index > 0 {
            out.push(F::SEPARATOR);
        }
        match check(column, field, scratch, rows.position())? {
            Encoded::Null => F::null(out),
            Encoded::Bytes(bytes) => F::value(column, bytes, out),
            Encoded::Scratch => F::value(column, scratch, out),
        }
    }
    Ok(())
}

/// SQL literals. Every value that is neither an integer nor bytes is a string. The session's SQL mode has backslash escapes.
pub(super) struct Literal;

impl RowFormat for Literal {
    const SEPARATOR: u8 = b',';

    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"NULL");
    }

    fn value(column: &TableColumn, value: &[u8], out: &mut Vec<u8>) {
        if matches!(column.storage, Storage::Bits { .. } | Storage::Integer { .. } | Storage::Flag { .. }) {
            // The check allows only digits and a sign.
            out.extend_from_slice(value);
            return;
        }
        if is_sent_in_hex(column) {
            out.extend_from_slice(b"x'");
            write_hex(value, out);
            out.push(b'\'');
            return;
        }
        let is_geometry = column.storage == Storage::Geometry;
        if is_geometry {
            out.extend_from_slice(b"ST_GeomFromText(");
        }
        out.push(b'\'');
        for &byte in value {
            match byte {
                b'\\' | b'\'' => out.extend_from_slice(&[b'\\', byte]),
                0 => out.extend_from_slice(b"\\0"),
                _ => out.push(byte),
            }
        }
        out.push(b'\'');
        if is_geometry {
            out.push(b')');
        }
    }
}

/// Tab-separated values with backslash escapes, and `\N` for NULL. The statement decodes hex digits.
pub(super) struct Tsv;

impl RowFormat for Tsv {
    const SEPARATOR: u8 = b'\t';

    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\\N");
    }

    fn value(column: &TableColumn, value: &[u8], out: &mut Vec<u8>) {
        match is_sent_in_hex(column) {
            true => write_hex(value, out),
            false => write_escaped(value, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn quotes_in_strings_are_escaped() {
        let mut out = Vec::new();
        Literal::value(&column_of("text"), b"'; DROP TABLE t; -- \\'\0", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "'\\'; DROP TABLE t; -- \\\\\\'\\0'");
    }

    #[test]
    fn bytes_are_sent_in_hex() {
        let mut column = column_of("varbinary(9)");
        column.is_binary = true;
        let (mut literal, mut tsv) = (Vec::new(), Vec::new());
        for value in [&b"\\x\xff"[..], b""] {
            Literal::value(&column, value, &mut literal);
            Tsv::value(&column, value, &mut tsv);
            tsv.push(b'\t');
        }
        assert_eq!((literal.as_slice(), tsv.as_slice()), (&b"x'5c78ff'x''"[..], &b"5c78ff\t\t"[..]));
        column.is_binary = false;
        Tsv::value(&column, b"a\\", &mut tsv);
        assert_eq!(tsv, b"5c78ff\t\ta\\\\");
    }

    #[test]
    fn integers_have_no_quotes() {
        let mut out = Vec::new();
        Literal::value(&column_of("bit(3)"), b"7", &mut out);
        Literal::null(&mut out);
        assert_eq!(out, b"7NULL");
    }
}
