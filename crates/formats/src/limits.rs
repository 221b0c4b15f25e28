//! Limits on what a file may be.

use crate::compression::DecodedLimits;
use crate::reject::RejectLimit;

/// Limits beyond which a file is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// The longest record in bytes, quotes and delimiters included. A CSV header is at most 1 MiB in any case.
    pub max_record_bytes: usize,
    /// The most columns.
    pub max_columns: usize,
    /// The most memory in bytes that the decoder of a Parquet file may use.
    pub max_memory_bytes: u64,
    /// Limits on a compressed file.
    pub decoded: DecodedLimits,
    /// How many bad records are rejected one by one. Beyond that, the whole file is rejected.
    pub rejects: RejectLimit,
}
