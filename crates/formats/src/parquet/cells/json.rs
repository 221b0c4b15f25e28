//! Nested values as JSON.

use arrow_array::cast::AsArray;
use arrow_array::{Array, StructArray};
use arrow_schema::DataType;

use super::{TOO_LONG, Unreadable};
use crate::FieldKind;

/// Writes a value of at most `max_bytes` as JSON.
pub(super) fn write_within(
    array: &dyn Array,
    row: usize,
    (out, max_bytes): (&mut Vec<u8>, usize),
) -> Result<(), Unreadable> {
    Writer { max_bytes }.write(array, row, out)
}

struct Writer {
    max_bytes: usize,
}

impl Writer {
    /// Writes a value as JSON. A missing value is `null`. Dates, times and floats that are not finite are strings.
    fn write(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if out.len() > self.max_bytes {
            return Err(TOO_LONG);
        }
        if super::is_missing(array, row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match array.data_type() {
            DataType::List(_) => self.write_list(&array.as_list::<i32>().value(row), out),
            DataType::Struct(_) => self.write_struct(array.as_struct(), row, out),
            DataType::Map(_, _) => self.write_map(&array.as_map().value(row), out),
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
                out.push(b'"');
                super::write(array, row, out)?;
                out.push(b'"');
                Ok(())
            }
            _ => {
                let start = out.len();
                if super::write(array, row, out)? == Some(FieldKind::String) {
                    let text = out.split_off(start);
                    write_string(&text, out)?;
                }
                Ok(())
            }
        }
    }

    fn write_list(&self, values: &dyn Array, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'[');
        for index in 0..values.len() {
            write_comma(index, out);
            self.write(values, index, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn write_struct(&self, array: &StructArray, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        out.push(b'{');
        for (index, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
            write_comma(index, out);
            write_string(field.name().as_bytes(), out)?;
            out.push(b':');
            self.write(column, row, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn write_map(&self, entries: &StructArray, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let (keys, values) = (entries.column(0), entries.column(1));
        let mut key = Vec::new();
        out.push(b'{');
        for index in 0..entries.len() {
            write_comma(index, out);
            key.clear();
            super::write(keys, index, &mut key)?.ok_or("is a map with a missing key")?;
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
