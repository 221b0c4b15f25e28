//! Changes of a table's definition for one file: those that a failed try has requested, and those that were made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The changes for one file. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct TableChanges(Arc<Mutex<Changes>>);

#[derive(Debug, Default)]
struct Changes {
    wider: Vec<String>,
    made: Vec<String>,
}

impl TableChanges {
    /// Requests a wider type for a column, whose values do not fit. Returns `false` if that was requested before.
    pub fn request_wider(&self, column: &str) -> bool {
        let mut changes = self.changes();
        let is_new = changes.wider.iter().all(|other| other != column);
        if is_new {
            changes.wider.push(column.to_owned());
        }
        is_new
    }

    /// Returns the changes that were made, each as a text for people.
    pub fn made(&self) -> Vec<String> {
        self.changes().made.clone()
    }

    /// The columns that need a wider type.
    pub(super) fn wider(&self) -> Vec<String> {
        self.changes().wider.clone()
    }

    pub(super) fn record(&self, change: String) {
        self.changes().made.push(change);
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
