//! A plan as text.

use spillway_core::destination::{OperationCounts, Product};
use spillway_core::plan::{
    CsvPlan, DatabaseUse, DeletesPlan, FormatPlan, Plan, PlannedOutcome, RejectedRecord, RoutePlan, TablePlan,
    ValuesPlan,
};

use crate::numbers::{count, counted};
use crate::output::{Style, Styles};
use crate::table::{Align, Table, bytes, printable};

/// How most files write a quote in a field.
const DOUBLED_QUOTES: &str = "doubled quotes";

/// The plan as text, in the order of a load.
pub(super) fn text(plan: &Plan, database: DatabaseUse, styles: Styles) -> String {
    let mut text = heading(plan, styles);
    if let Some(format) = &plan.format {
        text += &line("format", &describe_format(format));
        if let Some(csv) = &format.csv {
            text += &line("dialect", &describe_csv(csv));
        }
    }
    if plan.decoded_bytes.is_some() {
        text += &line("rows", &rows(plan));
    }
    text += &columns(plan, styles);
    let bad = counted(plan.rejects.count, "bad record");
    text += &records(&bad, &plan.rejects.first, plan.rejects.count);
    if let Some(table) = &plan.table {
        text += &describe_table(table, database, styles);
    }
    if let Some(hint) = &plan.hint {
        text += &format!("\n{}", line("hint", &printable(hint)));
    }
    text += &plan.values.as_ref().map(values).unwrap_or_default();
    if let Some(route) = &plan.route {
        text += &format!("\n{}", line("stack", &describe_route(route)));
    }
    text + &outcome(plan, styles)
}

fn heading(plan: &Plan, styles: Styles) -> String {
    format!("{}  {}\n", styles.paint(Style::Bold, &printable(&plan.file)), bytes(plan.size_bytes))
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<9}{value}\n")
}

fn describe_format(format: &FormatPlan) -> String {
    let mut parts = vec![format!("{} ({})", format.name, printable(&format.decided_by))];
    parts.extend(format.compression.map(|compression| format!("compressed with {compression}")));
    parts.extend(format.encoding.map(str::to_owned));
    parts.join(", ")
}

fn describe_csv(csv: &CsvPlan) -> String {
    let quoted = |text: &str| if text.chars().count() == 1 { format!("'{text}'") } else { text.to_owned() };
    let mut parts = vec![format!("delimiter {} ({})", quoted(&csv.delimiter), csv.delimiter_decided_by)];
    if csv.quote == "none" {
        parts.push("no quotes".to_owned());
    } else {
        parts.push(format!("quote {}", quoted(&csv.quote)));
        if csv.escape != DOUBLED_QUOTES {
            parts.push(format!("escape {} ({})", quoted(&csv.escape), csv.escape_decided_by));
        }
    }
    parts.push(if csv.has_header { "header".to_owned() } else { "no header".to_owned() });
    parts.extend(
        csv.skipped_lines
            .filter(|lines| *lines > 0)
            .map(|lines| format!("{} above it skipped", counted(lines as u64, "line"))),
    );
    if csv.has_trailing_delimiter {
        parts.push("a delimiter at the end of each record".to_owned());
    }
    parts.join(", ")
}

fn rows(plan: &Plan) -> String {
    let decoded = plan.decoded_bytes.filter(|decoded| *decoded != plan.size_bytes);
    let size = decoded.map(|decoded| format!(", {} decompressed", bytes(decoded))).unwrap_or_default();
    match plan.rows_rejected {
        0 => format!("{}{size}", count(plan.rows_parsed)),
        rejected => format!("{}, {} of them rejected{size}", count(plan.rows_parsed), count(rejected)),
    }
}

fn columns(plan: &Plan, styles: Styles) -> String {
    if plan.columns.is_empty() {
        return String::new();
    }
    let heading = [
        ("column", Align::Left),
        ("type", Align::Left),
        ("nulls", Align::Left),
        ("in the table", Align::Left),
        ("why", Align::Left),
    ];
    let mut table = Table::new(&heading);
    for column in &plan.columns {
        let stored = match (&column.table_column, &column.table_type) {
            (Some(name), Some(kind)) if *name == column.name => kind.clone(),
            (Some(name), Some(kind)) => format!("{name} {kind}"),
            (_, _) => "-".to_owned(),
        };
        let nulls = if column.has_nulls { "yes" } else { "no" };
        table.row(vec![
            column.name.clone(),
            column.column_type.clone(),
            nulls.to_owned(),
            stored,
            column.reason.clone(),
        ]);
    }
    format!("\n{}", indented(&table.text(styles)))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

fn describe_table(table: &TablePlan, database: DatabaseUse, styles: Styles) -> String {
    let state = match (database, table.exists) {
        (_, None) => "not needed: the file has no columns".to_owned(),
        (DatabaseUse::None(product), _) => format!("new, for {}", name_of(product)),
        (DatabaseUse::Live, Some(false)) => "new".to_owned(),
        (DatabaseUse::Live, Some(true)) => format!("exists and {}", change_of(table)),
    };
    let name = styles.paint(Style::Bold, &printable(&table.name));
    let mut text = format!("\n  table {name}: {state}; load mode {}\n", table.load_mode);
    for sql in &table.sql {
        text += &format!("    {};\n", printable(sql));
    }
    if !table.ignored_columns.is_empty() {
        text += &format!("    not loaded: {}\n", printable(&table.ignored_columns.join(", ")));
    }
    text + &describe_changes(table)
}

/// What the load mode does to the rows of the table, and what the plan does not predict of it.
fn describe_changes(table: &TablePlan) -> String {
    let mut text = String::new();
    if let Some(OperationCounts { stores, updates, deletes }) = table.operations {
        let (stores, updates, deletes) = (count(stores), count(updates), count(deletes));
        text += &format!("    operations: {stores} insert, {updates} update, {deletes} delete\n");
    }
    if let Some(DeletesPlan { table_rows, at_least, allowed }) = table.deletes {
        let (rows, allowed) = (counted(table_rows, "row"), count(allowed));
        let limit = format!("at most {allowed} may be deleted (MIRROR_MAX_DELETES)");
        text += &match at_least {
            0 => format!("    the table has {rows}; {limit}\n"),
            at_least => format!("    deletes at least {} of {rows}; {limit}\n", count(at_least)),
        };
    }
    for not_checked in &table.not_checked {
        text += &format!("    not checked: {not_checked}\n");
    }
    text
}

/// The change of an existing table.
fn change_of(table: &TablePlan) -> &'static str {
    match (table.wider_columns.len(), table.sql.len()) {
        (_, 0) => "has every column",
        (0, _) => "gets new columns",
        (wider, all) if wider == all => "gets wider columns",
        (_, _) => "gets wider and new columns",
    }
}

fn name_of(product: Product) -> &'static str {
    match product {
        Product::MySql => "MySQL",
        Product::MariaDb => "MariaDB",
        Product::Postgres => "PostgreSQL",
    }
}

fn values(values: &ValuesPlan) -> String {
    if values.values == 0 {
        return String::new();
    }
    let by_column = values.by_column.iter().map(|(column, number)| format!("{} {}", printable(column), count(*number)));
    let by_column: Vec<String> = by_column.collect();
    let noun = if values.values == 1 { "value that does not fit" } else { "values that do not fit" };
    let heading =
        format!("{} {noun}, in {} ({})", count(values.values), counted(values.rows, "record"), by_column.join(", "));
    records(&heading, &values.first, values.values)
}

/// A heading and the first records of a list, by position.
fn records(heading: &str, first: &[RejectedRecord], all: u64) -> String {
    if all == 0 {
        return String::new();
    }
    let mut text = format!("\n  {heading}\n");
    for record in first {
        let column = record.column.as_ref().map(|column| format!(", column {}", printable(column))).unwrap_or_default();
        let line = if record.line == 0 { String::new() } else { format!(", line {}", count(record.line)) };
        text += &format!("    record {}{line}{column}: {}\n", count(record.record), printable(&record.reason));
    }
    if all > first.len() as u64 {
        text += &format!("    and {} more\n", count(all - first.len() as u64));
    }
    text
}

fn describe_route(route: &RoutePlan) -> String {
    if let Some(why) = &route.skipped {
        return format!("an event about the object is ignored: {}", printable(why));
    }
    let process = if route.process == "task" { "a Fargate task" } else { "the trigger function" };
    let (seconds, dollars) = (route.expected_seconds, route.expected_cost_usd);
    format!("{process} loads it in roughly {seconds} s for roughly ${dollars:.5}")
}

fn outcome(plan: &Plan, styles: Styles) -> String {
    // A row of a file of changes may delete a row.
    let noun = if plan.table.as_ref().is_some_and(|table| table.load_mode == "changes") { "change" } else { "row" };
    let stored = counted(plan.rows_parsed - plan.rows_rejected, noun);
    let (style, text) = match plan.outcome {
        PlannedOutcome::Loaded => (Style::Good, format!("would load {stored}")),
        PlannedOutcome::AlreadyLoaded => {
            let mode =
                plan.earlier_load_mode.as_ref().map(|mode| format!(", with LOAD_MODE={mode}")).unwrap_or_default();
            (Style::Good, format!("would load nothing: the file was loaded before{mode}"))
        }
        PlannedOutcome::Superseded => {
            (Style::Good, "would load nothing: a newer file has replaced the table".to_owned())
        }
        PlannedOutcome::Rejected => (Style::Bad, "would be rejected".to_owned()),
        PlannedOutcome::FellBack => (Style::Bad, "would fall back: its rows would be written to S3".to_owned()),
        PlannedOutcome::Failed => (Style::Bad, "would not load".to_owned()),
    };
    let why = plan.error.as_ref().map(|error| format!(": {}", printable(&error.message))).unwrap_or_default();
    format!("\n{}{why}\n", styles.paint(style, &text))
}
