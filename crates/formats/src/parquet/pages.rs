//! The page headers of a column chunk: sizes and counts, read before the pages are decoded.

use super::thrift::{CORRUPT, RejectReason, ThriftReader, wire};

/// What the page headers of a column chunk declare in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageTotals {
    /// The decompressed bytes of the largest data page and the dictionary: they are in memory at the same time.
    pub(super) open_bytes: u64,
    /// The number of values.
    pub(super) values: u64,
    /// The number of rows, or `None` if a data page does not declare it (version 1).
    pub(super) rows: Option<u64>,
}

/// Reads all page headers of a column chunk.
pub(super) fn read_headers(chunk: &[u8]) -> Result<PageTotals, RejectReason> {
    let mut thrift = ThriftReader { rest: chunk };
    let (mut dictionary_bytes, mut largest_bytes, mut values, mut rows) = (0u64, 0u64, 0u64, Some(0u64));
    while !thrift.rest.is_empty() {
        let page = Page::read(&mut thrift)?;
        thrift.rest = thrift.rest.get(page.compressed_bytes..).ok_or("a page is longer than its column chunk")?;
        if page.kind == PageKind::Dictionary {
            // Each entry has at least one byte.
            if page.values > page.bytes {
                return Err("a dictionary declares more values than it has bytes");
            }
            dictionary_bytes = dictionary_bytes.saturating_add(page.bytes);
            continue;
        }
        values = values.saturating_add(page.values);
        match page.kind {
            PageKind::Data => rows = None,
            PageKind::DataV2 => rows = rows.map(|rows| rows.saturating_add(page.rows)),
            PageKind::Dictionary | PageKind::Other => {}
        }
        largest_bytes = largest_bytes.max(page.bytes);
    }
    Ok(PageTotals { open_bytes: dictionary_bytes.saturating_add(largest_bytes), values, rows })
}

/// The header of a page.
struct Page {
    kind: PageKind,
    bytes: u64,
    compressed_bytes: usize,
    values: u64,
    /// 0 unless the page is a data page of version 2.
    rows: u64,
}

/// `PageType` in the Thrift definition of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Data,
    Dictionary,
    DataV2,
    /// An index page, which has no values.
    Other,
}

impl PageKind {
    const COUNT: usize = 4;

    fn of(page_type: i64) -> Self {
        match page_type {
            0 => Self::Data,
            2 => Self::Dictionary,
            3 => Self::DataV2,
            _ => Self::Other,
        }
    }

    /// The kind whose own header is this field of `PageHeader`.
    fn with_header(field: i16) -> Self {
        match field {
            5 => Self::Data,
            7 => Self::Dictionary,
            8 => Self::DataV2,
            _ => Self::Other,
        }
    }
}

impl Page {
    /// Reads a `PageHeader`: the page's type, its sizes, and one header per type. Only the one of the page's type is valid.
    fn read(thrift: &mut ThriftReader<'_>) -> Result<Self, RejectReason> {
        let (mut page_type, mut bytes, mut compressed) = (0, -1, -1);
        let mut counts_by_kind = [(0, 0); PageKind::COUNT];
        thrift.fields(&mut |thrift, id, kind| {
            match (id, kind) {
                (1, wire::I32) => page_type = thrift.integer()?,
                (2, wire::I32) => bytes = thrift.integer()?,
                (3, wire::I32) => compressed = thrift.integer()?,
                (5 | 7 | 8, wire::STRUCT) => {
                    counts_by_kind[PageKind::with_header(id) as usize] = read_counts(thrift)?;
                }
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        let kind = PageKind::of(page_type);
        let (values, rows) = counts_by_kind[kind as usize];
        Ok(Self {
            kind,
            bytes: u64::try_from(bytes).map_err(|_| CORRUPT)?,
            compressed_bytes: usize::try_from(compressed).map_err(|_| CORRUPT)?,
            values: u64::try_from(values).map_err(|_| CORRUPT)?,
            // In the headers of other kinds, field 3 is not a number of rows.
            rows: if kind == PageKind::DataV2 { u64::try_from(rows).map_err(|_| CORRUPT)? } else { 0 },
        })
    }
}

/// Reads fields 1 and 3 of the header for one page type: the number of values and, in version 2, of rows.
fn read_counts(thrift: &mut ThriftReader<'_>) -> Result<(i64, i64), RejectReason> {
    let (mut values, mut rows) = (0, 0);
    thrift.fields(&mut |thrift, id, kind| {
        match (id, kind) {
            (1, wire::I32) => values = thrift.integer()?,
            (3, wire::I32) => rows = thrift.integer()?,
            _ => thrift.skip(kind)?,
        }
        Ok(())
    })?;
    Ok((values, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_page_header_is_rejected() {
        assert_eq!(read_headers(&[]), Ok(PageTotals { open_bytes: 0, values: 0, rows: Some(0) }));
        assert!(read_headers(&[0x1c; 64]).is_err());
    }
}
