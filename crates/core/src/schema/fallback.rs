//! How a file's columns are called and stored in the fallback: decided by the catalog, obeyed by the encoders.
//!
//! The catalog decides because its table outlives the file: an earlier file may have made a column of that name with
//! another type.

use serde::{Deserialize, Serialize};

use super::ColumnType;

/// Where one column of a file goes in the fallback. They stand in file order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackColumn {
    /// The column's name in the catalog and in the Parquet file, lower case.
    pub name: String,
    /// What the file's values are, and what replay reads them as again.
    pub file_type: ColumnType,
    /// What they are stored as. Every value of the file survives in it.
    pub stored_type: ColumnType,
    /// The column's place in the catalog's table, from 0. CSV is read by place, Parquet by name.
    pub place: usize,
}
