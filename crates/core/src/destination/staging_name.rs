//! The names of staging tables. The Glue job uses the same form (`glue/spillway_glue/database.py`).

use crate::object::SourceId;

const PREFIX: &str = "spillway_staging_";

/// Returns a name that no other attempt uses.
pub(super) fn new(id: &SourceId) -> String {
    format!("{PREFIX}{}_{:08x}", id.short(), fastrand::u32(..))
}

/// Whether the text contains the name of a staging table.
pub(super) fn is_in(text: &str) -> bool {
    text.contains(PREFIX)
}

/// Returns the 16 hex digits of the source of a staging table, and `None` for other tables.
pub(super) fn source_of(name: &str) -> Option<&str> {
    let (short, random) = name.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    (is_hex(short, 16) && is_hex(random, 8)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_staging_tables_have_a_source() {
        assert_eq!(source_of("spillway_staging_0123456789abcdef_00ff00ff"), Some("0123456789abcdef"));
        for name in ["spillway_staging_", "spillway_staging_x_1", "spillway_staging_0123456789abcdef_mine", "orders"] {
            assert_eq!(source_of(name), None, "{name}");
        }
    }
}
