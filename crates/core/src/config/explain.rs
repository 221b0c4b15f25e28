//! The settings of the table of one key, and where each of them comes from.

use serde::Serialize;

use super::CommandSettings;
use super::environment::{Environment, settings_error};
use super::setting::Declared;
use super::settings;
use super::table_settings::{OF_TABLE, entries_of, text, text_at};
use crate::error::Result;
use crate::pipeline::TableEntry;
use crate::table_name::TableName;

/// The settings of the table of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveSettings {
    /// The table.
    pub table: String,
    /// The entry of the settings file that applies, by number from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// Whether the entry has rules for columns.
    pub has_column_rules: bool,
    /// The settings that a table can have.
    pub settings: Vec<EffectiveSetting>,
}

/// A setting with its value and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveSetting {
    /// The name.
    pub name: &'static str,
    /// The value as it is spelled; `None` if it is unset and has no default.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where a value comes from, by precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An option of the command.
    Option,
    /// The entry of the settings file.
    File,
    /// An environment variable.
    Environment,
    /// The default.
    Default,
}

/// Returns the settings of the table of a key; `table` overrides the table that the key selects.
///
/// # Errors
/// When a setting is invalid, or the settings name no table for the key.
pub fn effective_settings(environment: &Environment, table: Option<&str>, key: &str) -> Result<EffectiveSettings> {
    let settings = CommandSettings::read(environment)?;
    let table = match table {
        Some(table) => {
            TableName::parse(table).map_err(|why| settings_error(format!("the table name {table:?} {why}")))?
        }
        None => settings.pipeline.key_parts(key)?.table,
    };
    let location = environment.find(&settings::SPILLWAY_CONFIG)?;
    let entries = match &location {
        Some(location) if location.starts_with("s3://") => {
            let message =
                format!("SPILLWAY_CONFIG is {location:?}; copy the object to a file and name it with --config");
            return Err(settings_error(message));
        }
        Some(location) => entries_of(&text_at(location)?)?,
        None => Vec::new(),
    };
    let rules = settings.pipeline.database.tables.current();
    let is_selected = |entry: &TableEntry| rules.entry(&table, key).is_some_and(|found| std::ptr::eq(found, entry));
    let index = rules.entries.iter().position(is_selected);
    let entry = index.and_then(|index| entries.get(index));
    let setting = |setting: &dyn Declared| effective(environment, entry, setting);
    Ok(EffectiveSettings {
        entry: index.map(|index| index + 1),
        has_column_rules: entry.is_some_and(|entry| entry.contains_key("columns")),
        settings: OF_TABLE.into_iter().map(setting).collect::<Result<_>>()?,
        table: table.to_string(),
    })
}

fn effective(
    environment: &Environment,
    entry: Option<&toml::Table>,
    setting: &dyn Declared,
) -> Result<EffectiveSetting> {
    let name = setting.info().name;
    let in_file = entry.and_then(|entry| entry.get(&name.to_lowercase()));
    let (value, origin) = if environment.is_fixed(name) {
        (environment.text(setting)?, Origin::Option)
    } else if let Some(value) = in_file {
        (Some(text(name, value)?), Origin::File)
    } else if let Some(value) = environment.text(setting)? {
        (Some(value), Origin::Environment)
    } else {
        (setting.info().default.map(str::to_owned), Origin::Default)
    };
    Ok(EffectiveSetting { name, value, origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[table]]\nname = \"other\"\n\n[[table]]\nname = \"orders\"\nload_mode = \"replace\"\nmax_rejects = 3\n\
                        [table.columns.id]\ntype = \"text\"\n";

    fn of(environment: &Environment, name: &str) -> (Option<String>, Origin) {
        let effective = effective_settings(environment, Some("orders"), "orders.csv").unwrap();
        assert_eq!(effective.entry, Some(2));
        let setting = effective.settings.into_iter().find(|setting| setting.name == name).unwrap();
        (setting.value, setting.origin)
    }

    #[test]
    fn each_setting_has_its_origin() {
        let environment = Environment::of(&[("SPILLWAY_CONFIG", FILE), ("LOAD_MODE", "append"), ("DEDUPE", "version")]);
        let environment = environment.fixed(vec![("MAX_COLUMNS", "7".to_owned())]);
        assert_eq!(of(&environment, "MAX_COLUMNS"), (Some("7".to_owned()), Origin::Option));
        assert_eq!(of(&environment, "LOAD_MODE"), (Some("replace".to_owned()), Origin::File));
        assert_eq!(of(&environment, "MAX_REJECTS"), (Some("3".to_owned()), Origin::File));
        assert_eq!(of(&environment, "DEDUPE"), (Some("version".to_owned()), Origin::Environment));
        assert_eq!(of(&environment, "FILE_FORMAT"), (Some("auto".to_owned()), Origin::Default));
        assert_eq!(of(&environment, "JSON_RECORDS"), (None, Origin::Default));
    }
}
