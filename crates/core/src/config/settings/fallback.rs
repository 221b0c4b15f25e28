//! The fallback in S3 and Glue.

use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};
use spillway_formats::schema::fallback::FallbackFormat;

settings! { Fallback FALLBACK {
    /// Glue database of the fallback tables, in lower case. Created when it is first needed.
    GLUE_DATABASE: String = GLUE_NAME, All, Template::Parameter("GlueDatabase"), default "ingest_fallback_db";

    /// Glue table for rows of `RDS_TABLE`, in lower case. A table that `TABLE_PATTERN` names has a Glue table of its own
    /// name.
    GLUE_TABLE: String = GLUE_NAME, All, Template::Parameter("GlueTable"), default "ingest_fallback_table";

    /// Format of fallback objects. `parquet` keeps all types, `csv` stores every column as a string.
    FALLBACK_FORMAT: FallbackFormat = Value::Choice(&[
        Choice::new("parquet", FallbackFormat::Parquet),
        Choice::new("csv", FallbackFormat::Csv),
    ]), All, Template::Parameter("FallbackFormat"), default "parquet";
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
