//! Collects the records whose values the table's columns cannot store.

use std::sync::{Mutex, PoisonError};

use spillway_formats::reject::{Reject, RejectCode};

use crate::error::Error;

/// The rejected records of a load, up to a limit.
#[derive(Debug, Default)]
pub struct ValueRejects {
    limit: u64,
    collected: Mutex<Vec<Reject>>,
}

impl ValueRejects {
    /// Returns an empty list for at most `limit` records.
    pub fn new(limit: u64) -> Self {
        Self { limit, collected: Mutex::default() }
    }

    /// Adds the record that the error is about. Returns `false` when the limit is reached, so the load must fail.
    pub fn add(&self, error: &Error) -> bool {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let is_below_limit = (collected.len() as u64) < self.limit;
        if is_below_limit {
            collected.push(reject(error));
        }
        is_below_limit
    }

    /// Returns the records in file order.
    pub fn collected(&self) -> Vec<Reject> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
    use crate::error::ErrorKind;

    #[test]
    fn records_are_collected_up_to_limit() {
        let rejects = ValueRejects::new(1);
        let error = Error::new(ErrorKind::DataRefused, "too long").in_column("c");
        assert!(rejects.add(&error));
        assert!(!rejects.add(&error));
        assert_eq!(rejects.collected(), [reject(&error)]);
    }
}
