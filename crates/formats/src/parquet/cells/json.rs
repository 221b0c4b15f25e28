//! Nested values as JSON.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;

use super::{TOO_LONG, Unreadable};
use crate::FieldKind;

/// Writes a value of at most `max_bytes` as JSON. `second` is the second read of a value with timestamps of 96 bits.
pub(super) fn write_within(
    array: &dyn Array,
    second: Option<&dyn Array>,
    row: usize,
    (out, max_bytes): (&mut Vec<u8>, usize),
) -> Result<(), Unreadable> {
    Writer { max_bytes }.write(Read { array, second }, row, out)
}

struct Writer {
    max_bytes: usize,
}

/// Values, and the same values of the second read, if there is one.
#[derive(Clone, Copy)]
struct Read<'a> {
    array: &'a dyn Array,
    second: Option<&'a dyn Array>,
}

impl<'a> Read<'a> {
    /// A part of both reads.
    fn part(self, part: impl Fn(&'a dyn Array) -> &'a dyn Array) -> Self {
        Self { array: part(self.array), second: self.second.map(part) }
    }

    /// The second read of timestamps of 96 bits. Only these have another type in each read.
    fn int96(self) -> Option<&'a dyn Array> {
        self.second.filter(|second| second.data_type() != self.array.data_type())
    }

    /// Writes a value that is not nested.
    fn write(self, row: usize, out: &mut Vec<u8>) -> Result<Option<FieldKind>, Unreadable> {
        match self.int96() {
            Some(nanos) => super::write_int96(self.array, nanos, row, out),
            None => super::write(self.array, row, out),
        }
    }
}

impl Writer {
    /// Writes a value as JSON. A missing value is `null`. Dates, times and floats that are not finite are strings.
    fn write(&self, values: Read<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if out.len() > self.max_bytes {
            return Err(TOO_LONG);
        }
        if super::is_missing(values.array, row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match values.array.data_type() {
            DataType::List(_) => {
                let list = |array: &dyn Array| array.as_list::<i32>().value(row);
                let second = values.second.map(list);
                self.write_list(Read { array: &list(values.array), second: second.as_deref() }, out)
            }
            DataType::Struct(_) => self.write_struct(values, row, out),
            DataType::Map(_, _) => {
                let entries = |array: &dyn Array| array.as_map().value(row);
                let second = values.second.map(entries);
                let second = second.as_ref().map(|second| second as &dyn Array);
                self.write_map(Read { array: &entries(values.array), second }, out)
            }
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
                out.push(b'"');
                values.write(row, out)?;
                out.push(b'"');
                Ok(())
            }
            _ => {
                let start = out.len();
                if values.write(row, out)? == Some(FieldKind::String) {
                    let text = out.split_off(start);
                    write_string(&text, out)?;
                }
                Ok(())
            }
        }
    }

    fn write_list(&self, values: Read<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'[');
        for index in 0..values.array.len() {
            write_comma(index, out);
            self.write(values, index, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn write_struct(&self, values: Read<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'{');
        for (index, field) in values.array.as_struct().fields().iter().enumerate() {
            write_comma(index, out);
            write_string(field.name().as_bytes(), out)?;
            out.push(b':');
            self.write(values.part(|array| array.as_struct().column(index)), row, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn write_map(&self, entries: Read<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let keys = entries.part(|array| array.as_struct().column(0));
        let values = entries.part(|array| array.as_struct().column(1));
        let mut key = Vec::new();
        out.push(b'{');
        for index in 0..entries.array.len() {
            write_comma(index, out);
            key.clear();
            keys.write(index, &mut key)?.ok_or("is a map with a missing key")?;
            write_string(&key, out)?;
            out.push(b':');
            self.write(values, index, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

fn write_comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8 text")?;
    serde_json::to_writer(out, text).map_err(|_| "cannot be written as JSON")
}
