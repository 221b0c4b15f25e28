//! The report page: what happened to files, as one HTML file without scripts and without links to other files.
//!
//! Runs are added up by hour, day or week, so that the page stays small. Every text from the ledger is escaped.

mod chart;
mod groups;
mod series;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use jiff::Timestamp;
use spillway_core::destination::{Run, RunOutcome};

use crate::numbers::{count, counted};
use crate::table::bytes;
use chart::{Chart, Layer};
use series::Series;
use text::{dollars, escaped, minute};

const STYLE: &str = include_str!("report/style.css");

/// The content of the page.
pub(crate) struct Page<'a> {
    /// The runs, newest first.
    pub(crate) runs: &'a [Run],
    /// The selection in words.
    pub(crate) filter: Vec<String>,
    /// Whether there are older runs than those on the page.
    pub(crate) is_cut: bool,
    /// Whether failed attempts are missing.
    pub(crate) lacks_history: bool,
    /// When the page was created.
    pub(crate) created_at: Timestamp,
}

impl Page<'_> {
    /// The page as HTML.
    pub(crate) fn html(&self) -> String {
        let content = match self.runs.is_empty() {
            true => "<p class=\"empty\">No run matches the selection.</p>\n".to_owned(),
            false => [self.tiles(), self.charts(), tables::html(self.runs)].concat(),
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Spillway runs</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}{content}</main>\n</body>\n</html>\n",
            self.header()
        )
    }

    fn header(&self) -> String {
        let mut lines = vec![format!("created {}", minute(self.created_at))];
        if let (Some(newest), Some(oldest)) = (self.runs.first(), self.runs.last()) {
            lines.insert(0, format!("{} to {}", minute(oldest.started_at), minute(newest.started_at)));
        }
        lines.extend(self.filter.iter().map(|part| escaped(part)));
        let mut notes = String::new();
        if self.is_cut {
            notes.push_str("<p class=\"note\">There are older runs. Narrow the selection, or raise --limit.</p>\n");
        }
        if self.lacks_history {
            notes.push_str("<p class=\"note\">Failed attempts are missing: the database has no attempt history.</p>\n");
        }
        format!("<header>\n<h1>Spillway runs</h1>\n<p>{}</p>\n</header>\n{notes}", lines.join(" · "))
    }

    fn tiles(&self) -> String {
        let of = |outcome: RunOutcome| self.runs.iter().filter(move |run| run.outcome == outcome);
        let rows = |outcome: RunOutcome| of(outcome).map(|run| run.rows_stored).sum::<u64>();
        let files = |outcome: RunOutcome| of(outcome).count() as u64;
        let cost: f64 = self.runs.iter().filter_map(|run| run.cost_usd).sum();
        let size: u64 = of(RunOutcome::Loaded).map(|run| run.size_bytes).sum();
        let records: u64 = of(RunOutcome::Loaded).map(|run| run.rows_rejected).sum();
        let failed: u64 = of(RunOutcome::Failed).map(|run| run.attempts).sum();
        let tile = |class: &str, name: &str, number: String, detail: String| {
            format!("<div class=\"tile {class}\"><b>{number}</b><span>{name}</span><small>{detail}</small></div>\n")
        };
        let parts = [
            tile("loaded", "files loaded", count(files(RunOutcome::Loaded)), bytes(size)),
            tile(
                "loaded",
                "rows loaded",
                count(rows(RunOutcome::Loaded)),
                format!("{} rejected", counted(records, "record")),
            ),
            tile(
                "fell_back",
                "files fell back",
                count(files(RunOutcome::FellBack)),
                counted(rows(RunOutcome::FellBack), "row"),
            ),
            tile("rejected", "files rejected", count(files(RunOutcome::Rejected)), "no row stored".to_owned()),
            tile("failed", "attempts failed", count(failed), counted(files(RunOutcome::Failed), "file")),
            tile("cost", "cost", dollars(cost), "of functions, tasks and S3".to_owned()),
        ];
        format!("<section class=\"tiles\">\n{}</section>\n", parts.concat())
    }

    fn charts(&self) -> String {
        let series = Series::of(self.runs);
        let mut charts = vec![
            Chart {
                title: format!("Files and failed attempts per {}", series.step_name()),
                layers: file_layers(&series),
                format: |value| count(rounded(value)),
            },
            Chart {
                title: format!("Rows per {}", series.step_name()),
                layers: vec![
                    Layer::new("loaded", "loaded", series.values(|bucket| number(bucket.rows_loaded))),
                    Layer::new("fell_back", "fell back", series.values(|bucket| number(bucket.rows_fell_back))),
                ],
                format: |value| count(rounded(value)),
            },
            Chart {
                title: "Rows per second of loads".to_owned(),
                layers: vec![Layer::new("loaded", "rows per second", series.values(series::Bucket::rows_per_second))],
                format: |value| count(rounded(value)),
            },
        ];
        let costs = series.values(|bucket| bucket.cost_usd);
        if costs.iter().any(|cost| *cost > 0.0) {
            charts.push(Chart {
                title: format!("Cost per {}", series.step_name()),
                layers: vec![Layer::new("cost", "US dollars", costs)],
                format: dollars,
            });
        }
        let charts: String = charts.iter().map(|chart| chart.html(&series.labels())).collect();
        format!("<section class=\"charts\">\n{charts}</section>\n")
    }
}

/// A layer of files for each outcome.
fn file_layers(series: &Series) -> Vec<Layer> {
    let names = [
        (RunOutcome::Loaded, "loaded"),
        (RunOutcome::Duplicate, "duplicate"),
        (RunOutcome::Superseded, "superseded"),
        (RunOutcome::FellBack, "fell back"),
        (RunOutcome::Rejected, "rejected"),
        (RunOutcome::Failed, "failed"),
    ];
    let layer = |(outcome, name): (RunOutcome, _)| {
        Layer::new(outcome.name(), name, series.values(|bucket| bucket.files(outcome)))
    };
    names.into_iter().map(layer).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a chart shows three digits")]
fn number(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a chart has no negative values")]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}
