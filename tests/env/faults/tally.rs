//! The counts of many runs, and what one run has found.

use std::time::Duration;

use crate::fixture::Verdict;

/// What one run has shown.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The number of faults that occurred, each of them proved.
    pub fired: usize,
    /// Whether the fault of the run could not occur, so that the run shows nothing.
    pub out_of_reach: bool,
    /// What is wrong after the run.
    pub verdict: Verdict,
}

/// The counts of a battery.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Runs whose faults occurred.
    pub runs: usize,
    /// Faults that occurred.
    pub fired: usize,
    /// Runs whose fault could not occur.
    pub out_of_reach: usize,
    /// Rows that were lost.
    pub lost: usize,
    /// Rows that were stored twice.
    pub doubled: usize,
    /// Rows that were never uploaded, or were damaged.
    pub unexpected: usize,
    /// Misplaced objects, wrong counts in the ledger, and leftovers.
    pub other: usize,
    /// Runs that did not reach their end.
    pub failed: usize,
    /// The sum of the runs' times.
    pub time: Duration,
}

impl Tally {
    /// Adds a run that has reached its end.
    pub fn add(&mut self, outcome: &Outcome, time: Duration) {
        self.time += time;
        if outcome.out_of_reach {
            self.out_of_reach += 1;
            return;
        }
        self.runs += 1;
        self.fired += outcome.fired;
        let Verdict { lost, duplicated, unexpected, misplaced, ledger, left_over } = &outcome.verdict;
        self.lost += lost.len();
        self.doubled += duplicated.len();
        self.unexpected += unexpected.len();
        self.other += misplaced.len() + ledger.len() + left_over.len();
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.unexpected + self.other + self.failed == 0
    }

    /// A line of a table in Markdown.
    pub fn line(&self, name: &str) -> String {
        format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            self.runs,
            self.fired,
            self.lost,
            self.doubled,
            self.unexpected,
            self.other,
            self.failed,
            self.time.as_secs_f64()
        )
    }
}
