//! What a Parquet file declares, looked at before anything is made room for: sizes, counts and depths that no real file has
//! are refused here, because the reader behind makes room for what is declared.
//!
//! Only as much of Thrift's compact protocol is read as that takes.
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// The deepest a schema may be; each list or map takes two or three levels.
const MAX_SCHEMA_DEPTH: usize = 128;
/// How deep structs and lists may lie in each other in a header.
const MAX_THRIFT_DEPTH: usize = 32;

/// Why a file is not read.
pub(super) type Refusal = &'static str;

const CUT: Refusal = "a header is cut or broken";

/// Types of Thrift's compact protocol.
mod wire {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

/// Checks the schema in a footer: as many elements as its groups say, and not too deep.
pub(super) fn check(footer: &[u8]) -> Result<(), Refusal> {
    // `FileMetaData.schema` and `SchemaElement.num_children` of the format's Thrift definition.
    const SCHEMA: i16 = 2;
    const CHILDREN: i16 = 5;
    let mut thrift = Thrift { rest: footer };
    let mut children = None;
    thrift.fields(&mut |thrift, id, kind| {
        if id != SCHEMA || kind != wire::LIST {
            return thrift.skip(kind, 0);
        }
        let (count, element) = thrift.list()?;
        if element != wire::STRUCT {
            return Err(CUT);
        }
        let mut counts = Vec::new();
        for _ in 0..count {
            let mut count = 0;
            thrift.fields(&mut |thrift, id, kind| match (id, kind) {
                (CHILDREN, wire::I32) => {
                    count = thrift.integer()?;
                    Ok(())
                }
                _ => thrift.skip(kind, 0),
            })?;
            counts.push(count);
        }
        children = Some(counts);
        Ok(())
    })?;
    check_tree(&children.ok_or("the footer has no schema")?)
}

/// The schema's elements stand in the order of a walk; each says how many children follow it.
fn check_tree(children: &[i64]) -> Result<(), Refusal> {
    let mut open: Vec<i64> = Vec::new();
    for (index, count) in children.iter().enumerate() {
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(missing) => *missing -= 1,
            None if index > 0 => return Err("the schema has more than one root"),
            None => {}
        }
        if *count < 0 || *count > (children.len() - index) as i64 {
            return Err("the schema declares columns that it does not have");
        }
        open.push(*count);
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err("the schema is nested too deeply");
        }
    }
    if open.iter().any(|missing| *missing > 0) {
        return Err("the schema declares columns that it does not have");
    }
    Ok(())
}

/// What the pages of a column chunk declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    /// The largest data page and the dictionary together, decompressed: what is open at a time.
    pub(super) open_bytes: u64,
    /// All values.
    pub(super) values: u64,
    /// All rows, or `None` when a data page does not say how many it has (version 1).
    pub(super) rows: Option<u64>,
}

/// Walks over a column chunk's pages.
pub(super) fn pages(chunk: &[u8]) -> Result<Pages, Refusal> {
    let mut thrift = Thrift { rest: chunk };
    let (mut dictionary_bytes, mut largest_bytes, mut values, mut rows) = (0u64, 0u64, 0u64, Some(0u64));
    while !thrift.rest.is_empty() {
        let page = thrift.page()?;
        let after = thrift.rest.get(page.compressed_bytes..).ok_or("a page is longer than its column chunk")?;
        thrift.rest = after;
        if page.kind == PageKind::Dictionary {
            // Every entry has a byte at least.
            if page.values > page.bytes {
                return Err("a dictionary declares more values than it has bytes");
            }
            dictionary_bytes = dictionary_bytes.saturating_add(page.bytes);
        } else {
            values = values.saturating_add(page.values);
            match page.kind {
                PageKind::Data => rows = None,
                PageKind::DataV2 => rows = rows.map(|rows| rows.saturating_add(page.rows)),
                PageKind::Dictionary | PageKind::Other => {}
            }
            largest_bytes = largest_bytes.max(page.bytes);
        }
    }
    Ok(Pages { open_bytes: dictionary_bytes.saturating_add(largest_bytes), values, rows })
}

/// A page's header.
struct Page {
    kind: PageKind,
    bytes: u64,
    compressed_bytes: usize,
    values: u64,
    /// Only of a data page of version 2.
    rows: u64,
}

/// `PageType` of the format's Thrift definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Data,
    Dictionary,
    DataV2,
    /// Index pages, which have no values.
    Other,
}

impl PageKind {
    fn of(page_type: i64) -> Self {
        match page_type {
            0 => Self::Data,
            2 => Self::Dictionary,
            3 => Self::DataV2,
            _ => Self::Other,
        }
    }

    /// The kind whose header is this field of `PageHeader`.
    fn with_header(field: i16) -> Self {
        match field {
            5 => Self::Data,
            7 => Self::Dictionary,
            8 => Self::DataV2,
            _ => Self::Other,
        }
    }
}

/// Bytes of the compact protocol that are still to be read.
struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    fn page(&mut self) -> Result<Page, Refusal> {
        // `PageHeader`: type, sizes, and the headers by type. Each has its number of values as field 1, and that of a data
        // page of version 2 its number of rows as field 3. Only the header of the page's own type is true.
        let (mut page_type, mut bytes, mut compressed) = (0, -1, -1);
        // One place for each of `PageKind`.
        let mut headers = [(0, 0); 4];
        self.fields(&mut |thrift, id, kind| {
            match (id, kind) {
                (1, wire::I32) => page_type = thrift.integer()?,
                (2, wire::I32) => bytes = thrift.integer()?,
                (3, wire::I32) => compressed = thrift.integer()?,
                (5 | 7 | 8, wire::STRUCT) => headers[PageKind::with_header(id) as usize] = thrift.page_counts()?,
                _ => thrift.skip(kind, 0)?,
            }
            Ok(())
        })?;
        let kind = PageKind::of(page_type);
        let (values, rows) = headers[kind as usize];
        Ok(Page {
            kind,
            bytes: u64::try_from(bytes).map_err(|_| CUT)?,
            compressed_bytes: usize::try_from(compressed).map_err(|_| CUT)?,
            values: u64::try_from(values).map_err(|_| CUT)?,
            // Field 3 of the other headers is something else.
            rows: if kind == PageKind::DataV2 { u64::try_from(rows).map_err(|_| CUT)? } else { 0 },
        })
    }

    /// Fields 1 and 3 of a page's header by type.
    fn page_counts(&mut self) -> Result<(i64, i64), Refusal> {
        let (mut first, mut third) = (0, 0);
        self.fields(&mut |thrift, id, kind| {
            match (id, kind) {
                (1, wire::I32) => first = thrift.integer()?,
                (3, wire::I32) => third = thrift.integer()?,
                _ => thrift.skip(kind, 0)?,
            }
            Ok(())
        })?;
        Ok((first, third))
    }

    /// Goes over a struct's fields; `read` takes the value of each.
    fn fields(&mut self, read: &mut dyn FnMut(&mut Self, i16, u8) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut last: i16 = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            last = match head >> 4 {
                0 => i16::try_from(self.integer()?).map_err(|_| CUT)?,
                step => last.checked_add(step.into()).ok_or(CUT)?,
            };
            read(self, last, kind)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_THRIFT_DEPTH {
            return Err(CUT);
        }
        match kind {
            wire::TRUE | wire::FALSE => Ok(()),
            wire::BYTE => self.take(1),
            wire::I16 | wire::I32 | wire::I64 => self.varint().map(|_| ()),
            wire::DOUBLE => self.take(8),
            wire::UUID => self.take(16),
            wire::BINARY => {
                let length = self.varint()?;
                self.take(usize::try_from(length).map_err(|_| CUT)?)
            }
            wire::LIST | wire::SET => {
                let (count, element) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(element, depth + 1))
            }
            wire::MAP => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                if count > self.rest.len() as u64 {
                    return Err(CUT);
                }
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 0x0f, depth + 1)
                })
            }
            wire::STRUCT => self.fields(&mut |thrift, _, kind| thrift.skip(kind, depth + 1)),
            _ => Err(CUT),
        }
    }

    /// In lists a truth value is a byte.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), Refusal> {
        match kind {
            wire::TRUE | wire::FALSE => self.take(1),
            kind => self.skip(kind, depth),
        }
    }

    /// How many elements of which type a list has. There cannot be more than bytes.
    fn list(&mut self) -> Result<(u64, u8), Refusal> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        if count > self.rest.len() as u64 { Err(CUT) } else { Ok((count, head & 0x0f)) }
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        let (first, rest) = self.rest.split_first().ok_or(CUT)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, count: usize) -> Result<(), Refusal> {
        self.rest = self.rest.get(count..).ok_or(CUT)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CUT)
    }

    /// A zigzag number.
    fn integer(&mut self) -> Result<i64, Refusal> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_as_many_elements_as_it_says() {
        assert_eq!(check_tree(&[2, 0, 1, 0]), Ok(()));
        assert_eq!(check_tree(&[0]), Ok(()));
        for children in [&[2, 0][..], &[1, 0, 0], &[-1], &[1, i64::from(i32::MAX)], &[2, 2, 0]] {
            assert!(check_tree(children).is_err(), "{children:?}");
        }
        let chain = |depth: usize| -> Vec<i64> { (0..depth).map(|level| i64::from(level + 1 < depth)).collect() };
        assert_eq!(check_tree(&chain(MAX_SCHEMA_DEPTH)), Ok(()));
        assert!(check_tree(&chain(100_000)).is_err());
    }

    #[test]
    fn headers_that_go_on_and_on_are_refused() {
        for bytes in [&[0xff; 64][..], &[0x1c; 64], &[0x19; 64], &[0x1b; 64], &[0x18, 0xff, 0xff, 0xff, 0x7f], &[]] {
            assert!(check(bytes).is_err());
        }
        assert_eq!(pages(&[]), Ok(Pages { open_bytes: 0, values: 0, rows: Some(0) }));
        assert!(pages(&[0x1c; 64]).is_err());
    }
}
