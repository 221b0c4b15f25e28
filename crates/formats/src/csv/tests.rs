//! Valid and invalid files, each also in chunks of every size, and a comparison with another reader.

mod comments;
mod delimiter;
mod dialect;
mod encoding;
mod escape;
mod extra_field;
mod footer;
mod layout;
mod limits;
mod lines;
mod properties;
mod records;
mod rejects;
mod sep_line;
mod single_quotes;
mod spaces;
mod widths;

use super::*;
use crate::compression::DecodedLimits;
use crate::reject::{Reject, RejectLimit};
use crate::{Error, ErrorKind, Position, TextEncoding};

const LIMITS: ReadLimits = ReadLimits {
    max_record_bytes: 1 << 20,
    max_columns: 100,
    max_memory_bytes: 1 << 30,
    decoded: DecodedLimits { max_bytes: 0, max_ratio: 0 },
    rejects: RejectLimit::Count(0),
};

type Field = Option<Vec<u8>>;

/// The content of a file.
#[derive(Debug, Clone, PartialEq)]
struct Table {
    header: Option<Vec<Vec<u8>>>,
    rows: Vec<Vec<Field>>,
    positions: Vec<Position>,
}

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: ReadLimits) -> Result<Table> {
    decode_as(&CsvDialect::default(), chunks, limits)
}

fn decode_as<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: ReadLimits,
) -> Result<Table> {
    decode_with_rejects_within(dialect, chunks, limits).map(|(table, _)| table)
}

/// The rows of a file, and its rejected records.
fn decode_with_rejects_within<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: ReadLimits,
) -> Result<(Table, Vec<Reject>)> {
    let mut decoder = CsvDecoder::new(dialect.clone(), limits);
    let mut table = Table { header: None, rows: Vec::new(), positions: Vec::new() };
    for chunk in chunks {
        decoder.push(chunk)?;
        take(&mut decoder, &mut table);
    }
    decoder.finish()?;
    take(&mut decoder, &mut table);
    table.header = decoder.header().map(<[Vec<u8>]>::to_vec);
    Ok((table, decoder.take_rejects()))
}

fn take(decoder: &mut CsvDecoder, table: &mut Table) {
    while let Some(batch) = decoder.take_batch() {
        assert!(!batch.is_empty());
        for row in 0..batch.rows() {
            table.rows.push((0..batch.width()).map(|column| batch.field(row, column).map(<[u8]>::to_vec)).collect());
            table.positions.push(batch.position(row));
        }
    }
}

fn decode_whole(file: impl AsRef<[u8]>) -> Result<Table> {
    decode([file.as_ref()], LIMITS)
}

/// The table, or the message of the error, which two results are compared by.
fn comparable(result: Result<Table>) -> Result<Table, String> {
    result.map_err(|error: Error| {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    })
}

/// Header and rows as text: a missing field is `-`, fields are separated by `|` and records by `/`.
fn shown(table: &Table) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\n', "\\n").replace('\r', "\\r");
    let header = table.header.iter().map(|header| header.iter().map(|field| text(field)).collect::<Vec<_>>());
    let rows = table
        .rows
        .iter()
        .map(|row| row.iter().map(|field| field.as_deref().map_or("-".to_owned(), text)).collect::<Vec<_>>());
    header.chain(rows).map(|fields| fields.join("|")).collect::<Vec<_>>().join("/")
}

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let unit = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(unit).collect()
}

/// The dialect that detects the delimiter.
fn detecting() -> CsvDialect {
    CsvDialect { delimiter: None, ..CsvDialect::default() }
}

/// The default dialect, in which the first records decide nothing more.
fn strict() -> CsvDialect {
    CsvDialect { detected: Some(Detected::default()), ..CsvDialect::default() }
}

/// The table as [`shown`] writes it, or the message of the error, of a file in chunks of every size and in two passes.
fn read_in_every_way(dialect: &CsvDialect, file: &str) -> Result<String, String> {
    let bytes = file.as_bytes();
    let first = comparable(decode_as(dialect, [bytes], LIMITS));
    for cut in 0..=bytes.len() {
        let again = comparable(decode_as(dialect, [&bytes[..cut], &bytes[cut..]], LIMITS));
        assert_eq!(again, first, "cut at {cut}");
    }
    assert_eq!(comparable(decode_as(dialect, bytes.chunks(1), LIMITS)), first);
    if first.is_ok() {
        let mut decoder = CsvDecoder::new(dialect.clone(), LIMITS);
        decoder.push(bytes).unwrap();
        decoder.finish().unwrap();
        let complete = decoder.dialect();
        assert!(!complete.is_incomplete());
        for chunk_bytes in [1, bytes.len().max(1)] {
            let second = comparable(decode_as(&complete, bytes.chunks(chunk_bytes), LIMITS));
            assert_eq!(second, first, "the second pass, in chunks of {chunk_bytes}");
        }
    }
    first.map(|table| shown(&table))
}

/// Checks a file against its rows as [`shown`] writes them, or against a part of its error after `!`.
fn check(dialect: &CsvDialect, file: &str, expected: &str) {
    let found = read_in_every_way(dialect, file);
    match (found, expected.strip_prefix('!')) {
        (Ok(found), None) => assert_eq!(found, expected, "{file:?}"),
        (Err(error), Some(part)) => assert!(error.contains(part), "{error}"),
        (found, _) => panic!("{file:?} results in {found:?} instead of {expected:?}"),
    }
}

/// Like [`decode_as`], with at most `max_rejects` rejected records.
fn decode_with_rejects<'a>(
    dialect: &CsvDialect,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    max_rejects: u64,
) -> Result<(Table, Vec<Reject>)> {
    decode_with_rejects_within(dialect, chunks, ReadLimits { rejects: RejectLimit::Count(max_rejects), ..LIMITS })
}

/// The header and the rejected records, as they are in the file.
fn extract<'a>(dialect: &CsvDialect, file: &'a [u8], rejects: &[Reject]) -> Vec<&'a [u8]> {
    let mut decoder = CsvDecoder::new(dialect.clone(), ReadLimits { rejects: RejectLimit::Count(1000), ..LIMITS });
    decoder.find_records(rejects.iter().map(|reject| reject.position.byte).collect());
    file.chunks(3).for_each(|chunk| decoder.push(chunk).unwrap());
    decoder.finish().unwrap();
    decoder.take_found_records().into_iter().map(|range| &file[range.start as usize..range.end as usize]).collect()
}
