//! `SPILLWAY_CONFIG`: settings of single tables, as TOML.
//!
//! The text is an array of entries, `[[table]]`. The keys of an entry are names of settings in lower case. Their values replace
//! those of the environment variables for the entry's table. So one declaration reads, checks and documents both. An entry can
//! also contain `pattern`, `name`, and `columns` with the rules for columns.

pub(super) mod columns;
mod entry;
#[cfg(test)]
mod json_schema;

pub(super) use entry::{nearest, text};

use super::environment::{Environment, settings_error};
use super::setting::Declared;
use super::settings;
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::pattern::TablePatterns;
use crate::pipeline::{PipelineConfig, TableEntry, TableRules, Tables};
use crate::route::TableRoutes;

/// The settings that an entry can contain.
pub(super) const OF_TABLE: [&dyn Declared; 40] = [
    &settings::LOAD_MODE,
    &settings::MERGE_KEY,
    &settings::OPERATION_COLUMN,
    &settings::MIRROR_SCOPE,
    &settings::MIRROR_MAX_DELETES,
    &settings::EXPORT_KEY,
    &settings::UNKNOWN_COLUMNS,
    &settings::EXTRA_COLUMN,
    &settings::MISSING_COLUMNS,
    &settings::CHANGED_TYPES,
    &settings::KEY_COLUMNS,
    &settings::DEDUPE,
    &settings::AFTER_LOAD,
    &settings::CATALOG_RAW,
    &settings::OUTPUT,
    &settings::RDS_LOAD_METHOD,
    &settings::ATOMIC_MAX_BYTES,
    &settings::REDSHIFT_DIST_KEY,
    &settings::REDSHIFT_SORT_KEY,
    &settings::FILE_FORMAT,
    &settings::CSV_DELIMITER,
    &settings::CSV_QUOTE,
    &settings::CSV_HEADER,
    &settings::CSV_ENCODING,
    &settings::CSV_ESCAPE,
    &settings::CSV_COMMENT,
    &settings::CSV_SKIP_LINES,
    &settings::CSV_SKIP_FOOTER_LINES,
    &settings::CSV_EXTRA_FIELD,
    &settings::CSV_BLANK_RECORDS,
    &settings::CSV_REPEATED_HEADERS,
    &settings::CSV_SHORT_RECORDS,
    &settings::NULL_VALUES,
    &settings::JSON_RECORDS,
    &settings::JSON_VALUES,
    &settings::JSON_FLATTEN_DEPTH,
    &settings::MAX_REJECTS,
    &settings::MAX_RECORD_BYTES,
    &settings::MAX_COLUMNS,
    &settings::FALLBACK_FORMAT,
];

/// The name of the array of entries.
const TABLE: &str = "table";

/// The tables of the environment, and the table settings at a location: an object in S3, the text itself, or a path.
///
/// An object in S3 is read later, by [`Tables::refresh`].
///
/// # Errors
/// When the file on disk cannot be read, or the settings are invalid.
pub(super) fn tables(location: &str, environment: &Environment, defaults: &PipelineConfig) -> Result<Tables> {
    let context = Context {
        environment: environment.clone(),
        routes: defaults.database.tables.current().routes.clone(),
        ledger_table: defaults.database.options.ledger_table.clone(),
    };
    if let Some(address) = location.strip_prefix("s3://") {
        let (bucket, key) = address
            .split_once('/')
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| settings_error(format!("SPILLWAY_CONFIG is {location:?}; an object is s3://bucket/key")))?;
        let initial = TableRules::of_routes(context.routes.clone());
        return Ok(Tables::in_s3(ObjectRef::new(bucket, key), initial, move |text| rules(text, &context)));
    }
    Ok(Tables::fixed(rules(&text_at(location)?, &context)?))
}

/// The table settings at a location: the text itself, or a path.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn text_at(location: &str) -> Result<String> {
    // A path has one line, and no TOML without a line break contains an entry.
    if location.contains('\n') {
        return Ok(location.to_owned());
    }
    std::fs::read_to_string(location).map_err(|error| {
        settings_error(format!("SPILLWAY_CONFIG is {location:?}: the file cannot be read"))
            .with_source(error)
            .with_advice()
    })
}

/// The entries as they are written.
///
/// # Errors
/// When the text is not valid TOML.
pub(super) fn entries_of(text: &str) -> Result<Vec<toml::Table>> {
    let document = document(text)?;
    let tables = document.get(TABLE).and_then(toml::Value::as_array);
    Ok(tables.into_iter().flatten().filter_map(|table| table.as_table().cloned()).collect())
}

fn document(text: &str) -> Result<toml::Table> {
    text.parse().map_err(|error: toml::de::Error| {
        // On one line, because messages and logs escape line breaks.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let what = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        settings_error(format!("the table settings are not valid TOML: {what} (line {line}, column {column})"))
    })
}

/// The settings that entries are based on.
#[derive(Clone)]
struct Context {
    environment: Environment,
    routes: TableRoutes,
    ledger_table: String,
}

/// Parses the text of the table settings.
fn rules(text: &str, context: &Context) -> Result<TableRules> {
    let document = document(text)?;
    let mut entries: Vec<TableEntry> = Vec::new();
    for (name, value) in &document {
        if name != TABLE {
            return Err(settings_error(entry::unknown("the table settings", name, [TABLE])));
        }
        let tables =
            value.as_array().ok_or_else(|| settings_error("the table settings: begin each table with [[table]]"))?;
        for (index, table) in tables.iter().enumerate() {
            let entry = entry::read(table, context).map_err(|error| in_entry(index, table, &error))?;
            entries.push(entry);
        }
    }
    let mut patterns = TablePatterns::default();
    for entry in &entries {
        patterns = patterns.followed_by(&entry.patterns);
    }
    let routes = TableRoutes { patterns: patterns.followed_by(&context.routes.patterns), ..context.routes.clone() };
    Ok(TableRules { routes, entries })
}

/// The error of an entry, with the number and name of the entry, and names of settings in lower case.
fn in_entry(index: usize, table: &toml::Value, error: &Error) -> Error {
    let mut message = error.message().to_owned();
    for setting in OF_TABLE {
        let name = setting.info().name;
        message = message.replace(name, &name.to_lowercase());
    }
    let place = |name| table.get(name).and_then(toml::Value::as_str);
    let place = place("name").or_else(|| place("pattern")).map(|name| format!(" ({name})")).unwrap_or_default();
    Error::new(ErrorKind::Settings, format!("[[table]] {}{place} of the table settings: {message}", index + 1))
}
