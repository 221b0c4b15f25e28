//! `KEY_COLUMNS`: columns with the origin of each row, after the file's own columns.
//!
//! Their types are fixed, not inferred. A part of the key is text, so that `month=01` and `month=10` have the same
//! type. Except for the record number, their values are the same in every row of an attempt.

use jiff::Timestamp;

use crate::error::Position;
use crate::object::ObjectRef;
use crate::pattern::KeyParts;
use spillway_formats::Batch;
use spillway_formats::schema::header::column_names;
use spillway_formats::schema::{Candidates, Column, ColumnType, Schema, TypeReason};

/// A column with the origin of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyColumn {
    /// A named part of the key, from `TABLE_PATTERN`, as text.
    Part(String),
    /// The bucket of the object, as text.
    SourceBucket,
    /// The key of the object, as text.
    SourceKey,
    /// The number of the record in the file, from 1.
    SourceRow,
    /// The time when the attempt started.
    LoadedAt,
}

impl KeyColumn {
    /// The column with this name.
    pub fn of(name: &str) -> Self {
        match name {
            "source_bucket" => Self::SourceBucket,
            "source_key" => Self::SourceKey,
            "source_row" => Self::SourceRow,
            "loaded_at" => Self::LoadedAt,
            part => Self::Part(part.to_owned()),
        }
    }

    /// The name in `KEY_COLUMNS` and, unless the file has a column of that name, in the table.
    pub fn name(&self) -> &str {
        match self {
            Self::Part(name) => name,
            Self::SourceBucket => "source_bucket",
            Self::SourceKey => "source_key",
            Self::SourceRow => "source_row",
            Self::LoadedAt => "loaded_at",
        }
    }
}

/// The columns of one attempt at one object.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyFields(Vec<KeyField>);

#[derive(Debug, Clone)]
struct KeyField {
    /// The name in `KEY_COLUMNS`. If the file has a column of that name, this one is renamed.
    name: String,
    column_type: ColumnType,
    value: KeyValue,
    reason: &'static str,
}

#[derive(Debug, Clone)]
enum KeyValue {
    /// The same in every row; `None` for a part that the key's pattern does not have.
    Constant(Option<Vec<u8>>),
    /// The number of the record.
    Record,
}

impl KeyFields {
    /// The fields of an attempt that started at `loaded_at`.
    pub(crate) fn new(columns: &[KeyColumn], object: &ObjectRef, key: &KeyParts, loaded_at: Timestamp) -> Self {
        let field = |column: &KeyColumn| {
            let text = |value: &str| KeyValue::Constant(Some(value.as_bytes().to_vec()));
            let (column_type, value, reason) = match column {
                KeyColumn::Part(name) => {
                    let part = key.part(name).map(|part| part.as_bytes().to_vec());
                    (ColumnType::Text, KeyValue::Constant(part), "it is a part of the key")
                }
                KeyColumn::SourceBucket => (ColumnType::Text, text(&object.bucket), "it is the object's bucket"),
                KeyColumn::SourceKey => (ColumnType::Text, text(&object.key), "it is the object's key"),
                KeyColumn::SourceRow => (ColumnType::Integer, KeyValue::Record, "it is the record's number"),
                KeyColumn::LoadedAt => {
                    let moment = text(&format!("{loaded_at:.6}"));
                    (ColumnType::Instant, moment, "it is the start of the attempt")
                }
            };
            KeyField { name: column.name().to_owned(), column_type, value, reason }
        };
        Self(columns.iter().map(field).collect())
    }

    /// Whether `KEY_COLUMNS` names no columns.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the columns to the schema of a file with `rows` rows. A file without columns stays without columns.
    ///
    /// If the file uses a name, in any letter case, a number is appended to it, as for a repeated name in a header.
    pub(crate) fn extend(&self, schema: &mut Schema, rows: u64) {
        if schema.columns.is_empty() {
            return;
        }
        let own = schema.columns.iter().map(|column| column.name.as_str());
        let added = self.0.iter().map(|field| field.name.as_str());
        let header: Vec<Vec<u8>> = own.chain(added).map(|name| name.as_bytes().to_vec()).collect();
        let names = column_names(&header).split_off(schema.columns.len());
        schema.columns.extend(self.0.iter().zip(names).map(|(field, name)| field.column(name, rows)));
    }

    /// The same rows, with these fields after their own.
    pub(crate) fn widen(&self, batch: &Batch) -> Batch {
        batch.widened(self.0.len(), |wide, position| self.0.iter().for_each(|field| field.push(wide, position)))
    }
}

impl KeyField {
    fn column(&self, name: String, rows: u64) -> Column {
        let digits = rows.to_string().len();
        let (max_bytes, has_nulls) = match &self.value {
            KeyValue::Constant(value) => (value.as_ref().map_or(0, Vec::len), value.is_none() && rows > 0),
            KeyValue::Record => (digits, false),
        };
        let is_integer = self.column_type == ColumnType::Integer;
        Column {
            name,
            column_type: self.column_type,
            has_nulls,
            null_tokens: false,
            is_binary: false,
            has_other_spellings: false,
            day_order: None,
            max_bytes: max_bytes as u64,
            candidates: Candidates {
                boolean: false,
                integer: is_integer,
                decimal: is_integer.then_some((digits.try_into().unwrap_or(u8::MAX), 0)),
                double: is_integer && digits <= 15,
                date: false,
                date_time: false,
                instant: self.column_type == ColumnType::Instant,
            },
            type_reason: TypeReason { forced_by_record: None, reason: self.reason.to_owned() },
        }
    }

    #[inline]
    fn push(&self, batch: &mut Batch, position: Position) {
        match &self.value {
            KeyValue::Constant(value) => batch.push_field(value.as_deref()),
            KeyValue::Record => {
                let mut digits = [0; 20];
                batch.push_field(Some(decimal(position.record, &mut digits)));
            }
        }
    }
}

/// Formats a number in decimal digits, without an allocation.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::schema::infer::Inference;
    use spillway_formats::schema::value::{Value, parse};

    fn fields(columns: &[&str]) -> KeyFields {
        let columns: Vec<KeyColumn> = columns.iter().map(|name| KeyColumn::of(name)).collect();
        let parts = vec![("month".to_owned(), "01".to_owned()), ("tenant".to_owned(), "NULL".to_owned())];
        let key = KeyParts { table: "t".into(), parts };
        KeyFields::new(
            &columns,
            &ObjectRef::new("b", "in/t/month=01/a.csv"),
            &key,
            "2026-11-20T08:00:00.5Z".parse().unwrap(),
        )
    }

    fn batch() -> Batch {
        let mut batch = Batch::new(2);
        for (record, row) in [[Some(&b"a"[..]), None], [Some(b""), Some(b"bc")]].into_iter().enumerate() {
            row.into_iter().for_each(|field| batch.push_field(field));
            batch.end_row(Position { record: record as u64 + 9, line: 0, byte: 0 });
        }
        batch
    }

    #[test]
    fn fields_are_appended_to_every_row() {
        let wide = fields(&["month", "source_row", "loaded_at", "year", "source_key"]).widen(&batch());
        let rows: Vec<Vec<Option<String>>> = (0..wide.rows())
            .map(|row| {
                let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
                (0..wide.width()).map(|column| wide.field(row, column).map(text)).collect()
            })
            .collect();
        let row = |fields: [Option<&str>; 7]| fields.map(|field| field.map(str::to_owned)).to_vec();
        let (at, key) = (Some("2026-11-20T08:00:00.500000Z"), Some("in/t/month=01/a.csv"));
        assert_eq!(
            rows,
            [
                row([Some("a"), None, Some("01"), Some("9"), at, None, key]),
                row([Some(""), Some("bc"), Some("01"), Some("10"), at, None, key]),
            ]
        );
        assert_eq!(wide.position(1).record, 10);
    }

    #[test]
    fn every_value_has_the_type_of_its_column() {
        let fields = fields(&["month", "tenant", "source_bucket", "source_key", "source_row", "loaded_at"]);
        let mut schema = Inference::new(vec!["a".to_owned(), "b".to_owned()]).finish();
        fields.extend(&mut schema, 2);
        let wide = fields.widen(&batch());
        for (index, column) in schema.columns.iter().enumerate().skip(2) {
            let value = parse(column.column_type, wide.field(0, index));
            assert!(value.is_some_and(|value| value != Value::Null), "{}", column.name);
        }
    }

    #[test]
    fn column_whose_name_the_file_uses_is_renamed() {
        let mut schema = Inference::new(vec!["Month".to_owned(), "month_2".to_owned()]).finish();
        fields(&["month", "source_row"]).extend(&mut schema, 0);
        let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["Month", "month_2", "month_3", "source_row"]);
        let types: Vec<ColumnType> = schema.columns.iter().map(|column| column.column_type).collect();
        assert_eq!(types[2..], [ColumnType::Text, ColumnType::Integer]);
    }

    #[test]
    fn empty_file_gets_no_columns() {
        let mut schema = Schema::default();
        fields(&["month"]).extend(&mut schema, 0);
        assert_eq!(schema, Schema::default());
    }

    #[test]
    fn numbers_are_formatted_like_the_standard_library() {
        for number in [0, 7, 10, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
