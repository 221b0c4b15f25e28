//! The values of unknown columns, as one JSON object for each row (`UNKNOWN_COLUMNS=json`).
//!
//! A missing value has no key. Objects, arrays, and the numbers and booleans of a format that distinguishes them from
//! strings stay as they are. Every other value is a string. So the object depends on the row alone, and never on other rows.

use futures_util::StreamExt;
use spillway_formats::schema::{Candidates, Column, ColumnType, TypeReason, value::json};
use spillway_formats::{Batch, FieldKind};

use crate::batch::BatchStream;
use crate::error::{Error, ErrorKind, Position, Result};

/// The unknown columns of a file, for the JSON column that keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtraFields(Vec<ExtraField>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ExtraField {
    /// The index in the file.
    index: usize,
    name: String,
    /// Whether the file distinguishes strings from numbers and booleans.
    has_strings: bool,
}

impl ExtraFields {
    /// The columns with these indexes in the file.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = (usize, &'a Column)>) -> Self {
        let field = |(index, column): (usize, &Column)| ExtraField {
            index,
            name: column.name.clone(),
            has_strings: !column.null_tokens,
        };
        Self(columns.into_iter().map(field).collect())
    }

    /// Adds the object as another field to each row.
    pub(super) fn add_to<'a>(self, rows: BatchStream<'a>) -> BatchStream<'a> {
        rows.map(move |batch| self.widened(&batch?)).boxed()
    }

    /// Adds the object to each row of a batch.
    pub(super) fn widened(&self, batch: &Batch) -> Result<Batch> {
        let (mut row, mut object, mut error) = (0, Vec::new(), None);
        let wide = batch.widened(1, |wide, position| {
            object.clear();
            match self.write(batch, row, position, &mut object) {
                Ok(()) if object.is_empty() => wide.push_field(None),
                Ok(()) => wide.push_kind(FieldKind::Nested, &object),
                Err(rejection) => {
                    wide.push_field(None);
                    error.get_or_insert(rejection);
                }
            }
            row += 1;
        });
        error.map_or(Ok(wide), Err)
    }

    /// Writes the object of a row; nothing if no field has a value.
    fn write(&self, batch: &Batch, row: usize, position: Position, out: &mut Vec<u8>) -> Result<()> {
        for field in &self.0 {
            let Some(bytes) = batch.field(row, field.index) else { continue };
            let Ok(text) = std::str::from_utf8(bytes) else {
                let message =
                    "the value has bytes that are not text, and JSON cannot store them; add the column to the table";
                return Err(Error::new(ErrorKind::DataRefused, message).at(position).in_column(&field.name));
            };
            out.push(if out.is_empty() { b'{' } else { b',' });
            write_string(&field.name, out);
            out.push(b':');
            match batch.kind(row, field.index) {
                FieldKind::Nested => out.extend_from_slice(bytes),
                FieldKind::Plain if field.has_strings && json::is_json(bytes) => out.extend_from_slice(bytes),
                FieldKind::Plain | FieldKind::String => write_string(text, out),
            }
        }
        if !out.is_empty() {
            out.push(b'}');
        }
        Ok(())
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A nullable JSON column of this name, for a table that lacks it.
pub(super) fn json_column(name: &str) -> Column {
    column(name, ColumnType::Json, "keeps unknown columns")
}

/// A nullable text column of this name, for a staging table.
pub(super) fn text_column(name: &str) -> Column {
    column(name, ColumnType::Text, "has the operations")
}

fn column(name: &str, column_type: ColumnType, reason: &str) -> Column {
    let candidates = Candidates {
        boolean: false,
        integer: false,
        decimal: None,
        double: false,
        date: false,
        date_time: false,
        instant: false,
    };
    Column {
        name: name.to_owned(),
        column_type,
        has_nulls: true,
        null_tokens: false,
        is_binary: false,
        day_order: None,
        has_other_spellings: false,
        max_bytes: 0,
        candidates,
        type_reason: TypeReason { forced_by_record: None, reason: reason.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::schema::infer::Inference;

    fn objects(extra: &ExtraFields, batch: &Batch) -> Vec<Option<String>> {
        let wide = extra.widened(batch).unwrap();
        let last = wide.width() - 1;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (0..wide.rows()).map(|row| wide.field(row, last).map(text)).collect()
    }

    fn extra(null_tokens: bool) -> ExtraFields {
        let mut schema = Inference::new(["id", "a b", "c\""].map(str::to_owned).to_vec()).finish();
        schema.columns.iter_mut().for_each(|column| column.null_tokens = null_tokens);
        ExtraFields::new(schema.columns.iter().enumerate().skip(1))
    }

    #[test]
    fn values_of_csv_are_strings() {
        let mut batch = Batch::new(3);
        for row in
            [[Some("1"), Some("5"), Some("x\n\"\u{1f600}")], [Some("2"), None, Some("")], [Some("3"), None, None]]
        {
            row.iter().for_each(|field| batch.push_field(field.map(str::as_bytes)));
            batch.end_row(Position::default());
        }
        let expected = [
            Some("{\"a b\":\"5\",\"c\\\"\":\"x\\n\\\"\u{1f600}\"}".to_owned()),
            Some("{\"c\\\"\":\"\"}".to_owned()),
            None,
        ];
        assert_eq!(objects(&extra(true), &batch), expected);
    }

    #[test]
    fn values_of_json_keep_their_types() {
        let mut batch = Batch::new(3);
        for (first, second) in [
            ((FieldKind::Plain, "1.50"), (FieldKind::String, "1")),
            ((FieldKind::Nested, "[1, {}]"), (FieldKind::Plain, "true")),
            ((FieldKind::Plain, "2024-01-02"), (FieldKind::Plain, "007")),
        ] {
            batch.push_field(Some(b"1"));
            batch.push_kind(first.0, first.1.as_bytes());
            batch.push_kind(second.0, second.1.as_bytes());
            batch.end_row(Position::default());
        }
        let expected = [
            "{\"a b\":1.50,\"c\\\"\":\"1\"}",
            "{\"a b\":[1, {}],\"c\\\"\":true}",
            "{\"a b\":\"2024-01-02\",\"c\\\"\":\"007\"}",
        ];
        assert_eq!(objects(&extra(false), &batch), expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let mut batch = Batch::new(3);
        for field in [&b"1"[..], b"\xff", b""] {
            batch.push_field(Some(field));
        }
        batch.end_row(Position { record: 7, line: 8, byte: 9 });
        let error = extra(true).widened(&batch).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("a b")));
        assert_eq!(error.position().map(|position| position.record), Some(7));
    }
}
