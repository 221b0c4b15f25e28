//! The fallback, the lake and raw zones in Glue.

use crate::config::setting::{Category, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};

settings! { Fallback FALLBACK {
    /// Glue database of the fallback tables, in lower case. Created when it is first needed.
    GLUE_DATABASE: String = GLUE_NAME, All, Template::Parameter("GlueDatabase"), default "ingest_fallback_db";

    /// Glue table for rows of `RDS_TABLE`, in lower case. A table that `TABLE_PATTERN` names has a Glue table of its own
    /// name.
    GLUE_TABLE: String = GLUE_NAME, All, Template::Parameter("GlueTable"), default "ingest_fallback_table";

    /// Format of fallback objects: always Parquet. Earlier versions also wrote CSV, which Athena reads wrong if a value contains a
    /// line break.
    FALLBACK_FORMAT: () = Value::Text { form: "parquet", parse: fallback_format },
        All, Template::Parameter("FallbackFormat"), default "parquet";

    /// Glue database of the lake's tables, in lower case. Created when it is first needed. Each table has the name of the table
    /// that its rows belong to.
    LAKE_DATABASE: String = GLUE_NAME, All, Template::Parameter("LakeDatabase"), default "spillway_lake";

    /// Glue database of the tables over raw zones, in lower case; see `CATALOG_RAW`. Created when it is first needed. Each table
    /// has the name of the table that its files belong to. It must not be `GLUE_DATABASE` or `LAKE_DATABASE`.
    RAW_DATABASE: String = GLUE_NAME, All, Template::Parameter("RawDatabase"), default "spillway_raw";
}}

const GLUE_NAME: Value<String> = Value::Text { form: "1 to 255 letters, digits, _ or -", parse: glue_name };

/// The name in lower case, as Glue stores it.
fn glue_name(text: &str) -> Result<String, Reason> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    if text.len() > 255 || !text.chars().all(is_plain) {
        return Err(Reason::Form);
    }
    Ok(text.to_ascii_lowercase())
}

/// Accepts the one format that is left.
fn fallback_format(text: &str) -> Result<(), Reason> {
    match text.trim().to_ascii_lowercase().as_str() {
        "parquet" => Ok(()),
        "csv" => {
            Err(Reason::Because("Athena splits values with line breaks in CSV, so it is no longer written".to_owned()))
        }
        _ => Err(Reason::Form),
    }
}
