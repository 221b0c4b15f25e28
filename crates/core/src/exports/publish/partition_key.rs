//! The partition key of a record: the key of the row, so that all changes of a row are in one shard, in their order.

use sha2::{Digest, Sha256};

use super::message::{BytesForm, Row};
use crate::error::{Error, ErrorKind, Result};
use crate::exports::DeltaRow;
use crate::object::hex;

/// The longest partition key that Kinesis accepts, in characters. Source: the API reference of `PutRecordsRequestEntry`.
const MAX_CHARACTERS: usize = 256;

/// The key columns and their values as JSON, as Debezium Server writes them. A longer key is replaced by its SHA-256 in hex.
///
/// # Errors
/// Never, unless the program has a bug.
pub(super) fn partition_key(key: &DeltaRow) -> Result<String> {
    let text = serde_json::to_string(&Row { row: key, bytes: BytesForm::HexObject }).map_err(|error| {
        Error::new(ErrorKind::Internal, "a partition key cannot be written as JSON").with_source(error)
    })?;
    // Services in Java count a character outside the basic plane as two.
    match text.encode_utf16().count() > MAX_CHARACTERS {
        true => Ok(hex(&Sha256::digest(&text))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exports::DeltaValue;

    fn key(values: &[&str]) -> String {
        let columns: Vec<String> = (1..=values.len()).map(|number| format!("k{number}")).collect();
        let values = values.iter().map(|value| DeltaValue::Text((*value).to_owned())).collect();
        partition_key(&DeltaRow::of(columns.into(), values)).unwrap()
    }

    #[test]
    fn different_keys_have_different_partition_keys() {
        assert_eq!(key(&["a", "b\""]), r#"{"k1":"a","k2":"b\""}"#);
        assert_ne!(key(&["a\",\"k2\":\"b", "c"]), key(&["a", "b\",\"k2\":\"c"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }

    #[test]
    fn long_key_is_replaced_by_its_hash() {
        // The JSON around the value has nine characters.
        let (fits, long) = ("x".repeat(247), "x".repeat(248));
        assert_eq!(key(&[&fits]).len(), 256);
        assert_eq!(key(&[&long]).len(), 64);
        assert_ne!(key(&[&long]), key(&[&format!("{long}y")]));
        // 124 emoji are 124 characters, and 248 in Java.
        assert_eq!(key(&[&"\u{1f600}".repeat(124)]).len(), 64);
        assert!(key(&[&"é".repeat(247)]).starts_with('{'));
    }
}
