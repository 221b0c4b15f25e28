//! `spillway sync`: loads the files of a time window, from the watermark of each table on.

use clap::Args;
use serde_json::{Value, json};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::request::time;

use crate::commands::reports;
use crate::exit::Exit;
use crate::numbers::counted;
use crate::request::RequestOptions;
use crate::session::Session;
use crate::table::printable;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The table; without it, every table with AFTER_LOAD=keep
    #[arg(value_name = "TABLE")]
    table: Option<String>,
    /// Only files from this time on, instead of from the watermark; a date or a timestamp
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only files before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    options: RequestOptions,
}

impl Arguments {
    /// Fails unless the window consists of times in their order.
    fn check_window(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::EventInvalid, message).with_advice());
        if self.options.database.url().is_some_and(|url| time("--to", url).is_ok()) {
            return invalid("--to names the database; write --until for the end of the time window");
        }
        let from = self.from.as_deref().map(|from| time("--from", from)).transpose()?;
        let until = self.until.as_deref().map(|until| time("--until", until)).transpose()?;
        match from.zip(until) {
            Some((from, until)) if from >= until => invalid("--from must be before --until"),
            Some(_) | None => Ok(()),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    arguments.check_window()?;
    let sync = json!({"table": arguments.table, "start_ts": arguments.from, "end_ts": arguments.until});
    let body = arguments.options.send(session, json!({"sync": sync})).await?;
    let exit = reports::print(session, &body);
    let tables = body["sync"]["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for table in tables {
        session.output.note(&line(table));
    }
    if tables.is_empty() {
        session.output.note("found no table to sync");
    }
    match tables.iter().all(is_complete) {
        true => Ok(exit),
        false => Ok(exit.and(Exit::NeedsAttention)),
    }
}

/// Whether no file of a table remains.
fn is_complete(table: &Value) -> bool {
    table["remaining"] == 0
}

/// The result of a table, in one line.
fn line(table: &Value) -> String {
    let text = |name: &str| table[name].as_str().map(printable);
    let number = |name: &str| table[name].as_u64().unwrap_or_default();
    let name = text("table").unwrap_or_default();
    let Some(remaining) = table["remaining"].as_u64() else { return format!("{name}: no time was left") };
    let window = match (text("from"), text("to")) {
        (None, None) => "all files".to_owned(),
        (Some(from), None) => format!("from {from}"),
        (None, Some(to)) => format!("before {to}"),
        (Some(from), Some(to)) => format!("from {from} to {to}"),
    };
    let watermark = text("watermark").map(|time| format!("; watermark {time}")).unwrap_or_default();
    let (files, done) = (counted(number("files"), "file"), number("done"));
    let unmatched = match number("unmatched") {
        0 => String::new(),
        unmatched => format!(", {unmatched} that no pattern matches"),
    };
    format!("{name}: {window}: {files}, {done} done before, {remaining} remaining{unmatched}{watermark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_window_counts_and_watermark() {
        let first = json!({"table": "orders", "files": 1, "done": 0, "remaining": 1});
        assert_eq!(line(&first), "orders: all files: 1 file, 0 done before, 1 remaining");
        let next = json!({
            "table": "orders", "from": "2026-11-19T08:00:00Z", "files": 3, "done": 3, "remaining": 0,
            "watermark": "2026-11-22T09:00:00Z",
        });
        let expected =
            "orders: from 2026-11-19T08:00:00Z: 3 files, 3 done before, 0 remaining; watermark 2026-11-22T09:00:00Z";
        assert_eq!(line(&next), expected);
        assert_eq!(line(&json!({"table": "orders", "remaining": null})), "orders: no time was left");
        let others = json!({"table": "orders", "files": 1, "done": 1, "remaining": 0, "unmatched": 2});
        let expected = "orders: all files: 1 file, 1 done before, 0 remaining, 2 that no pattern matches";
        assert_eq!(line(&others), expected);
    }

    #[test]
    fn table_with_remaining_files_is_not_complete() {
        assert!(is_complete(&json!({"remaining": 0})));
        assert!(!is_complete(&json!({"remaining": 2})) && !is_complete(&json!({"remaining": null})));
    }
}
