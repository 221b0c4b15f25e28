//! The result of `spillway load`, as text and as JSON.

use std::collections::BTreeSet;

use serde::Serialize;
use spillway_core::destination::LoadDetails;
use spillway_core::report::{Outcome, Report};

use crate::numbers::counted;
use crate::output::{ErrorDocument, Style, Styles};
use crate::row_counts;

/// The result of all files.
#[derive(Debug, Default, Serialize)]
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
    pub(super) not_tried: usize,
    rows_stored: u64,
    /// Inserted rows, of loads by key only.
    rows_inserted: u64,
    rows_updated: u64,
    rows_unchanged: u64,
    rows_deleted: u64,
    rows_rejected: u64,
    /// The load modes of all loads, each once.
    #[serde(skip)]
    load_modes: Vec<Option<String>>,
    /// The tables that a file has replaced.
    #[serde(skip)]
    replaced_tables: BTreeSet<String>,
    /// Number of files, also of those that the list omits.
    #[serde(skip)]
    count: usize,
    /// The steps that apply to a file.
    #[serde(skip)]
    steps: Vec<&'static str>,
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

/// What the user can do about local files whose rows another file has replaced since.
const AGAIN_REPLACED: &str = "add --again to replace the table with this file once more";

/// What the user can do about objects in S3 that were loaded before.
const OTHER_KEY: &str = "an object is loaded once; upload it under another key to load its rows once more";

/// What several files do that replace the same table.
const REPLACED_IN_TURN: &str =
    "each file has replaced the rows of the file before it in the same table; the last one counts";

/// All steps, in the order in which they are printed.
const STEPS: [&str; 6] = [REPLACED_IN_TURN, AGAIN_IN_MODE, AGAIN, AGAIN_REPLACED, AGAIN_OLDER, OTHER_KEY];

/// What the user can do about a file that needed no load.
fn step(report: &Report) -> Option<&'static str> {
    match (report.outcome, report.object.is_local_file()) {
        (Outcome::AlreadyLoaded, true) if report.replaced_by.is_some() => Some(AGAIN_REPLACED),
        (Outcome::AlreadyLoaded, true) if report.earlier_load_mode.is_some() => Some(AGAIN_IN_MODE),
        (Outcome::AlreadyLoaded, true) => Some(AGAIN),
        (Outcome::AlreadyLoaded, false) => Some(OTHER_KEY),
        (Outcome::Superseded, true) => Some(AGAIN_OLDER),
        (
            Outcome::Superseded
            | Outcome::Loaded
            | Outcome::FellBack
            | Outcome::Rejected
            | Outcome::Skipped
            | Outcome::HandedOver
            | Outcome::Replayed,
            _,
        ) => None,
    }
}

impl LoadDocument {
    /// What the user can do about files that needed no load.
    pub(super) fn next_steps(&self) -> Vec<&'static str> {
        STEPS.into_iter().filter(|step| self.steps.contains(step)).collect()
    }

    /// Number of files, with those that were not begun.
    pub(super) fn count(&self) -> usize {
        self.count + self.not_tried
    }

    /// Adds the result of a file to the sums, and to the list of files if that is wanted.
    pub(super) fn add(&mut self, file: FileDocument, is_listed: bool) {
        self.count += 1;
        match &file.report {
            Some(report) => self.add_report(report),
            None => self.failed += 1,
        }
        if is_listed {
            self.files.push(file);
        }
    }

    fn add_report(&mut self, report: &Report) {
        let files = match report.outcome {
            Outcome::Loaded => &mut self.loaded,
            Outcome::AlreadyLoaded => &mut self.already_loaded,
            Outcome::Superseded => &mut self.superseded,
            Outcome::FellBack => &mut self.fell_back,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Skipped | Outcome::HandedOver | Outcome::Replayed => &mut self.skipped,
        };
        *files += 1;
        if let Some(step) = step(report).filter(|step| !self.steps.contains(step)) {
            self.steps.push(step);
        }
        if report.outcome != Outcome::Loaded {
            return;
        }
        let load = LoadDetails::of(report);
        if load.load_mode.as_deref() == Some("replace") {
            let table = report.table.clone().unwrap_or_default();
            if !self.replaced_tables.insert(table) && !self.steps.contains(&REPLACED_IN_TURN) {
                self.steps.push(REPLACED_IN_TURN);
            }
        }
        self.rows_stored += report.rows_stored;
        if load.is_by_key() {
            self.rows_inserted += load.rows_inserted(report.rows_stored);
        }
        self.rows_updated += report.rows_updated;
        self.rows_unchanged += report.rows_unchanged;
        self.rows_deleted += report.rows_deleted;
        self.rows_rejected += report.rows_rejected;
        if !self.load_modes.contains(&load.load_mode) {
            self.load_modes.push(load.load_mode);
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
        let mut text = format!("{}: {} loaded", counted(self.count() as u64, "file"), self.loaded);
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
            // Loads of different modes have only one number in common.
            load_mode: match self.load_modes.as_slice() {
                [mode] => mode.clone(),
                [] | [_, _, ..] => None,
            },
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

    fn document_of(files: impl IntoIterator<Item = FileDocument>, all: usize) -> LoadDocument {
        let mut document = LoadDocument::default();
        files.into_iter().for_each(|file| document.add(file, false));
        document.not_tried = all - document.count;
        document
    }

    #[test]
    fn next_steps_depend_on_where_the_files_are() {
        let steps = |bucket: &str, outcome| {
            let report = Some(Report::new(ObjectRef::new(bucket, "a.csv"), outcome));
            document_of([FileDocument { file: "a.csv".to_owned(), report, error: None }], 1).next_steps()
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
        document_of(results.iter().map(file), all)
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

    #[test]
    fn files_that_replace_the_same_table_are_named() {
        let steps = |modes: [&str; 2]| {
            let loads = modes.map(|mode| (Outcome::Loaded, mode, [2, 0, 0]));
            document(&loads, 2).next_steps()
        };
        assert_eq!(steps(["replace", "replace"]), [REPLACED_IN_TURN]);
        assert!(steps(["append", "append"]).is_empty() && steps(["append", "replace"]).is_empty());
    }
}
