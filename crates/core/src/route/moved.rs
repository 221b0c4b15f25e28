//! The keys of moved objects: their path below the upload prefix, with the short source id before the file ending.

use super::{Prefixes, upload_prefix};
use crate::object::SourceId;
use spillway_formats::detect::FileName;

/// The parts of a moved object's key before and after the short source id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MovedName {
    /// The prefix and the path below it, up to a full stop.
    pub(crate) start: String,
    ending: String,
}

impl MovedName {
    /// Returns the name of the objects that moved from `key` to below `prefix`.
    pub(crate) fn of(prefix: &str, prefixes: &Prefixes, key: &str) -> Self {
        let below = upload_prefix(prefixes, key).map_or(key, |upload| &key[upload.len()..]);
        let name = FileName::of(below).filter(|name| !name.stem.is_empty());
        let (stem, ending) = name.map_or((below, ""), |name| (name.stem, name.ending));
        Self { start: format!("{prefix}{stem}."), ending: ending.to_owned() }
    }

    /// Returns the short source id in the key of such an object; `None` for another key.
    pub(crate) fn short_id<'a>(&self, key: &'a str) -> Option<&'a str> {
        let id = key.strip_prefix(&self.start)?.strip_suffix(&self.ending)?;
        (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    }
}

/// The key of a moved object. If it exceeds `max_bytes`, it consists of the complete source id instead.
pub(super) fn key(prefix: &str, prefixes: &Prefixes, key: &str, id: &SourceId, max_bytes: usize) -> String {
    let MovedName { start, ending } = MovedName::of(prefix, prefixes, key);
    let kept = format!("{start}{}{ending}", id.short());
    if kept.len() <= max_bytes { kept } else { format!("{prefix}_long/{id}{ending}") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("uploads/a.csv", "processed/a.0123456789abcdef.csv", Some("0123456789abcdef"))]
    #[case("uploads/a/b.CSV.gz", "processed/a/b.0123456789abcdef.CSV.gz", Some("0123456789abcdef"))]
    #[case("elsewhere/data.txt", "processed/elsewhere/data.txt.0123456789abcdef", Some("0123456789abcdef"))]
    #[case("uploads/a.csv", "processed/a.b.0123456789abcdef.csv", None)]
    #[case("uploads/a.csv", "processed/a.0123456789abcdef.csv.gz", None)]
    #[case("uploads/a.csv", "processed/a.012345678.csv", None)]
    fn short_id_is_read_from_a_moved_key(#[case] key: &str, #[case] moved: &str, #[case] expected: Option<&str>) {
        let prefixes = Prefixes {
            upload: vec!["uploads/".into()],
            processed: "processed/".into(),
            failed: "failed/".into(),
            fallback: "fallback/".into(),
            lease: "lease/".into(),
            rejected: "rejected/".into(),
            lake: None,
            glue_job: None,
            copy: None,
        };
        assert_eq!(MovedName::of("processed/", &prefixes, key).short_id(moved), expected);
    }
}
