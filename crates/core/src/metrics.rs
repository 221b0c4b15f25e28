//! Metrics of one stack, as lines in CloudWatch's embedded metric format.
//!
//! Each line goes to standard output; Lambda and ECS store it in CloudWatch Logs, which extracts the metrics. So metrics
//! need no permission, no network path and no request. Format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::ErrorKind;
use crate::policy::policy;
use crate::report::Report;

/// The CloudWatch namespace.
const NAMESPACE: &str = "Spillway";

/// Writes the metrics of one service of a stack. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// `STACK_NAME`, the first dimension of each metric, so that two stacks in one account have their own alarms.
    stack: Arc<str>,
    /// `trigger`, `ingest`, `task` or `stream`: a field for searches, not a dimension.
    service: &'static str,
    output: MetricsOutput,
}

/// The destination of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricsOutput {
    /// Standard output.
    Lines,
    /// None: the process has no log that CloudWatch reads, and its standard output is for its result.
    None,
}

/// A metric: name, unit, value.
type Metric = (&'static str, &'static str, u64);

/// Metrics with the same dimensions.
struct MetricSet<'a> {
    /// A second dimension, after the stack.
    dimension: Option<(&'static str, &'static str)>,
    metrics: &'a [Metric],
}

/// What waits in the bucket, as a sweep found it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Files under the upload prefixes.
    pub(crate) waiting_files: u64,
    /// Age of the oldest of them in seconds.
    pub(crate) oldest_waiting_seconds: u64,
    /// Files whose rows are in the fallback.
    pub(crate) fallback_files: u64,
    /// Rows in the fallback.
    pub(crate) fallback_rows: u64,
    /// Age of the oldest file in the fallback in seconds.
    pub(crate) oldest_fallback_seconds: u64,
}

/// What the transform of a stream has done with the records of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamCounts {
    /// Records of the event.
    pub(crate) records: u64,
    /// Events in the records that are delivered.
    pub(crate) events: u64,
    /// Records with nothing but white space.
    pub(crate) empty: u64,
    /// Records that were put into the source stream again.
    pub(crate) sent_again: u64,
    /// Records that go to the error prefix, by reason.
    pub(crate) failed: BTreeMap<&'static str, u64>,
}

impl StreamCounts {
    /// All records that go to the error prefix.
    pub(crate) fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl Metrics {
    /// Metrics of a service, such as `trigger`.
    pub(crate) fn new(stack: &str, service: &'static str) -> Self {
        Self { stack: stack.into(), service, output: MetricsOutput::Lines }
    }

    /// Metrics that are not written.
    pub(crate) fn silent(self) -> Self {
        Self { output: MetricsOutput::None, ..self }
    }

    /// Writes the metrics of an object with an outcome.
    pub(crate) fn object(&self, report: &Report) {
        let objects = [("Objects", "Count", 1)];
        let sums = [
            ("Rows", "Count", report.rows_stored),
            ("RejectedRecords", "Count", report.rows_rejected),
            ("Bytes", "Bytes", report.size_bytes),
            ("Duration", "Milliseconds", report.elapsed_ms),
            ("NeedsAttention", "Count", u64::from(report.needs_attention)),
        ];
        let mut line = self.line(
            Timestamp::now(),
            &[
                MetricSet { dimension: Some(("outcome", report.outcome.name())), metrics: &objects },
                MetricSet { dimension: None, metrics: &sums },
            ],
        );
        // A field for searches. As a dimension, each table would be a custom metric, which costs extra.
        if let Some(table) = &report.table {
            line["table"] = json!(table);
        }
        self.print(&line);
    }

    /// Writes the metrics of an object that failed, by kind of error.
    pub(crate) fn failure(&self, kind: ErrorKind) {
        let failures = [("Failures", "Count", 1)];
        let attention = [("NeedsAttention", "Count", u64::from(policy(kind).alert))];
        self.print(&self.line(
            Timestamp::now(),
            &[
                MetricSet { dimension: Some(("kind", kind.name())), metrics: &failures },
                MetricSet { dimension: None, metrics: &attention },
            ],
        ));
    }

    /// Writes the gauges of a completed sweep.
    pub(crate) fn backlog(&self, backlog: &Backlog) {
        let gauges = [
            ("Sweeps", "Count", 1),
            ("WaitingFiles", "Count", backlog.waiting_files),
            ("OldestWaitingAge", "Seconds", backlog.oldest_waiting_seconds),
            ("FallbackFiles", "Count", backlog.fallback_files),
            ("FallbackRows", "Count", backlog.fallback_rows),
            ("OldestFallbackAge", "Seconds", backlog.oldest_fallback_seconds),
        ];
        self.print(&self.line(Timestamp::now(), &[MetricSet { dimension: None, metrics: &gauges }]));
    }

    /// Writes the gauges of a completed sync: files without an outcome, and tables with such files.
    pub(crate) fn sync(&self, remaining_files: u64, incomplete_tables: u64) {
        let gauges = [
            ("Syncs", "Count", 1),
            ("SyncRemainingFiles", "Count", remaining_files),
            ("SyncIncompleteTables", "Count", incomplete_tables),
        ];
        self.print(&self.line(Timestamp::now(), &[MetricSet { dimension: None, metrics: &gauges }]));
    }

    /// Writes the counts of an event of a stream. Failed records have a line for each reason.
    pub(crate) fn stream(&self, counts: &StreamCounts) {
        let sums = [
            ("StreamRecords", "Count", counts.records),
            ("StreamEvents", "Count", counts.events),
            ("StreamEmptyRecords", "Count", counts.empty),
            ("StreamRecordsSentAgain", "Count", counts.sent_again),
            ("StreamFailedRecords", "Count", counts.all_failed()),
        ];
        self.print(&self.line(Timestamp::now(), &[MetricSet { dimension: None, metrics: &sums }]));
        for (reason, records) in &counts.failed {
            let metrics = [("StreamFailures", "Count", *records)];
            self.print(
                &self.line(Timestamp::now(), &[MetricSet { dimension: Some(("reason", reason)), metrics: &metrics }]),
            );
        }
    }

    /// Writes a line to standard output. A closed output is ignored: metrics must not fail a load.
    fn print(&self, line: &Value) {
        match self.output {
            MetricsOutput::Lines => {
                let _ = writeln!(io::stdout().lock(), "{line}");
            }
            MetricsOutput::None => {}
        }
    }

    fn line(&self, now: Timestamp, sets: &[MetricSet<'_>]) -> Value {
        let directives: Vec<Value> = sets.iter().map(MetricSet::directive).collect();
        let mut line = json!({
            "_aws": {"Timestamp": now.as_millisecond(), "CloudWatchMetrics": directives},
            "stack": &*self.stack,
            "service": self.service,
        });
        for set in sets {
            if let Some((name, value)) = set.dimension {
                line[name] = json!(value);
            }
            for (name, _, number) in set.metrics {
                line[*name] = json!(number);
            }
        }
        line
    }
}

impl MetricSet<'_> {
    fn directive(&self) -> Value {
        let dimensions: Vec<&str> = ["stack"].into_iter().chain(self.dimension.map(|(name, _)| name)).collect();
        let metrics: Vec<Value> =
            self.metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": metrics})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_embedded_format_with_the_stack_as_a_dimension() {
        let sets = [
            MetricSet { dimension: Some(("outcome", "loaded")), metrics: &[("Objects", "Count", 1)] },
            MetricSet { dimension: None, metrics: &[("Rows", "Count", 7)] },
        ];
        let line = Metrics::new("orders", "trigger").line(Timestamp::UNIX_EPOCH, &sets);
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 0, "CloudWatchMetrics": [
                    {
                        "Namespace": "Spillway", "Dimensions": [["stack", "outcome"]],
                        "Metrics": [{"Name": "Objects", "Unit": "Count"}],
                    },
                    {"Namespace": "Spillway", "Dimensions": [["stack"]], "Metrics": [{"Name": "Rows", "Unit": "Count"}]},
                ]},
                "stack": "orders", "service": "trigger", "outcome": "loaded", "Objects": 1, "Rows": 7,
            })
        );
    }
}
