//! Types for objects: [`ObjectRef`] as named by an event, [`ObjectVersion`] as confirmed by S3.
//!
//! [`SourceId`] defines the identity of a file. The keys to which objects are moved are built in `route`.

use std::fmt;
use std::str::Utf8Error;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The beginning of the bucket of a local file.
const LOCAL_SCHEME: &str = "file://";

/// The maximum length of a key in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// An object as named by an event or a request. It may not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The name of the bucket.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The version id, in a versioned bucket.
    pub version_id: Option<String>,
}

impl ObjectRef {
    /// Returns a reference without a version id.
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), version_id: None }
    }

    /// Returns a reference to a file of this machine. No bucket of S3 has such a name.
    pub(crate) fn of_local_file(host: &str, path: &str) -> Self {
        // The ledger stores this many bytes. The end of a path says more than its beginning.
        let start = path.ceil_char_boundary(path.len().saturating_sub(MAX_KEY_BYTES));
        Self::new(format!("{LOCAL_SCHEME}{host}"), &path[start..])
    }

    /// Whether it is a file of some machine, and not an object in S3.
    pub fn is_local_file(&self) -> bool {
        self.bucket.starts_with(LOCAL_SCHEME)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_local_file() {
            // Standard input and the end of a long path do not begin with a slash.
            true => write!(formatter, "{}/{}", self.bucket, self.key.trim_start_matches('/')),
            false => write!(formatter, "s3://{}/{}", self.bucket, self.key),
        }
    }
}

/// One version of an object, as confirmed by S3. Loads, claims and moves always refer to one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// Bucket, key and, in a versioned bucket, the version id.
    pub object: ObjectRef,
    /// The identity, computed from the other fields.
    pub id: SourceId,
    /// The ETag, including its quotes.
    pub etag: String,
    /// The size in bytes as stored.
    pub size_bytes: u64,
    /// When this version was written.
    pub last_modified: Timestamp,
    /// The `Content-Encoding` header, if any.
    pub content_encoding: Option<String>,
    /// The `Content-Type` header, if any.
    #[serde(default)]
    pub content_type: Option<String>,
}

impl ObjectVersion {
    /// Returns a version and computes its identity.
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

    /// Returns a version of a local file. `parts` identify it.
    pub(crate) fn of_local_file(
        object: ObjectRef,
        parts: &[&str],
        etag: String,
        size_bytes: u64,
        last_modified: Timestamp,
    ) -> Self {
        let id = SourceId(hash_parts(parts));
        Self { object, id, etag, size_bytes, last_modified, content_encoding: None, content_type: None }
    }

    /// Returns a version for records of a stream. Their range is in the key of `object`, and `content` is a hash of them.
    pub(crate) fn of_records(object: ObjectRef, content: String, size_bytes: u64, read_at: Timestamp) -> Self {
        let parts = ["records", object.bucket.as_str(), object.key.as_str(), content.as_str()];
        let id = SourceId(hash_parts(&parts));
        let (etag, last_modified) = (content, read_at);
        Self { object, id, etag, size_bytes, last_modified, content_encoding: None, content_type: None }
    }

    /// Sets the `Content-Type` header.
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

    /// Parses an identity from a key or a ledger row; returns `None` unless it is 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (text.len() == 64 && is_hex).then(|| Self(text.to_owned()))
    }

    /// All 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 hex digits, which distinguish files in keys that people read.
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

/// SHA-256 in hex over parts, each preceded by its length, so that different lists never have the same input.
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
    fn local_file_is_shown_as_a_path_and_keeps_the_end_of_a_long_one() {
        assert_eq!(ObjectRef::of_local_file("laptop", "/data/a.csv").to_string(), "file://laptop/data/a.csv");
        assert_eq!(ObjectRef::of_local_file("laptop", "-").to_string(), "file://laptop/-");
        let long = ObjectRef::of_local_file("laptop", &format!("/{}/a.csv", "\u{e9}".repeat(600)));
        assert!(long.key.len() <= MAX_KEY_BYTES && long.key.ends_with("\u{e9}/a.csv"), "{long}");
    }

    #[test]
    fn parts_with_equal_concatenation_have_different_hashes() {
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
