//! The file of a command: on this machine, in S3, or standard input.

use std::borrow::Cow;
use std::path::Path;

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

/// The files that a pattern names: `*` and `?` in the last part of a path. Other names are returned unchanged.
///
/// A shell expands patterns before the command sees them, unless they are quoted.
///
/// # Errors
/// When the folder cannot be read, or no file matches.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>> {
    let path = Path::new(pattern);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if pattern.starts_with("s3://") || !name.contains(['*', '?']) || path.exists() {
        return Ok(vec![pattern.to_owned()]);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).map_err(|error| {
        Error::new(ErrorKind::SourceMissing, format!("the folder of {pattern} cannot be read")).with_source(error)
    })?;
    let wanted: Vec<char> = name.chars().collect();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .filter(|name| !name.starts_with('.') && matches(&wanted, &name.chars().collect::<Vec<_>>()))
        .map(|name| folder.map_or_else(|| name.clone(), |folder| folder.join(&name).to_string_lossy().into_owned()))
        .filter(|path| Path::new(path).is_file())
        .collect();
    names.sort();
    match names.is_empty() {
        true => Err(Error::new(ErrorKind::SourceMissing, format!("no file matches {pattern}"))),
        false => Ok(names),
    }
}

/// Whether a name matches a pattern.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        (['?', pattern @ ..], [_, name @ ..]) => matches(pattern, name),
        ([wanted, pattern @ ..], [found, name @ ..]) => wanted == found && matches(pattern, name),
        ([], [_, ..]) | ([_, ..], []) => false,
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
    fn stars_and_question_marks_match() {
        let is_match = |pattern: &str, name: &str| {
            matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        assert!(is_match("*.csv", "a.csv") && is_match("a?c*", "abc") && is_match("*a*b*", "xaybz"));
        assert!(!is_match("*.csv", "a.csv.rejected-1") && !is_match("?", "") && !is_match("a", "ab"));
    }
}
