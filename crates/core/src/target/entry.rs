//! A ledger row as every engine's ledger keeps it.

use crate::error::{Error, ErrorKind, Result};

use super::{LedgerEntry, LedgerState};

/// The entry of a row's columns that decide.
pub(super) fn entry(state: &str, rows_parsed: u64, rows_stored: u64, moved_to: Option<String>) -> Result<LedgerEntry> {
    let state = match state {
        "loaded" => LedgerState::Loaded,
        "duplicate" => LedgerState::Duplicate,
        "superseded" => LedgerState::Superseded,
        "fell_back" => LedgerState::FellBack,
        "rejected" => LedgerState::Rejected,
        other => return Err(Error::new(ErrorKind::Bug, format!("the ledger has an unknown state: {other}"))),
    };
    Ok(LedgerEntry { state, rows_parsed, rows_stored, moved_to })
}

/// The first characters of a text, as many as a column holds.
pub(super) fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

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
