//! Describes the format of a file, and what decided it.

use crate::object::ObjectVersion;
use crate::plan::document::{CsvPlan, FormatPlan};
use crate::reader::FileLayout;
use spillway_formats::csv::{CsvDialect, ExtraField};
use spillway_formats::decoder::{Layout, ReadOptions};
use spillway_formats::detect::{Compression, FileFormat, FileName, Format, NamedFormat, StreamFormat};

/// Describes the format from the first bytes.
pub(super) fn describe(
    options: &ReadOptions,
    version: &ObjectVersion,
    format: Format,
    compression: Option<Compression>,
) -> FormatPlan {
    let name = match format {
        Format::Streaming(StreamFormat::Csv | StreamFormat::TabSeparated) => "csv",
        Format::Streaming(StreamFormat::Json) => "json",
        Format::Parquet => "parquet",
    };
    let named = FileName::of(&version.object.key);
    let is_named = named.is_some_and(|named| match named.format {
        NamedFormat::Csv | NamedFormat::TabSeparated => name == "csv",
        NamedFormat::Json => name == "json",
        NamedFormat::Parquet => name == "parquet",
    });
    let decided_by = match (options.format, named) {
        (FileFormat::Csv | FileFormat::Json | FileFormat::Parquet, _) => "set by FILE_FORMAT".to_owned(),
        (FileFormat::Auto, Some(named)) if is_named => format!("by the name *{}", named.ending),
        (FileFormat::Auto, None) if name == "csv" => {
            "by default: neither the name nor the first bytes decide".to_owned()
        }
        (FileFormat::Auto, _) => "by the first bytes".to_owned(),
    };
    let compression = compression.map(|compression| match compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Zip => "zip",
    });
    FormatPlan { name, decided_by, compression, encoding: None, csv: None, records_hint: None }
}

/// Adds what the whole file has shown.
pub(super) fn add_layout(plan: &mut FormatPlan, options: &ReadOptions, layout: &FileLayout, columns: usize) {
    match layout {
        FileLayout::Streaming(Layout::Csv(dialect)) => {
            plan.encoding = Some(dialect.encoding.name());
            plan.csv = Some(csv(&options.csv, dialect, columns));
        }
        FileLayout::Streaming(Layout::Json { is_plain, records_hint, .. }) => {
            plan.encoding = Some(if *is_plain { "UTF-8" } else { "UTF-16" });
            plan.records_hint.clone_from(records_hint);
        }
        FileLayout::Parquet => {}
    }
}

fn csv(settings: &CsvDialect, found: &CsvDialect, columns: usize) -> CsvPlan {
    let escape = match found.escape {
        _ if found.has_detected_escape() => "backslash".to_owned(),
        Some(byte) if found.quote != Some(byte) => character(byte),
        Some(_) | None => "doubled quotes".to_owned(),
    };
    CsvPlan {
        delimiter: found.delimiter.map_or_else(|| ",".to_owned(), character),
        delimiter_decided_by: match columns {
            0 | 1 if settings.delimiter.is_none() => "none occurs: one column".to_owned(),
            _ => decided(settings.delimiter.is_some(), "CSV_DELIMITER"),
        },
        quote: found.quote.map_or_else(|| "none".to_owned(), character),
        escape,
        escape_decided_by: decided(settings.escape.is_some(), "CSV_ESCAPE"),
        has_header: found.has_header,
        skipped_lines: found.skip_lines,
        has_trailing_delimiter: found.detected.is_some_and(|detected| detected.extra_field == ExtraField::Empty),
    }
}

fn decided(is_set: bool, setting: &str) -> String {
    if is_set { format!("set by {setting}") } else { "detected, and every record agrees".to_owned() }
}

/// A delimiter as the settings spell it.
fn character(byte: u8) -> String {
    match byte {
        b'\t' => "tab".to_owned(),
        b'\\' => "backslash".to_owned(),
        byte => char::from(byte).to_string(),
    }
}
