//! Rows of an export as bytes, for temporary files.
//!
//! A row is the length of the rest, the number of its record, its key and its other values in the order of the file. Numbers
//! have one byte for each seven bits. The order of two keys is the order of their bytes.

/// The byte that the end of a key's part begins with. Within a part, [`ESCAPE`] follows it.
const END: u8 = 0x00;
/// Follows a zero byte within a part. It is greater than any end, so a longer part is greater than its beginning.
const ESCAPE: u8 = 0xff;

/// A row, as it is in a temporary file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// The number of the record in its file, from 1.
    pub(super) record: u64,
    /// The key; see [`push_key_part`].
    pub(super) key: &'a [u8],
    /// The values outside the key; see [`push_value`].
    pub(super) values: &'a [u8],
}

impl<'a> Row<'a> {
    /// The first row of these bytes and the number of its bytes; `None` if the bytes are not complete rows.
    pub(super) fn first(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let length = take_number(&mut rest)?;
        let mut row = rest.get(..usize::try_from(length).ok()?)?;
        let size = bytes.len() - rest.len() + row.len();
        let record = take_number(&mut row)?;
        let key = take_bytes(&mut row)?;
        Some((Self { record, key, values: row }, size))
    }

    /// The number of bytes that the row appends.
    pub(super) fn size(&self) -> usize {
        let rest = self.size_of_rest();
        number_size(rest as u64) + rest
    }

    fn size_of_rest(&self) -> usize {
        number_size(self.record) + number_size(self.key.len() as u64) + self.key.len() + self.values.len()
    }

    /// Appends the row.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        push_number(out, self.size_of_rest() as u64);
        push_number(out, self.record);
        push_number(out, self.key.len() as u64);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.values);
    }
}

/// The number of bytes of a number.
fn number_size(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// Appends a number.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Removes a number from the beginning; `None` if the bytes end within it.
#[inline]
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Removes a number, and as many bytes after it.
#[inline]
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Appends a value; `None` is NULL.
#[inline]
pub(super) fn push_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.push(0),
        Some(value) => {
            push_number(out, value.len() as u64 + 1);
            out.extend_from_slice(value);
        }
    }
}

/// The values of a row, in order. A row of JSON may have fewer values than the file has columns: the others are NULL.
#[derive(Debug, Clone)]
pub(super) struct Values<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let length = take_number(&mut self.0)?;
        let Some(length) = length.checked_sub(1) else { return Some(None) };
        let (value, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(value))
    }
}

/// Appends one part of a key of `parts` columns. All but the last end with bytes that no part contains.
pub(super) fn push_key_part(out: &mut Vec<u8>, part: &[u8], is_last: bool) {
    if is_last {
        return out.extend_from_slice(part);
    }
    let mut rest = part;
    while let Some(zero) = memchr::memchr(END, rest) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(ESCAPE);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[END, END]);
}

/// The parts of a key of `count` columns.
pub(super) fn key_parts(key: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::with_capacity(count);
    let (mut part, mut rest) = (Vec::new(), key);
    while parts.len() + 1 < count
        && let Some((byte, after)) = rest.split_first()
    {
        rest = after;
        match (*byte, rest.first()) {
            (END, Some(&next)) => {
                rest = &rest[1..];
                match next {
                    ESCAPE => part.push(END),
                    _ => parts.push(std::mem::take(&mut part)),
                }
            }
            (byte, _) => part.push(byte),
        }
    }
    part.extend_from_slice(rest);
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut key = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            push_key_part(&mut key, part, index + 1 == parts.len());
        }
        key
    }

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(0xfe), Just(0xff), any::<u8>()];
        prop::collection::vec(prop::collection::vec(byte, 0..4), 3)
    }

    proptest! {
        #[test]
        fn order_of_keys_is_the_order_of_their_parts(left in parts(), right in parts()) {
            prop_assert_eq!(key(&left).cmp(&key(&right)), left.cmp(&right));
        }

        #[test]
        fn parts_of_a_key_are_returned(parts in parts()) {
            prop_assert_eq!(key_parts(&key(&parts), parts.len()), parts);
        }

        #[test]
        fn numbers_are_returned(number in any::<u64>(), small in 0_u64..300) {
            for number in [number, small] {
                let mut bytes = Vec::new();
                push_number(&mut bytes, number);
                let mut rest = &bytes[..];
                prop_assert_eq!((take_number(&mut rest), rest.len()), (Some(number), 0));
                prop_assert_eq!(number_size(number), bytes.len());
                prop_assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
            }
        }
    }

    #[test]
    fn row_keeps_null_and_empty_values() {
        let (mut values, mut out) = (Vec::new(), vec![]);
        let expected = [Some(&b"a"[..]), None, Some(b"")];
        expected.iter().for_each(|value| push_value(&mut values, *value));
        let row = Row { record: 300, key: b"k", values: &values };
        row.append_to(&mut out);
        assert_eq!(row.size(), out.len());
        out.push(9);
        let (read, size) = Row::first(&out).unwrap();
        assert_eq!((read, size), (row, out.len() - 1));
        assert_eq!(Values(read.values).collect::<Vec<_>>(), expected);
        assert_eq!(Row::first(&out[..size - 1]), None);
    }
}
