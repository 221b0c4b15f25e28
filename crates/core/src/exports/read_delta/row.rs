//! A change as it is read from a delta: the key and the rows, with the columns that the summary names.

use std::sync::Arc;

use crate::exports::Operation;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaValue {
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// Bytes that are not UTF-8, from Parquet.
    Bytes(Vec<u8>),
}

impl DeltaValue {
    /// The bytes of the value; `None` for NULL.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

/// Columns with their values, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRow {
    columns: Arc<[String]>,
    values: Vec<DeltaValue>,
}

impl DeltaRow {
    /// A row with a value for each column.
    pub(in crate::exports) fn of(columns: Arc<[String]>, values: Vec<DeltaValue>) -> Self {
        Self { columns, values }
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[DeltaValue] {
        &self.values
    }

    /// The columns with their values.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &DeltaValue)> {
        self.columns.iter().map(String::as_str).zip(&self.values)
    }
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaChange {
    /// The number of the change, from 1.
    pub seq: u64,
    /// What happened to the row.
    pub operation: Operation,
    /// The key columns, as the new export names them. No value is NULL, and no other change of the delta has this key.
    pub key: DeltaRow,
    /// The row of the old export; `None` for an inserted row.
    pub before: Option<DeltaRow>,
    /// The row of the new export; `None` for a deleted row.
    pub after: Option<DeltaRow>,
}
