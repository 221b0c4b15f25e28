//! The JSON Schema of the table settings, generated from the declarations into `docs/table-settings.schema.json`.

use serde_json::{Map, Value, json};

use super::entry::{COLUMNS, NAME, PATTERN};
use super::{OF_TABLE, columns};
use crate::config::docs::check;
use crate::config::setting::Declared;

#[test]
fn the_generated_page_of_the_schema_is_up_to_date() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    check("docs/table-settings.schema.json", &text);
}

fn schema() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let mut table = Map::new();
    table.insert(
        PATTERN.to_owned(),
        text("Pattern of the keys, as in `TABLE_PATTERN`, such as `uploads/{tenant}/orders/**`."),
    );
    table.insert(
        NAME.to_owned(),
        text("Name of the table, or `schema.table`. May contain parts of the pattern, such as `{tenant}_orders`."),
    );
    table.insert(COLUMNS.to_owned(), columns_schema());
    for setting in OF_TABLE {
        table.insert(setting.info().name.to_lowercase(), setting_schema(setting));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Table settings of Spillway",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "table": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "anyOf": [{ "required": [PATTERN] }, { "required": [NAME] }],
                    "properties": table,
                },
            },
        },
    })
}

fn columns_schema() -> Value {
    let keys: Map<String, Value> = columns::KEYS
        .iter()
        .map(|(key, description)| {
            let accepted = match *key {
                "ignore" => json!({ "type": "boolean", "description": description }),
                "remove" => json!({ "type": "array", "items": { "type": "string" }, "description": description }),
                _ => json!({ "type": "string", "description": description }),
            };
            ((*key).to_owned(), accepted)
        })
        .collect();
    json!({
        "type": "object",
        "description": "Rules for columns, by their name in the table.",
        "additionalProperties": { "type": "object", "additionalProperties": false, "properties": keys },
    })
}

/// A setting as a string, or as the TOML type that is natural for it.
fn setting_schema(setting: &dyn Declared) -> Value {
    let description = setting.info().text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut accepted = match (setting.choices(), setting.range()) {
        (Some(choices), _) if choices == ["true", "false"] => json!({ "type": "boolean" }),
        (Some(choices), _) => json!({ "enum": choices }),
        (None, Some((min, u64::MAX))) => json!({ "type": "integer", "minimum": min }),
        (None, Some((min, max))) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        (None, None) => json!({
            "anyOf": [{ "type": "string" }, { "type": "integer" }, { "type": "array", "items": { "type": "string" } }],
        }),
    };
    accepted["description"] = description.into();
    if let Some(default) = setting.info().default {
        accepted["default"] = default.into();
    }
    accepted
}
