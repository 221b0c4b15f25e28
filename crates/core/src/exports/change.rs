//! A change of a row, with the names of its columns.

use std::str;

use super::columns::{ComparedColumns, ExportColumns};
use super::record::Values;
use super::sort::{Operation, StoredChange};

/// A value of a row: its bytes after parsing, or NULL.
pub type Value<'a> = Option<&'a [u8]>;

/// A change of one row.
#[derive(Debug)]
pub struct Change<'a> {
    /// The number of the change, from 1, in the order of keys.
    pub seq: u64,
    /// What happened to the row.
    pub operation: Operation,
    stored: StoredChange<'a>,
    key: Vec<Vec<u8>>,
    columns: &'a ComparedColumns,
}

impl Operation {
    /// The name in a delta: `c`, `u` or `d`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
        }
    }
}

impl<'a> Change<'a> {
    pub(super) fn new(seq: u64, stored: StoredChange<'a>, columns: &'a ComparedColumns) -> Self {
        let key = columns.new.key_parts(stored.key);
        Self { seq, operation: stored.operation(), stored, key, columns }
    }

    /// The key columns with their values, in the order of `EXPORT_KEY`.
    pub fn key(&self) -> Vec<(&str, Value<'_>)> {
        let new = &self.columns.new;
        let names = new.key.iter().map(|index| new.names[*index].as_str());
        names.zip(self.key.iter().map(|part| Some(part.as_slice()))).collect()
    }

    /// All columns of the old export with their values; `None` for a row that it does not have.
    pub fn before(&self) -> Option<Vec<(&str, Value<'_>)>> {
        self.stored.before.map(|values| self.row(&self.columns.old, values))
    }

    /// All columns of the new export with their values; `None` for a row that it does not have.
    pub fn after(&self) -> Option<Vec<(&str, Value<'_>)>> {
        self.stored.after.map(|values| self.row(&self.columns.new, values))
    }

    /// The columns outside the key of the old row, with their values.
    pub fn values_before(&self) -> Option<Vec<(&str, Value<'_>)>> {
        self.stored.before.map(|values| self.values(&self.columns.old, values))
    }

    /// The columns outside the key of the new row, with their values.
    pub fn values_after(&self) -> Option<Vec<(&str, Value<'_>)>> {
        self.stored.after.map(|values| self.values(&self.columns.new, values))
    }

    fn values<'b>(&'b self, columns: &'b ExportColumns, values: &'b [u8]) -> Vec<(&'b str, Value<'b>)> {
        let row = self.row(columns, values).into_iter().enumerate();
        row.filter(|(index, _)| !columns.key.contains(index)).map(|(_, field)| field).collect()
    }

    /// The common columns that an update changes, as the new export names them, with the old and the new value.
    pub fn updates(&self) -> Vec<(&str, Value<'_>, Value<'_>)> {
        let (Some(before), Some(after)) = (self.stored.before, self.stored.after) else { return Vec::new() };
        let (before, after): (Vec<_>, Vec<_>) = (Values(before).collect(), Values(after).collect());
        let ComparedColumns { new, common, .. } = self.columns;
        let columns: Vec<usize> = new.value_columns().collect();
        let pairs = common.pairs.iter().map(|(old, index)| {
            let value = |row: &[Value<'a>], index: usize| row.get(index).copied().flatten();
            (new.names[columns[*index]].as_str(), value(&before, *old), value(&after, *index))
        });
        pairs.filter(|(_, before, after)| before != after).collect()
    }

    fn row<'b>(&'b self, columns: &'b ExportColumns, values: &'b [u8]) -> Vec<(&'b str, Value<'b>)> {
        columns.names.iter().map(String::as_str).zip(columns.fields(&self.key, values)).collect()
    }

    /// Appends the change as one line of JSON.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"op\":\"");
        out.extend_from_slice(self.operation.name().as_bytes());
        out.extend_from_slice(b"\",\"key\":");
        write_row(Some(&self.key()), out);
        out.extend_from_slice(b",\"before\":");
        write_row(self.before().as_deref(), out);
        out.extend_from_slice(b",\"after\":");
        write_row(self.after().as_deref(), out);
        out.extend_from_slice(b",\"seq\":");
        out.extend_from_slice(self.seq.to_string().as_bytes());
        out.extend_from_slice(b"}\n");
    }
}

fn write_row(row: Option<&[(&str, Value<'_>)]>, out: &mut Vec<u8>) {
    let Some(row) = row else { return out.extend_from_slice(b"null") };
    out.push(b'{');
    for (index, (name, value)) in row.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        match value.map(|value| (value, str::from_utf8(value))) {
            None => out.extend_from_slice(b"null"),
            Some((_, Ok(text))) => write_text(text, out),
            Some((bytes, Err(_))) => {
                out.extend_from_slice(b"{\"hex\":\"");
                out.extend_from_slice(crate::object::hex(bytes).as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
    }
    out.push(b'}');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}
