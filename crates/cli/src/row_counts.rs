//! The row counts of loads that find the rows of the table by key.

use spillway_core::destination::LoadDetails;

use crate::numbers::{count, counted};

/// What a load has done by key, such as `3 inserted, 2 updated, 5 unchanged`; `None` for other load modes.
pub(crate) fn by_key(load: &LoadDetails, rows_stored: u64) -> Option<String> {
    load.is_by_key().then(|| {
        let inserted = load.rows_inserted(rows_stored);
        parts(load, &format!("{} inserted", count(inserted)))
    })
}

/// As [`by_key`], as a sentence begins with it: `3 rows inserted, 2 updated, 5 unchanged`.
pub(crate) fn rows_by_key(load: &LoadDetails, rows_stored: u64) -> Option<String> {
    load.is_by_key().then(|| {
        let inserted = load.rows_inserted(rows_stored);
        parts(load, &format!("{} inserted", counted(inserted, "row")))
    })
}

/// What a merge says about records that a later record of the file with the same key has replaced; empty if there are none.
pub(crate) fn replaced(load: &LoadDetails, parsed: u64, rejected: u64, stored: u64) -> String {
    let replaced = parsed.saturating_sub(rejected).saturating_sub(stored);
    match load.load_mode.as_deref() == Some("merge") && replaced > 0 {
        true => format!("; {} replaced by a later one of the file with the same key", counted(replaced, "record")),
        false => String::new(),
    }
}

/// Adds the other counts. A merge deletes nothing.
fn parts(load: &LoadDetails, inserted: &str) -> String {
    let mut text =
        format!("{inserted}, {} updated, {} unchanged", count(load.rows_updated), count(load.rows_unchanged));
    if load.load_mode.as_deref() != Some("merge") {
        text += &format!(", {} deleted", count(load.rows_deleted));
    }
    if load.rows_missing > 0 {
        text += &format!("; {} of rows that were not in the table", counted(load.rows_missing, "change"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_word() {
        let load = |mode: &str, rows_deleted, rows_missing| LoadDetails {
            load_mode: Some(mode.to_owned()),
            rows_updated: 2,
            rows_unchanged: 5000,
            rows_deleted,
            rows_missing,
        };
        let text = |load| by_key(&load, 5003).unwrap();
        assert_eq!(text(load("merge", 0, 0)), "1 inserted, 2 updated, 5,000 unchanged");
        assert_eq!(text(load("mirror", 0, 0)), "1 inserted, 2 updated, 5,000 unchanged, 0 deleted");
        assert_eq!(
            text(load("changes", 7, 1)),
            "1 inserted, 2 updated, 5,000 unchanged, 7 deleted; 1 change of rows that were not in the table"
        );
        assert_eq!(rows_by_key(&load("merge", 0, 0), 5003).unwrap(), "1 row inserted, 2 updated, 5,000 unchanged");
        assert_eq!(
            replaced(&load("merge", 0, 0), 9, 2, 6),
            "; 1 record replaced by a later one of the file with the same key"
        );
        assert_eq!(replaced(&load("merge", 0, 0), 8, 2, 6) + &replaced(&load("changes", 0, 0), 9, 0, 6), "");
        assert_eq!((by_key(&load("append", 0, 0), 9), by_key(&LoadDetails::default(), 9)), (None, None));
    }
}
