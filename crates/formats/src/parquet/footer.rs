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
pub(super) fn check_schema(footer: &[u8]) -> Result<(), RejectReason> {
    // `FileMetaData.schema` in the Thrift definition of the format.
    const SCHEMA: i16 = 2;
    let mut thrift = ThriftReader { rest: footer };
    let mut child_counts = None;
    thrift.fields(&mut |thrift, id, kind| match (id, kind) {
        (SCHEMA, wire::LIST) => {
            child_counts = Some(read_child_counts(thrift)?);
            Ok(())
        }
        _ => thrift.skip(kind),
    })?;
    check_tree(&child_counts.ok_or("the footer has no schema")?)
}

/// Checks that no column is encrypted. The Parquet crate would take its pages for corrupt ones.
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
    // `SchemaElement.num_children` in the Thrift definition of the format.
    const CHILDREN: i16 = 5;
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
            _ => thrift.skip(kind),
        })?;
        child_counts.push(children);
    }
    Ok(child_counts)
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
