//! The path to the array of records in a JSON document (`JSON_RECORDS`).

use std::fmt;

/// The keys from the document to its array of records. Each key but the last has an object as its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsPath(Vec<String>);

impl RecordsPath {
    /// Parses keys that are separated by dots, such as `$.data`, `Records` or `a.b`. The `$.` at the beginning is optional.
    ///
    /// Returns `None` if a key is empty, or selects elements of arrays with `[`, `]` or `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let keys: Vec<String> = text.strip_prefix("$.").unwrap_or(text).split('.').map(str::to_owned).collect();
        let is_key = |key: &String| !key.is_empty() && key != "$" && !key.contains(['[', ']', '*']);
        keys.iter().all(is_key).then_some(Self(keys))
    }

    /// The keys, at least one.
    pub(super) fn keys(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for RecordsPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "$.{}", self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("$.data", Some("$.data"))]
    #[case("Records", Some("$.Records"))]
    #[case("a.b c.ä", Some("$.a.b c.ä"))]
    #[case("$.$.a", None)]
    #[case("", None)]
    #[case("$", None)]
    #[case("$.", None)]
    #[case("a..b", None)]
    #[case(".a", None)]
    #[case("data[*]", None)]
    #[case("*.data", None)]
    fn path_is_a_list_of_keys(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(RecordsPath::parse(text).map(|path| path.to_string()).as_deref(), expected);
    }
}
