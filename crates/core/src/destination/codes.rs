//! Look-up in the engines' tables of error codes, and the reasons for rejected rows that the engines share.

/// A row with the same unique key exists.
pub(super) const DUPLICATE_KEY: &str = "a row with the same unique key exists, in the table or in the file";
/// A value is missing.
pub(super) const NO_VALUE: &str = "a column that requires a value has none";
/// A number, date or time is outside of the column's range.
pub(super) const OUT_OF_RANGE: &str = "a value is out of the column's range";
/// A text is too long.
pub(super) const TOO_LONG: &str = "a value is too long for its column";
/// A row that a foreign key names is missing.
pub(super) const NO_REFERENCED_ROW: &str = "a foreign key names a row that does not exist";
/// A row that a foreign key names would be deleted.
pub(super) const ROW_IS_REFERENCED: &str = "a foreign key of another table names a row that would be deleted";
/// A trigger has raised an error.
pub(super) const TRIGGER: &str = "a trigger of the table rejects a row";
/// The reason for a code that has none in the engine's table.
pub(super) const NOT_STORED: &str = "the server did not store a row unchanged";

/// Returns the value of a code in a table of code, symbolic name and value, sorted by code.
pub(super) fn find<C: Ord + Copy, V: Copy>(table: &[(C, &str, V)], code: C) -> Option<V> {
    let index = table.binary_search_by_key(&code, |(code, _, _)| *code).ok()?;
    Some(table[index].2)
}

/// Asserts that the tables are sorted, without repeated codes, and that a code has one name.
#[cfg(test)]
pub(super) fn assert_consistent<C, V, R>(codes: &[(C, &str, V)], reasons: &[(C, &str, R)])
where
    C: Ord + Copy + std::fmt::Debug,
    V: Copy,
{
    assert!(codes.is_sorted_by(|left, right| left.0 < right.0));
    assert!(reasons.is_sorted_by(|left, right| left.0 < right.0));
    for (code, name, _) in reasons {
        let known = codes.iter().find(|(known, _, _)| known == code).map(|(_, name, _)| *name);
        assert!(known.is_none_or(|known| known == *name), "{code:?}");
    }
}
