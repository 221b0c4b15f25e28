//! Adds up runs by hour, day or week, or by several weeks.

use jiff::Timestamp;
use spillway_core::destination::{Run, RunOutcome};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1970-01-01 was a Thursday. Weeks begin on Monday.
const FIRST_MONDAY: i64 = 4 * DAY;

/// The longest time that is shown by hour and by day, in seconds.
const MAX_BY_HOUR: i64 = 4 * DAY;
const MAX_BY_DAY: i64 = 150 * DAY;

/// The largest number of weeks that are shown one by one.
const MAX_WEEKS: i64 = 260;

/// The runs that started in one hour, day or week.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    files: [u64; RunOutcome::ALL.len()],
    /// Rows of loads.
    pub(super) rows_loaded: u64,
    /// Rows written to the fallback.
    pub(super) rows_fell_back: u64,
    /// Time of loads in milliseconds.
    load_ms: u64,
    /// Cost in US dollars.
    pub(super) cost_usd: f64,
}

impl Bucket {
    /// Number of files with this outcome, or of failed attempts.
    pub(super) fn files(&self, outcome: RunOutcome) -> f64 {
        super::number(self.files[index(outcome)])
    }

    /// Rows per second of the loads, while they ran.
    pub(super) fn rows_per_second(&self) -> f64 {
        if self.load_ms == 0 { 0.0 } else { super::number(self.rows_loaded) * 1000.0 / super::number(self.load_ms) }
    }

    fn add(&mut self, run: &Run) {
        self.files[index(run.outcome)] += if run.outcome == RunOutcome::Failed { run.attempts } else { 1 };
        self.cost_usd += run.cost_usd.unwrap_or(0.0);
        match run.outcome {
            RunOutcome::Loaded => {
                self.rows_loaded += run.rows_stored;
                self.load_ms += run.elapsed_ms.unwrap_or(0);
            }
            RunOutcome::FellBack => self.rows_fell_back += run.rows_stored,
            RunOutcome::Duplicate | RunOutcome::Superseded | RunOutcome::Rejected | RunOutcome::Failed => {}
        }
    }
}

fn index(outcome: RunOutcome) -> usize {
    RunOutcome::ALL.iter().position(|other| *other == outcome).unwrap_or(0)
}

/// Buckets of equal length, oldest first.
pub(super) struct Series {
    /// The start of the first bucket, in seconds since 1970.
    start: i64,
    /// The length of a bucket in seconds.
    step: i64,
    buckets: Vec<Bucket>,
}

impl Series {
    /// The series of these runs, in any order.
    pub(super) fn of(runs: &[Run]) -> Self {
        let seconds = || runs.iter().map(|run| run.started_at.as_second());
        let (first, last) = (seconds().min().unwrap_or(0), seconds().max().unwrap_or(0));
        let step = match last - first {
            span if span <= MAX_BY_HOUR => HOUR,
            span if span <= MAX_BY_DAY => DAY,
            span => (span / (WEEK * MAX_WEEKS) + 1) * WEEK,
        };
        let floor = |second: i64| match step {
            HOUR | DAY => second.div_euclid(step) * step,
            _ => (second - FIRST_MONDAY).div_euclid(step) * step + FIRST_MONDAY,
        };
        let start = floor(first);
        let count = usize::try_from((floor(last) - start) / step + 1).unwrap_or(1);
        let mut buckets = vec![Bucket::default(); count];
        for run in runs {
            let place = usize::try_from((floor(run.started_at.as_second()) - start) / step).unwrap_or(0);
            buckets[place.min(count - 1)].add(run);
        }
        Self { start, step, buckets }
    }

    /// The length of a bucket in words.
    pub(super) fn step_name(&self) -> String {
        match self.step {
            HOUR => "hour".to_owned(),
            DAY => "day".to_owned(),
            WEEK => "week".to_owned(),
            step => format!("{} weeks", step / WEEK),
        }
    }

    /// A value of each bucket.
    pub(super) fn values(&self, value: impl Fn(&Bucket) -> f64) -> Vec<f64> {
        self.buckets.iter().map(value).collect()
    }

    /// The start of each bucket in words.
    pub(super) fn labels(&self) -> Vec<String> {
        let format = if self.step == HOUR { "%m-%d %H:00" } else { "%Y-%m-%d" };
        let starts = (0..self.buckets.len()).map(|index| self.start + i64::try_from(index).unwrap_or(0) * self.step);
        starts
            .map(|start| {
                Timestamp::from_second(start).map_or_else(|_| String::new(), |time| time.strftime(format).to_string())
            })
            .collect()
    }
}
