//! The request of an extract, the identity of a run, and the keys of its objects.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::destination::source::Relation;
use crate::error::{Error, ErrorKind, Result};
use crate::object::hash_parts;
use crate::route::{EXTRACT_MANIFEST, EXTRACT_STATE};

/// The parameters of an extract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractRequest {
    /// The table or the query.
    pub relation: Relation,
    /// The name in the raw zone: of the folder, and at the start of each file's name.
    pub name: String,
    /// The prefix of the raw zone; ends with a slash, unless it is the whole bucket.
    pub prefix: String,
    /// The column whose values only grow, to extract only rows above the last run's.
    pub cursor: Option<String>,
    /// The time in the folder's name; by default the current time.
    pub slot: Option<Timestamp>,
    /// The largest parts.
    pub limits: PartLimits,
    /// How the parts are compressed.
    pub compression: PartCompression,
}

/// The limits of a part. It ends at the first record that reaches one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimits {
    /// Number of rows.
    pub rows: u64,
    /// Size of the CSV text in bytes.
    pub bytes: u64,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { rows: 500_000, bytes: 256 << 20 }
    }
}

/// How parts are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartCompression {
    /// Not at all: `.csv`.
    None,
    /// gzip: `.csv.gz`.
    #[default]
    Gzip,
}

impl ExtractRequest {
    /// Checks the name and the limits.
    ///
    /// # Errors
    /// [`ErrorKind::EventInvalid`].
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::EventInvalid, message));
        let is_allowed = |character: char| !character.is_control() && character != '/';
        if self.name.is_empty() || self.name.starts_with(['_', '.']) || !self.name.chars().all(is_allowed) {
            return invalid(format!(
                "{:?} cannot be the name of a folder in the raw zone: it must not be empty, begin with _ or a full stop, or \
                 contain a slash or a control character",
                self.name
            ));
        }
        if self.limits.rows == 0 || self.limits.bytes == 0 {
            return invalid("a part needs at least one row and one byte".to_owned());
        }
        Ok(())
    }

    /// The table or the query as text.
    pub(super) fn relation_text(&self) -> &str {
        match &self.relation {
            Relation::Table(table) => table.as_str(),
            Relation::Query(query) => query,
        }
    }

    /// The key of the object that says what the last run has done.
    pub(super) fn state_key(&self) -> String {
        format!("{}{}/{EXTRACT_STATE}", self.prefix, self.name)
    }
}

/// A run: an extract of a source at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The same for each attempt: a hash of source, relation, cursor column and folder.
    pub(super) id: String,
    /// The time in the folder's name.
    pub(super) slot: Timestamp,
    /// The prefix of its objects, with a slash at the end.
    pub(super) folder: String,
    /// The name at the start of each part.
    name: String,
    compression: PartCompression,
}

impl Run {
    /// Returns the run of a request. Without a time in the request, it is that of the current minute in UTC.
    pub(super) fn of(request: &ExtractRequest, source: &str) -> Self {
        let slot = request.slot.unwrap_or_else(Timestamp::now);
        let folders = slot.to_zoned(TimeZone::UTC).strftime("year=%Y/month=%m/day=%d/hhmm=%H%M").to_string();
        let folder = format!("{}{}/{folders}/", request.prefix, request.name);
        let kind = match request.relation {
            Relation::Table(_) => "table",
            Relation::Query(_) => "query",
        };
        let cursor = request.cursor.as_deref().unwrap_or_default();
        let id = hash_parts(&["extract", source, kind, request.relation_text(), cursor, &folder]);
        Self { id, slot, folder, name: request.name.clone(), compression: request.compression }
    }

    /// The key of a part; `number` counts from one.
    pub(super) fn part_key(&self, number: usize) -> String {
        let ending = match self.compression {
            PartCompression::None => "csv",
            PartCompression::Gzip => "csv.gz",
        };
        format!("{}{}_part{number}.{ending}", self.folder, self.name)
    }

    /// The key of the manifest.
    pub(super) fn manifest_key(&self) -> String {
        manifest_key(&self.folder)
    }

    pub(super) fn compression(&self) -> PartCompression {
        self.compression
    }
}

/// The key of the manifest in a folder.
pub(super) fn manifest_key(folder: &str) -> String {
    format!("{folder}{EXTRACT_MANIFEST}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::describes_extract;

    fn request() -> ExtractRequest {
        ExtractRequest {
            relation: Relation::Table("shop.orders".into()),
            name: "orders".into(),
            prefix: "data/batch/".into(),
            cursor: None,
            slot: Some("2026-11-30T08:30:59Z".parse().unwrap()),
            limits: PartLimits::default(),
            compression: PartCompression::Gzip,
        }
    }

    #[test]
    fn keys_have_the_form_of_the_raw_zone() {
        let run = Run::of(&request(), "prod/db");
        let folder = "data/batch/orders/year=2026/month=11/day=30/hhmm=0830/";
        assert_eq!(run.part_key(12), format!("{folder}orders_part12.csv.gz"));
        assert_eq!(run.manifest_key(), format!("{folder}_manifest.json"));
        assert_eq!(request().state_key(), "data/batch/orders/_extract.json");
        assert!(describes_extract(&run.manifest_key()) && describes_extract(&request().state_key()));
        assert!(!describes_extract(&run.part_key(1)) && !describes_extract("data/my_manifest.json"));
    }

    #[test]
    fn attempts_of_a_run_have_the_same_identity() {
        let run = Run::of(&request(), "prod/db");
        let same_minute = ExtractRequest { slot: Some("2026-11-30T08:30:01Z".parse().unwrap()), ..request() };
        assert_eq!(Run::of(&same_minute, "prod/db").id, run.id);
        let other_cursor = ExtractRequest { cursor: Some("id".into()), ..request() };
        assert_ne!(Run::of(&other_cursor, "prod/db").id, run.id);
        assert_ne!(Run::of(&request(), "other/db").id, run.id);
        let query = ExtractRequest { relation: Relation::Query("shop.orders".into()), ..request() };
        assert_ne!(Run::of(&query, "prod/db").id, run.id);
    }

    #[test]
    fn names_that_athena_would_hide_are_refused() {
        for name in ["", "_orders", ".orders", "a/b", "a\nb"] {
            assert!(ExtractRequest { name: name.into(), ..request() }.check().is_err(), "{name:?}");
        }
        assert!(request().check().is_ok());
    }
}
