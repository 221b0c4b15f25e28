//! Collects the records whose values the table's columns cannot store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use spillway_formats::numbers::with_thousands;
use spillway_formats::reject::{Reject, RejectCode};

use crate::error::{Error, ErrorKind, Result};

/// The rejected records of a load, up to a limit.
#[derive(Debug, Default)]
pub struct ValueRejects {
    limit: u64,
    collected: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    rejects: Vec<Reject>,
    /// The index of the first one that a column of another type could store.
    first_of_type: Option<usize>,
}

/// The bad records that a file may have, and those that it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RejectCounts {
    /// The most bad records.
    pub(crate) max: u64,
    /// All records of the file.
    pub(crate) records: u64,
    /// Those that cannot be read.
    pub(crate) unreadable: u64,
}

impl ValueRejects {
    /// Returns an empty list for at most `limit` records.
    pub fn new(limit: u64) -> Self {
        Self { limit, collected: Mutex::default() }
    }

    /// Adds the record that the error is about. Returns `false` when the limit is reached, so the load must fail.
    pub fn add(&self, error: &Error) -> bool {
        let mut collected = self.lock();
        let is_below_limit = (collected.rejects.len() as u64) < self.limit;
        if is_below_limit {
            if error.needs_other_type() && collected.first_of_type.is_none() {
                collected.first_of_type = Some(collected.rejects.len());
            }
            collected.rejects.push(reject(error));
        }
        is_below_limit
    }

    /// Returns the records in file order.
    pub fn collected(&self) -> Vec<Reject> {
        self.lock().rejects.clone()
    }

    /// Fails if these are all `rows` of a file: then nothing is left to load.
    ///
    /// # Errors
    /// [`ErrorKind::DataRefused`] about the first record that a wider column could store, or else about the first one.
    pub(crate) fn check_not_all(&self, rows: u64) -> Result<()> {
        let collected = self.lock();
        let Collected { rejects, first_of_type } = &*collected;
        let Some(first) = rejects.first().filter(|_| rejects.len() as u64 == rows) else { return Ok(()) };
        let blamed = first_of_type.map_or(first, |index| &rejects[index]);
        let what = match rows {
            1 => "the only row has a value that does not fit its column, so nothing is left to load".to_owned(),
            rows => format!(
                "each of the {} rows has a value that does not fit its column, so MAX_REJECTS leaves nothing to load; the first",
                with_thousands(rows)
            ),
        };
        let error = Error::new(ErrorKind::DataRefused, format!("{what}: {}", blamed.reason))
            .advised("change the table or the records");
        Err(about(blamed, error, first_of_type.is_some()))
    }

    /// Explains that more records are bad than allowed. `error` is about the first record beyond the limit.
    pub(crate) fn above_limit(&self, error: Error, counts: RejectCounts) -> Error {
        let collected = self.lock();
        let beyond = reject(&error);
        let first = collected.rejects.first().unwrap_or(&beyond);
        let needs_other_type = match collected.rejects.is_empty() {
            true => error.needs_other_type(),
            false => collected.first_of_type == Some(0),
        };
        let refused = collected.rejects.len() as u64 + 1;
        let verb = if refused == 1 { "has" } else { "have" };
        let unreadable = match counts.unreadable {
            0 => String::new(),
            count => format!("{} cannot be read, and ", with_thousands(count)),
        };
        let message = format!(
            "more records are bad than MAX_REJECTS allows ({} of {}): {unreadable}at least {} {verb} a value that does not fit its column; \
             the first of these: {}",
            with_thousands(counts.max),
            with_thousands(counts.records),
            with_thousands(refused),
            first.reason
        );
        let explained = Error::new(ErrorKind::DataRefused, message)
            .advised("change the table or the records, or raise MAX_REJECTS");
        about(first, explained, needs_other_type)
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the position and the column of a rejected record to an error.
fn about(record: &Reject, error: Error, needs_other_type: bool) -> Error {
    let error = error.at(record.position);
    let error = match &record.column {
        Some(column) => error.in_column(column),
        None => error,
    };
    if needs_other_type { error.because_of_type() } else { error }
}

fn reject(error: &Error) -> Reject {
    Reject {
        position: error.position().unwrap_or_default(),
        code: RejectCode::ValueRefused,
        column: error.column().map(str::to_owned),
        reason: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Position;

    fn refused(record: u64, column: &str) -> Error {
        Error::new(ErrorKind::DataRefused, "the value is too long")
            .at(Position { record, ..Position::default() })
            .in_column(column)
    }

    #[test]
    fn records_are_collected_up_to_limit() {
        let rejects = ValueRejects::new(1);
        let error = refused(1, "c");
        assert!(rejects.add(&error));
        assert!(!rejects.add(&error));
        assert_eq!(rejects.collected(), [reject(&error)]);
    }

    #[test]
    fn error_above_the_limit_has_the_limit_and_the_first_record() {
        let rejects = ValueRejects::new(1);
        assert!(rejects.add(&refused(2, "first")));
        let counts = RejectCounts { max: 3, records: 1_500, unreadable: 2 };
        let error = rejects.above_limit(refused(9, "beyond").because_of_type(), counts);
        assert_eq!(
            error.message(),
            "more records are bad than MAX_REJECTS allows (3 of 1,500): 2 cannot be read, and at least 2 have a value that does not fit \
             its column; the first of these: the value is too long"
        );
        assert_eq!((error.position().map(|at| at.record), error.column()), (Some(2), Some("first")));
        assert!(!error.needs_other_type());
        // The unreadable records alone have reached the limit.
        let error = ValueRejects::new(0).above_limit(refused(9, "beyond").because_of_type(), counts);
        assert!(error.message().contains("at least 1 has a value"), "{error}");
        assert_eq!((error.position().map(|at| at.record), error.needs_other_type()), (Some(9), true));
    }

    #[test]
    fn file_whose_records_are_all_refused_has_nothing_to_load() {
        let rejects = ValueRejects::new(5);
        rejects.check_not_all(0).unwrap();
        assert!(rejects.add(&refused(1, "a")) && rejects.add(&refused(2, "b").because_of_type()));
        rejects.check_not_all(3).unwrap();
        let error = rejects.check_not_all(2).unwrap_err();
        assert_eq!((error.kind(), error.column()), (ErrorKind::DataRefused, Some("b")));
        assert!(error.needs_other_type() && error.message().contains("each of the 2 rows"), "{error}");
    }
}
