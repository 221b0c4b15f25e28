//! Encodes rows for COPY: in the binary format if every column's type can be encoded here exactly, otherwise as text.

use crate::destination::encoding::{write_escaped, write_hex};
use crate::destination::rows::Rows;
use crate::error::Result;
use spillway_formats::schema::value::{Value, write_canonical};

use super::check::{Encoded, check};
use super::column::{Storage, TableColumn};

/// 2000-01-01, the server's epoch, in days since 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
/// Digits per group of a numeric.
const GROUP: usize = 4;
const GROUP_BYTES: usize = size_of::<u16>();
/// Size of the numbers before the groups: their count, the weight, the sign and the scale.
const NUMERIC_HEADER_BYTES: usize = 4 * size_of::<u16>();
/// Maximum number of digits that a numeric displays after the decimal point.
const MAX_SCALE: usize = 16_383;

/// The format of one COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyFormat {
    /// The server's binary format.
    Binary,
    /// Text, which the server parses.
    Text,
}

impl CopyFormat {
    /// Returns the format for these columns.
    pub(super) fn of(columns: &[TableColumn]) -> Self {
        let is_parsed = |column: &TableColumn| {
            matches!(column.storage, Storage::ServerParsed | Storage::Array { .. } | Storage::Span)
                || (column.storage == Storage::Bytea && !column.is_binary)
        };
        if columns.iter().any(is_parsed) { Self::Text } else { Self::Binary }
    }

    /// Returns the format's name in SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }

    /// Writes the header before the first row.
    pub(super) fn begin(self, out: &mut Vec<u8>) {
        match self {
            // Signature, flags, and the length of the header extension.
            Self::Binary => out.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"),
            Self::Text => {}
        }
    }

    /// Writes the trailer after the last row.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        match self {
            Self::Binary => out.extend_from_slice(&(-1i16).to_be_bytes()),
            Self::Text => {}
        }
    }

    /// Appends the current row. Returns `false`, and appends nothing, for a rejected row.
    pub(super) fn write(self, rows: &mut Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool> {
        rows.encode_row(out, |rows, out| self.write_fields(rows, scratch, out))
    }

    fn write_fields(self, rows: &Rows<'_, Storage>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        if self == Self::Binary {
            let columns = i16::try_from(rows.width()).unwrap_or(i16::MAX);
            out.extend_from_slice(&columns.to_be_bytes());
        }
        for (index, (column, field)) in rows.fields().enumerate() {
            let value = check(column, field, scratch, rows.position())?;
            match self {
                Self::Binary => binary(column.storage, &value, out),
                Self::Text => {
                    if index > 0 {
                        out.push(b'\t');
                    }
                    text(&value, out);
                }
            }
        }
        if self == Self::Text {
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Writes a value after its length in four bytes. The length of NULL is -1.
fn binary(storage: Storage, value: &Encoded<'_>, out: &mut Vec<u8>) {
    match value {
        Encoded::Null => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Encoded::Boolean(value) => fixed([u8::from(*value)], out),
        Encoded::Integer(value) => {
            let width = if let Storage::Integer { bytes } = storage { bytes } else { 8 };
            // The check has compared the value with the column's range.
            match width {
                2 => fixed((*value as i16).to_be_bytes(), out),
                4 => fixed((*value as i32).to_be_bytes(), out),
                _ => fixed(value.to_be_bytes(), out),
            }
        }
        Encoded::Double(value) if storage == Storage::Real => fixed((*value as f32).to_be_bytes(), out),
        Encoded::Double(value) => fixed(value.to_be_bytes(), out),
        Encoded::Date(days) => fixed((days - EPOCH_DAYS).to_be_bytes(), out),
        Encoded::Time(micros) => fixed(micros.to_be_bytes(), out),
        Encoded::DateTime(micros) => fixed((micros - EPOCH_MICROS).to_be_bytes(), out),
        Encoded::Decimal(digits) => {
            let length_at = out.len();
            out.extend_from_slice(&[0; 4]);
            numeric(digits, out);
            let length = out.len() - length_at - 4;
            out[length_at..length_at + 4].copy_from_slice(&length_bytes(length));
        }
        Encoded::Text(bytes) if storage == Storage::Jsonb => {
            out.extend_from_slice(&length_bytes(bytes.len() + 1));
            // The version of the jsonb format.
            out.push(1);
            out.extend_from_slice(bytes);
        }
        Encoded::Text(bytes) | Encoded::Bytes(bytes) | Encoded::Uuid(bytes) => {
            out.extend_from_slice(&length_bytes(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// Writes a value of fixed size.
#[inline]
fn fixed<const LENGTH: usize>(value: [u8; LENGTH], out: &mut Vec<u8>) {
    out.reserve(4 + LENGTH);
    out.extend_from_slice(&length_bytes(LENGTH));
    out.extend_from_slice(&value);
}

/// Returns a length in four bytes. The size limit of a record is far below their maximum.
#[inline]
fn length_bytes(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

/// Writes a decimal in plain digits: a header of four numbers, then groups of four digits.
fn numeric(digits: &[u8], out: &mut Vec<u8>) {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    let point = memchr::memchr(b'.', unsigned).unwrap_or(unsigned.len());
    let whole = &unsigned[..point];
    let fraction = unsigned.get(point + 1..).unwrap_or_default();
    // The check allows only zeros after these digits.
    let fraction = &fraction[..fraction.len().min(MAX_SCALE)];
    let header_at = out.len();
    let groups_at = header_at + NUMERIC_HEADER_BYTES;
    out.reserve(NUMERIC_HEADER_BYTES + GROUP_BYTES * (unsigned.len() / GROUP + 2));
    out.resize(groups_at, 0);
    let weight = write_groups(whole, fraction, out);
    let groups = (out.len() - groups_at) / GROUP_BYTES;
    let weight = if groups == 0 { 0 } else { weight };
    let is_negative = unsigned.len() < digits.len() && groups > 0;
    let sign = if is_negative { 0x4000 } else { 0 };
    let header = [groups as u16, weight as u16, sign, fraction.len() as u16].map(u16::to_be_bytes);
    out[header_at..groups_at].copy_from_slice(header.as_flattened());
}

/// Writes the digits in groups of four, without the groups of zeros at both ends. Returns the weight, which is the number of
/// groups from the first one to the point, minus one.
fn write_groups(whole: &[u8], fraction: &[u8], out: &mut Vec<u8>) -> i32 {
    let start = out.len();
    // The digits that do not fill a group come first. Without such digits, an empty group is skipped like a group of zeros.
    let (first, whole_groups) = whole.as_rchunks::<GROUP>();
    let (fraction_groups, last) = fraction.as_chunks::<GROUP>();
    let mut weight = whole_groups.len() as i32;
    let mut write = |group: u16| match group {
        0 if out.len() == start => weight -= 1,
        group => out.extend_from_slice(&group.to_be_bytes()),
    };
    write(number(first));
    whole_groups.iter().chain(fraction_groups).for_each(|group| write(number(group)));
    if !last.is_empty() {
        write(number(last) * 10u16.pow((GROUP - last.len()) as u32));
    }
    while out.len() > start && out.ends_with(&[0; GROUP_BYTES]) {
        out.truncate(out.len() - GROUP_BYTES);
    }
    weight
}

/// Returns the number that at most four digits mean.
#[inline]
fn number(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
}

/// Writes a value in COPY's text format: `\N` for NULL, and backslash escapes.
pub(super) fn text(value: &Encoded<'_>, out: &mut Vec<u8>) {
    match value {
        Encoded::Null => out.extend_from_slice(b"\\N"),
        Encoded::Boolean(value) => out.push(if *value { b't' } else { b'f' }),
        Encoded::Integer(value) => write_canonical(&Value::Integer(*value), out),
        Encoded::Decimal(digits) => out.extend_from_slice(digits),
        Encoded::Double(value) => write_canonical(&Value::Double(*value), out),
        Encoded::Date(days) => write_canonical(&Value::Date { days: *days }, out),
        Encoded::Time(micros) => {
            let start = out.len();
            write_canonical(&Value::DateTime { micros: *micros }, out);
            out.drain(start..start + "1970-01-01 ".len());
        }
        // The session's time zone is UTC.
        Encoded::DateTime(micros) => write_canonical(&Value::DateTime { micros: *micros }, out),
        Encoded::Uuid(bytes) => write_hex(bytes, out),
        Encoded::Bytes(bytes) => {
            // COPY reads the two backslashes as one, and bytea reads hex digits after `\x`.
            out.extend_from_slice(b"\\\\x");
            write_hex(bytes, out);
        }
        // The check rejects NUL, whose escape COPY does not have.
        Encoded::Text(bytes) => write_escaped(bytes, out),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::column::column_of;
    use super::*;

    fn numbers(digits: &str) -> Vec<i16> {
        let mut out = Vec::new();
        numeric(digits.as_bytes(), &mut out);
        out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[rstest]
    #[case("0", &[0, 0, 0, 0])]
    #[case("0.00", &[0, 0, 0, 2])]
    #[case("1", &[1, 0, 0, 0, 1])]
    #[case("-12345.67", &[3, 1, 0x4000, 2, 1, 2345, 6700])]
    #[case("10000", &[1, 1, 0, 0, 1])]
    #[case("0.00012345", &[2, -1, 0, 8, 1, 2345])]
    #[case("0.0000000001", &[1, -3, 0, 10, 100])]
    #[case("100000000.5000", &[4, 2, 0, 4, 1, 0, 0, 5000])]
    #[case("-0.00010", &[1, -1, 0x4000, 5, 1])]
    #[case("12340000.0000", &[1, 1, 0, 4, 1234])]
    #[case("10000.00001", &[4, 1, 0, 5, 1, 0, 0, 1000])]
    #[case("123456789012345678.123456", &[7, 4, 0, 6, 12, 3456, 7890, 1234, 5678, 1234, 5600])]
    fn decimal_is_written_in_groups_of_four(#[case] digits: &str, #[case] expected: &[i16]) {
        assert_eq!(numbers(digits), expected);
    }

    #[test]
    fn text_is_escaped() {
        let mut out = Vec::new();
        text(&Encoded::Text(b"C:\\new\t\r\n\\."), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "C:\\\\new\\t\\r\\n\\\\.");
    }

    #[test]
    fn server_parsed_column_requires_text_format() {
        let columns = [column_of("int4", -1), column_of("text", -1)];
        assert_eq!(CopyFormat::of(&columns), CopyFormat::Binary);
        assert_eq!(CopyFormat::of(&[columns[0].clone(), column_of("inet", -1)]), CopyFormat::Text);
        let mut bytea = column_of("bytea", -1);
        assert_eq!(CopyFormat::of(std::slice::from_ref(&bytea)), CopyFormat::Text);
        bytea.is_binary = true;
        assert_eq!(CopyFormat::of(&[bytea]), CopyFormat::Binary);
    }

    #[test]
    fn bytes_are_sent_as_they_are_or_in_hex() {
        let (mut as_text, mut as_binary) = (Vec::new(), Vec::new());
        text(&Encoded::Bytes(b"\\x\xff"), &mut as_text);
        binary(Storage::Bytea, &Encoded::Bytes(b"\\x\xff"), &mut as_binary);
        assert_eq!((as_text.as_slice(), as_binary.as_slice()), (&b"\\\\x5c78ff"[..], &b"\0\0\0\x03\\x\xff"[..]));
    }

    #[test]
    fn binary_value_follows_its_length() {
        let mut out = Vec::new();
        binary(Storage::Integer { bytes: 2 }, &Encoded::Integer(-2), &mut out);
        binary(Storage::Integer { bytes: 2 }, &Encoded::Null, &mut out);
        assert_eq!(out, [0, 0, 0, 2, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff]);
    }
}
