//! What we know of an object, one type per stage of knowledge: named by an event, answered for by S3.
//!
//! Identity is decided here ([`SourceId`]); where objects move to is decided in `route`.

use std::fmt;
use std::str::Utf8Error;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An object as an event or a request names it; nobody has asked S3 yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The version the event named, in a versioned bucket.
    pub version_id: Option<String>,
}

impl ObjectRef {
    /// An object without a named version.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), version_id: None }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket, self.key)
    }
}

/// One version of an object that S3 has answered for. What is loaded, claimed and moved is always a `ObjectVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// Bucket, key and, in a versioned bucket, the version that was answered for.
    pub object: ObjectRef,
    /// The identity, derived from the other fields.
    pub id: SourceId,
    /// The ETag as S3 gave it, quotes included.
    pub etag: String,
    /// The size in bytes as stored.
    pub size_bytes: u64,
    /// When this version was written.
    pub last_modified: Timestamp,
    /// The `Content-Encoding` header, where there is one.
    pub content_encoding: Option<String>,
    /// The `Content-Type` header, where there is one.
    #[serde(default)]
    pub content_type: Option<String>,
}

impl ObjectVersion {
    /// A source from what S3 answered. The identity is computed here and nowhere else.
    pub fn new(
        object: ObjectRef,
        etag: String,
        size_bytes: u64,
        last_modified: Timestamp,
        content_encoding: Option<String>,
    ) -> Self {
        let id = SourceId::of(&object, &etag, size_bytes);
        Self { object, id, etag, size_bytes, last_modified, content_encoding, content_type: None }
    }

    /// With its `Content-Type` header.
    #[must_use]
    pub fn with_content_type(mut self, content_type: Option<String>) -> Self {
        self.content_type = content_type;
        self
    }
}

/// The identity of one version of an object: SHA-256 over bucket, key, ETag, size and version, in hex (64 characters).
///
/// A name alone is never an identity: an overwritten key is a new file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceId(String);

impl SourceId {
    fn of(object: &ObjectRef, etag: &str, size_bytes: u64) -> Self {
        let size_text = size_bytes.to_string();
        let mut parts = vec![object.bucket.as_str(), object.key.as_str(), etag, size_text.as_str()];
        parts.extend(object.version_id.as_deref());
        Self(hash_parts(&parts))
    }

    /// An identity that was written down before (a file name, a ledger row), or `None` when it is not 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (text.len() == 64 && is_hex).then(|| Self(text.to_owned()))
    }

    /// All 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 hex digits: enough to tell two files apart in a key a person reads.
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Decodes a key from an S3 notification or listing: `+` is a space, then percent-decoding, exactly once.
///
/// # Errors
/// The decoded bytes are not UTF-8.
pub(crate) fn decode_key(encoded: &str) -> Result<String, Utf8Error> {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Into::into)
}

/// SHA-256 in hex over parts, each preceded by its length, so that no two lists of parts share an input.
pub fn hash_parts(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize())
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a+b", "a b")]
    #[case("a%20b", "a b")]
    #[case("a%2Bb", "a+b")]
    #[case("a%252Bb", "a%2Bb")]
    #[case("50%", "50%")]
    #[case("%C3%A9/%0A", "\u{e9}/\n")]
    fn keys_are_decoded_once(#[case] encoded: &str, #[case] expected: &str) {
        assert_eq!(decode_key(encoded).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_key_survives_its_encoding(key in "\\PC{1,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(decode_key(&encoded.replace("%20", "+")).unwrap(), key);
        }
    }

    fn source(key: &str, etag: &str, version: Option<&str>) -> ObjectVersion {
        let object = ObjectRef { bucket: "b".into(), key: key.into(), version_id: version.map(Into::into) };
        ObjectVersion::new(object, etag.into(), 3, Timestamp::UNIX_EPOCH, None)
    }

    #[test]
    fn identity_covers_every_part() {
        let base = source("k", "\"e\"", None).id;
        assert_eq!(base, source("k", "\"e\"", None).id);
        assert_ne!(base, source("k2", "\"e\"", None).id);
        assert_ne!(base, source("k", "\"f\"", None).id);
        assert_ne!(base, source("k", "\"e\"", Some("v1")).id);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hash_parts(&["ab", "c"]), hash_parts(&["a", "bc"]));
    }

    #[test]
    fn only_64_hex_digits_are_an_identity() {
        let id = source("k", "e", None).id;
        assert_eq!(SourceId::parse(id.as_str()), Some(id));
        assert_eq!(SourceId::parse("abc"), None);
        assert_eq!(SourceId::parse(&"G".repeat(64)), None);
    }
}
