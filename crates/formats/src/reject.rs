//! Bad records: how many a file may have, and the record, line and reason of each.
//!
//! A reason never contains a value. [`crate::extract`] copies the records themselves out of the file.

use serde::Serialize;

use crate::numbers::with_thousands;
use crate::{Error, ErrorKind, Position, Result};

/// The most rejected records per file, even if the settings allow more. It bounds memory.
pub const MAX_REJECTS: u64 = 100_000;

/// How many bad records a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectLimit {
    /// A number of records. With 0, one bad record rejects the whole file.
    Count(u64),
    /// A number of records in a million.
    PerMillion(u64),
}

impl RejectLimit {
    /// Whether a file may have any bad record.
    pub fn is_on(self) -> bool {
        self != Self::Count(0) && self != Self::PerMillion(0)
    }

    /// The most bad records that a file of `records` records may have.
    pub fn max_of(self, records: u64) -> u64 {
        match self {
            Self::Count(count) => count.min(MAX_REJECTS),
            Self::PerMillion(ratio) => {
                let max = u128::from(records) * u128::from(ratio) / 1_000_000;
                u64::try_from(max).unwrap_or(MAX_REJECTS).min(MAX_REJECTS)
            }
        }
    }

    /// The most bad records while the number of records is still unknown.
    pub fn max_before_the_end(self) -> u64 {
        self.max_of(u64::MAX)
    }
}

/// Why a record is rejected. The names are part of the error file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// More or fewer fields than the header.
    FieldCount,
    /// Text after the closing quote of a field. The record ends with its line.
    AfterQuote,
    /// Not a valid JSON object. In JSON lines the record ends with its line.
    NotJson,
    /// A value that its column in the table cannot hold.
    ValueRefused,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The position of the record.
    pub position: Position,
    /// The kind of fault.
    pub code: RejectCode,
    /// The column with the fault, if it is one column.
    pub column: Option<String>,
    /// The fault in words, without a value.
    pub reason: String,
}

impl Reject {
    fn new(code: RejectCode, error: &Error) -> Self {
        Self {
            position: error.position().unwrap_or_default(),
            code,
            column: error.column().map(str::to_owned),
            reason: error.message().to_owned(),
        }
    }
}

/// The records that a decoder has rejected.
#[derive(Debug)]
pub(crate) struct Rejects {
    max: u64,
    is_off: bool,
    count: u64,
    /// Those that the caller has not taken yet.
    pending: Vec<Reject>,
}

impl Rejects {
    /// No rejects yet; at most as many as `limit` allows before the end of the file.
    pub(crate) fn new(limit: RejectLimit) -> Self {
        Self { max: limit.max_before_the_end(), is_off: false, count: 0, pending: Vec::new() }
    }

    /// Whether a bad record may be rejected at all.
    pub(crate) fn is_on(&self) -> bool {
        self.max > 0
    }

    /// Makes every bad record an error from now on.
    pub(crate) fn turn_off(&mut self) {
        self.max = 0;
        self.is_off = true;
    }

    /// Marks the error of a record that a higher limit would reject alone.
    #[cold]
    pub(crate) fn marked(&self, error: Error) -> Error {
        if self.is_off { error } else { error.of_one_record() }
    }

    /// Adds the record that starts at `start`.
    ///
    /// # Errors
    /// When the file has more bad records than allowed.
    #[cold]
    pub(crate) fn add(&mut self, code: RejectCode, error: &Error, start: Position) -> Result<()> {
        self.count += 1;
        if self.count > self.max {
            let (max, last) = (with_thousands(self.max), error.message());
            let message = match self.max {
                MAX_REJECTS => {
                    format!("more than {max} records are bad, the most that a file may have; the last one: {last}")
                }
                1 => format!("more than {max} record is bad (MAX_REJECTS); the last one: {last}"),
                _ => format!("more than {max} records are bad (MAX_REJECTS); the last one: {last}"),
            };
            return Err(Error::new(ErrorKind::Invalid, message).at(start));
        }
        self.pending.push(Reject::new(code, error));
        Ok(())
    }

    /// Returns the rejects since the last call.
    pub(crate) fn take(&mut self) -> Vec<Reject> {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(RejectLimit::Count(0), 1_000, 0)]
    #[case(RejectLimit::Count(7), 1_000, 7)]
    #[case(RejectLimit::Count(u64::MAX), 1_000, MAX_REJECTS)]
    #[case(RejectLimit::PerMillion(10_000), 99, 0)]
    #[case(RejectLimit::PerMillion(10_000), 250, 2)]
    #[case(RejectLimit::PerMillion(1_000_000), u64::MAX, MAX_REJECTS)]
    fn limit_is_a_number_of_records(#[case] limit: RejectLimit, #[case] records: u64, #[case] expected: u64) {
        assert_eq!(limit.max_of(records), expected);
    }
}
