//! The file of a command: on this machine, in S3, or standard input.

use std::borrow::Cow;
use std::path::Path;

use glob::MatchOptions;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::object::ObjectRef;

/// A file as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileName {
    /// A path, or `-`.
    Local(String),
    /// An object in S3.
    Object(ObjectRef),
}

impl FileName {
    /// Parses a name.
    ///
    /// # Errors
    /// When an address in S3 names no object.
    pub(crate) fn of(text: &str) -> Result<Self> {
        let Some(address) = text.strip_prefix("s3://") else { return Ok(Self::Local(text.to_owned())) };
        match address.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self::Object(ObjectRef::new(bucket, key)))
            }
            Some(_) | None => {
                let message = format!("{text} names no object; write s3://bucket/key");
                Err(Error::new(ErrorKind::EventInvalid, message))
            }
        }
    }

    /// The key by which the settings choose a table.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Local(path) => path,
            Self::Object(object) => &object.key,
        }
    }
}

/// A table name from the name of a file: `Shop Orders-1.csv.gz` gives `shop_orders_1`.
pub(crate) fn table_of(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
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
pub(crate) fn is_empty_marker(name: &str) -> bool {
    let path = Path::new(name);
    let is_marker = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
    is_marker && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// The files that a pattern names: `*` and `?` in any part of a path, and `**` for any number of folders. Other names are returned
/// unchanged.
///
/// A shell expands patterns before the command sees them, unless they are quoted. As in a shell, `*` and `?` match no dot at the
/// beginning of a name.
///
/// # Errors
/// When a folder cannot be read, or no file matches.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>> {
    if pattern.starts_with("s3://") || !pattern.contains(['*', '?']) || Path::new(pattern).exists() {
        return Ok(vec![pattern.to_owned()]);
    }
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    // Only stars and question marks are special: brackets are common in names.
    let escaped = pattern.replace('[', "[[]");
    let paths = glob::glob_with(&escaped, options).map_err(|error| {
        let message = format!("{pattern} is not a pattern; ** must be a whole part of the path, as in data/**/*.csv");
        Error::new(ErrorKind::EventInvalid, message).with_source(error)
    })?;
    let mut names = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            let message = format!("a folder of {pattern} cannot be read");
            Error::new(ErrorKind::Forbidden, message).with_source(error)
        })?;
        if path.is_file() {
            names.push(path.to_string_lossy().into_owned());
        }
    }
    names.sort();
    match names.is_empty() {
        true => Err(Error::new(ErrorKind::SourceMissing, format!("no file matches {pattern}"))),
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_in_s3_names_an_object() {
        assert_eq!(FileName::of("s3://b/a/c.csv").unwrap(), FileName::Object(ObjectRef::new("b", "a/c.csv")));
        assert_eq!(FileName::of("-").unwrap(), FileName::Local("-".to_owned()));
        assert!(FileName::of("s3://b/").is_err() && FileName::of("s3://b").is_err());
    }

    #[test]
    fn table_name_is_the_first_part_of_the_file_name() {
        for (path, expected) in
            [("data/Shop Orders-1.csv.gz", "shop_orders_1"), ("-", "new_table"), (".x", "x"), ("naïve.csv", "naïve")]
        {
            assert_eq!(table_of(path), expected);
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
            assert_eq!(is_empty_marker(path.to_str().unwrap()), expected, "{name}");
        }
        assert!(!is_empty_marker("_no_such_file"));
    }

    #[test]
    fn patterns_match_in_every_part_of_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["a/1.csv", "a/2.csv", "a/.3.csv", "b/x/4.csv", "b/5.txt", "b[1]/6.csv", ".c/7.csv", "8.csv"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "id\n").unwrap();
        }
        let found = |pattern: &str| {
            let names = expand(&format!("{root}/{pattern}"));
            names.map(|names| names.iter().map(|name| name[root.len() + 1..].to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found("a/*.csv").unwrap(), ["a/1.csv", "a/2.csv"]);
        assert_eq!(found("?/1.csv").unwrap(), ["a/1.csv"]);
        assert_eq!(found("*/*.csv").unwrap(), ["a/1.csv", "a/2.csv", "b[1]/6.csv"]);
        assert_eq!(found("b[1]/*").unwrap(), ["b[1]/6.csv"]);
        assert_eq!(found("**/*.csv").unwrap(), ["8.csv", "a/1.csv", "a/2.csv", "b/x/4.csv", "b[1]/6.csv"]);
        assert_eq!(found("**/x/*").unwrap(), ["b/x/4.csv"]);
        // A folder is not a file.
        assert_eq!(found("*").unwrap(), ["8.csv"]);
        for pattern in ["b/*.csv", "no-such-folder/*.csv", "**/*.json"] {
            let error = found(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceMissing, "{error}");
        }
        assert_eq!(found("no-such-file.csv").unwrap(), ["no-such-file.csv"]);
        let wrong = found("a**/1.csv").unwrap_err();
        assert!(wrong.to_string().contains("** must be a whole part"), "{wrong}");
    }
}
