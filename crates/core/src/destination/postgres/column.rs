//! The columns of a table as the server describes them, and how it stores their values.
//!
//! A domain has the storage of its base type, and the server checks the domain's constraints. Values that cannot be
//! checked exactly here are sent as text, which the server parses as strictly as a literal.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::array::Element;
use super::connect::{Connection, value};
use super::table::quoted_table;
use crate::destination::check::Rejection;
use crate::destination::column::NullFill;
use crate::error::Result;
use crate::table_name::TableName;

/// Each column with its base type, and whether its table has triggers. The type modifier is the column's own, or that of the
/// first domain that has one.
const COLUMNS_SQL: &str = "\
    WITH RECURSIVE steps AS ( \
        SELECT a.attnum, a.atttypid AS type_id, a.atttypmod AS modifier, a.attnotnull AS required, false AS filled \
        FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = CAST(CAST($1 AS text) AS regclass) AND a.attnum > 0 AND NOT a.attisdropped \
      UNION ALL \
        SELECT s.attnum, t.typbasetype, CASE WHEN s.modifier >= 0 THEN s.modifier ELSE t.typtypmod END, \
            s.required OR t.typnotnull, s.filled OR t.typdefault IS NOT NULL \
        FROM steps s JOIN pg_catalog.pg_type t ON t.oid = s.type_id WHERE t.typtype = 'd') \
    SELECT CAST(a.attname AS text), pg_catalog.format_type(a.atttypid, a.atttypmod), s.required, \
        s.filled OR a.atthasdef OR a.attidentity <> '', CAST(a.attidentity AS text), \
        COALESCE(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> '', \
        CASE WHEN n.nspname = 'pg_catalog' THEN CAST(t.typname AS text) ELSE '' END, CAST(t.typtype AS text), s.modifier, \
        c.relhastriggers, \
        t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1 AND t.typname NOT IN ('int2vector', 'oidvector') \
    FROM steps s JOIN pg_catalog.pg_type t ON t.oid = s.type_id \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = CAST(CAST($1 AS text) AS regclass) AND a.attnum = s.attnum \
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
    WHERE t.typtype <> 'd' ORDER BY s.attnum";

/// A trigger that may fill columns of a table: with the bits ROW, BEFORE and INSERT.
const TRIGGER_SQL: &str = "\
    SELECT CAST(tgname AS text) FROM pg_catalog.pg_trigger WHERE tgrelid = CAST(CAST($1 AS text) AS regclass) \
        AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND (tgtype & 7) = 7 LIMIT 1";

/// The name and type of each column.
const TYPES_SQL: &str = "\
    SELECT CAST(attname AS text), pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute \
    WHERE attrelid = CAST(CAST($1 AS text) AS regclass) AND attnum > 0 AND NOT attisdropped";

/// A column of a PostgreSQL table.
pub(in crate::destination) type TableColumn = crate::destination::column::TableColumn<Storage>;

/// How the server stores a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::destination) enum Storage {
    /// Booleans.
    Boolean,
    /// Integers of 2, 4 or 8 bytes.
    Integer {
        /// Number of bytes.
        bytes: u8,
    },
    /// Exact decimals.
    Numeric {
        /// Total digits and digits after the decimal point. `None` for any number of digits.
        size: Option<(u64, u64)>,
    },
    /// Floats of 32 bits.
    Real,
    /// Floats of 64 bits.
    Double,
    /// Dates.
    Date,
    /// Times of day.
    Time {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// Dates and times without a time zone. Instants are stored in UTC.
    Timestamp {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// Instants.
    Instant {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// Text: limited by characters.
    Characters {
        /// Maximum number of characters, if there is one.
        max: Option<u64>,
        /// Whether trailing spaces are not significant, as in `char(n)`.
        trims_spaces: bool,
    },
    /// UUIDs.
    Uuid,
    /// `json`: the text as it is written.
    Json,
    /// `jsonb`: the parsed document.
    Jsonb,
    /// Enum types. The server checks their values.
    Enum,
    /// `bytea`. Bytes of the file are stored as they are. Text is sent as text, which the server parses.
    Bytea,
    /// Arrays, as PostgreSQL or JSON writes them. The server parses them.
    Array {
        /// The elements.
        element: Element,
    },
    /// Types that only the server can parse: ranges, network addresses, and types of extensions.
    ServerParsed,
    /// Intervals and times with an offset. The server parses them and rounds to a microsecond.
    Span,
    /// Types that do not store every value unchanged.
    Unsupported(Rejection),
}

impl Storage {
    /// Whether a null token of the file means NULL here: in numbers, dates, times, intervals and UUIDs, but not in text.
    pub(in crate::destination) fn has_null_tokens(self) -> bool {
        match self {
            Self::Boolean
            | Self::Integer { .. }
            | Self::Numeric { .. }
            | Self::Real
            | Self::Double
            | Self::Date
            | Self::Time { .. }
            | Self::Timestamp { .. }
            | Self::Instant { .. }
            | Self::Uuid
            | Self::Span => true,
            Self::Characters { .. }
            | Self::Json
            | Self::Jsonb
            | Self::Enum
            | Self::Bytea
            | Self::Array { .. }
            | Self::ServerParsed
            | Self::Unsupported(_) => false,
        }
    }
}

/// Returns the name and type of each column of a table.
pub(super) async fn types(connection: &mut Connection, table: &TableName) -> Result<Vec<(String, String)>> {
    let (context, relation) = ("cannot read the types of the table's columns", quoted_table(table));
    let rows = connection.rows(context, TYPES_SQL, &[(&relation, Type::TEXT)]).await?;
    rows.iter().map(|row| Ok((value(row, 0)?, value(row, 1)?))).collect()
}

/// Returns the columns of a table, in table order.
pub(super) async fn describe(connection: &mut Connection, table: &TableName) -> Result<Vec<TableColumn>> {
    let (context, relation) = ("cannot read the table's columns", quoted_table(table));
    let rows = connection.rows(context, COLUMNS_SQL, &[(&relation, Type::TEXT)]).await?;
    let mut columns: Vec<TableColumn> = rows.iter().map(column).collect::<Result<_>>()?;
    let has_triggers = rows.first().map_or(Ok(false), |row| value(row, 9))?;
    // Each connection is new, and the server reads its catalog of triggers for it. So only tables with triggers are looked up there.
    if has_triggers && !connection.rows(context, TRIGGER_SQL, &[(&relation, Type::TEXT)]).await?.is_empty() {
        columns.iter_mut().for_each(|column| column.null_fill = NullFill::Trigger);
    }
    Ok(columns)
}

fn column(row: &Row) -> Result<TableColumn> {
    let required: bool = value(row, 2)?;
    let identity: String = value(row, 4)?;
    let generated: bool = value(row, 5)?;
    let is_array: bool = value(row, 10)?;
    let (name, kind, modifier): (String, String, i32) = (value(row, 6)?, value(row, 7)?, value(row, 8)?);
    Ok(TableColumn {
        name: value(row, 0)?,
        type_text: value(row, 1)?,
        storage: match storage(&name, &kind, modifier) {
            Storage::ServerParsed if is_array => Storage::Array { element: Element::of(&name) },
            storage => storage,
        },
        nullable: !required,
        has_default: value(row, 3)?,
        auto_increment: !identity.is_empty(),
        // COPY would store a value in a GENERATED ALWAYS AS IDENTITY column, which the table does not allow.
        generated: generated || identity == "a",
        collation: None,
        in_merge_key: false,
        null_fill: NullFill::Nothing,
        null_tokens: true,
        is_binary: false,
        day_order: None,
        field: 0,
        extra: None,
        operation: None,
        invisible: false,
    })
}

/// Returns the storage of a type. `name` is empty for a type that is not built in; `kind` is `pg_type.typtype`.
pub(in crate::destination) fn storage(name: &str, kind: &str, modifier: i32) -> Storage {
    if kind == "e" {
        return Storage::Enum;
    }
    // The modifier of text and numbers includes the four bytes of a length word.
    let length = u32::try_from(modifier).ok().and_then(|modifier| modifier.checked_sub(4));
    let fraction_digits = u32::try_from(modifier).map_or(6, |digits| digits.min(6));
    match name {
        "bool" => Storage::Boolean,
        "int2" => Storage::Integer { bytes: 2 },
        "int4" => Storage::Integer { bytes: 4 },
        "int8" => Storage::Integer { bytes: 8 },
        "numeric" => numeric(length),
        "float4" => Storage::Real,
        "float8" => Storage::Double,
        "date" => Storage::Date,
        "time" => Storage::Time { fraction_digits },
        "timestamp" => Storage::Timestamp { fraction_digits },
        "timestamptz" => Storage::Instant { fraction_digits },
        "text" => Storage::Characters { max: None, trims_spaces: false },
        "varchar" => Storage::Characters { max: length.map(u64::from), trims_spaces: false },
        "bpchar" => Storage::Characters { max: length.map(u64::from), trims_spaces: true },
        "uuid" => Storage::Uuid,
        "json" => Storage::Json,
        "jsonb" => Storage::Jsonb,
        "bytea" => Storage::Bytea,
        // The server would truncate, round or drop the rest of a value without an error.
        "name" => Storage::Unsupported("cannot be stored completely"),
        "char" => Storage::Unsupported("cannot be stored completely"),
        "interval" | "timetz" if modifier < 0 => Storage::Span,
        "interval" | "timetz" | "money" => Storage::Unsupported("may be rounded"),
        // An array of a type with a size: the server also rounds elements that are too long.
        array if array.starts_with('_') && modifier >= 0 => Storage::Unsupported("may be rounded"),
        _ => Storage::ServerParsed,
    }
}

/// Returns the storage of a numeric with this type modifier.
///
/// The precision is in the bits above 16, the scale in the lower 11 bits, signed since version 15. With a scale below
/// zero or above the precision the server rounds values without an error, so such a column is not supported.
fn numeric(size: Option<u32>) -> Storage {
    let Some(size) = size else { return Storage::Numeric { size: None } };
    let (precision, scale) = (u64::from(size >> 16), i64::from(size & 0x7ff));
    let scale = if scale >= 1024 { scale - 2048 } else { scale };
    match u64::try_from(scale) {
        Ok(scale) if scale <= precision => Storage::Numeric { size: Some((precision, scale)) },
        _ => Storage::Unsupported("may be rounded"),
    }
}

/// Returns a nullable column of a type with the name `c`. The type `mood` is an enum.
#[cfg(test)]
pub(super) fn column_of(name: &str, modifier: i32) -> TableColumn {
    crate::destination::column::nullable_column(name, storage(name, if name == "mood" { "e" } else { "b" }, modifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifier_contains_sizes() {
        assert_eq!(storage("numeric", "b", ((18 << 16) | 2) + 4), Storage::Numeric { size: Some((18, 2)) });
        assert_eq!(storage("numeric", "b", -1), Storage::Numeric { size: None });
        assert!(matches!(storage("numeric", "b", ((5 << 16) | (2048 - 3)) + 4), Storage::Unsupported(_)));
        assert_eq!(storage("varchar", "b", 24), Storage::Characters { max: Some(20), trims_spaces: false });
        assert_eq!(storage("timestamp", "b", 3), Storage::Timestamp { fraction_digits: 3 });
        assert_eq!(storage("timestamptz", "b", -1), Storage::Instant { fraction_digits: 6 });
        assert_eq!(storage("mood", "e", -1), Storage::Enum);
        assert_eq!(storage("", "b", -1), Storage::ServerParsed);
    }
}
