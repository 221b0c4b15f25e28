//! Logs, and one metric line per object in CloudWatch's embedded metric format.
//!
//! Log lines go to standard error, metrics and reports to standard output; Lambda and ECS store both. Neither contains row
//! values or secrets.

use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;

/// The CloudWatch namespace of the metrics.
const NAMESPACE: &str = "Spillway";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Plain text for a terminal.
    Text,
}

/// The content and the format of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives of the filter, such as `warn,spillway=debug`.
    pub filter: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// Sets up logging for this process. Must be called once, before anything is logged.
pub fn init(settings: &LogSettings) -> Result<()> {
    // `EnvFilter` also matches spans and fields. It compiles regular expressions for that, which delays the start.
    let filter: Targets = settings.filter.parse().map_err(|error| {
        Error::new(ErrorKind::Settings, "RUST_LOG is not a list of directives such as warn,spillway=debug")
            .with_source(error)
    })?;
    let lines = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr);
    let installed = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().with(filter).try_init(),
        LogFormat::Text => {
            lines.compact().with_target(false).with_ansi(io::stderr().is_terminal()).finish().with(filter).try_init()
        }
    };
    installed.map_err(|error| Error::new(ErrorKind::Internal, "logging is set up already").with_source(error))
}

/// Writes the metrics of an object with an outcome.
pub fn count(service: &str, report: &Report) {
    let mut line = metrics(
        service,
        report.outcome.name(),
        Timestamp::now(),
        &[
            ("Objects", "Count", 1),
            ("Rows", "Count", report.rows_stored),
            ("Bytes", "Bytes", report.size_bytes),
            ("Duration", "Milliseconds", report.elapsed_ms),
        ],
    );
    // A field for searches. As a dimension, each table would be a custom metric, which costs extra.
    if let Some(table) = &report.table {
        line["table"] = json!(table);
    }
    print(&line);
}

/// Writes the metric of an object that failed, by kind of error.
pub fn count_failure(service: &str, kind: ErrorKind) {
    print(&metrics(service, kind.name(), Timestamp::now(), &[("Failures", "Count", 1)]));
}

/// A metric line with the dimensions service, and service with outcome.
fn metrics(service: &str, outcome: &str, now: Timestamp, numbers: &[(&str, &str, u64)]) -> Value {
    let units: Vec<Value> = numbers.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["service"], ["service", "outcome"]],
                "Metrics": units,
            }],
        },
        "service": service,
        "outcome": outcome,
    });
    for (name, _, number) in numbers {
        line[*name] = json!(number);
    }
    line
}

/// Writes a line to standard output. A closed output is ignored: metrics must not fail a load.
fn print(line: &Value) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_line_has_the_embedded_format() {
        let line =
            metrics("trigger", "loaded", Timestamp::UNIX_EPOCH, &[("Objects", "Count", 1), ("Rows", "Count", 7)]);
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 0, "CloudWatchMetrics": [{
                    "Namespace": "Spillway",
                    "Dimensions": [["service"], ["service", "outcome"]],
                    "Metrics": [{"Name": "Objects", "Unit": "Count"}, {"Name": "Rows", "Unit": "Count"}],
                }]},
                "service": "trigger", "outcome": "loaded", "Objects": 1, "Rows": 7,
            })
        );
    }

    #[test]
    fn invalid_directives_are_rejected_by_name() {
        let settings = LogSettings { filter: "spillway=loud".into(), format: LogFormat::Json };
        let error = init(&settings).unwrap_err();
        assert!(error.kind() == ErrorKind::Settings && error.to_string().starts_with("RUST_LOG"), "{error}");
    }
}
