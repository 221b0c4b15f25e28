//! Prints the reports of a request that processed objects.

use serde::Deserialize;
use serde_json::Value;
use spillway_core::destination::LoadDetails;
use spillway_core::error::ErrorKind;
use spillway_core::report::Outcome;

use crate::exit::Exit;
use crate::json::{list, text};
use crate::numbers::{count, counted};
use crate::output::Style;
use crate::request::FAILURES;
use crate::row_counts;
use crate::session::Session;
use crate::table::{Align, Table, bytes, duration};

/// Prints the reports and what was not done, and returns the exit code.
pub(crate) fn print(session: &Session, body: &Value) -> Exit {
    let reports = body["reports"].as_array().map(Vec::as_slice).unwrap_or_default();
    session.output.result(body, |styles| {
        let mut table = Table::new(&[
            ("outcome", Align::Left),
            ("table", Align::Left),
            ("rows", Align::Right),
            ("rejected", Align::Right),
            ("size", Align::Right),
            ("time", Align::Right),
            ("key", Align::Left),
        ]);
        for report in reports {
            let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let number = |name: &str| report[name].as_u64().unwrap_or_default();
            table.row(vec![
                name(&report["outcome"]),
                name(&report["table"]),
                count(number("rows_stored")),
                count(number("rows_rejected")),
                bytes(number("size_bytes")),
                duration(number("elapsed_ms")),
                name(&report["object"]["key"]),
            ]);
            table.paint(0, style(report));
            let load = LoadDetails::deserialize(report).unwrap_or_default();
            if let Some(counts) = row_counts::by_key(&load, number("rows_stored")) {
                table.below(&counts);
            }
            for reason in [&report["reason"], &report["catalog_problem"]].into_iter().filter_map(Value::as_str) {
                table.below(reason);
            }
        }
        if reports.is_empty() { "no files to process\n".to_owned() } else { table.text(styles) }
    });
    if let Some(postponed) = body["postponed"].as_object() {
        let reason = postponed["reason"].as_str().unwrap_or_default();
        session.output.note(&format!(
            "postponed: {} not replayed, because {reason}",
            counted(postponed["files"].as_u64().unwrap_or(0), "file")
        ));
        return Exit::NeedsAttention;
    }
    let mut exit = reports.iter().map(exit_of).fold(Exit::Done, Exit::and);
    for failure in list(&body[FAILURES]) {
        session.output.error_message(failure["message"].as_str().unwrap_or_default());
        exit = exit.and(match failure["kind"] == ErrorKind::Interrupted.name() {
            true => Exit::Interrupted,
            false => Exit::Failed,
        });
    }
    for item in list(&body["not_done"]) {
        session.output.note(&format!("not done: {}: {}", text(&item["what"]), text(&item["reason"])));
        exit = exit.and(Exit::NeedsAttention);
    }
    exit
}

/// The exit code for a report. That of another version of Spillway may have an unknown outcome.
fn exit_of(report: &Value) -> Exit {
    match Outcome::deserialize(&report["outcome"]) {
        Ok(outcome) => Exit::of_outcome(outcome, report["needs_attention"] == true),
        Err(_) => Exit::NeedsAttention,
    }
}

fn style(report: &Value) -> Style {
    match report["outcome"].as_str().unwrap_or_default() {
        _ if report["needs_attention"] == true => Style::Bad,
        "loaded" | "already_loaded" | "replayed" => Style::Good,
        "fell_back" => Style::Warning,
        "rejected" => Style::Bad,
        _ => Style::Dim,
    }
}
