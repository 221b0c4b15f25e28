//! A comparison as text.

use spillway_core::exports::{Change, ExportSummary, Operation, SchemaChanges, Summary, Value};

use crate::numbers::{count, counted};
use crate::output::{Style, Styles};
use crate::table::{bytes, printable};

/// The most characters of a value that are shown.
const MAX_VALUE: usize = 60;

/// The summary.
pub(super) fn summary(summary: &Summary, styles: Styles) -> String {
    let counts = &summary.counts;
    let mut text = summary.old.as_ref().map(|old| export(old, styles)).unwrap_or_default();
    text += &export(&summary.new, styles);
    text += &line("key", &printable(&summary.key.join(", ")));
    text += &line("inserted", &count(counts.inserted));
    let by_column = counts.updated_by_column.iter();
    let by_column: Vec<String> =
        by_column.map(|(column, updates)| format!("{} {}", printable(column), count(*updates))).collect();
    let by_column = if by_column.is_empty() { String::new() } else { format!(" ({})", by_column.join(", ")) };
    text += &line("updated", &format!("{}{by_column}", count(counts.updated)));
    text += &line("deleted", &count(counts.deleted));
    text += &line("unchanged", &count(counts.unchanged));
    text += &schema_changes(&summary.schema_changes);
    let result = match (summary.is_equal(), counts.changes()) {
        (true, _) => styles.paint(Style::Good, "the exports are equal"),
        (false, 0) if summary.old.is_some() => styles.paint(Style::Warning, "the rows are equal in the common columns"),
        (false, changes) => styles.paint(Style::Bold, &counted(changes, "change")),
    };
    format!("{text}\n{result}\n")
}

fn export(export: &ExportSummary, styles: Styles) -> String {
    let name = styles.paint(Style::Bold, &printable(&export.file));
    format!("{name}  {}, {}\n", bytes(export.size_bytes), counted(export.rows, "row"))
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<10}{value}\n")
}

fn schema_changes(changes: &SchemaChanges) -> String {
    let names = |names: &[String]| printable(&names.join(", "));
    let mut text = String::new();
    if !changes.added.is_empty() {
        text += &line("columns", &format!("new: {}", names(&changes.added)));
    }
    if !changes.removed.is_empty() {
        text += &line("columns", &format!("missing: {}", names(&changes.removed)));
    }
    text
}

/// A change in one line.
pub(super) fn change(change: &Change<'_>) -> String {
    let key = change.key();
    let key_text: Vec<String> =
        key.iter().map(|(name, value)| format!("{}={}", printable(name), shown(*value))).collect();
    let row = |row: Option<Vec<(&str, Value<'_>)>>| {
        let fields = row.unwrap_or_default().into_iter();
        fields.map(|(name, value)| format!("{}={}", printable(name), shown(value))).collect::<Vec<_>>().join(" ")
    };
    let (mark, fields) = match change.operation {
        Operation::Create => ('+', row(change.values_after())),
        Operation::Delete => ('-', row(change.values_before())),
        Operation::Update => {
            let update = |(name, before, after): (&str, Value<'_>, Value<'_>)| {
                format!("{}={} -> {}", printable(name), shown(before), shown(after))
            };
            ('~', change.updates().into_iter().map(update).collect::<Vec<_>>().join(" "))
        }
    };
    format!("  {mark} {}: {fields}\n", key_text.join(" "))
}

/// A value in quotes, or NULL.
fn shown(value: Value<'_>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(MAX_VALUE) {
        None => format!("\"{}\"", printable(&text)),
        Some((end, _)) => format!("\"{}...\"", printable(&text[..end])),
    }
}
