//! The measured figures, as `docs/benchmarks.json` stores them and the report shows them.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The name of Spillway, with which all others are compared.
pub(crate) const SPILLWAY: &str = "Spillway";
/// The name of Spillway for the first file of a table.
pub(crate) const SPILLWAY_NEW_TABLE: &str = "Spillway, new table";

/// The name of the command line.
pub(crate) const SPILLWAY_LOAD: &str = "`spillway load`";

/// Whether a contender is Spillway.
pub(crate) fn is_own(name: &str) -> bool {
    name.starts_with(SPILLWAY) || name == SPILLWAY_LOAD
}

/// One measured run of one process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The time from the start of the process to its end.
    pub(crate) seconds: f64,
    /// Processor time of the process.
    pub(crate) client_cpu_seconds: f64,
    /// Processor time of the database during the run.
    pub(crate) server_cpu_seconds: f64,
    /// Processor time of the local S3 during the run.
    pub(crate) s3_cpu_seconds: f64,
    /// Peak resident memory of the process.
    pub(crate) peak_memory_bytes: u64,
}

/// All runs of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether it reads the file from S3; otherwise from the local disk.
    pub(crate) is_from_s3: bool,
    /// The runs in their order.
    pub(crate) runs: Vec<Run>,
    /// The result of the comparison with Spillway's table.
    pub(crate) content: String,
}

/// One set of data on one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The name for `make bench SET=...`.
    pub(crate) set: String,
    /// A description of the data.
    pub(crate) about: String,
    /// The engine's value of `RDS_ENGINE`.
    pub(crate) engine: String,
    /// The engine's name and version.
    pub(crate) server: String,
    /// Cores and memory.
    pub(crate) machine: String,
    /// The number of files.
    pub(crate) files: u64,
    /// The number of rows in all files.
    pub(crate) rows: u64,
    /// The size of all files.
    pub(crate) bytes: u64,
    /// The time to read all files from the local S3 and discard them.
    pub(crate) fetch_seconds: f64,
    /// The contenders.
    pub(crate) entries: Vec<Entry>,
    /// The numbers of wrong values in the special columns.
    pub(crate) wrong: Vec<Wrong>,
}

/// The number of wrong values in each special column of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wrong {
    /// The contender that loaded the table.
    pub(crate) name: String,
    /// The number of compared rows.
    pub(crate) rows: u64,
    /// The number of wrong values, in the order of [`crate::data::SPECIALS`].
    pub(crate) counts: Vec<u64>,
}

impl Entry {
    /// The median of a figure over all runs.
    pub(crate) fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }

    /// The median of the seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.median(|run| run.seconds)
    }
}

impl Section {
    /// The entry with this name.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entry of Spillway.
    pub(crate) fn spillway(&self) -> Result<&Entry> {
        self.entry(SPILLWAY).with_context(|| format!("{} on {} has no run of Spillway", self.set, self.engine))
    }
}

/// The median; of an even number of values, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Replaces older sections of the same set and engine. The result is in the order of `sets`, then by engine.
pub(crate) fn merged(older: Vec<Section>, newer: Vec<Section>, sets: &[&str]) -> Vec<Section> {
    let is_replaced = |old: &Section| newer.iter().any(|new| (&new.set, &new.engine) == (&old.set, &old.engine));
    let mut all: Vec<Section> = older.into_iter().filter(|old| !is_replaced(old)).collect();
    all.extend(newer);
    let set_index = |section: &Section| sets.iter().position(|set| *set == section.set).unwrap_or(usize::MAX);
    all.sort_by(|one, other| (set_index(one), &one.engine).cmp(&(set_index(other), &other.engine)));
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Entry, Run, SPILLWAY, Section, median, merged};

    /// A section with Spillway at two seconds and the loader at one second.
    pub(crate) fn section(set: &str, engine: &str) -> Section {
        let run = |seconds| Run {
            seconds,
            client_cpu_seconds: 0.5,
            server_cpu_seconds: 0.75,
            s3_cpu_seconds: 0.25,
            peak_memory_bytes: 32 << 20,
        };
        let entry = |name: &str, is_from_s3, seconds: [f64; 3]| Entry {
            name: name.to_owned(),
            is_from_s3,
            runs: seconds.map(run).to_vec(),
            content: "the same".into(),
        };
        Section {
            set: set.to_owned(),
            about: "four whole numbers".into(),
            engine: engine.to_owned(),
            server: "MariaDB 10.11".into(),
            machine: "2 cores, 24 GiB".into(),
            files: 1,
            rows: 1_000_000,
            bytes: 32_000_000,
            fetch_seconds: 0.1,
            entries: vec![entry(SPILLWAY, true, [9.0, 2.0, 1.5]), entry("a <loader>", false, [1.0, 1.0, 1.0])],
            wrong: Vec::new(),
        }
    }

    #[test]
    fn median_is_the_middle_value() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), 3.0);
    }

    #[test]
    fn new_sections_replace_older_ones_in_order() {
        let older = vec![section("b", "mariadb"), section("a", "postgres")];
        let mut newer = section("b", "mariadb");
        newer.rows = 7;
        let all = merged(older, vec![newer, section("a", "mariadb")], &["a", "b"]);
        let names: Vec<_> = all.iter().map(|one| (one.set.as_str(), one.engine.as_str(), one.rows)).collect();
        assert_eq!(names, [("a", "mariadb", 1_000_000), ("a", "postgres", 1_000_000), ("b", "mariadb", 7)]);
    }
}
