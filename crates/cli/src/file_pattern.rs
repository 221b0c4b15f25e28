//! Patterns of local files and of objects. A shell expands those of files before the command sees them, unless they are quoted.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};
use spillway_core::error::{Error, ErrorKind, Result};

/// As in a shell, `*` and `?` match no dot at the beginning of a name.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// One part of a pattern, between slashes.
enum Part<'a> {
    /// `**`: any number of folders.
    Folders,
    /// A name with `*` or `?`.
    Names(Pattern),
    /// A name.
    Name(&'a str),
}

/// Returns the files that a pattern names, in the order of their names: `*` and `?` in any part of a path, and `**` for any number
/// of folders. Other names are returned unchanged.
///
/// Names that are not UTF-8 match too: `*` matches any bytes. `**` does not follow links to folders, which may form a circle.
///
/// # Errors
/// When a folder cannot be read, or no file matches.
pub(crate) fn expand(name: &OsStr) -> Result<Vec<OsString>> {
    let pattern = match name.to_str() {
        Some(text)
            if text.contains(['*', '?', '[', '{']) && !text.starts_with("s3://") && !Path::new(text).exists() =>
        {
            text
        }
        Some(_) | None => return Ok(vec![name.to_owned()]),
    };
    if !pattern.contains(['*', '?']) {
        let message = format!("no file has the name {pattern}; only *, ? and ** make a pattern");
        return Err(Error::new(ErrorKind::SourceMissing, message).with_advice());
    }
    let files = matching_files(pattern)?;
    match files.is_empty() {
        true => Err(Error::new(ErrorKind::SourceMissing, format!("no file matches {pattern}"))),
        false => Ok(files.into_iter().map(OsString::from).collect()),
    }
}

/// The objects below a prefix, or those whose keys match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectPattern {
    pub(crate) bucket: String,
    /// The beginning of all keys.
    pub(crate) prefix: String,
    pattern: Option<Pattern>,
}

impl ObjectPattern {
    /// Parses a name that ends with `/` or contains `*`; `None` for the name of one object or of a local file.
    ///
    /// # Errors
    /// When the pattern is invalid.
    pub(crate) fn of(name: &OsStr) -> Result<Option<Self>> {
        let address =
            name.to_str().and_then(|text| text.strip_prefix("s3://")).and_then(|address| address.split_once('/'));
        let Some((bucket, key)) = address.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) else {
            return Ok(None);
        };
        let key = match key.ends_with('/') {
            true if !key.contains('*') => {
                return Ok(Some(Self { bucket: bucket.to_owned(), prefix: key.to_owned(), pattern: None }));
            }
            true => format!("{key}**"),
            false if !key.contains('*') => return Ok(None),
            false => key.to_owned(),
        };
        // A key may contain the other special characters.
        let escaped = key.replace('[', "[[]").replace('?', "[?]");
        let pattern = Pattern::new(&escaped).map_err(|error| not_a_pattern(&name.to_string_lossy(), error))?;
        let prefix = key.split('*').next().unwrap_or_default().to_owned();
        Ok(Some(Self { bucket: bucket.to_owned(), prefix, pattern: Some(pattern) }))
    }

    /// Whether the key of an object below the prefix matches.
    pub(crate) fn matches(&self, key: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches_with(key, OPTIONS))
    }
}

/// The part of a pattern with this text.
fn part(text: &str) -> Result<Part<'_>> {
    match text {
        "**" => Ok(Part::Folders),
        // Only stars and question marks are special: brackets are common in names.
        _ if text.contains(['*', '?']) => {
            let pattern = Pattern::new(&text.replace('[', "[[]"));
            pattern.map(Part::Names).map_err(|error| not_a_pattern(text, error))
        }
        _ => Ok(Part::Name(text)),
    }
}

fn not_a_pattern(text: &str, cause: PatternError) -> Error {
    let message = format!("{text} is not a pattern; ** must be a whole part of the path, as in data/**/*.csv");
    Error::new(ErrorKind::EventInvalid, message).with_source(cause)
}

fn matching_files(pattern: &str) -> Result<BTreeSet<PathBuf>> {
    let texts = pattern.split('/').filter(|text| !text.is_empty());
    let mut parts = texts.map(part).collect::<Result<Vec<_>>>()?;
    if matches!(parts.last(), Some(Part::Folders)) {
        parts.push(Part::Names(Pattern::new("*").unwrap_or_default()));
    }
    let start = if pattern.starts_with('/') { "/" } else { "" };
    let mut found = BTreeSet::from([PathBuf::from(start)]);
    for part in &parts {
        let mut next = BTreeSet::new();
        for path in found {
            let unreadable = |error| {
                let message = format!("the folder {} cannot be read", path.display());
                Error::new(ErrorKind::Forbidden, message).with_source(error)
            };
            match part {
                Part::Name(name) => next.extend(Some(path.join(name)).filter(|path| path.exists())),
                Part::Names(names) => {
                    let is_match = |name: &OsStr| names.matches_with(&name.to_string_lossy(), OPTIONS);
                    let entries = entries(&path).map_err(unreadable)?.into_iter();
                    next.extend(entries.filter(|(name, _)| is_match(name)).map(|(name, _)| path.join(name)));
                }
                Part::Folders => add_folders(&path, &mut next).map_err(unreadable)?,
            }
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    Ok(found)
}

/// The names in a folder, and whether each is a folder itself. What is not a folder has none.
fn entries(folder: &Path) -> io::Result<Vec<(OsString, bool)>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?.is_dir())))).collect()
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Adds a folder and all folders below it whose names do not begin with a dot.
fn add_folders(folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        let folders = entries(&folder)?.into_iter().filter(|(_, is_folder)| *is_folder);
        let visible = folders.filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"."));
        left.extend(visible.map(|(name, _)| folder.join(name)));
        found.insert(folder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// A folder with these files.
    fn folder(names: &[&OsStr]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "id\n").unwrap();
        }
        folder
    }

    fn found(folder: &tempfile::TempDir, pattern: &str) -> Result<Vec<String>> {
        let root = folder.path().to_str().unwrap();
        let names = expand(OsStr::new(&format!("{root}/{pattern}")))?;
        Ok(names.iter().map(|name| name.to_string_lossy()[root.len() + 1..].to_owned()).collect())
    }

    #[test]
    fn patterns_match_in_every_part_of_a_path() {
        let names = ["a/1.csv", "a/2.csv", "a/.3.csv", "b/x/4.csv", "b/5.txt", "b[1]/6.csv", ".c/7.csv", "8.csv"];
        let folder = folder(&names.map(OsStr::new));
        let found = |pattern: &str| found(&folder, pattern);
        assert_eq!(found("a/*.csv").unwrap(), ["a/1.csv", "a/2.csv"]);
        assert_eq!(found("?/1.csv").unwrap(), ["a/1.csv"]);
        assert_eq!(found("*/*.csv").unwrap(), ["a/1.csv", "a/2.csv", "b[1]/6.csv"]);
        assert_eq!(found("b[1]/*").unwrap(), ["b[1]/6.csv"]);
        assert_eq!(found("**/*.csv").unwrap(), ["8.csv", "a/1.csv", "a/2.csv", "b/x/4.csv", "b[1]/6.csv"]);
        assert_eq!(found("**/x/*").unwrap(), ["b/x/4.csv"]);
        assert_eq!(found("**/**/x/*").unwrap(), ["b/x/4.csv"]);
        assert_eq!(found("b/**").unwrap(), ["b/5.txt", "b/x/4.csv"]);
        // A folder is not a file, and a file is not a folder.
        assert_eq!(found("*").unwrap(), ["8.csv"]);
        for pattern in ["b/*.csv", "no-such-folder/*.csv", "**/*.json", "8.csv/*"] {
            let error = found(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceMissing, "{error}");
        }
        assert_eq!(found("no-such-file.csv").unwrap(), ["no-such-file.csv"]);
        let wrong = found("a**/1.csv").unwrap_err();
        assert!(wrong.to_string().contains("** must be a whole part"), "{wrong}");
    }

    #[test]
    fn pattern_of_objects_has_a_prefix() {
        let of = |text: &str| ObjectPattern::of(OsStr::new(text)).unwrap();
        for text in ["s3://b/a.csv", "s3://b/a?.csv", "a/*.csv", "s3://b", "s3://b/"] {
            assert_eq!(of(text), None, "{text}");
        }
        let folder = of("s3://b/in/2026/").unwrap();
        assert_eq!((folder.bucket.as_str(), folder.prefix.as_str()), ("b", "in/2026/"));
        assert!(folder.matches("in/2026/x/a.csv"));
        let files = of("s3://b/in/*/a[1]*.csv").unwrap();
        assert_eq!(files.prefix, "in/");
        assert!(files.matches("in/x/a[1]b.csv") && !files.matches("in/x/a1.csv") && !files.matches("in/x/y/a[1].csv"));
        assert!(of("s3://b/**/*.csv").unwrap().matches("x/y/a.csv"));
        assert!(of("s3://b/in/*/").unwrap().matches("in/x/y/a.csv"));
        assert!(ObjectPattern::of(OsStr::new("s3://b/a**.csv")).is_err());
    }

    #[test]
    fn other_patterns_of_a_shell_are_names() {
        let folder = folder(&[OsStr::new("a[1].csv")]);
        assert_eq!(found(&folder, "a[1].csv").unwrap(), ["a[1].csv"]);
        for pattern in ["a[0-9].csv", "{a,b}.csv"] {
            let error = found(&folder, pattern).unwrap_err();
            assert!(error.to_string().contains("only *, ? and ** make a pattern"), "{error}");
        }
    }

    #[test]
    fn names_need_not_be_utf8() {
        let name = OsStr::from_bytes(b"caf\xe9.csv");
        let folder = folder(&[name, OsStr::new("a.csv")]);
        for pattern in ["*.csv", "**/*.csv", "**"] {
            let names = expand(folder.path().join(pattern).as_os_str()).unwrap();
            let expected = [OsStr::new("a.csv"), name].map(|name| folder.path().join(name).into_os_string());
            assert_eq!(names, expected, "{pattern}");
        }
        assert_eq!(expand(name).unwrap(), [name]);
    }

    #[test]
    fn circles_of_links_are_not_followed() {
        let folder = folder(&[OsStr::new("a/1.csv")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
        assert_eq!(found(&folder, "**/*.csv").unwrap(), ["a/1.csv"]);
        // A link that is named is followed.
        assert_eq!(found(&folder, "a/*/a/*.csv").unwrap(), ["a/loop/a/1.csv"]);
    }
}
