//! Collects the results of one invocation: reports, ignored records, failures.
//!
//! The only place that logs a failed object and writes its metrics.

use serde::Serialize;
use tracing::{error, info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::metrics::Metrics;
use crate::policy::policy;
use crate::report::{Outcome, Report};

/// Number of failures that an error message lists in full.
const MAX_LISTED: usize = 10;

/// The results of one event or request.
#[derive(Debug, Serialize)]
pub struct BatchResult {
    /// One report per object that has an outcome.
    pub reports: Vec<Report>,
    /// Event records that name no object to load, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// One error per object that failed; such an object is still in place.
    #[serde(skip)]
    pub failures: Vec<Error>,
    /// Where the metrics of each object go.
    #[serde(skip)]
    metrics: Metrics,
    /// Number of reports and failures whose events are published.
    #[serde(skip)]
    published: (usize, usize),
}

impl BatchResult {
    /// An empty result.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            reports: Vec::new(),
            ignored: Vec::new(),
            failures: Vec::new(),
            metrics: metrics.clone(),
            published: (0, 0),
        }
    }

    /// Adds a failure that is about several objects, if there is one.
    pub(crate) fn add_failure(&mut self, failure: Option<Error>) {
        if let Some(failure) = failure {
            self.add(Err(failure));
        }
    }

    /// Adds the result of one object, writes its metrics and logs a failure.
    pub(crate) fn add(&mut self, result: Result<Report>) {
        match result {
            Ok(report) => {
                self.metrics.object(&report);
                self.reports.push(report);
            }
            Err(failure) => {
                log_failure(&failure);
                self.metrics.failure(failure.kind());
                self.failures.push(failure);
            }
        }
    }

    /// Adds an event record that names no object to load.
    pub(crate) fn ignore(&mut self, what: &str, why: &str) {
        info!(what, why, "ignoring an event record");
        self.ignored.push(format!("{what}: {why}"));
    }

    /// Returns the reports and failures that were added since the last call.
    pub(super) fn take_unpublished(&mut self) -> (&[Report], &[Error]) {
        let (reports, failures) = self.published;
        self.published = (self.reports.len(), self.failures.len());
        (&self.reports[reports..], &self.failures[failures..])
    }

    /// Removes failures of these kinds, which do not fail the request. Publish their events before.
    pub(super) fn forget_failures(&mut self, is_forgotten: impl Fn(ErrorKind) -> bool) {
        self.failures.retain(|failure| !is_forgotten(failure.kind()));
        self.published.1 = self.published.1.min(self.failures.len());
    }

    /// Adds the results of another batch. The events of both are published.
    pub(super) fn absorb(&mut self, other: Self) {
        self.reports.extend(other.reports);
        self.failures.extend(other.failures);
        self.ignored.extend(other.ignored);
        self.published = (self.reports.len(), self.failures.len());
    }

    /// Removes the reports above this number, and returns how many. Reports of files that were not loaded are kept first. Publish
    /// the events of all reports before.
    pub(super) fn keep_reports(&mut self, count: usize) -> u64 {
        let removed = self.reports.len().saturating_sub(count);
        if removed > 0 {
            let is_noteworthy = |report: &Report| {
                report.needs_attention || matches!(report.outcome, Outcome::FellBack | Outcome::Rejected)
            };
            self.reports.sort_by_key(|report| !is_noteworthy(report));
        }
        self.reports.truncate(count);
        self.published.0 = self.published.0.min(count);
        removed as u64
    }

    /// Number of reports and failures whose events are not published yet.
    pub(super) fn unpublished(&self) -> usize {
        self.reports.len() + self.failures.len() - self.published.0 - self.published.1
    }

    /// Returns the results when every object has an outcome.
    ///
    /// A report that needs attention is not an error: its file has an outcome, so another attempt would change nothing.
    /// Its own metric and event say so.
    ///
    /// # Errors
    /// An error that lists the failures. Its kind is the first failure's, or `interrupted` if any failure has it.
    pub fn into_result(self) -> Result<Self> {
        let total = self.reports.len() + self.failures.len();
        let kinds = || self.failures.iter().map(Error::kind);
        // An interrupted task exits with 75 even if other objects failed, so that it is started again.
        let interrupted = kinds().find(|kind| *kind == ErrorKind::Interrupted);
        let Some(kind) = interrupted.or(kinds().next()) else { return Ok(self) };
        let lines: Vec<String> =
            self.failures.iter().map(|failure| format!("{}: {}", failure.kind(), chain(failure))).collect();
        let more = match lines.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let listed = lines[..lines.len().min(MAX_LISTED)].join("; ");
        Err(Error::new(kind, format!("{} of {total} objects failed: {listed}{more}", lines.len())))
    }
}

fn log_failure(failure: &Error) {
    let policy = policy(failure.kind());
    let (kind, reason, hint) = (failure.kind().name(), chain(failure), policy.hint);
    if policy.alert {
        error!(kind, error = reason, hint, "failed to process an object; an operator must act");
    } else {
        warn!(kind, error = reason, hint, "failed to process an object; it stays in place for the next attempt");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    fn results(failures: Vec<Error>, reports: Vec<Report>) -> BatchResult {
        BatchResult { reports, failures, ..BatchResult::new(&Metrics::new("test", "test")) }
    }

    fn report(needs_attention: bool) -> Report {
        let mut report = Report::new(ObjectRef::new("b", "k"), Outcome::FellBack).because("internal: oops");
        report.needs_attention = needs_attention;
        report
    }

    #[test]
    fn results_without_failures_are_returned() {
        assert_eq!(results(vec![], vec![report(false)]).into_result().unwrap().reports.len(), 1);
    }

    #[test]
    fn one_failure_fails_the_batch_with_its_kind_and_object() {
        let failure = Error::new(ErrorKind::Throttled, "slow down").for_object("s3://b/x");
        let error = results(vec![failure], vec![report(false)]).into_result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert_eq!(error.to_string(), "1 of 2 objects failed: throttled: s3://b/x: slow down");
    }

    #[test]
    fn interrupted_takes_precedence_over_other_failures() {
        let failures = [ErrorKind::Throttled, ErrorKind::Interrupted].map(|kind| Error::new(kind, "x"));
        assert_eq!(results(failures.into(), vec![]).into_result().unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn a_report_that_needs_attention_is_an_outcome() {
        assert_eq!(results(vec![], vec![report(true), report(false)]).into_result().unwrap().reports.len(), 2);
    }

    #[test]
    fn forgotten_failures_are_not_published_again() {
        let failure = |kind| Error::new(kind, "x");
        let mut results = results(vec![failure(ErrorKind::Busy), failure(ErrorKind::Throttled)], vec![report(false)]);
        assert_eq!(results.take_unpublished().1.len(), 2);
        results.forget_failures(|kind| kind == ErrorKind::Busy);
        let (reports, failures) = results.take_unpublished();
        assert_eq!((reports.len(), failures.len(), results.failures.len()), (0, 0, 1));
    }

    #[test]
    fn reports_of_files_that_were_not_loaded_are_kept_first() {
        let report = |outcome| Report::new(ObjectRef::new("b", "k"), outcome);
        let outcomes = [Outcome::Loaded, Outcome::Loaded, Outcome::Rejected, Outcome::FellBack];
        let mut results = results(vec![], outcomes.map(report).into());
        assert_eq!(results.keep_reports(4), 0);
        assert_eq!(results.reports[0].outcome, Outcome::Loaded);
        assert_eq!(results.keep_reports(3), 1);
        let kept: Vec<Outcome> = results.reports.iter().map(|report| report.outcome).collect();
        assert_eq!(kept, [Outcome::Rejected, Outcome::FellBack, Outcome::Loaded]);
    }

    #[test]
    fn long_list_is_truncated() {
        let failures = (0..13).map(|_| Error::new(ErrorKind::Busy, "held")).collect();
        let error = results(failures, vec![]).into_result().unwrap_err().to_string();
        assert!(error.starts_with("13 of 13") && error.ends_with("; and 3 more"), "{error}");
        assert_eq!(error.matches("held").count(), 10);
    }
}
