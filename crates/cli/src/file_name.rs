//! The file of a command: on this machine, in S3, or standard input.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::object::ObjectRef;

/// How patterns match, as in a shell.
/// A file as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileName {
    /// A path, or `-`. On Unix it may be no UTF-8.
    Local(PathBuf),
    /// An object in S3.
    Object(ObjectRef),
}

impl FileName {
    /// Parses a name.
    ///
    /// # Errors
    /// When an address in S3 names no object.
    pub(crate) fn of(name: &OsStr) -> Result<Self> {
        let Some(address) = name.to_str().filter(|_| is_in_s3(name)) else {
            return Ok(Self::Local(PathBuf::from(name)));
        };
        match bucket_and_key(address) {
            (Some(bucket), key) => Ok(Self::Object(ObjectRef::new(bucket, key))),
            (None, _) => {
                let message = format!("{address} names no object; write s3://bucket/key");
                Err(Error::new(ErrorKind::EventInvalid, message))
            }
        }
    }

    /// The key by which the settings choose a table: the key of the object, or the path without `./` and repeated slashes.
    pub(crate) fn key(&self) -> Cow<'_, str> {
        match self {
            Self::Local(path) => {
                let parts = path.components().filter(|part| *part != Component::CurDir);
                Cow::Owned(parts.collect::<PathBuf>().to_string_lossy().into_owned())
            }
            Self::Object(object) => Cow::Borrowed(&object.key),
        }
    }
}

/// The bucket and the key of an address in S3; without an address, no bucket and the text itself.
pub(crate) fn bucket_and_key(text: &str) -> (Option<&str>, &str) {
    match text.strip_prefix("s3://").and_then(|address| address.split_once('/')) {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => (Some(bucket), key),
        Some(_) | None => (None, text),
    }
}

/// Whether a name is an address in S3.
pub(crate) fn is_in_s3(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"s3://")
}

/// A table name from the name of a file: `Shop Orders-1.csv.gz` gives `shop_orders_1`.
pub(crate) fn table_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.trim_start_matches('.').split('.').next().unwrap_or_default();
    let plain = |character: char| if character.is_alphanumeric() { character } else { '_' };
    let table: String = stem.to_lowercase().chars().map(plain).take(60).collect();
    if table.trim_matches('_').is_empty() { "new_table".to_owned() } else { table }
}

/// A text as one word of a shell's command line, in quotes if it needs them.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |character: char| character.is_alphanumeric() || "-_./:=@%+,".contains(character);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// Whether a name is that of an empty local file such as `_SUCCESS`, with which Spark and Hadoop mark a complete folder.
pub(crate) fn is_empty_marker(name: &OsStr) -> bool {
    let path = Path::new(name);
    let is_marker = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
    is_marker && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_in_s3_names_an_object() {
        let name = |text: &str| FileName::of(OsStr::new(text));
        assert_eq!(name("s3://b/a/c.csv").unwrap(), FileName::Object(ObjectRef::new("b", "a/c.csv")));
        assert_eq!(name("-").unwrap(), FileName::Local(PathBuf::from("-")));
        assert!(name("s3://b/").is_err() && name("s3://b").is_err());
    }

    #[test]
    fn key_of_a_path_has_no_needless_parts() {
        let key = |text: &str| FileName::of(OsStr::new(text)).unwrap().key().into_owned();
        for path in ["a/b.csv", "./a/b.csv", "a//b.csv", "a/./b.csv"] {
            assert_eq!(key(path), "a/b.csv", "{path}");
        }
        assert_eq!(["/a/b.csv", "../b.csv", "-", "s3://b/./a//c"].map(key), ["/a/b.csv", "../b.csv", "-", "./a//c"]);
    }

    #[test]
    fn table_name_is_the_first_part_of_the_file_name() {
        for (path, expected) in
            [("data/Shop Orders-1.csv.gz", "shop_orders_1"), ("-", "new_table"), (".x", "x"), ("naïve.csv", "naïve")]
        {
            assert_eq!(table_of(Path::new(path)), expected);
        }
    }

    #[test]
    fn text_with_spaces_is_one_word() {
        assert_eq!(shell_word("data/a-1.csv"), "data/a-1.csv");
        assert_eq!(shell_word("my file.csv"), "'my file.csv'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn empty_marker_begins_with_an_underscore() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, expected) in [
            ("_SUCCESS", "", true),
            ("_orders.csv", "id\n", false),
            ("empty.csv", "", false),
            ("_folder/a.csv", "", false),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_empty_marker(path.as_os_str()), expected, "{name}");
        }
        assert!(!is_empty_marker(OsStr::new("_no_such_file")));
    }
}
