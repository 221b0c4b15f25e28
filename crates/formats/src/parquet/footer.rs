//! The footer of a Parquet file: reads its bytes, and checks its schema and row groups before they are used.
//!
//! The Parquet crate allocates as much memory as a footer declares, and recurses as deep. So sizes, counts and depths that
//! no real file has are rejected here first.

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::failure::invalid;
use super::ranges::{FOOTER_GUESS_BYTES, Ranges};
use super::thrift::{CORRUPT, RejectReason, ThriftReader, wire};
use crate::{Error, ErrorKind, Result};

/// The longest footer.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
/// The most levels of a schema. A list or map uses two or three.
const MAX_SCHEMA_DEPTH: usize = 128;
const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED_MAGIC: &[u8; 4] = b"PARE";
/// The magic at both ends, and the length of the footer.
const FRAME_BYTES: u64 = 12;

/// Reads the bytes of the footer, without its length and the magic.
pub(super) async fn read(ranges: &mut Ranges) -> Result<Bytes> {
    let size_bytes = ranges.size_bytes();
    if size_bytes < FRAME_BYTES {
        return Err(invalid("it is too short for a footer"));
    }
    let tail_start = size_bytes.saturating_sub(FOOTER_GUESS_BYTES as u64);
    let tail = ranges.read(tail_start..size_bytes).await?;
    let Some((front, [a, b, c, d, magic @ ..])) = tail.split_last_chunk::<8>() else {
        return Err(invalid("it is too short for a footer"));
    };
    match magic {
        MAGIC => {}
        ENCRYPTED_MAGIC => return Err(invalid("the footer is encrypted, which is not supported")),
        _ => return Err(invalid("it does not end with the Parquet magic number; it may be truncated")),
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > size_bytes - FRAME_BYTES || length > MAX_FOOTER_BYTES {
        return Err(invalid("the declared length of the footer is too large"));
    }
    match usize::try_from(length) {
        Ok(length) if length <= front.len() => Ok(tail.slice(front.len() - length..front.len())),
        _ => ranges.read(size_bytes - 8 - length..size_bytes - 8).await,
    }
}

/// Checks that the schema has exactly the declared elements, and is not too deep.
///
/// The Parquet crate reads each field that it knows as the format's type for it, whatever type the footer declares. With another
/// type it would read other numbers from there on than this check. So the types are checked too, and nothing that may contain
/// other structs is before the schema. The crate builds each schema that it finds, so each one is checked.
pub(super) fn check_schema(footer: &[u8]) -> Result<(), RejectReason> {
    // `FileMetaData.version` and `FileMetaData.schema` in the Thrift definition of the format.
    const VERSION: i16 = 1;
    const SCHEMA: i16 = 2;
    let mut thrift = ThriftReader { rest: footer };
    let mut has_schema = false;
    thrift.fields(&mut |thrift, id, kind| match (id, kind) {
        (SCHEMA, wire::LIST) => {
            has_schema = true;
            check_tree(&read_child_counts(thrift)?)
        }
        (VERSION, wire::I32) => thrift.skip(kind),
        (VERSION | SCHEMA, _) => Err(CORRUPT),
        _ if has_schema => thrift.skip(kind),
        _ => Err("the schema is not at the start of the footer"),
    })?;
    if has_schema { Ok(()) } else { Err("the footer has no schema") }
}

/// Checks that no column is encrypted. The Parquet crate would report its pages as corrupt.
pub(super) fn check_encryption(footer: &[u8]) -> Result<(), RejectReason> {
    // `FileMetaData.row_groups`, `RowGroup.columns` and `ColumnChunk.crypto_metadata` in the Thrift definition of the format.
    const ROW_GROUPS: i16 = 4;
    const COLUMNS: i16 = 1;
    const CRYPTO_METADATA: i16 = 8;
    let mut thrift = ThriftReader { rest: footer };
    thrift.fields(&mut |thrift, id, kind| match (id, kind) {
        (ROW_GROUPS, wire::LIST) => thrift.structs(&mut |thrift, id, kind| match (id, kind) {
            (COLUMNS, wire::LIST) => thrift.structs(&mut |thrift, id, kind| match id {
                CRYPTO_METADATA => Err("columns are encrypted, which is not supported"),
                _ => thrift.skip(kind),
            }),
            _ => thrift.skip(kind),
        }),
        _ => thrift.skip(kind),
    })
}

/// Reads the list of schema elements, and returns the number of children of each.
fn read_child_counts(thrift: &mut ThriftReader<'_>) -> Result<Vec<i64>, RejectReason> {
    // Fields of `SchemaElement` in the Thrift definition of the format.
    const NAME: i16 = 4;
    const CHILDREN: i16 = 5;
    const LOGICAL_TYPE: i16 = 10;
    let (elements, kind) = thrift.list()?;
    if kind != wire::STRUCT {
        return Err(CORRUPT);
    }
    let mut child_counts = Vec::new();
    for _ in 0..elements {
        let mut children = 0;
        thrift.fields(&mut |thrift, id, kind| match (id, kind) {
            (CHILDREN, wire::I32) => {
                children = thrift.integer()?;
                Ok(())
            }
            (NAME, wire::BINARY) => thrift.skip(kind),
            (LOGICAL_TYPE, wire::STRUCT) => check_logical_type(thrift),
            // All others are numbers.
            (1..LOGICAL_TYPE, wire::I32) if id != NAME => thrift.skip(kind),
            (1..=LOGICAL_TYPE, _) => Err(CORRUPT),
            _ => thrift.skip(kind),
        })?;
        child_counts.push(children);
    }
    Ok(child_counts)
}

/// Checks the types of the fields of a logical type.
fn check_logical_type(thrift: &mut ThriftReader<'_>) -> Result<(), RejectReason> {
    // Fields of the union `LogicalType` in the Thrift definition of the format.
    const DECIMAL: i16 = 5;
    const TIME: i16 = 7;
    const TIMESTAMP: i16 = 8;
    const INTEGER: i16 = 10;
    const VARIANT: i16 = 16;
    const GEOMETRY: i16 = 17;
    const GEOGRAPHY: i16 = 18;
    thrift.fields(&mut |thrift, logical_type, kind| {
        if kind != wire::STRUCT {
            return Err(CORRUPT);
        }
        thrift.fields(&mut |thrift, id, kind| match (logical_type, id, kind) {
            (DECIMAL, 1 | 2, wire::I32)
            | (TIME | TIMESTAMP, 1, wire::TRUE | wire::FALSE)
            | (INTEGER | VARIANT, 1, wire::BYTE)
            | (INTEGER, 2, wire::TRUE | wire::FALSE)
            | (GEOMETRY | GEOGRAPHY, 1, wire::BINARY)
            | (GEOGRAPHY, 2, wire::I32) => thrift.skip(kind),
            // The unit is a union of empty structs.
            (TIME | TIMESTAMP, 2, wire::STRUCT) => thrift.fields(&mut |thrift, _, kind| match kind {
                wire::STRUCT => thrift.skip(kind),
                _ => Err(CORRUPT),
            }),
            (DECIMAL | TIME | TIMESTAMP | INTEGER | GEOGRAPHY, 1 | 2, _) | (VARIANT | GEOMETRY, 1, _) => Err(CORRUPT),
            _ => thrift.skip(kind),
        })
    })
}

/// Checks the numbers of children of all elements. Each element is before its children, in depth-first order.
fn check_tree(child_counts: &[i64]) -> Result<(), RejectReason> {
    const MISSING_CHILDREN: RejectReason = "the schema declares more columns than it has";
    // The number of children still to come, for each open level.
    let mut open: Vec<i64> = Vec::new();
    for (index, children) in child_counts.iter().enumerate() {
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(missing) => *missing -= 1,
            None if index > 0 => return Err("the schema has more than one root"),
            None => {}
        }
        if *children < 0 || *children > (child_counts.len() - index) as i64 {
            return Err(MISSING_CHILDREN);
        }
        open.push(*children);
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err("the schema is nested too deeply");
        }
    }
    if open.iter().any(|missing| *missing > 0) {
        return Err(MISSING_CHILDREN);
    }
    Ok(())
}

/// Checks that the compression of every column is supported.
pub(super) fn check_row_groups(metadata: &ParquetMetaData) -> Result<()> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        match column.compression() {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::LZ4
            | Compression::LZ4_RAW
            | Compression::ZSTD(_) => {}
            Compression::BROTLI(_) => return Err(unsupported("brotli")),
            Compression::LZO => return Err(unsupported("lzo")),
        }
    }
    Ok(())
}

fn unsupported(codec: &str) -> Error {
    let message =
        format!("its columns are compressed with {codec}, which is not supported; use zstd, snappy, lz4 or gzip");
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema is the root alone, which declares two children as a number of this type.
    fn footer(kind: u8) -> Vec<u8> {
        vec![0x29, 0x1c, 0x50 | kind, 0x04, 0x00, 0x00]
    }

    #[test]
    fn every_schema_of_the_footer_is_checked_whatever_type_its_counts_have() {
        const NO_CHILDREN: &[u8] = &[0x29, 0x1c, 0x55, 0x00, 0x00, 0x00];
        assert_eq!(check_schema(NO_CHILDREN), Ok(()));
        for kind in [wire::I16, wire::I32, wire::I64] {
            assert!(check_schema(&footer(kind)).is_err(), "type {kind}");
        }
        // The last schema is valid, and the first one is not.
        let mut twice = footer(wire::I32);
        twice.pop();
        twice.extend_from_slice(&[0x09, 0x04, 0x1c, 0x55, 0x00, 0x00, 0x00]);
        assert!(check_schema(&twice).is_err());
        assert!(check_schema(&[0x25, 0x02, 0x00]).is_err(), "the schema must be a list");
        // A name before the schema, and a precision that is declared as a UUID.
        assert!(check_schema(&[0x68, 0x01, b'x', 0x09, 0x04, 0x1c, 0x55, 0x00, 0x00, 0x00]).is_err());
        assert!(check_schema(&[&[0x29, 0x1c, 0x8d][..], &[0; 20]].concat()).is_err());
    }

    /// The fuzzer found this file. The Parquet crate would allocate 11 GB for its schema.
    #[test]
    fn scale_of_another_type_is_rejected() {
        let file = include_bytes!("../../../../fuzz/seeds/parquet/scale-of-another-type");
        let Some((front, [a, b, c, d, ..])) = file.split_last_chunk::<8>() else { panic!("no footer") };
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        assert!(check_schema(&front[front.len() - length..]).is_err());
    }

    #[test]
    fn schema_must_have_the_declared_elements() {
        assert_eq!(check_tree(&[2, 0, 1, 0]), Ok(()));
        assert_eq!(check_tree(&[0]), Ok(()));
        for child_counts in [&[2, 0][..], &[1, 0, 0], &[-1], &[1, i64::from(i32::MAX)], &[2, 2, 0]] {
            assert!(check_tree(child_counts).is_err(), "{child_counts:?}");
        }
        let chain = |depth: usize| -> Vec<i64> { (0..depth).map(|level| i64::from(level + 1 < depth)).collect() };
        assert_eq!(check_tree(&chain(MAX_SCHEMA_DEPTH)), Ok(()));
        assert!(check_tree(&chain(100_000)).is_err());
    }

    #[test]
    fn endless_footer_is_rejected() {
        for bytes in [&[0xff; 64][..], &[0x1c; 64], &[0x19; 64], &[0x1b; 64], &[0x18, 0xff, 0xff, 0xff, 0x7f], &[]] {
            assert!(check_schema(bytes).is_err());
        }
    }
}
