//! Types in Glue: their names, and which of them store a file column without loss.

use spillway_formats::schema::{Column, ColumnType};

/// The type of a new catalog column for a file column.
pub(in crate::catalog) fn new_type(column: &Column) -> ColumnType {
    match column.column_type {
        // Glue has no JSON type. Athena's JSON functions read strings.
        ColumnType::Json => ColumnType::Text,
        _ if column.has_other_spellings => ColumnType::Text,
        other => other.with_headroom(),
    }
}

/// The name of a type in Glue.
pub(in crate::catalog) fn glue_type(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Integer => "bigint".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Double => "double".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::DateTime | ColumnType::Instant => "timestamp".to_owned(),
        ColumnType::Json | ColumnType::Text => "string".to_owned(),
        ColumnType::Binary => "binary".to_owned(),
    }
}

/// The name of a type within a column name.
pub(super) fn type_name_part(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Decimal { precision, scale } => format!("decimal_{precision}_{scale}"),
        ColumnType::Boolean
        | ColumnType::Integer
        | ColumnType::Double
        | ColumnType::Date
        | ColumnType::DateTime
        | ColumnType::Instant
        | ColumnType::Json
        | ColumnType::Text
        | ColumnType::Binary => glue_type(column_type),
    }
}

/// The type in which a Glue column stores a file column, or `None` when a value would change.
///
/// Types that Spillway never creates store nothing; another program's table may have them.
pub(in crate::catalog) fn stored_as(glue_type: &str, column: &Column) -> Option<ColumnType> {
    let is_bytes = column.column_type == ColumnType::Binary;
    match glue_type {
        "string" => return (!is_bytes).then_some(ColumnType::Text),
        "binary" => return column.is_binary.then_some(ColumnType::Binary),
        _ => {}
    }
    // Text that could be a number stays text. Only a text column without values may be stored as another type.
    let is_open = !is_bytes && (column.column_type != ColumnType::Text || column.max_bytes == 0);
    if !is_open || column.has_other_spellings {
        return None;
    }
    let candidates = column.candidates;
    match glue_type {
        "boolean" => candidates.boolean.then_some(ColumnType::Boolean),
        "bigint" => candidates.integer.then_some(ColumnType::Integer),
        "double" => candidates.double.then_some(ColumnType::Double),
        "date" => candidates.date.then_some(ColumnType::Date),
        "timestamp" if candidates.date_time => Some(ColumnType::DateTime),
        "timestamp" => candidates.instant.then_some(ColumnType::Instant),
        decimal => {
            let (precision, scale) = decimal_digits(decimal)?;
            let (whole, fraction) = candidates.decimal?;
            let fits = fraction <= scale && whole <= precision - scale;
            fits.then_some(ColumnType::Decimal { precision, scale })
        }
    }
}

/// Precision and scale of `decimal(p,s)`.
fn decimal_digits(glue_type: &str) -> Option<(u8, u8)> {
    let digits = glue_type.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = digits.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    (scale <= precision && precision <= 38).then_some((precision, scale))
}
