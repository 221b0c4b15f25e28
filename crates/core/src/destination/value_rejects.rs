//! Collects the records whose values do not fit the table's columns.

use std::sync::{Mutex, PoisonError};

use spillway_formats::reject::{Reject, RejectCode};

use crate::error::Error;

/// Where a load notes the records whose values the table cannot take, as long as there is room.
#[derive(Debug, Default)]
pub struct ValueRejects {
    most: u64,
    noted: Mutex<Vec<Reject>>,
}

impl ValueRejects {
    /// Room for so many.
    pub fn new(most: u64) -> Self {
        Self { most, noted: Mutex::default() }
    }

    /// Notes the record that the error is about; `false` when there is no room, and then the error counts.
    pub fn note(&self, error: &Error) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = (noted.len() as u64) < self.most;
        if has_room {
            noted.push(value_reject(error));
        }
        has_room
    }

    /// What was noted, in the file's order.
    pub fn noted(&self) -> Vec<Reject> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is noted of a record that this error is about.
fn value_reject(error: &Error) -> Reject {
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
    fn values_are_noted_while_there_is_room() {
        let rejects = ValueRejects::new(1);
        let error = Error::new(ErrorKind::DataRefused, "too long").in_column("c");
        assert!(rejects.note(&error));
        assert!(!rejects.note(&error));
        assert_eq!(rejects.noted(), [value_reject(&error)]);
    }
}
