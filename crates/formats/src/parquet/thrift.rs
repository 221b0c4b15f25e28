//! The part of Thrift's compact protocol that the headers of a Parquet file need.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// Why a header or a page is rejected.
pub(super) type RejectReason = &'static str;

/// The reason for bytes that are not Thrift.
pub(super) const CORRUPT: RejectReason = "a header is truncated or corrupt";

/// How deep structs and lists may be nested.
const MAX_DEPTH: usize = 32;

/// The types of the compact protocol.
pub(super) mod wire {
    pub(crate) const TRUE: u8 = 1;
    pub(crate) const FALSE: u8 = 2;
    pub(crate) const BYTE: u8 = 3;
    pub(crate) const I16: u8 = 4;
    pub(crate) const I32: u8 = 5;
    pub(crate) const I64: u8 = 6;
    pub(crate) const DOUBLE: u8 = 7;
    pub(crate) const BINARY: u8 = 8;
    pub(crate) const LIST: u8 = 9;
    pub(crate) const SET: u8 = 10;
    pub(crate) const MAP: u8 = 11;
    pub(crate) const STRUCT: u8 = 12;
    pub(crate) const UUID: u8 = 13;
}

/// Reads values from the start of a byte slice. It allocates no memory, so a wrong length is harmless.
pub(super) struct ThriftReader<'a> {
    /// The bytes that are not read yet.
    pub(super) rest: &'a [u8],
}

impl ThriftReader<'_> {
    /// Reads a struct. `read_field` gets the id and the type of each field, and must read its value.
    pub(super) fn fields(
        &mut self,
        read_field: &mut dyn FnMut(&mut Self, i16, u8) -> Result<(), RejectReason>,
    ) -> Result<(), RejectReason> {
        let mut id: i16 = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.integer()?).map_err(|_| CORRUPT)?,
                step => id.checked_add(step.into()).ok_or(CORRUPT)?,
            };
            read_field(self, id, kind)?;
        }
    }

    /// Reads a list of structs, each as [`ThriftReader::fields`] does.
    pub(super) fn structs(
        &mut self,
        read_field: &mut dyn FnMut(&mut Self, i16, u8) -> Result<(), RejectReason>,
    ) -> Result<(), RejectReason> {
        let (count, kind) = self.list()?;
        if count > 0 && kind != wire::STRUCT {
            return Err(CORRUPT);
        }
        (0..count).try_for_each(|_| self.fields(read_field))
    }

    /// Skips the value of a field.
    pub(super) fn skip(&mut self, kind: u8) -> Result<(), RejectReason> {
        self.skip_nested(kind, 0)
    }

    fn skip_nested(&mut self, kind: u8, depth: usize) -> Result<(), RejectReason> {
        if depth > MAX_DEPTH {
            return Err(CORRUPT);
        }
        match kind {
            wire::TRUE | wire::FALSE => Ok(()),
            wire::BYTE => self.skip_bytes(1),
            wire::I16 | wire::I32 | wire::I64 => self.varint().map(|_| ()),
            wire::DOUBLE => self.skip_bytes(8),
            wire::UUID => self.skip_bytes(16),
            wire::BINARY => {
                let length = self.varint()?;
                self.skip_bytes(usize::try_from(length).map_err(|_| CORRUPT)?)
            }
            wire::LIST | wire::SET => {
                let (count, element) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(element, depth + 1))
            }
            wire::MAP => self.skip_map(depth),
            wire::STRUCT => self.fields(&mut |thrift, _, kind| thrift.skip_nested(kind, depth + 1)),
            _ => Err(CORRUPT),
        }
    }

    fn skip_map(&mut self, depth: usize) -> Result<(), RejectReason> {
        let count = self.varint()?;
        let kinds = if count > 0 { self.byte()? } else { 0 };
        if count > self.rest.len() as u64 {
            return Err(CORRUPT);
        }
        (0..count).try_for_each(|_| {
            self.skip_element(kinds >> 4, depth + 1)?;
            self.skip_element(kinds & 0x0f, depth + 1)
        })
    }

    /// Skips an element of a list or map. There a boolean is one byte; in a struct its type is its value.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), RejectReason> {
        match kind {
            wire::TRUE | wire::FALSE => self.skip_bytes(1),
            kind => self.skip_nested(kind, depth),
        }
    }

    /// Reads the head of a list: the number and the type of its elements. Each element has at least one byte.
    pub(super) fn list(&mut self) -> Result<(u64, u8), RejectReason> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        if count > self.rest.len() as u64 { Err(CORRUPT) } else { Ok((count, head & 0x0f)) }
    }

    /// Reads an integer in zigzag encoding.
    pub(super) fn integer(&mut self) -> Result<i64, RejectReason> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, RejectReason> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CORRUPT)
    }

    fn byte(&mut self) -> Result<u8, RejectReason> {
        let (first, rest) = self.rest.split_first().ok_or(CORRUPT)?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip_bytes(&mut self, count: usize) -> Result<(), RejectReason> {
        self.rest = self.rest.get(count..).ok_or(CORRUPT)?;
        Ok(())
    }
}
