//! The result of `spillway load`, as text and as JSON.

use serde::Serialize;
use spillway_core::destination::LoadDetails;
use spillway_core::report::{Outcome, Report};

use crate::numbers::counted;
use crate::output::{ErrorDocument, Style, Styles};
use crate::row_counts;

/// The result of all files.
#[derive(Debug, Serialize)]
pub(super) struct LoadDocument {
    files: Vec<FileDocument>,
    loaded: usize,
    already_loaded: usize,
    superseded: usize,
    fell_back: usize,
    rejected: usize,
    skipped: usize,
    failed: usize,
    /// Files after an interruption.
    not_tried: usize,
    rows_stored: u64,
    /// Inserted rows, of loads by key only.
    rows_inserted: u64,
    rows_updated: u64,
    rows_unchanged: u64,
    rows_deleted: u64,
    rows_rejected: u64,
    /// The load mode of all loads, if it is the same.
    #[serde(skip)]
    load_mode: Option<String>,
}

/// The result of one file: its report or its error.
#[derive(Debug, Serialize)]
pub(super) struct FileDocument {
    pub(super) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) report: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorDocument>,
}

/// What the user can do about local files that were loaded before.
const AGAIN: &str = "the same content is loaded once into a table; add --again to load it once more";

/// What the user can do about local files that were loaded with another load mode.
const AGAIN_IN_MODE: &str =
    "a file is not loaded again because the load mode has changed; add --again to load it with this mode";

/// What the user can do about local files that are older than the one that has replaced the table.
const AGAIN_OLDER: &str = "add --again to replace the table with the older file";

/// What the user can do about objects in S3 that were loaded before.
const OTHER_KEY: &str = "an object is loaded once; upload it under another key to load its rows once more";

impl LoadDocument {
    /// What the user can do about files that needed no load.
    pub(super) fn next_steps(&self) -> Vec<&'static str> {
        let reports = || self.files.iter().filter_map(|file| file.report.as_ref());
        let is_known = |report: &Report| report.outcome == Outcome::AlreadyLoaded && report.object.is_local_file();
        let has = |outcome: Outcome, is_local: bool| {
            reports().any(|report| (report.outcome, report.object.is_local_file()) == (outcome, is_local))
        };
        let has_other_mode = |report: &Report| report.object.is_local_file() && report.earlier_load_mode.is_some();
        let steps = [
            (AGAIN_IN_MODE, reports().any(has_other_mode)),
            (AGAIN, reports().any(|report| is_known(report) && !has_other_mode(report))),
            (AGAIN_OLDER, has(Outcome::Superseded, true)),
            (OTHER_KEY, has(Outcome::AlreadyLoaded, false)),
        ];
        steps.into_iter().filter(|(_, applies)| *applies).map(|(step, _)| step).collect()
    }

    /// The sums of the results so far, of `all` files.
    pub(super) fn of(files: Vec<FileDocument>, all: usize) -> Self {
        let reports = || files.iter().filter_map(|file| file.report.as_ref());
        let with = |wanted: &[Outcome]| reports().filter(|report| wanted.contains(&report.outcome)).count();
        let loads = || reports().filter(|report| report.outcome == Outcome::Loaded);
        let sum = |number: fn(&Report) -> u64| loads().map(number).sum::<u64>();
        let details = || loads().map(|report| (LoadDetails::of(report), report.rows_stored));
        let by_key = || details().filter(|(load, _)| load.is_by_key());
        let first = details().next().and_then(|(load, _)| load.load_mode);
        Self {
            loaded: with(&[Outcome::Loaded]),
            already_loaded: with(&[Outcome::AlreadyLoaded]),
            superseded: with(&[Outcome::Superseded]),
            fell_back: with(&[Outcome::FellBack]),
            rejected: with(&[Outcome::Rejected]),
            skipped: with(&[Outcome::Skipped, Outcome::HandedOver, Outcome::Replayed]),
            failed: files.iter().filter(|file| file.error.is_some()).count(),
            not_tried: all.saturating_sub(files.len()),
            rows_stored: sum(|report| report.rows_stored),
            rows_inserted: by_key().map(|(load, rows_stored)| load.rows_inserted(rows_stored)).sum(),
            rows_updated: sum(|report| report.rows_updated),
            rows_unchanged: sum(|report| report.rows_unchanged),
            rows_deleted: sum(|report| report.rows_deleted),
            rows_rejected: sum(|report| report.rows_rejected),
            load_mode: first.filter(|mode| details().all(|(load, _)| load.load_mode.as_ref() == Some(mode))),
            files,
        }
    }

    pub(super) fn summary(&self, styles: Styles) -> String {
        let outcomes = [
            ("already loaded", self.already_loaded),
            ("superseded", self.superseded),
            ("fell back", self.fell_back),
            ("rejected", self.rejected),
            ("skipped", self.skipped),
            ("failed", self.failed),
            ("not tried", self.not_tried),
        ];
        let mut text =
            format!("{}: {} loaded", counted((self.files.len() + self.not_tried) as u64, "file"), self.loaded);
        for (name, files) in outcomes.into_iter().filter(|(_, files)| *files > 0) {
            text += &format!(", {files} {name}");
        }
        text += &format!("; {}", self.rows());
        if self.rows_rejected > 0 {
            text += &format!(", {} rejected", counted(self.rows_rejected, "record"));
        }
        let has_failed = self.failed + self.fell_back + self.rejected + self.not_tried > 0;
        styles.paint(if has_failed { Style::Bad } else { Style::Good }, &text) + "\n"
    }

    /// The rows of all loads.
    fn rows(&self) -> String {
        let load = LoadDetails {
            load_mode: self.load_mode.clone(),
            rows_updated: self.rows_updated,
            rows_unchanged: self.rows_unchanged,
            rows_deleted: self.rows_deleted,
            // Each file's line has them.
            rows_missing: 0,
        };
        row_counts::rows_by_key(&load, self.rows_stored)
            .unwrap_or_else(|| format!("{} stored", counted(self.rows_stored, "row")))
    }
}

#[cfg(test)]
mod tests {
    use spillway_core::object::ObjectRef;

    use super::*;
    use crate::output::Color;

    #[test]
    fn next_steps_depend_on_where_the_files_are() {
        let steps = |bucket: &str, outcome| {
            let report = Some(Report::new(ObjectRef::new(bucket, "a.csv"), outcome));
            LoadDocument::of(vec![FileDocument { file: "a.csv".to_owned(), report, error: None }], 1).next_steps()
        };
        assert_eq!(steps("file://laptop", Outcome::AlreadyLoaded), [AGAIN]);
        assert_eq!(steps("file://laptop", Outcome::Superseded), [AGAIN_OLDER]);
        assert_eq!(steps("bucket", Outcome::AlreadyLoaded), [OTHER_KEY]);
        assert!(steps("bucket", Outcome::Superseded).is_empty() && steps("file://laptop", Outcome::Loaded).is_empty());
    }

    /// The document of loads with these outcomes, modes and counts: stored, updated, deleted.
    fn document(results: &[(Outcome, &str, [u64; 3])], all: usize) -> LoadDocument {
        let file = |(outcome, mode, [stored, updated, deleted]): &(Outcome, &str, [u64; 3])| {
            let mut report = Report::new(ObjectRef::new("file://laptop", "a.csv"), *outcome);
            report.load_mode = Some((*mode).to_owned());
            (report.rows_stored, report.rows_updated, report.rows_deleted) = (*stored, *updated, *deleted);
            FileDocument { file: "a.csv".to_owned(), report: Some(report), error: None }
        };
        LoadDocument::of(results.iter().map(file).collect(), all)
    }

    #[test]
    fn summary_counts_every_file_once() {
        let summary = |results, all| document(results, all).summary(Styles(Color::Off));
        let mirror = |outcome, counts| (outcome, "mirror", counts);
        let superseded = [mirror(Outcome::Loaded, [5, 2, 1]), mirror(Outcome::Superseded, [9, 9, 9])];
        assert_eq!(
            summary(&superseded, 3),
            "3 files: 1 loaded, 1 superseded, 1 not tried; 3 rows inserted, 2 updated, 0 unchanged, 1 deleted\n"
        );
        // Loads of different modes have only one number in common.
        let mixed = [mirror(Outcome::Loaded, [5, 2, 1]), (Outcome::Loaded, "append", [7, 0, 0])];
        assert_eq!(summary(&mixed, 2), "2 files: 2 loaded; 12 rows stored\n");
        let in_s3 = [(Outcome::FellBack, "append", [7, 0, 0]), (Outcome::Rejected, "append", [0, 0, 0])];
        assert_eq!(summary(&in_s3, 2), "2 files: 0 loaded, 1 fell back, 1 rejected; 0 rows stored\n");
        assert_eq!(document(&mixed, 2).rows_inserted, 3);
    }
}
