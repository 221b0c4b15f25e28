//! Rows of a file: fields as bytes, in batches that bound memory.

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

/// What the file itself says a field is, beyond its bytes. Only the choice of a column's type looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Nothing: the bytes may mean anything (CSV), or are a number or a truth value as it is written (JSON).
    Plain,
    /// A string where numbers and truth values are written otherwise: it is neither of them, and never a null token.
    String,
    /// An object or an array, as JSON.
    Nested,
}

/// Some rows of one file, all of the same width, with the bytes of every field in one buffer.
///
/// A field is `None` when the file says nothing (in CSV: empty and not quoted) and `Some` otherwise; `Some(b"")` is an
/// empty string that was written as one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// For each field its end in `bytes`, with [`Batch::MISSING`], [`Batch::STRING`] or [`Batch::NESTED`] set when it is so.
    ends: Vec<u64>,
    width: usize,
    positions: Vec<Position>,
}

impl Batch {
    const MISSING: u64 = 1 << 63;
    const STRING: u64 = 1 << 62;
    const NESTED: u64 = 1 << 61;
    const END: u64 = Self::NESTED - 1;
    /// How many bytes, fields or rows are made room for before they come.
    const MAX_ROOM: usize = 72 * 1024;

    /// An empty batch of rows with `width` fields each.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// An empty batch of the same width, with room for as much as this one took, within bounds.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            bytes: Vec::with_capacity(self.bytes.len().min(Self::MAX_ROOM)),
            ends: Vec::with_capacity(self.ends.len().min(Self::MAX_ROOM)),
            width: self.width,
            positions: Vec::with_capacity(self.positions.len().min(Self::MAX_ROOM)),
        }
    }

    /// Adds one field to the row that is being built.
    #[inline]
    pub fn push_field(&mut self, field: Option<&[u8]>) {
        if let Some(value) = field {
            self.append_to_field(value);
        }
        self.end_field(field.is_none());
    }

    /// Adds one field of a kind to the row that is being built.
    #[inline]
    pub fn push_kind(&mut self, kind: FieldKind, field: &[u8]) {
        self.append_to_field(field);
        let mark = match kind {
            FieldKind::Plain => 0,
            FieldKind::String => Self::STRING,
            FieldKind::Nested => Self::NESTED,
        };
        self.ends.push(self.bytes.len() as u64 | mark);
    }

    /// Adds a part of a field that comes in pieces, to be ended by [`Batch::end_field`].
    #[inline]
    pub fn append_to_field(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// Ends the field that came in pieces. A missing one had none.
    #[inline]
    pub fn end_field(&mut self, is_missing: bool) {
        let missing = if is_missing { Self::MISSING } else { 0 };
        self.ends.push(self.bytes.len() as u64 | missing);
    }

    /// The field that came in pieces and is not ended.
    #[inline]
    pub fn open_field(&self) -> &[u8] {
        &self.bytes[self.open_field_start()..]
    }

    /// Takes back the pieces of the field that is not ended.
    pub fn clear_open_field(&mut self) {
        let start = self.open_field_start();
        self.bytes.truncate(start);
    }

    fn open_field_start(&self) -> usize {
        self.ends.last().map_or(0, |end| end & Self::END) as usize
    }

    /// Sets the width of a batch without whole rows.
    pub fn widen(&mut self, width: usize) {
        debug_assert!(self.is_empty(), "a batch with rows of another width");
        self.width = width;
    }

    /// How many fields the row that is being built has so far.
    #[inline]
    pub fn fields_in_open_row(&self) -> usize {
        self.ends.len() - self.positions.len() * self.width
    }

    /// Takes back the row that is being built.
    pub fn discard_open_row(&mut self) {
        self.ends.truncate(self.positions.len() * self.width);
        let length = self.ends.last().map_or(0, |end| end & Self::END);
        self.bytes.truncate(length as usize);
    }

    /// Takes the row that is being built out, whatever its width; what is missing in it is empty.
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

    /// Ends the row that is being built. The caller has checked that it has `width` fields.
    #[inline]
    pub fn end_row(&mut self, position: Position) {
        debug_assert_eq!(self.fields_in_open_row(), self.width, "a row of another width");
        self.positions.push(position);
    }

    /// The same rows with `more` fields behind each, which `add` pushes.
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
            // A row never begins earlier than it did, and the marks are far above any offset.
            let shift = (wide.bytes.len() - start) as u64;
            wide.bytes.extend_from_slice(&self.bytes[start..end]);
            wide.ends.extend(ends.iter().map(|end| end + shift));
            start = end;
            add(&mut wide, *position);
            wide.end_row(*position);
        }
        wide
    }

    /// The number of whole rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// The number of fields in each row.
    #[inline]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes of all fields together, to know when a batch is large enough.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a decoder should hand the batch on and begin another.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        const BYTES: usize = 64 * 1024;
        const ROWS: usize = 1024;
        const FIELDS: usize = 16 * 1024;
        let rows = self.rows();
        rows >= ROWS || rows * self.width >= FIELDS || self.bytes.len() >= BYTES
    }

    /// What the batch takes in memory.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<u64>()
            + self.positions.capacity() * size_of::<Position>()
    }

    /// Whether there is no whole row.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// One field. Panics when row or column is out of range, as an index does.
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

    /// The kind of a field; a missing one is plain. Panics when row or column is out of range, as an index does.
    #[inline]
    pub fn kind(&self, row: usize, column: usize) -> FieldKind {
        match self.ends[row * self.width + column] {
            end if end & Self::STRING != 0 => FieldKind::String,
            end if end & Self::NESTED != 0 => FieldKind::Nested,
            _ => FieldKind::Plain,
        }
    }

    /// Where a row stands in its file.
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
    fn missing_and_empty_fields_stay_apart() {
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
    fn kinds_stay_with_their_fields() {
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
    fn an_open_row_can_be_taken_back() {
        let mut batch = Batch::new(2);
        batch.push_field(Some(b"a"));
        batch.push_field(None);
        batch.end_row(at(1));
        batch.push_field(Some(b"left over"));
        batch.discard_open_row();
        assert_eq!((batch.rows(), batch.fields_in_open_row(), batch.size_bytes()), (1, 0, 1));
    }
}
