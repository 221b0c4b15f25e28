//! `spillway status`: what waits, or where a file is and why.

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use spillway_core::destination::LoadDetails;
use spillway_core::error::{Error, ErrorKind, Result};

use crate::database::DatabaseOptions;
use crate::exit::Exit;
use crate::file_name::{bucket_and_key, shell_word};
use crate::json::{list, text};
use crate::numbers::counted;
use crate::output::{Style, Styles};
use crate::request::{Needs, Target, send_reading, with_database};
use crate::row_counts;
use crate::session::Session;
use crate::table::{Align, Table, bytes, duration, printable};

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The key that a file was uploaded to, or s3://bucket/key; without it, what waits
    #[arg(value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    database: DatabaseOptions,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let environment = with_database(session, &arguments.target, &arguments.database)?;
    let (bucket, key) = arguments.key.as_deref().map(bucket_and_key).unzip();
    let target = arguments.target.in_bucket(bucket.flatten());
    let request = json!({"status": {"key": key}});
    if let (Some(key), false) = (&arguments.key, target.names_bucket(&environment)?) {
        let message = format!(
            "no option or setting names the bucket of an object; use --bucket NAME or the setting S3_BUCKET. For a local file, use \
             spillway runs show {} with the same options",
            shell_word(key)
        );
        return Err(Error::new(ErrorKind::Settings, printable(&message)).with_advice());
    }
    let body = send_reading(&environment, &target, Needs::BucketAndDatabase, request).await?;
    let status = &body["status"];
    session.output.result(status, |styles| match arguments.key {
        Some(_) => of_file(status, styles),
        None => of_backlog(status, styles),
    });
    let needs_attention = match arguments.key {
        Some(_) => {
            let has_no_row = status["ledger"]["error"].is_null() && list(&status["ledger"]["rows"]).is_empty();
            match status["state"].as_str() {
                // Without the ledger, the other places do not show everything.
                _ if status["ledger"]["error"].is_string() => true,
                Some("fell_back" | "rejected" | "unknown") => true,
                // It may have been loaded into another database.
                Some("loaded") => has_no_row,
                _ => false,
            }
        }
        None => status["database"]["available"] == false,
    };
    Ok(if needs_attention { Exit::NeedsAttention } else { Exit::Done })
}

fn of_backlog(status: &Value, styles: Styles) -> String {
    let mut lines = String::new();
    let database = match status["database"]["available"] == true {
        true => styles.paint(Style::Good, "available"),
        false => styles.paint(Style::Bad, &format!("not available: {}", text(&status["database"]["reason"]))),
    };
    lines.push_str(&format!("database  {database}\n"));
    let waiting = &status["waiting"];
    let oldest = match waiting["oldest"]["key"].is_string() {
        true => format!(
            "; the oldest is {}, uploaded {} ago",
            text(&waiting["oldest"]["key"]),
            duration(waiting["oldest"]["age_seconds"].as_u64().unwrap_or(0) * 1000)
        ),
        false => String::new(),
    };
    lines.push_str(&format!("waiting   {}{oldest}\n", number(&waiting["files"], "file")));
    for table in list(&status["fallback"]) {
        let age = duration(table["oldest_age_seconds"].as_u64().unwrap_or(0) * 1000);
        let line = format!(
            "{}: {}, {}, the oldest {age} old",
            text(&table["table"]),
            number(&table["files"], "file"),
            number(&table["rows"], "row")
        );
        lines.push_str(&format!("fallback  {}\n", styles.paint(Style::Warning, &line)));
    }
    if list(&status["fallback"]).is_empty() {
        lines.push_str("fallback  empty\n");
    }
    for lease in list(&status["leases"]) {
        lines.push_str(&format!("loading   {}, by {}\n", text(&lease["key"]), text(&lease["worker"])));
    }
    for sync in list(&status["syncs"]) {
        lines.push_str(&format!("sync      {}\n", of_sync(sync)));
    }
    lines
}

/// The last sync of a table, and its watermark.
fn of_sync(sync: &Value) -> String {
    let watermark = sync["watermark"].as_str().map_or_else(|| "none".to_owned(), printable);
    let (files, remaining) = (number(&sync["files"], "file"), sync["remaining"].as_u64().unwrap_or(0));
    let (table, started, ended) = (text(&sync["table"]), text(&sync["started_at"]), text(&sync["ended_at"]));
    let has_ended = match (started.parse::<Timestamp>(), ended.parse::<Timestamp>()) {
        (Ok(started), Ok(ended)) => started < ended,
        _ => true,
    };
    if !has_ended {
        return format!("{table}: watermark {watermark}; the last sync started at {started} and has not ended");
    }
    format!("{table}: watermark {watermark}; the last sync ended at {ended}: {files}, {remaining} remaining")
}

/// A count of a response, with its noun.
fn number(value: &Value, noun: &str) -> String {
    counted(value.as_u64().unwrap_or(0), noun)
}

fn of_file(status: &Value, styles: Styles) -> String {
    let state = text(&status["state"]);
    let style = match state.as_str() {
        "loaded" => Style::Good,
        "waiting" | "loading" => Style::Bold,
        "fell_back" => Style::Warning,
        _ => Style::Bad,
    };
    let mut lines = format!("{}  {}\n", styles.paint(style, &state), text(&status["key"]));
    lines.push_str(&format!("{}\n", text(&status["explanation"])));
    let object = &status["object"];
    if object.is_object() {
        lines.push_str(&format!("object    {}\n", stored(object)));
    }
    let run = &status["glue_run"];
    if run.is_object() {
        let since = run["started_at"].as_str().map(|time| format!(" since {}", printable(time))).unwrap_or_default();
        let state = run["state"].as_str().map_or_else(|| "unknown".to_owned(), printable);
        lines.push_str(&format!("Glue run  {} of the job {}{since}: {state}\n", text(&run["run"]), text(&run["job"])));
    }
    for moved in list(&status["moved"]) {
        lines.push_str(&format!("moved to  {}\n", stored(moved)));
    }
    let fallback = &status["fallback"];
    if fallback.is_object() {
        let rows = counted(fallback["rows"].as_u64().unwrap_or(0), "row");
        lines.push_str(&format!("fallback  {rows} for {}\n", text(&fallback["table"])));
    }
    for rejects in list(&status["rejects"]) {
        lines.push_str(&format!("rejects   {}\n", stored(rejects)));
    }
    for row in list(&status["ledger"]["rows"]) {
        if row["table_changes"].is_string() {
            lines.push_str(&format!("table     {}\n", text(&row["table_changes"])));
        }
        let load = LoadDetails::deserialize(row).unwrap_or_default();
        if let Some(counts) = row_counts::rows_by_key(&load, row["rows_stored"].as_u64().unwrap_or(0)) {
            lines.push_str(&format!("{:<10}{counts}\n", load.load_mode.as_deref().map(printable).unwrap_or_default()));
        }
    }
    if let Some(error) = status["ledger"]["error"].as_str() {
        lines.push_str(&format!("ledger    {}\n", styles.paint(Style::Bad, &printable(error))));
    }
    lines + &attempts(status, styles)
}

fn attempts(status: &Value, styles: Styles) -> String {
    let attempts = list(&status["attempts"]);
    if attempts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("attempt started", Align::Left),
        ("outcome", Align::Left),
        ("count", Align::Right),
        ("rows", Align::Right),
        ("id", Align::Left),
    ]);
    for run in attempts {
        let started = text(&run["started_at"]);
        table.row(vec![
            started.split('.').next().unwrap_or_default().to_owned(),
            text(&run["outcome"]),
            run["attempts"].to_string(),
            run["rows_stored"].to_string(),
            text(&run["source_id"]).get(..16).unwrap_or_default().to_owned(),
        ]);
        if let Some(reason) = run["reason"].as_str() {
            table.below(reason);
        }
    }
    format!("\n{}", table.text(styles))
}

/// An object: its key, size and time.
fn stored(object: &Value) -> String {
    let size = bytes(object["size_bytes"].as_u64().unwrap_or(0));
    format!("{} ({size}, {})", text(&object["key"]), text(&object["last_modified"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_sync_has_ended_or_not() {
        let mut sync = json!({
            "table": "orders", "started_at": "2026-11-20T08:00:00Z", "ended_at": "2026-11-20T08:00:00.5Z", "files": 2,
            "remaining": 1,
        });
        let ended = "orders: watermark none; the last sync ended at 2026-11-20T08:00:00.5Z: 2 files, 1 remaining";
        assert_eq!(of_sync(&sync), ended);
        sync["started_at"] = json!("2026-11-20T09:00:00Z");
        let started = "orders: watermark none; the last sync started at 2026-11-20T09:00:00Z and has not ended";
        assert_eq!(of_sync(&sync), started);
    }
}
