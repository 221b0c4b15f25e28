//! Derives a table name from a text of a key.

use crate::object::hash_parts;
use crate::table_name::TableName;

/// The longest table name that both engines accept, in bytes.
const MAX_TABLE_BYTES: usize = 63;
/// The prefix of Spillway's own tables.
const OWN_TABLE_PREFIX: &str = "spillway_";

/// Converts a text from a key to a table name: in lower case, so that it is equal in every engine and in Glue.
///
/// Quotes, dots and spaces within are allowed, because identifiers are always quoted.
///
/// # Errors
/// The reason why the text is not a valid table name.
pub(crate) fn table_name(name: &TableName, ledger_table: &str) -> Result<TableName, String> {
    let name = name.to_lowercase();
    let why = if name.parts().any(str::is_empty) {
        "is empty".to_owned()
    } else if name.len() > MAX_TABLE_BYTES {
        let schema = if name.schema().is_some() { " together with its schema" } else { "" };
        format!("has {} bytes, and a table name has at most {MAX_TABLE_BYTES}{schema}", name.len())
    } else if name.chars().any(char::is_control) {
        "contains a control character".to_owned()
    } else if name.chars().any(|character| character > '\u{ffff}') {
        "contains a character above U+FFFF, which MySQL does not allow in names".to_owned()
    } else if name.parts().any(|part| part.trim() != part) {
        "starts or ends with white space".to_owned()
    } else if let Some(why) = own_table(&name, ledger_table) {
        why
    } else {
        return Ok(name);
    };
    Err(why)
}

/// Returns the name of the attempt history that belongs to a ledger.
pub(crate) fn attempts_table(ledger_table: &str) -> String {
    beside(ledger_table, "_attempts")
}

/// Returns the name of the table with the watermarks of syncs that belongs to a ledger.
pub(crate) fn syncs_table(ledger_table: &str) -> String {
    beside(ledger_table, "_syncs")
}

/// The name of a table beside a ledger.
fn beside(ledger_table: &str, ending: &str) -> String {
    if ledger_table.len() + ending.len() <= MAX_TABLE_BYTES {
        return format!("{ledger_table}{ending}");
    }
    // A part of a hash keeps the names of two ledgers apart.
    let hash = &hash_parts(&[ledger_table])[..8];
    let end = ledger_table.floor_char_boundary(MAX_TABLE_BYTES - ending.len() - 1 - hash.len());
    format!("{}_{hash}{ending}", &ledger_table[..end])
}

/// Returns how a table name belongs to Spillway itself; `None` for the names of other tables.
pub(crate) fn own_table(name: &TableName, ledger_table: &str) -> Option<String> {
    let name = name.own_name().to_lowercase();
    if name == ledger_table.to_lowercase() {
        return Some("is the name of the ledger".to_owned());
    }
    if name == attempts_table(ledger_table).to_lowercase() {
        return Some("is the name of the ledger's attempt history".to_owned());
    }
    if name == syncs_table(ledger_table).to_lowercase() {
        return Some("is the name of the table with the ledger's watermarks".to_owned());
    }
    name.starts_with(OWN_TABLE_PREFIX)
        .then(|| format!("begins with {OWN_TABLE_PREFIX}, the prefix of Spillway's own tables"))
}
