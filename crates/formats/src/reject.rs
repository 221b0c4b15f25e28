//! Records that are left out of a load because they are bad, one by one: how many may be, and what is noted of each.
//!
//! A note never has a value in it. The records themselves are cut out of the file by their place once all are known.

use serde::Serialize;

use crate::{Error, Position};

/// The most bad records of a file that are noted, whatever the settings allow, so that memory stays bounded.
pub const MAX_NOTED: u64 = 100_000;

/// How many bad records a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectLimit {
    /// This many; with none, a bad record refuses the whole file.
    Count(u64),
    /// This many of a million records.
    PerMillion(u64),
}

impl RejectLimit {
    /// Whether any record may be bad at all.
    pub fn is_on(self) -> bool {
        self != Self::Count(0) && self != Self::PerMillion(0)
    }

    /// The most bad records among so many.
    pub fn most(self, records: u64) -> u64 {
        match self {
            Self::Count(count) => count.min(MAX_NOTED),
            Self::PerMillion(usage) => {
                let most = u128::from(records) * u128::from(usage) / 1_000_000;
                u64::try_from(most).unwrap_or(MAX_NOTED).min(MAX_NOTED)
            }
        }
    }

    /// The most bad records as long as nobody knows how many there are in all.
    pub fn most_of_any(self) -> u64 {
        self.most(u64::MAX)
    }
}

/// Why a record is left out. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// More or fewer fields than the header.
    FieldCount,
    /// A field goes on after its closing quote; the record ends with its line.
    AfterQuote,
    /// A record that is no valid JSON object; in JSON lines it ends with its line.
    NotJson,
    /// A value that its column in the table cannot take.
    ValueRefused,
}

/// One record that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub code: RejectCode,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// Why, in words.
    pub reason: String,
}

impl Reject {
    /// What is noted of a record that this error is about.
    pub fn of(code: RejectCode, error: &Error) -> Self {
        Self {
            position: error.position().unwrap_or_default(),
            code,
            column: error.column().map(str::to_owned),
            reason: error.message().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(RejectLimit::Count(0), 1_000, 0)]
    #[case(RejectLimit::Count(7), 1_000, 7)]
    #[case(RejectLimit::Count(u64::MAX), 1_000, MAX_NOTED)]
    #[case(RejectLimit::PerMillion(10_000), 99, 0)]
    #[case(RejectLimit::PerMillion(10_000), 250, 2)]
    #[case(RejectLimit::PerMillion(1_000_000), u64::MAX, MAX_NOTED)]
    fn a_limit_is_a_number_of_records(#[case] limit: RejectLimit, #[case] records: u64, #[case] expected: u64) {
        assert_eq!(limit.most(records), expected);
    }
}
