//! One `[[table]]` of the table settings.

use toml::Value;

use super::{Context, OF_TABLE, columns};
use crate::config::environment::settings_error;
use crate::config::setting::Declared;
use crate::config::settings;
use crate::destination::LoadMode;
use crate::error::Result;
use crate::pattern::{self, TablePatterns};
use crate::pipeline::{AfterLoad, PipelineConfig, TableEntry};
use crate::table_name::TableName;

/// The keys of an entry that are not settings.
pub(super) const PATTERN: &str = "pattern";
pub(super) const NAME: &str = "name";
pub(super) const COLUMNS: &str = "columns";

/// How similar a known key must be to be suggested, from 0 to 1.
const SIMILAR: f64 = 0.6;

/// Reads an entry.
///
/// # Errors
/// When a key or a value is not accepted; the message names it.
pub(super) fn read(table: &Value, context: &Context) -> Result<TableEntry> {
    let table = table.as_table().ok_or_else(|| settings_error("begin each table with [[table]]"))?;
    let (mut pattern, mut name, mut rules, mut values) = (None, None, None, Vec::new());
    for (key, value) in table {
        match key.as_str() {
            PATTERN => pattern = Some(string(key, value)?),
            NAME => name = Some(string(key, value)?),
            COLUMNS => rules = Some(columns::read(value)?),
            _ => values.push(value_of(setting(key)?, key, value)?),
        }
    }
    let pattern = pattern.map(|pattern| name.map_or_else(|| pattern.to_owned(), |name| format!("{pattern} => {name}")));
    let (patterns, name) = route(pattern.as_deref(), name, context)?;
    if let Some(pattern) = pattern {
        // KEY_COLUMNS may name the parts of this pattern.
        values.push((settings::TABLE_PATTERN.info.name, pattern));
    }
    values.extend(without_catalog(&values, context)?);
    values.extend(without_columns(&values, context)?);
    let defaults = PipelineConfig::read_defaults(&context.environment.with(values))?;
    let mut config = defaults.table_defaults(&TableName::default());
    config.files.columns = rules.unwrap_or_default();
    Ok(TableEntry { patterns, name, config })
}

/// `CATALOG_RAW=false` for an entry whose files do not stay in place, unless the entry itself has a value.
///
/// The value of the environment is for the tables whose files stay in place.
fn without_catalog(values: &[(&'static str, String)], context: &Context) -> Result<Option<(&'static str, String)>> {
    let name = settings::CATALOG_RAW.info.name;
    if values.iter().any(|(setting, _)| *setting == name) {
        return Ok(None);
    }
    let after_load = context.environment.with(values.to_vec()).get(&settings::AFTER_LOAD)?;
    Ok((after_load != AfterLoad::Keep).then(|| (name, "false".to_owned())))
}

/// No columns of a load mode for an entry whose mode does not have them, unless the entry itself names some.
///
/// The columns of the environment are for the tables with its load mode.
fn without_columns(values: &[(&'static str, String)], context: &Context) -> Result<Vec<(&'static str, String)>> {
    let mode = context.environment.with(values.to_vec()).get(&settings::LOAD_MODE)?;
    let columns = [
        (settings::MERGE_KEY.info.name, mode.key().is_some()),
        (settings::MIRROR_SCOPE.info.name, matches!(mode, LoadMode::Mirror(_))),
    ];
    let inherited = columns
        .into_iter()
        .filter(|(name, has_meaning)| !has_meaning && values.iter().all(|(setting, _)| setting != name));
    Ok(inherited.map(|(name, _)| (name, String::new())).collect())
}

/// The patterns of an entry, and its table if the name contains no parts of the key.
fn route(pattern: Option<&str>, name: Option<&str>, context: &Context) -> Result<(TablePatterns, Option<TableName>)> {
    let has_parts = name.is_some_and(|name| name.contains('{'));
    let patterns = match (pattern, name) {
        (None, None) => return Err(settings_error("name is missing; an entry needs a name, a pattern, or both")),
        (None, Some(_)) if has_parts => {
            return Err(settings_error(
                "pattern is missing; the name contains parts of the key, and a pattern names them",
            ));
        }
        (None, Some(_)) => TablePatterns::default(),
        (Some(pattern), _) => {
            TablePatterns::parse(pattern).map_err(|why| settings_error(format!("pattern is {pattern:?}: {why}")))?
        }
    };
    let Some(name) = name.filter(|_| !has_parts) else { return Ok((patterns, None)) };
    let table =
        TableName::parse(name).and_then(|table| pattern::table_name(&table, &context.ledger_table).map(|_| table));
    match table {
        Ok(table) => Ok((patterns, Some(table))),
        Err(why) => Err(settings_error(format!("name is {name:?}, which {why}"))),
    }
}

/// The declaration of a key.
fn setting(key: &str) -> Result<&'static dyn Declared> {
    let found = OF_TABLE.into_iter().find(|setting| setting.info().name.to_lowercase() == key);
    found.ok_or_else(|| {
        let names: Vec<String> = OF_TABLE.iter().map(|setting| setting.info().name.to_lowercase()).collect();
        let known = [PATTERN, NAME, COLUMNS].into_iter().chain(names.iter().map(String::as_str));
        settings_error(unknown("an entry", key, known))
    })
}

/// The name and the text of a setting. An empty list means none, whatever the environment says.
fn value_of(setting: &dyn Declared, key: &str, value: &Value) -> Result<(&'static str, String)> {
    let info = setting.info();
    match value {
        Value::Array(items) if items.is_empty() && info.default.is_none() => Ok((info.name, String::new())),
        value => Ok((info.name, text(key, value)?)),
    }
}

/// The message for an unknown key, with the most similar known one.
pub(super) fn unknown<'a>(place: &str, key: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(&key.to_lowercase(), known.iter().copied()) {
        Some(nearest) => format!("{place} has no key {key}; did you mean {nearest}?"),
        None => format!("{place} has no key {key}; it has {}", known.join(", ")),
    }
}

/// The known name that is most similar to this one, if any is similar enough to be meant.
pub(in crate::config) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |known: &str| strsim::normalized_damerau_levenshtein(known, name);
    let similar = known.filter(|known| similarity(known) >= SIMILAR);
    similar.max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
}

/// A value that must be a string.
pub(super) fn string<'a>(key: &str, value: &'a Value) -> Result<&'a str> {
    value.as_str().ok_or_else(|| settings_error(format!("{key} is {}; write it as a string", value.type_str())))
}

/// A value as the environment would spell it.
pub(in crate::config) fn text(key: &str, value: &Value) -> Result<String> {
    let item = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    };
    let text = match value {
        Value::Array(items) => items.iter().map(item).collect::<Option<Vec<String>>>().map(|items| items.join(",")),
        value => item(value),
    };
    match text {
        // The environment counts an empty value as unset.
        Some(text) if text.is_empty() => {
            Err(settings_error(format!("{key} is empty; remove it to use the value for all tables")))
        }
        Some(text) => Ok(text),
        None => Err(settings_error(format!(
            "{key} is a TOML {}; write it as a string, a whole number, true or false, or a list of strings",
            value.type_str()
        ))),
    }
}
