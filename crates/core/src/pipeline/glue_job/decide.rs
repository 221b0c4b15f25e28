//! Decides whether the Glue job can load a file. Each reason is the end of a sentence for the report and the log.
//!
//! The job has fewer settings and types than Spillway (`docs/tiers.md`). It checks its plan itself, and refuses a file that this
//! module let through by mistake. Then the task loads it.

use crate::destination::{LoadMode, Output};
use crate::object::ObjectVersion;
use crate::pipeline::{AfterLoad, TableConfig};
use crate::plan::Plan;
use crate::reader::{ScanResult, ShapeContents};
use spillway_formats::csv::{BlankRecords, CsvDialect, ExtraField, RepeatedHeaders, ShortRecords};
use spillway_formats::decoder::Layout;
use spillway_formats::detect::looks_compressed;
use spillway_formats::json::JsonOptions;
use spillway_formats::numbers::counted;

/// The encoding that the job reads, as plans name it.
const UTF_8: &str = "UTF-8";

/// Returns why the job cannot load a file with these settings, before it is read.
pub(super) fn check_settings(config: &TableConfig, source: &ObjectVersion) -> Result<(), String> {
    let (csv, key) = (&config.files.csv, &source.object.key);
    let has_csv_settings = csv.null_values.is_some()
        || csv.blank_records != BlankRecords::Keep
        || csv.short_records != ShortRecords::Refuse
        || csv.repeated_headers != RepeatedHeaders::Keep
        || csv.skip_footer_lines > 0
        || csv.comment.is_some();
    for (is_set, why) in [
        (config.destination.load_mode != LoadMode::Append, "it only appends rows, and LOAD_MODE is another one"),
        (config.destination.output != Output::Database, "it writes no lake, and OUTPUT asks for one"),
        (config.after_load == AfterLoad::Keep, "AFTER_LOAD is keep"),
        (config.files.limits.rejects.is_on(), "it does not know MAX_REJECTS"),
        (!config.key_columns.is_empty(), "it does not know KEY_COLUMNS"),
        (!config.files.columns.is_empty(), "it does not know the rules for columns in the table settings"),
        (has_csv_settings, "it does not know NULL_VALUES and the CSV settings for lines and records"),
        (config.files.json != JsonOptions::default(), "it does not know the JSON settings"),
        (looks_compressed(key, source.content_encoding.as_deref()), "a compressed file cannot be divided"),
    ] {
        if is_set {
            return Err(why.to_owned());
        }
    }
    Ok(())
}

/// Returns why the job cannot load a file that was read.
pub(super) fn check_scan(plan: &Plan, scan: &ScanResult) -> Result<(), String> {
    if plan.rows_rejected > 0 {
        return Err("the file has bad records".to_owned());
    }
    if plan.rows_parsed == 0 {
        return Err("the file has no rows".to_owned());
    }
    if plan.format.as_ref().is_some_and(|format| format.compression.is_some()) {
        return Err("a compressed file cannot be divided".to_owned());
    }
    if let Some(column) = plan.columns.iter().find(|column| column.column_type == "json") {
        return Err(format!("column \"{}\" has nested values", column.name));
    }
    check_shape(plan, scan)?;
    check_table(plan)
}

fn check_table(plan: &Plan) -> Result<(), String> {
    let Some(table) = plan.table.as_ref().filter(|table| table.exists == Some(true)) else {
        return Err("the table does not exist yet".to_owned());
    };
    if !table.sql.is_empty() || !table.ignored_columns.is_empty() {
        return Err(format!("the table {} lacks columns or types of the file", table.name));
    }
    Ok(())
}

/// Checks that each record is one line, or a row of Parquet, that Spark reads in the same way.
fn check_shape(plan: &Plan, scan: &ScanResult) -> Result<(), String> {
    let text = match &scan.shape.contents {
        ShapeContents::Text(text) => text,
        ShapeContents::Parquet(columns) => {
            let is_flat = |hive_type: &str| hive_type != "float" && !hive_type.contains('<');
            let other = columns.iter().find(|(_, hive_type)| !hive_type.as_deref().is_some_and(is_flat));
            return other
                .map_or(Ok(()), |(name, _)| Err(format!("it does not read the Parquet type of column \"{name}\"")));
        }
    };
    if plan.format.as_ref().and_then(|format| format.encoding) != Some(UTF_8) {
        return Err("it reads only UTF-8".to_owned());
    }
    let header_lines = match &text.layout {
        Some(Layout::Csv(dialect)) => check_dialect(plan, dialect)?,
        Some(Layout::Json { .. }) => 0,
        None => return Err("the layout of the file is unknown".to_owned()),
    };
    if text.lines != text.records + header_lines {
        let (lines, records) = (counted(text.lines, "line"), counted(text.records, "record"));
        return Err(format!(
            "it divides the file into lines, and the file has {lines} for {records}: a value has a line break, or a line is not a \
             record"
        ));
    }
    if text.has_footer {
        return Err("the file ends with a Ctrl-Z, or with lines that are not records".to_owned());
    }
    if header_lines == 0 && text.first_byte != Some(0) {
        return Err("the first record is not at the beginning of the file".to_owned());
    }
    if text.has_non_finite {
        return Err("the file has numbers that JSON does not have".to_owned());
    }
    Ok(())
}

/// Returns the number of header lines.
fn check_dialect(plan: &Plan, dialect: &CsvDialect) -> Result<u64, String> {
    let csv = plan.format.as_ref().and_then(|format| format.csv.as_ref());
    let has_doubled_quotes = csv.is_some_and(|csv| csv.escape == "doubled quotes" || csv.quote == "none");
    if !has_doubled_quotes {
        return Err("quotes are escaped by another character".to_owned());
    }
    if dialect.skip_lines.unwrap_or_default() > 0 {
        return Err("there are lines above the header".to_owned());
    }
    if dialect.detected.is_some_and(|detected| detected.extra_field != ExtraField::Absent) {
        return Err("its records have one more field than the header".to_owned());
    }
    Ok(u64::from(dialect.has_header))
}
