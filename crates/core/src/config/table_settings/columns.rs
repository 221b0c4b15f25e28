//! `[table.columns.NAME]`: the rules for the columns of a table.

use spillway_formats::columns::{ColumnAction, ColumnRule, ColumnRules, NumberFormat, ValueFormat};
use spillway_formats::schema::ColumnType;
use toml::Value;

use super::entry::{string, unknown};
use crate::config::environment::settings_error;
use crate::error::Result;

/// The keys of a rule, with their meaning.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("source", "Name of the column in the file. Defaults to the name in the table."),
    ("ignore", "`true`: the column is not loaded."),
    (
        "type",
        "Type of the column in a new table and in the fallback: `text`, `integer`, `decimal(P,S)`, `double`, `boolean`, \
         `date`, `datetime` or `instant`. Inferred from the values by default.",
    ),
    ("default", "Value of a missing field, and of a column that the file does not have."),
    (
        "format",
        "Format of dates and times, as in `strptime` (`%d/%m/%Y %H:%M`), or `epoch-seconds` or `epoch-milliseconds`.",
    ),
    ("decimal", "Decimal separator of numbers: `.` or `,`."),
    ("thousands", "Separator between groups of three digits."),
    ("remove", "List of texts around a number that do not belong to it, such as `[\"€\", \"%\"]`."),
];

/// The names of the types, apart from `decimal(P,S)`.
const TYPES: [(&str, ColumnType); 7] = [
    ("text", ColumnType::Text),
    ("integer", ColumnType::Integer),
    ("double", ColumnType::Double),
    ("boolean", ColumnType::Boolean),
    ("date", ColumnType::Date),
    ("datetime", ColumnType::DateTime),
    ("instant", ColumnType::Instant),
];

/// Reads the rules.
///
/// # Errors
/// When a key or a value is not accepted, or two rules apply to the same column of the file.
pub(super) fn read(value: &Value) -> Result<ColumnRules> {
    let table = value.as_table().ok_or_else(|| settings_error("write columns as [table.columns.NAME]"))?;
    let mut rules: Vec<ColumnRule> = Vec::with_capacity(table.len());
    for (name, value) in table {
        let rule =
            rule_of(name, value).map_err(|error| settings_error(format!("column {name}: {}", error.message())))?;
        if let Some(other) = rules.iter().find(|other| other.source.to_lowercase() == rule.source.to_lowercase()) {
            let message = format!("columns {} and {name} have the same source {}", other.name, rule.source);
            return Err(settings_error(message));
        }
        rules.push(rule);
    }
    Ok(ColumnRules::new(rules))
}

/// Reads the rule for the column with this name in the table.
pub(in crate::config) fn rule_of(name: &str, value: &Value) -> Result<ColumnRule> {
    let table = value.as_table().ok_or_else(|| settings_error("write it as [table.columns.NAME]"))?;
    if let Some(key) = table.keys().find(|key| KEYS.iter().all(|(known, _)| known != key)) {
        return Err(settings_error(unknown("a column", key, KEYS.map(|(known, _)| known))));
    }
    let text = |key: &str| table.get(key).map(|value| string(key, value)).transpose();
    let source = text("source")?.unwrap_or(name).to_owned();
    let is_ignored = match table.get("ignore") {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| settings_error("ignore is not true or false"))?,
    };
    if is_ignored && table.keys().any(|key| !matches!(key.as_str(), "ignore" | "source")) {
        return Err(settings_error("an ignored column can only have a source"));
    }
    let action = match is_ignored {
        true => ColumnAction::Ignore,
        false => ColumnAction::Load {
            column_type: text("type")?.map(column_type).transpose()?,
            format: format(table)?,
            default: text("default")?.map(str::to_owned),
        },
    };
    Ok(ColumnRule { name: name.to_owned(), source, action })
}

fn column_type(text: &str) -> Result<ColumnType> {
    let decimal = || {
        let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        let (precision, scale): (u8, u8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
        let is_valid = (1..=38).contains(&precision) && scale <= precision.min(30);
        is_valid.then_some(ColumnType::Decimal { precision, scale })
    };
    let named = TYPES.iter().find(|(name, _)| *name == text).map(|(_, column_type)| *column_type);
    named.or_else(decimal).ok_or_else(|| {
        let names = TYPES.map(|(name, _)| name).join(", ");
        settings_error(format!("type is {text:?}; it accepts {names}, or decimal(P,S) of at most 38 digits"))
    })
}

fn format(table: &toml::Table) -> Result<Option<ValueFormat>> {
    let text = |key: &str| table.get(key).map(|value| string(key, value)).transpose();
    let number = number_format(table)?;
    match (text("format")?, number) {
        (Some(_), Some(_)) => {
            Err(settings_error("format is for dates and times; decimal, thousands and remove are for numbers"))
        }
        (None, number) => Ok(number.map(ValueFormat::Number)),
        (Some("epoch-seconds"), None) => Ok(Some(ValueFormat::EpochSeconds)),
        (Some("epoch-milliseconds"), None) => Ok(Some(ValueFormat::EpochMilliseconds)),
        (Some(text), None) => match ValueFormat::time(text) {
            Ok(format) => Ok(Some(format)),
            Err(why) => Err(settings_error(format!(
                "format is {text:?}: {why}; it accepts strptime specifiers, epoch-seconds or epoch-milliseconds"
            ))),
        },
    }
}

fn number_format(table: &toml::Table) -> Result<Option<NumberFormat>> {
    let character = |key: &str| match table.get(key).map(|value| string(key, value)).transpose()? {
        None => Ok(None),
        Some(text) => match text.chars().collect::<Vec<char>>()[..] {
            [character] if !character.is_ascii_alphanumeric() && character != '-' => Ok(Some(character)),
            _ => Err(settings_error(format!("{key} is {text:?}; it accepts one character that separates digits"))),
        },
    };
    let (decimal, thousands) = (character("decimal")?, character("thousands")?);
    let remove = match table.get("remove") {
        None => Vec::new(),
        Some(value) => {
            let texts =
                value.as_array().and_then(|items| items.iter().map(|item| Some(item.as_str()?.to_owned())).collect());
            let texts: Option<Vec<String>> = texts;
            texts
                .filter(|texts| texts.iter().all(|text| !text.is_empty()))
                .ok_or_else(|| settings_error("remove is not a list of texts"))?
        }
    };
    // Without a sign, a separator or a digit, the text would be another number.
    let is_part_of_a_number = |character: char| character.is_ascii_digit() || "+-().,".contains(character);
    if let Some(text) =
        remove.iter().find(|text| text.trim().chars().all(is_part_of_a_number) && !text.trim().is_empty())
    {
        return Err(settings_error(format!(
            "remove contains {text:?}, which can be a part of a number; a minus after the number, and parentheses around a negative \
             number, are read without it"
        )));
    }
    if decimal.is_none() && thousands.is_none() && remove.is_empty() {
        return Ok(None);
    }
    // A comma between groups leaves the point for the fraction, and a point the comma.
    let decimal = decimal.unwrap_or(if thousands == Some('.') { ',' } else { '.' });
    if !matches!(decimal, '.' | ',') || thousands == Some(decimal) {
        return Err(settings_error("decimal accepts . or , and must differ from thousands"));
    }
    Ok(Some(NumberFormat { decimal, thousands, remove }))
}
