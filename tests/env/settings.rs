//! Settings for a binary under test: its environment variables. It does not inherit those of the test.

use std::collections::BTreeMap;

/// Environment variables for one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Adds a variable, or replaces its value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Adds all variables of `other`, which replace existing values.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
