//! Column names and types, chosen from the whole file and only when every value survives the trip.
//!
//! Here are the words; `infer` watches values and decides, `value` reads one value as a type and writes it back.
//! How a type is called in an engine or in Glue is that room's business.

pub mod fallback;
pub mod header;
pub mod infer;
pub mod value;

use serde::{Deserialize, Serialize};

/// What all values of a column are. Ordered from narrow to wide only by `infer`, never by derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `true` and `false`, also `True` and `TRUE`.
    Boolean,
    /// Whole numbers that fit 64 bits with sign, written without leading zeros or a plus sign.
    Integer,
    /// Exact decimal numbers; at most 38 digits, of which `scale` stand behind the point.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// Digits behind the point, 0 to `precision`, at most 30.
        scale: u8,
    },
    /// Numbers that a 64-bit float keeps exactly as written.
    Double,
    /// A day, `YYYY-MM-DD`, years 1000 to 9999.
    Date,
    /// Date and time of day without an offset, with up to microseconds.
    DateTime,
    /// An instant: date and time with an offset or `Z`; kept in UTC, with up to microseconds.
    Instant,
    /// Objects and arrays as JSON text, byte for byte as they stand in the file, white space included. Only a format that
    /// has nested values gives them: a CSV field that begins with `{` is text.
    Json,
    /// Anything else, byte for byte (UTF-8).
    Text,
}

impl ColumnType {
    /// The type a new column gets for values of this one: decimals with room in front of the point for later files. Up to
    /// 18 digits cost the same space in every engine.
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
            | Self::Text => self,
        }
    }
}

/// Which types every value of a column so far could be stored as without loss. Grows only narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// As [`ColumnType::Boolean`].
    pub boolean: bool,
    /// As [`ColumnType::Integer`].
    pub integer: bool,
    /// As a decimal with at least these digits in front of and behind the point, when both together are at most 38.
    pub decimal: Option<(u8, u8)>,
    /// As [`ColumnType::Double`].
    pub double: bool,
    /// As [`ColumnType::Date`].
    pub date: bool,
    /// As [`ColumnType::DateTime`].
    pub date_time: bool,
    /// As [`ColumnType::Instant`].
    pub instant: bool,
}

/// Why a column has the type it has, for `plan`, logs and reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeReason {
    /// The record whose value ruled out the last narrower type, where one did.
    pub forced_by_record: Option<u64>,
    /// In words, without the value: "record 10,001 is not a 64-bit integer".
    pub reason: String,
}

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in the database and, lowercased, in Glue: unique in any letter case, at most 63 bytes, never empty.
    pub name: String,
    /// What all values are.
    pub column_type: ColumnType,
    /// Whether a value is missing, or a null token in a column that is not text, in any record.
    pub has_nulls: bool,
    /// Whether the null tokens (see [`value::is_null_token`]) stand for NULL when the values go into an existing column
    /// that is not text. Not where the file writes strings and nulls apart: there they are words like any other.
    #[serde(default = "yes")]
    pub null_tokens: bool,
    /// The longest value in bytes, to choose how text is stored.
    pub max_bytes: u64,
    /// The types that would do as well, for tables that exist already.
    pub candidates: Candidates,
    /// Why this type.
    pub type_reason: TypeReason,
}

/// What manifests without the field mean: they were written when all files were CSV.
fn yes() -> bool {
    true
}

/// All columns of a file, in file order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Schema {
    /// In file order; empty for an empty file.
    pub columns: Vec<Column>,
}
