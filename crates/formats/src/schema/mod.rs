//! Column names and types. A column gets a type only if every value of the file keeps its meaning in it.
//!
//! [`infer`] chooses the types, and [`value`] parses and writes single values. The adapters know the names that engines and
//! Glue have for a type.

pub mod fallback;
pub mod header;
pub mod infer;
pub mod value;

use serde::{Deserialize, Serialize};

use value::spelling::DayOrder;

/// The type of all values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `true` and `false`, in any letter case.
    Boolean,
    /// Signed 64-bit integers, written without leading zeros or a plus sign.
    Integer,
    /// Exact decimal numbers of at most 38 digits.
    Decimal {
        /// The number of digits, 1 to 38.
        precision: u8,
        /// The number of digits after the point: 0 to `precision`, at most 30.
        scale: u8,
    },
    /// Numbers that a 64-bit float holds exactly as written.
    Double,
    /// A date, `YYYY-MM-DD`, in the years 1000 to 9999.
    Date,
    /// Date and time of day without an offset, with at most microseconds.
    DateTime,
    /// Date and time of day with an offset or `Z`, stored in UTC, with at most microseconds.
    Instant,
    /// Objects and arrays as JSON, byte for byte as in the file. Only formats with nested values have this type: a CSV field
    /// that starts with `{` is text.
    Json,
    /// Any other text in UTF-8, byte for byte.
    Text,
    /// Bytes that are not text. Only Parquet has this type.
    Binary,
}

impl ColumnType {
    /// The type of a new column for values of this type: a decimal gets more digits before the point, for later files.
    ///
    /// Decimals of up to 18 digits use the same space in every engine.
    #[must_use]
    pub fn with_headroom(self) -> Self {
        match self {
            Self::Decimal { precision, scale } if precision <= 18 => Self::Decimal { precision: 18, scale },
            Self::Decimal { scale, .. } => Self::Decimal { precision: 38, scale },
            Self::Boolean
            | Self::Integer
            | Self::Double
            | Self::Date
            | Self::DateTime
            | Self::Instant
            | Self::Json
            | Self::Text
            | Self::Binary => self,
        }
    }
}

/// The types in which every value of a column can be stored without loss. More values only remove types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// [`ColumnType::Boolean`].
    pub boolean: bool,
    /// [`ColumnType::Integer`].
    pub integer: bool,
    /// A decimal with at least this many digits before and after the point, together at most 38.
    pub decimal: Option<(u8, u8)>,
    /// [`ColumnType::Double`].
    pub double: bool,
    /// [`ColumnType::Date`].
    pub date: bool,
    /// [`ColumnType::DateTime`].
    pub date_time: bool,
    /// [`ColumnType::Instant`].
    pub instant: bool,
}

impl Candidates {
    /// Whether every type is possible, because no value is known.
    pub fn are_open(&self) -> bool {
        self.integer && self.date && self.boolean
    }

    /// The narrowest type of number that holds every value; `None` without values, and if no type holds all of them.
    pub(crate) fn number(&self) -> Option<ColumnType> {
        match (self.boolean, self.integer, self.decimal, self.double) {
            // Only a column without values could be both.
            (true, _, _, _) | (false, false, None, false) => None,
            (false, true, _, _) => Some(ColumnType::Integer),
            (false, false, Some((whole, scale)), _) => Some(ColumnType::Decimal { precision: whole + scale, scale }),
            (false, false, None, true) => Some(ColumnType::Double),
        }
    }

    /// Whether every value is a value of the type. Every value is a text.
    pub fn hold(&self, column_type: ColumnType) -> bool {
        match column_type {
            ColumnType::Boolean => self.boolean,
            ColumnType::Integer => self.integer,
            ColumnType::Decimal { precision, scale } => self
                .decimal
                .is_some_and(|(whole, fraction)| fraction <= scale && whole <= precision.saturating_sub(scale)),
            ColumnType::Double => self.double,
            ColumnType::Date => self.date,
            ColumnType::DateTime => self.date_time,
            ColumnType::Instant => self.instant,
            ColumnType::Json | ColumnType::Binary => false,
            ColumnType::Text => true,
        }
    }
}

/// Why a column has its type, for logs and messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeReason {
    /// The record whose value ruled out the last narrower type, if any did.
    pub forced_by_record: Option<u64>,
    /// The reason in words, without the value: "the value in record 10,001 is not a 64-bit integer".
    pub reason: String,
}

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in the database and, in lower case, in Glue. Unique regardless of letter case, 1 to 63 bytes.
    pub name: String,
    /// The type of all values.
    pub column_type: ColumnType,
    /// Whether any value is missing, or is a null token and the column is not text.
    pub has_nulls: bool,
    /// Whether null tokens (see [`value::is_null_token`]) mean NULL in an existing column that is not text.
    ///
    /// `false` if the file distinguishes strings from nulls: then a null token is a string like any other.
    #[serde(default = "default_null_tokens")]
    pub null_tokens: bool,
    /// Whether the file declares bytes that are not text. Binary columns of a table get exactly these bytes.
    ///
    /// The type is still text if every value is UTF-8, because old writers do not declare their strings as text.
    #[serde(default)]
    pub is_binary: bool,
    /// Whether a value or a null token is spelled in a way that only the column's type explains: `.5`, `tRUE`, `none`.
    ///
    /// The fallback keeps such a column as text, so that a replay into a text column stores the text of the file.
    #[serde(default)]
    pub has_other_spellings: bool,
    /// The order of day and month, if the values are dates that end with their year. All values of the file have proved it.
    ///
    /// Date columns of a table read the values by this order. Text columns store the text of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_order: Option<DayOrder>,
    /// The length of the longest value in bytes. It decides how text is stored.
    pub max_bytes: u64,
    /// All possible types, for tables that already exist.
    pub candidates: Candidates,
    /// Why the column has its type.
    pub type_reason: TypeReason,
}

impl Column {
    /// Whether every field is missing. An empty string is a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Without a value every type is possible. A null token has a length.
        self.max_bytes == 0 && self.candidates.integer
    }
}

/// The value in a manifest without the field, which was written when all files were CSV.
fn default_null_tokens() -> bool {
    true
}

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Schema {
    /// The columns in the order of the file. An empty file has none.
    pub columns: Vec<Column>,
    /// The number of columns at the start whose names the file does not contain: all columns of a file without a header.
    ///
    /// Such a name only counts positions (`col_1`), so an existing table is matched by position.
    #[serde(default)]
    pub unnamed: usize,
    /// Whether the rows are changes of rows (`JSON_VALUES=changes`), with their operations in the column `op`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_changes: bool,
}

impl Schema {
    /// The schema of the first rows of a file. They prove no [`Column::day_order`], so such columns are text.
    #[must_use]
    pub fn of_first_rows(mut self) -> Self {
        for column in self.columns.iter_mut().filter(|column| column.day_order.is_some()) {
            column.day_order = None;
            column.has_other_spellings = false;
            column.column_type = ColumnType::Text;
            (column.candidates.date, column.candidates.date_time) = (false, false);
        }
        self
    }
}

#[cfg(test)]
mod tests;
