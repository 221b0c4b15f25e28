//! The folders in which the keys of a pattern can be, from the top of the bucket down to the files.
//!
//! A caller that lists a bucket uses them to list only the folders that it needs. Pure: the caller sends the requests.

use super::matching::{bound, filled, match_segment};
use super::{Piece, TablePattern, TablePatterns};
use crate::table_name::TableName;

/// A folder in which keys of a pattern can be, with the parts that the names of the folders contain.
#[derive(Debug, Clone)]
pub(crate) struct PatternFolder<'p> {
    pattern: &'p TablePattern,
    /// Number of segments of the pattern that the prefix contains.
    depth: usize,
    /// The prefix of the folder's keys; empty, or with a slash at the end.
    prefix: String,
    parts: Vec<(String, String)>,
}

/// What a folder contains, according to the pattern.
#[derive(Debug)]
pub(crate) enum Contents<'p> {
    /// One folder, whose name is known.
    Folder(PatternFolder<'p>),
    /// Folders whose names begin with a known text. [`PatternFolder::child`] accepts or refuses each.
    Folders,
    /// Files, at any depth.
    Files,
}

impl TablePatterns {
    /// The top folder of each pattern, in order.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PatternFolder<'_>> {
        self.0.iter().map(|pattern| PatternFolder { pattern, depth: 0, prefix: String::new(), parts: Vec::new() })
    }

    /// Number of patterns.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'p> PatternFolder<'p> {
    /// What the folder contains.
    pub(crate) fn contents(&self) -> Contents<'p> {
        let Some(segment) = self.pattern.segments.get(self.depth) else { return Contents::Files };
        let is_file_name = self.depth + 1 == self.pattern.segments.len() && !self.pattern.has_tail;
        if is_file_name {
            return Contents::Files;
        }
        let name = self.known_start(segment);
        match name.is_complete {
            true => self.child(&name.text).map_or(Contents::Folders, Contents::Folder),
            false => Contents::Folders,
        }
    }

    /// The longest known prefix of everything in the folder that the pattern can match.
    pub(crate) fn known_prefix(&self) -> String {
        let mut prefix = self.prefix.clone();
        for (index, segment) in self.pattern.segments.iter().enumerate().skip(self.depth) {
            let KnownStart { text, is_complete } = self.known_start(segment);
            prefix.push_str(&text);
            if !is_complete {
                break;
            }
            if index + 1 < self.pattern.segments.len() || self.pattern.has_tail {
                prefix.push('/');
            }
        }
        prefix
    }

    /// The prefix of the folder's keys; empty, or with a slash at the end.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The folder in this one with a name, if the pattern matches it.
    pub(crate) fn child(&self, name: &str) -> Option<Self> {
        let segment = self.pattern.segments.get(self.depth)?;
        let mut parts: Vec<(&str, &str)> = self.parts.iter().map(|part| (part.0.as_str(), part.1.as_str())).collect();
        match_segment(segment, name, &mut parts)?;
        let parts = parts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let prefix = format!("{}{name}/", self.prefix);
        Some(Self { pattern: self.pattern, depth: self.depth + 1, prefix, parts })
    }

    /// The named parts that the names of the folders contain.
    pub(crate) fn parts(&self) -> &[(String, String)] {
        &self.parts
    }

    /// The table of the folder's files, not validated; `None` if it depends on names below.
    pub(crate) fn table(&self) -> Option<TableName> {
        let parts: Vec<(&str, &str)> = self.parts.iter().map(|part| (part.0.as_str(), part.1.as_str())).collect();
        let own_name = filled(&self.pattern.table, &parts)?;
        Some(match &self.pattern.schema {
            None => own_name.into(),
            Some(schema) => TableName::in_schema(&filled(schema, &parts)?, &own_name),
        })
    }

    /// Whether the names of folders or files below contain a part that passes a test.
    pub(crate) fn has_part_below(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        let below = self.pattern.segments.iter().skip(self.depth).flatten();
        below.into_iter().any(|piece| matches!(piece, Piece::Part(name) if is_wanted(name)))
    }

    /// The text with which every name that matches a segment begins.
    fn known_start(&self, segment: &[Piece]) -> KnownStart {
        let parts: Vec<(&str, &str)> = self.parts.iter().map(|part| (part.0.as_str(), part.1.as_str())).collect();
        let mut text = String::new();
        for piece in segment {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Part(name) => match bound(&parts, name) {
                    Some(known) => text.push_str(known),
                    None => return KnownStart { text, is_complete: false },
                },
                Piece::Any => return KnownStart { text, is_complete: false },
            }
        }
        KnownStart { text, is_complete: true }
    }
}

/// The beginning of a name, or the whole name.
struct KnownStart {
    text: String,
    is_complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "data/batch/{table}/year={year}/day={day}/{table}_part{n}.csv";

    fn top(patterns: &TablePatterns) -> PatternFolder<'_> {
        patterns.folders().next().unwrap()
    }

    fn next<'p>(folder: &PatternFolder<'p>) -> PatternFolder<'p> {
        match folder.contents() {
            Contents::Folder(folder) => folder,
            other => panic!("not one folder: {other:?}"),
        }
    }

    #[test]
    fn folders_lead_from_the_bucket_to_the_files() {
        let patterns = TablePatterns::parse(BATCH).unwrap();
        assert_eq!(top(&patterns).known_prefix(), "data/batch/");
        let batch = next(&next(&top(&patterns)));
        assert_eq!(
            (batch.prefix(), batch.known_prefix().as_str(), batch.table()),
            ("data/batch/", "data/batch/", None)
        );
        assert!(matches!(batch.contents(), Contents::Folders));
        let table = batch.child("Orders").unwrap();
        assert_eq!(table.table().as_deref(), Some("Orders"));
        assert_eq!(table.known_prefix(), "data/batch/Orders/year=");
        assert!(table.child("_temporary").is_none() && table.has_part_below(|name| name == "day"));
        let day = table.child("year=2026").and_then(|year| year.child("day=07")).unwrap();
        assert_eq!(day.parts()[1..], [("year".into(), "2026".into()), ("day".into(), "07".into())]);
        assert!(matches!(day.contents(), Contents::Files) && !day.has_part_below(|name| name == "day"));
        assert_eq!(day.known_prefix(), "data/batch/Orders/year=2026/day=07/Orders_part");
    }

    #[test]
    fn folder_with_a_tail_contains_files() {
        let patterns = TablePatterns::parse("a/{tenant}/** => {tenant}_x").unwrap();
        let tenant = next(&top(&patterns)).child("acme").unwrap();
        assert_eq!(tenant.table().as_deref(), Some("acme_x"));
        assert!(matches!(tenant.contents(), Contents::Files));
        assert_eq!(tenant.known_prefix(), "a/acme/");
    }

    #[test]
    fn table_of_a_file_name_is_known_only_at_the_file() {
        let patterns = TablePatterns::parse("in/{table}.csv").unwrap();
        let folder = next(&top(&patterns));
        assert!(matches!(folder.contents(), Contents::Files) && folder.table().is_none());
        assert_eq!(folder.known_prefix(), "in/");
    }
}
