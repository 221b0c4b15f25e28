//! A ledger row as every engine's ledger keeps it.

use crate::error::{Error, ErrorKind, Result};

use crate::object::ObjectVersion;

use super::{LedgerEntry, LedgerState};

/// The source whose rows a replaced table holds, as its ledger row has it.
#[derive(Debug)]
pub(super) struct Current {
    /// Its id.
    pub(super) source_id: String,
    /// Its object's key.
    pub(super) key: String,
    /// When S3 last modified it, in microseconds since 1970-01-01 in UTC.
    pub(super) modified_micros: Option<i64>,
}

impl Current {
    /// Whether its rows stay, because this other source is older: by the time S3 last modified them, then by key, byte for
    /// byte, whatever the database holds to be equal.
    pub(super) fn is_newer_than(&self, other: &ObjectVersion) -> bool {
        let others = (Some(other.last_modified.as_microsecond()), other.object.key.as_str());
        (self.modified_micros, self.key.as_str()) > others
    }
}

/// The entry of a row's columns that decide.
pub(super) fn entry(state: &str, rows_parsed: u64, rows_stored: u64, moved_to: Option<String>) -> Result<LedgerEntry> {
    let state = match state {
        "loaded" => LedgerState::Loaded,
        "duplicate" => LedgerState::Duplicate,
        "superseded" => LedgerState::Superseded,
        "fell_back" => LedgerState::FellBack,
        "rejected" => LedgerState::Rejected,
        other => return Err(Error::new(ErrorKind::Internal, format!("the ledger has an unknown state: {other}"))),
    };
    Ok(LedgerEntry { state, rows_parsed, rows_stored, moved_to })
}

/// The error for a body that has turned out to be in the target table, or on its way there, as another source's.
pub(super) fn duplicate_content() -> Error {
    Error::new(ErrorKind::Conflict, "the same content is loaded, or being loaded, as another source")
}

/// The first characters of a text, as many as a column holds.
pub(super) fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

/// Dollars as a ledger keeps them.
pub(super) fn dollars(amount: f64) -> String {
    format!("{amount:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    #[test]
    fn the_newer_source_is_the_one_modified_later_then_the_one_with_the_greater_key() {
        let noon = "2026-11-20T12:00:00Z".parse().unwrap();
        let source = ObjectVersion::new(ObjectRef::new("bucket", "b"), "e".into(), 1, noon, None);
        let micros = noon.as_microsecond();
        let is_newer = |key: &str, modified_micros| {
            Current { source_id: String::new(), key: key.into(), modified_micros }.is_newer_than(&source)
        };
        assert!(is_newer("a", Some(micros + 1)) && !is_newer("c", Some(micros - 1)));
        assert!(is_newer("c", Some(micros)) && is_newer("ba", Some(micros)) && is_newer("\u{e4}", Some(micros)));
        assert!(!is_newer("b", Some(micros)) && !is_newer("a", Some(micros)) && !is_newer("Z", Some(micros)));
        assert!(!is_newer("c", None));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("äö", 2), "äö");
    }

    #[test]
    fn every_state_comes_back_and_one_that_nobody_knows_is_an_error() {
        for state in [LedgerState::Loaded, LedgerState::Duplicate, LedgerState::FellBack, LedgerState::Rejected] {
            assert_eq!(entry(state.name(), 1, 1, None).unwrap().state, state);
        }
        assert!(entry("half", 1, 1, None).is_err());
    }
}
