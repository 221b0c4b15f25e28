//! The tables of the page.

use spillway_core::destination::Run;

use super::groups::{self, ByKey, TableSums};
use super::text::{dollars, escaped, minute};
use crate::numbers::count;
use crate::table::{bytes, duration};

/// Number of rows of each table.
const MAX_ROWS: usize = 25;

/// The tables: by table, reasons, slowest files.
pub(super) fn html(runs: &[Run]) -> String {
    [by_table(runs), reasons(runs), slowest(runs)].concat()
}

/// A column: its heading, and its class: plain text, long text that may be broken anywhere, or numbers.
type Column = (&'static str, &'static str);
const TEXT: &str = "";
const LONG: &str = " class=\"long\"";
const NUMBER: &str = " class=\"number\"";

fn table(title: &str, columns: &[Column], rows: &[Vec<String>], total: usize) -> String {
    let headings: String =
        columns.iter().map(|(name, class)| format!("<th scope=\"col\"{class}>{name}</th>")).collect();
    let row = |cells: &Vec<String>| {
        // Narrow screens show the label beside the cell, in place of the heading above it.
        let cell = |(cell, (name, class)): (&String, &Column)| format!("<td{class} data-label=\"{name}\">{cell}</td>");
        let cells: String = cells.iter().zip(columns).map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let more = match total.saturating_sub(rows.len()) {
        0 => String::new(),
        more => format!("<p class=\"more\">and {} more</p>\n", count(more as u64)),
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<section>\n<h2>{title}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{headings}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n{more}</section>\n"
    )
}

/// A text from the ledger. Its direction does not affect the text around it.
fn text(text: &str) -> String {
    format!("<bdi>{}</bdi>", escaped(text))
}

/// A number; empty for zero.
fn some(number: u64) -> String {
    if number == 0 { String::new() } else { count(number) }
}

fn rate(rows: u64, milliseconds: u64) -> String {
    rows.saturating_mul(1000).checked_div(milliseconds).map_or_else(String::new, count)
}

fn by_table(runs: &[Run]) -> String {
    let tables = groups::tables(runs);
    let has_keys = tables.iter().any(|(_, sums)| sums.by_key.loads > 0);
    let row = |(name, sums): &(&str, TableSums<'_>)| {
        let modes: Vec<&str> = sums.load_modes.iter().copied().collect();
        let mut cells = vec![
            if name.is_empty() { "(none)".to_owned() } else { text(name) },
            text(&modes.join(", ")),
            some(sums.loaded),
            some(sums.rows),
        ];
        cells.extend(if has_keys { by_key(&sums.by_key) } else { Vec::new() });
        cells.extend([
            some(sums.rows_rejected),
            if sums.size_bytes == 0 { String::new() } else { bytes(sums.size_bytes) },
            rate(sums.rows, sums.load_ms),
            some(sums.fell_back),
            some(sums.rejected),
            some(sums.failed),
            if sums.cost_usd > 0.0 { dollars(sums.cost_usd) } else { String::new() },
        ]);
        cells
    };
    let rows: Vec<Vec<String>> = tables.iter().take(MAX_ROWS).map(row).collect();
    let mut columns = vec![("table", TEXT), ("mode", TEXT), ("loaded", NUMBER), ("rows", NUMBER)];
    if has_keys {
        columns.extend(["inserted", "updated", "unchanged", "deleted"].map(|name| (name, NUMBER)));
    }
    columns.extend(
        ["rejected records", "size", "rows/s", "fell back", "rejected", "failed", "cost"].map(|name| (name, NUMBER)),
    );
    table("Tables", &columns, &rows, tables.len())
}

/// The rows by key: inserted, updated, unchanged, deleted. Empty for a table without such loads.
fn by_key(sums: &ByKey) -> Vec<String> {
    let numbers = [sums.inserted, sums.updated, sums.unchanged, sums.deleted];
    numbers.map(|number| if sums.loads == 0 { String::new() } else { count(number) }).into()
}

fn reasons(runs: &[Run]) -> String {
    let groups = groups::reasons(runs);
    if groups.is_empty() {
        return "<section>\n<h2>Not loaded</h2>\n<p class=\"empty\">none</p>\n</section>\n".to_owned();
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .take(MAX_ROWS)
        .map(|group| {
            vec![
                format!(
                    "<span class=\"key {}\">{}</span>",
                    group.outcome.name(),
                    group.outcome.name().replace('_', " ")
                ),
                text(&group.table),
                text(&group.kind),
                count(group.count),
                some(group.rows),
                format!("{}<br><small>{}</small>", text(&group.reason), text(&group.key)),
            ]
        })
        .collect();
    let columns = [
        ("outcome", TEXT),
        ("table", TEXT),
        ("kind", TEXT),
        ("count", NUMBER),
        ("rows", NUMBER),
        ("newest reason and file", LONG),
    ];
    table("Not loaded", &columns, &rows, groups.len())
}

fn slowest(runs: &[Run]) -> String {
    let slowest = groups::slowest(runs, MAX_ROWS);
    let rows: Vec<Vec<String>> = slowest
        .iter()
        .map(|run| {
            let elapsed_ms = run.elapsed_ms.unwrap_or(0);
            vec![
                text(&run.key),
                text(&run.table),
                text(run.load.load_mode.as_deref().unwrap_or_default()),
                duration(elapsed_ms),
                some(run.rows_stored),
                rate(run.rows_stored, elapsed_ms),
                bytes(run.size_bytes),
                minute(run.started_at),
            ]
        })
        .collect();
    let columns = [
        ("file", LONG),
        ("table", TEXT),
        ("mode", TEXT),
        ("time", NUMBER),
        ("rows", NUMBER),
        ("rows/s", NUMBER),
        ("size", NUMBER),
        ("started", TEXT),
    ];
    table("Slowest files", &columns, &rows, rows.len())
}
