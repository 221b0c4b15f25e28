//! Batches of rows: the fields of a file as bytes, and their positions.

use std::fmt;

/// A position in a file. `record` and `line` count from 1, `byte` from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The number of the data record; 0 is the header.
    pub record: u64,
    /// The line on which the record starts; 0 if line and byte are unknown.
    pub line: u64,
    /// The offset of the first byte of the record, after decompression.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.record == 0 {
            write!(formatter, "header, line {}, byte {}", self.line, self.byte)
        } else if self.line == 0 {
            // The database reports only the record that it rejects.
            write!(formatter, "record {}", self.record)
        } else {
            write!(formatter, "record {}, line {}, byte {}", self.record, self.line, self.byte)
        }
    }
}

/// What the file says about a field beyond its bytes. Only type inference uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Nothing (CSV), or a number or boolean as written (JSON).
    Plain,
    /// A string or bytes in a format that distinguishes them: never a number, a boolean or a null token.
    String,
    /// An object or an array, as JSON.
    Nested,
}

/// Rows of one file, all of the same width, with the bytes of all fields in one buffer.
///
/// A field is `None` if it is missing (in CSV: empty and unquoted). `Some(b"")` is an empty string.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The end of each field in `bytes`, with a flag: [`Batch::MISSING`], [`Batch::STRING`], [`Batch::NESTED`] or none.
    ends: Vec<u64>,
    width: usize,
    positions: Vec<Position>,
}

impl Batch {
    const MISSING: u64 = 1 << 63;
    const STRING: u64 = 1 << 62;
    const NESTED: u64 = 1 << 61;
    const END: u64 = Self::NESTED - 1;
    /// The most bytes, fields and rows to reserve memory for in advance.
    const MAX_RESERVED: usize = 72 * 1024;

    /// An empty batch of rows with `width` fields each.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// An empty batch of the same width, with memory reserved for as many rows, within bounds.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            bytes: Vec::with_capacity(self.bytes.len().min(Self::MAX_RESERVED)),
            ends: Vec::with_capacity(self.ends.len().min(Self::MAX_RESERVED)),
            width: self.width,
            positions: Vec::with_capacity(self.positions.len().min(Self::MAX_RESERVED)),
        }
    }

    /// Adds a field to the open row.
    #[inline]
    pub fn push_field(&mut self, field: Option<&[u8]>) {
        if let Some(value) = field {
            self.append_to_field(value);
        }
        self.end_field(field.is_none());
    }

    /// Adds a field of a kind to the open row.
    #[inline]
    pub fn push_kind(&mut self, kind: FieldKind, field: &[u8]) {
        self.append_to_field(field);
        let flag = match kind {
            FieldKind::Plain => 0,
            FieldKind::String => Self::STRING,
            FieldKind::Nested => Self::NESTED,
        };
        self.ends.push(self.bytes.len() as u64 | flag);
    }

    /// Appends to the open field. [`Batch::end_field`] ends it.
    #[inline]
    pub fn append_to_field(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// Ends the open field. A missing field must be empty.
    #[inline]
    pub fn end_field(&mut self, is_missing: bool) {
        let missing = if is_missing { Self::MISSING } else { 0 };
        self.ends.push(self.bytes.len() as u64 | missing);
    }

    /// The bytes of the open field.
    #[inline]
    pub fn open_field(&self) -> &[u8] {
        &self.bytes[self.open_field_start()..]
    }

    /// Removes the bytes of the open field.
    pub fn clear_open_field(&mut self) {
        let start = self.open_field_start();
        self.bytes.truncate(start);
    }

    fn open_field_start(&self) -> usize {
        self.ends.last().map_or(0, |end| end & Self::END) as usize
    }

    /// Sets the width of a batch without complete rows.
    pub fn widen(&mut self, width: usize) {
        debug_assert!(self.is_empty(), "a batch with rows of another width");
        self.width = width;
    }

    /// The number of fields of the open row.
    #[inline]
    pub fn fields_in_open_row(&self) -> usize {
        self.ends.len() - self.positions.len() * self.width
    }

    /// The fields of the open row, with the open field last.
    pub fn open_row(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.positions.len() * self.width;
        let mut start = first.checked_sub(1).map_or(0, |last| self.ends[last] & Self::END) as usize;
        let ends = self.ends[first..].iter().map(|end| (end & Self::END) as usize).chain([self.bytes.len()]);
        ends.map(move |end| &self.bytes[std::mem::replace(&mut start, end)..end])
    }

    /// Whether all complete fields of the open row are missing.
    pub fn is_open_row_missing(&self) -> bool {
        self.ends[self.positions.len() * self.width..].iter().all(|end| end & Self::MISSING != 0)
    }

    /// Removes the open row.
    pub fn discard_open_row(&mut self) {
        self.ends.truncate(self.positions.len() * self.width);
        let length = self.ends.last().map_or(0, |end| end & Self::END);
        self.bytes.truncate(length as usize);
    }

    /// Removes and returns the open row, of any width. Missing fields are empty.
    pub fn take_open_row(&mut self) -> Vec<Vec<u8>> {
        let first = self.positions.len() * self.width;
        let mut start = first.checked_sub(1).map_or(0, |last| self.ends[last] & Self::END) as usize;
        let mut row = Vec::with_capacity(self.fields_in_open_row());
        for end in &self.ends[first..] {
            let end = (end & Self::END) as usize;
            row.push(self.bytes[start..end].to_vec());
            start = end;
        }
        self.discard_open_row();
        row
    }

    /// Ends the open row. The caller has checked that it has `width` fields.
    #[inline]
    pub fn end_row(&mut self, position: Position) {
        debug_assert_eq!(self.fields_in_open_row(), self.width, "a row of another width");
        self.positions.push(position);
    }

    /// The same rows with `more` fields after each, which `add` pushes.
    #[must_use]
    pub fn widened(&self, more: usize, mut add: impl FnMut(&mut Self, Position)) -> Self {
        let mut wide = Self {
            bytes: Vec::with_capacity(self.bytes.len() * 2),
            ends: Vec::with_capacity(self.ends.len() + self.rows() * more),
            width: self.width + more,
            positions: Vec::with_capacity(self.rows()),
        };
        let mut start = 0;
        for (row, position) in self.positions.iter().enumerate() {
            let ends = &self.ends[row * self.width..(row + 1) * self.width];
            let end = ends.last().map_or(start, |end| (end & Self::END) as usize);
            // A row never starts at a lower offset than before, and the flags are above any offset.
            let shift = (wide.bytes.len() - start) as u64;
            wide.bytes.extend_from_slice(&self.bytes[start..end]);
            wide.ends.extend(ends.iter().map(|end| end + shift));
            start = end;
            add(&mut wide, *position);
            wide.end_row(*position);
        }
        wide
    }

    /// The same rows without one of their fields.
    #[must_use]
    pub fn without(&self, column: usize) -> Self {
        let mut rest = Self::new(self.width.saturating_sub(1));
        for row in 0..self.rows() {
            for other in (0..self.width).filter(|other| *other != column) {
                match self.field(row, other) {
                    Some(field) => rest.push_kind(self.kind(row, other), field),
                    None => rest.push_field(None),
                }
            }
            rest.end_row(self.position(row));
        }
        rest
    }

    /// The rows whose position `is_kept` accepts.
    #[must_use]
    pub fn filtered(&self, is_kept: impl Fn(Position) -> bool) -> Self {
        let mut kept = Self::new(self.width);
        let mut start = 0;
        for (row, position) in self.positions.iter().enumerate() {
            let ends = &self.ends[row * self.width..(row + 1) * self.width];
            let end = ends.last().map_or(start, |end| (end & Self::END) as usize);
            if is_kept(*position) {
                // Wraps around, because a row may be at a lower offset than before, and the flags are above any offset.
                let shift = (kept.bytes.len() as u64).wrapping_sub(start as u64);
                kept.bytes.extend_from_slice(&self.bytes[start..end]);
                kept.ends.extend(ends.iter().map(|end| end.wrapping_add(shift)));
                kept.end_row(*position);
            }
            start = end;
        }
        kept
    }

    /// The number of complete rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// The number of fields in each row.
    #[inline]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of bytes of all fields together.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a decoder should return this batch and start another.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        const BYTES: usize = 64 * 1024;
        const ROWS: usize = 1024;
        const FIELDS: usize = 16 * 1024;
        let rows = self.rows();
        rows >= ROWS || rows * self.width >= FIELDS || self.bytes.len() >= BYTES
    }

    /// The memory that the batch uses.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<u64>()
            + self.positions.capacity() * size_of::<Position>()
    }

    /// Whether the batch has no complete row.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Whether any field contains a byte.
    pub fn contains(&self, byte: u8) -> bool {
        memchr::memchr(byte, &self.bytes).is_some()
    }

    /// A field; `None` if it is missing. Panics if row or column is out of range.
    #[inline]
    pub fn field(&self, row: usize, column: usize) -> Option<&[u8]> {
        let index = row * self.width + column;
        let end = self.ends[index];
        if end & Self::MISSING != 0 {
            return None;
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1] & Self::END };
        Some(&self.bytes[start as usize..(end & Self::END) as usize])
    }

    /// The kind of a field; plain if it is missing. Panics if row or column is out of range.
    #[inline]
    pub fn kind(&self, row: usize, column: usize) -> FieldKind {
        match self.ends[row * self.width + column] {
            end if end & Self::STRING != 0 => FieldKind::String,
            end if end & Self::NESTED != 0 => FieldKind::Nested,
            _ => FieldKind::Plain,
        }
    }

    /// The position of a row in its file.
    #[inline]
    pub fn position(&self, row: usize) -> Position {
        self.positions[row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(record: u64) -> Position {
        Position { record, line: record + 1, byte: 0 }
    }

    #[test]
    fn missing_and_empty_fields_differ() {
        let mut batch = Batch::new(3);
        for field in [Some(&b"a"[..]), None, Some(b"")] {
            batch.push_field(field);
        }
        batch.end_row(at(1));
        for field in [None, Some(&b"bc"[..]), None] {
            batch.push_field(field);
        }
        batch.end_row(at(2));
        let rows: Vec<Vec<Option<&[u8]>>> =
            (0..2).map(|row| (0..3).map(|column| batch.field(row, column)).collect()).collect();
        assert_eq!(rows, [vec![Some(&b"a"[..]), None, Some(b"")], vec![None, Some(b"bc"), None]]);
        assert_eq!(batch.position(1).record, 2);
    }

    #[test]
    fn fields_keep_their_kinds() {
        let mut batch = Batch::new(4);
        batch.push_kind(FieldKind::String, b"a");
        batch.push_kind(FieldKind::Nested, b"[1]");
        batch.push_field(None);
        batch.push_kind(FieldKind::Plain, b"1");
        batch.end_row(at(1));
        let kinds: Vec<FieldKind> = (0..4).map(|column| batch.kind(0, column)).collect();
        assert_eq!(kinds, [FieldKind::String, FieldKind::Nested, FieldKind::Plain, FieldKind::Plain]);
        let fields: Vec<Option<&[u8]>> = (0..4).map(|column| batch.field(0, column)).collect();
        assert_eq!(fields, [Some(&b"a"[..]), Some(b"[1]"), None, Some(b"1")]);
    }

    #[test]
    fn filtered_rows_keep_fields_kinds_and_positions() {
        let mut batch = Batch::new(2);
        for (record, text) in ["one", "second", "", "4"].iter().enumerate() {
            batch.push_kind(FieldKind::String, text.as_bytes());
            batch.push_field(None);
            batch.end_row(at(record as u64 + 1));
        }
        let kept = batch.filtered(|position| position.record % 2 == 0);
        assert_eq!((kept.rows(), kept.width(), kept.size_bytes()), (2, 2, 7));
        assert_eq!((kept.field(0, 0), kept.field(0, 1)), (Some(&b"second"[..]), None));
        assert_eq!((kept.field(1, 0), kept.kind(1, 0)), (Some(&b"4"[..]), FieldKind::String));
        assert_eq!((kept.position(0).record, kept.position(1).record), (2, 4));
        assert_eq!(batch.filtered(|_| false).rows(), 0);
    }

    #[test]
    fn open_row_can_be_removed() {
        let mut batch = Batch::new(2);
        batch.push_field(Some(b"a"));
        batch.push_field(None);
        batch.end_row(at(1));
        batch.push_field(Some(b"left over"));
        batch.discard_open_row();
        assert_eq!((batch.rows(), batch.fields_in_open_row(), batch.size_bytes()), (1, 0, 1));
    }
}
