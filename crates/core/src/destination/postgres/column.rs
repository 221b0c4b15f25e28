//! A column of the target table as the server describes it, and how it stores values.
//!
//! A domain is stored as the type under it, with the domain's own constraints left to the server. Types that are not described
//! closely enough to check a value exactly are sent as text, which the server parses as strictly as a literal.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Connection, value};
use crate::destination::value_check::Rejection;
use crate::error::Result;

/// Each column with the type under its domains; `typmod` is that of the innermost domain that has one, or the column's own.
const COLUMNS_SQL: &str = "\
    WITH RECURSIVE steps AS ( \
        SELECT a.attnum, a.atttypid AS type_id, a.atttypmod AS modifier, a.attnotnull AS demanded, false AS filled \
        FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = CAST(CAST($1 AS text) AS regclass) AND a.attnum > 0 AND NOT a.attisdropped \
      UNION ALL \
        SELECT s.attnum, t.typbasetype, CASE WHEN s.modifier >= 0 THEN s.modifier ELSE t.typtypmod END, \
            s.demanded OR t.typnotnull, s.filled OR t.typdefault IS NOT NULL \
        FROM steps s JOIN pg_catalog.pg_type t ON t.oid = s.type_id WHERE t.typtype = 'd') \
    SELECT CAST(a.attname AS text), pg_catalog.format_type(a.atttypid, a.atttypmod), s.demanded, \
        s.filled OR a.atthasdef OR a.attidentity <> '', CAST(a.attidentity AS text), \
        COALESCE(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> '', \
        CASE WHEN n.nspname = 'pg_catalog' THEN CAST(t.typname AS text) ELSE '' END, CAST(t.typtype AS text), s.modifier \
    FROM steps s JOIN pg_catalog.pg_type t ON t.oid = s.type_id \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = CAST(CAST($1 AS text) AS regclass) AND a.attnum = s.attnum \
    WHERE t.typtype <> 'd' ORDER BY s.attnum";

/// A column of a PostgreSQL table.
pub(super) type TargetColumn = crate::destination::column::TargetColumn<Storage>;

/// How the server stores a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::destination) enum Storage {
    /// Truth values.
    Boolean,
    /// Whole numbers of this many bytes: 2, 4 or 8.
    Integer {
        /// The width.
        bytes: u8,
    },
    /// Exact decimals; without a size any number of digits.
    Numeric {
        /// All digits, and digits behind the point.
        size: Option<(u64, u64)>,
    },
    /// Floats of 32 bits.
    Real,
    /// Floats of 64 bits.
    Double,
    /// Days.
    Date,
    /// Times of day.
    Time {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// Date and time on no particular clock; ours are in UTC.
    Timestamp {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// Instants.
    Instant {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// Text, of so many characters at the most.
    Characters {
        /// The most characters; any number without it.
        max: Option<u64>,
        /// `char(n)`: blanks at the end do not count.
        loses_blanks: bool,
    },
    /// 128 bits in hex.
    Uuid,
    /// JSON as it is written, which the server checks.
    Json,
    /// JSON as the server takes it apart.
    Jsonb,
    /// One of the type's words, which the server checks.
    Enum,
    /// What only the server can parse: `bytea`, arrays, ranges, intervals, network addresses, and all that extensions bring.
    ServerParsed,
    /// Intervals and times with an offset, which the server parses and rounds to a microsecond.
    Span,
    /// What would not come back as it was.
    Unsupported(Rejection),
}

/// The columns of a table, in table order. `relation` is its quoted name.
pub(super) async fn describe(connection: &mut Connection, relation: &str) -> Result<Vec<TargetColumn>> {
    let doing = "cannot read the target table's columns";
    let rows = connection.rows(doing, COLUMNS_SQL, &[(&relation, Type::TEXT)]).await?;
    rows.iter().map(column).collect()
}

fn column(row: &Row) -> Result<TargetColumn> {
    let demanded: bool = value(row, 2)?;
    let identity: String = value(row, 4)?;
    let generated: bool = value(row, 5)?;
    let (name, kind, modifier): (String, String, i32) = (value(row, 6)?, value(row, 7)?, value(row, 8)?);
    Ok(TargetColumn {
        name: value(row, 0)?,
        type_text: value(row, 1)?,
        storage: storage(&name, &kind, modifier),
        nullable: !demanded,
        has_default: value(row, 3)?,
        auto_increment: !identity.is_empty(),
        // COPY would store a number in a column that is always numbered; the table says that nobody may.
        generated: generated || identity == "a",
        collation: None,
        in_merge_key: false,
        null_tokens: true,
    })
}

/// `name` is empty for a type that is not the server's own; `kind` is `pg_type.typtype`.
fn storage(name: &str, kind: &str, modifier: i32) -> Storage {
    if kind == "e" {
        return Storage::Enum;
    }
    // The modifier of text and numbers counts the length word that the server keeps in front of them.
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
        "text" => Storage::Characters { max: None, loses_blanks: false },
        "varchar" => Storage::Characters { max: length.map(u64::from), loses_blanks: false },
        "bpchar" => Storage::Characters { max: length.map(u64::from), loses_blanks: true },
        "uuid" => Storage::Uuid,
        "json" => Storage::Json,
        "jsonb" => Storage::Jsonb,
        // The server would cut, round or drop what does not fit, without an error.
        "name" => Storage::Unsupported("cannot be kept whole"),
        "char" => Storage::Unsupported("cannot be kept whole"),
        "interval" | "timetz" if modifier < 0 => Storage::Span,
        "interval" | "timetz" | "money" => Storage::Unsupported("may be rounded"),
        // An array of a type with a size: what is too long in it is rounded too.
        array if array.starts_with('_') && modifier >= 0 => Storage::Unsupported("may be rounded"),
        _ => Storage::ServerParsed,
    }
}

/// Precision stands above 16 bits, the scale in the 11 below, with a sign since version 15. A scale below zero or above the
/// precision rounds whole digits away or demands zeros; the server refuses none of it, so nothing goes in.
fn numeric(size: Option<u32>) -> Storage {
    let Some(size) = size else { return Storage::Numeric { size: None } };
    let (precision, scale) = (u64::from(size >> 16), i64::from(size & 0x7ff));
    let scale = if scale >= 1024 { scale - 2048 } else { scale };
    match u64::try_from(scale) {
        Ok(scale) if scale <= precision => Storage::Numeric { size: Some((precision, scale)) },
        _ => Storage::Unsupported("may be rounded"),
    }
}

#[cfg(test)]
pub(super) fn column_of(name: &str, modifier: i32) -> TargetColumn {
    TargetColumn {
        name: "c".into(),
        type_text: name.into(),
        storage: storage(name, if name == "mood" { "e" } else { "b" }, modifier),
        nullable: true,
        has_default: false,
        auto_increment: false,
        generated: false,
        collation: None,
        in_merge_key: false,
        null_tokens: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_out_of_the_modifier() {
        assert_eq!(storage("numeric", "b", ((18 << 16) | 2) + 4), Storage::Numeric { size: Some((18, 2)) });
        assert_eq!(storage("numeric", "b", -1), Storage::Numeric { size: None });
        assert!(matches!(storage("numeric", "b", ((5 << 16) | (2048 - 3)) + 4), Storage::Unsupported(_)));
        assert_eq!(storage("varchar", "b", 24), Storage::Characters { max: Some(20), loses_blanks: false });
        assert_eq!(storage("timestamp", "b", 3), Storage::Timestamp { fraction_digits: 3 });
        assert_eq!(storage("timestamptz", "b", -1), Storage::Instant { fraction_digits: 6 });
        assert_eq!(storage("mood", "e", -1), Storage::Enum);
        assert_eq!(storage("", "b", -1), Storage::ServerParsed);
    }
}
