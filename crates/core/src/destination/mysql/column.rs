//! The columns of a table as the server describes them, and how it stores their values.
//!
//! The server may change values of some types without a warning. The storage of such a type has enough details for
//! [`super::check`] to reject these values. The server checks the values of all other types.

use crate::destination::column::NullFill;
use crate::error::Result;
use crate::table_name::TableName;

use super::connect::Connection;

/// A row of `information_schema.COLUMNS`, in the order of [`COLUMNS_SQL`].
type Described = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<String>,
);

const COLUMNS_SQL: &str = "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
     CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, COLLATION_NAME \
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

/// MariaDB's JSON columns: LONGTEXT with a constraint of the column's name.
///
/// This is a separate query, because a subquery opens every table of the server for each column. MariaDB 10.11 crashed
/// on such a subquery while other sessions created and dropped tables.
const JSON_COLUMNS_SQL: &str = "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS \
     WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%'";

/// Whether the table has a BEFORE INSERT trigger. The server shows triggers only to a user with the privilege TRIGGER.
const TRIGGERS_SQL: &str = "SELECT COUNT(*) FROM information_schema.TRIGGERS \
     WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? AND ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION = 'INSERT'";

/// A column of a MySQL table.
pub(super) type TableColumn = crate::destination::column::TableColumn<Storage>;

/// How the server stores a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) enum Storage {
    /// Integers in a range.
    Integer {
        /// Minimum.
        min: i64,
        /// Maximum.
        max: u64,
    },
    /// TINYINT(1), which stores integers and is meant for booleans.
    Flag {
        /// Minimum.
        min: i64,
        /// Maximum.
        max: u64,
    },
    /// Exact decimals.
    Decimal {
        /// Total digits.
        precision: u64,
        /// Digits after the decimal point.
        scale: u64,
        /// Whether negative numbers are not allowed.
        unsigned: bool,
    },
    /// Floats of 64 or 32 bits.
    Float {
        /// Whether the float has 32 bits.
        single: bool,
        /// Total digits and digits after the decimal point, of the deprecated `DOUBLE(10,2)` that rounds.
        digits: Option<(u64, u64)>,
        /// Whether negative numbers are not allowed.
        unsigned: bool,
    },
    /// Dates.
    Date,
    /// Dates and times without a time zone. Instants are stored in UTC.
    DateTime {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// Instants from 1970 to 2038.
    Timestamp {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// `HHH:MM:SS`.
    Time {
        /// Decimals of a second.
        fraction_digits: u32,
    },
    /// Years: 0000, and 1901 to 2155.
    Year,
    /// CHAR and VARCHAR: limited by characters.
    Characters {
        /// Maximum number of characters.
        max: u64,
        /// Whether the server removes trailing spaces on reading, as it does for CHAR.
        trims_spaces: bool,
    },
    /// The TEXT types: limited by bytes.
    Text {
        /// Maximum number of bytes, if the column stores UTF-8.
        max_bytes: Option<u64>,
    },
    /// The BINARY and BLOB types: limited by bytes.
    Bytes {
        /// Maximum number of bytes.
        max: u64,
        /// Whether the server pads shorter values with zeros, as it does for BINARY.
        fixed: bool,
    },
    /// BIT, written as a number.
    Bits {
        /// Number of bits.
        count: u32,
    },
    /// ENUM with these values.
    Enum(Vec<String>),
    /// SET with these values, in this order.
    Set(Vec<String>),
    /// JSON.
    Json {
        /// Whether the server stores the parsed document instead of its text, as MySQL does and MariaDB does not.
        ///
        /// Numbers are then 64-bit integers and floats, a key has one value, and keys are reordered.
        is_parsed: bool,
    },
    /// MariaDB's UUID. The server checks the values.
    Uuid,
    /// Geometries, written as WKT. The server checks the values.
    Geometry,
    /// Types that only the server can check: INET.
    ServerChecked,
}

/// How a column's values are compared, and whether the file's null tokens apply to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueClass {
    /// Numbers, dates, times and UUIDs. A null token of the file means NULL.
    Scalar,
    /// Text with a collation, which may find different texts equal.
    Text,
    /// Bytes, documents, and types that only the server can check.
    Opaque,
}

impl Storage {
    /// Returns the class of the column's values.
    pub(super) fn class(&self) -> ValueClass {
        match self {
            Self::Integer { .. }
            | Self::Flag { .. }
            | Self::Decimal { .. }
            | Self::Float { .. }
            | Self::Date
            | Self::DateTime { .. }
            | Self::Timestamp { .. }
            | Self::Time { .. }
            | Self::Year
            | Self::Bits { .. }
            | Self::Uuid => ValueClass::Scalar,
            Self::Characters { .. }
            | Self::Text { .. }
            | Self::Enum(_)
            | Self::Set(_)
            | Self::Json { is_parsed: false } => ValueClass::Text,
            Self::Bytes { .. } | Self::Json { is_parsed: true } | Self::Geometry | Self::ServerChecked => {
                ValueClass::Opaque
            }
        }
    }
}

/// Returns the columns of a table, in table order.
pub(super) async fn describe(connection: &mut Connection, table: &TableName) -> Result<Vec<TableColumn>> {
    let context = "cannot read the table's columns";
    let name = connection.schema_and_name(table);
    let rows: Vec<Described> = connection.rows(context, COLUMNS_SQL, name.clone()).await?;
    let json_columns: Vec<String> = match connection.facts.is_mariadb {
        true => connection.rows(context, JSON_COLUMNS_SQL, name.clone()).await?,
        false => Vec::new(),
    };
    let mut columns: Vec<TableColumn> = rows.into_iter().map(|described| column(described, &json_columns)).collect();
    // Only such a column depends on triggers.
    let is_required = |column: &TableColumn| !column.nullable && column.null_fill == NullFill::Nothing;
    if columns.iter().any(is_required) {
        let triggers: Vec<u64> = connection.rows(context, TRIGGERS_SQL, name).await?;
        if triggers.iter().any(|count| *count > 0) {
            columns
                .iter_mut()
                .filter(|column| is_required(column))
                .for_each(|column| column.null_fill = NullFill::TriggerIfSent);
        }
    }
    Ok(columns)
}

fn column(described: Described, json_columns: &[String]) -> TableColumn {
    let (name, data_type, type_text, nullable, default, extra, length, precision, scale, fraction, collation) =
        described;
    let is_json_text = json_columns.contains(&name);
    let extra = extra.to_ascii_uppercase();
    let auto_increment = extra.contains("AUTO_INCREMENT");
    let numbers = Numbers { length, precision, scale, fraction };
    let storage = match is_json_text {
        true => Storage::Json { is_parsed: false },
        false => storage(&data_type.to_ascii_lowercase(), &type_text, &numbers, collation.as_deref()),
    };
    TableColumn {
        storage,
        collation,
        in_merge_key: false,
        name,
        type_text: if is_json_text { "json".to_owned() } else { type_text },
        nullable: nullable.eq_ignore_ascii_case("YES"),
        has_default: default.is_some() || auto_increment || extra.contains("DEFAULT_GENERATED"),
        auto_increment,
        generated: extra.contains("VIRTUAL GENERATED")
            || extra.contains("STORED GENERATED")
            || extra.contains("ROW START")
            || extra.contains("ROW END"),
        null_fill: if auto_increment { NullFill::NextNumber } else { NullFill::Nothing },
        null_tokens: true,
        is_binary: false,
        day_order: None,
        field: 0,
        extra: None,
        operation: None,
        invisible: extra.contains("INVISIBLE"),
    }
}

/// Whether values are sent as pairs of hex digits, because the server would check and convert text by its character set.
pub(super) fn is_sent_in_hex(column: &TableColumn) -> bool {
    column.is_binary && matches!(column.storage, Storage::Bytes { .. })
}

struct Numbers {
    length: Option<u64>,
    precision: Option<u64>,
    scale: Option<u64>,
    fraction: Option<u64>,
}

fn storage(data_type: &str, type_text: &str, numbers: &Numbers, collation: Option<&str>) -> Storage {
    let unsigned = type_text.to_ascii_lowercase().contains("unsigned");
    let length = numbers.length.unwrap_or(u64::MAX);
    let is_utf8 = collation.is_some_and(|name| name.starts_with("utf8"));
    let text = |max_bytes| Storage::Text { max_bytes: is_utf8.then_some(max_bytes) };
    let fraction_digits = numbers.fraction.map_or(0, |digits| digits.min(6) as u32);
    match data_type {
        "tinyint" if type_text.to_ascii_lowercase().starts_with("tinyint(1)") => flag(unsigned),
        "tinyint" => integer(8, unsigned),
        "smallint" => integer(16, unsigned),
        "mediumint" => integer(24, unsigned),
        "int" | "integer" => integer(32, unsigned),
        "bigint" => integer(64, unsigned),
        "decimal" | "numeric" => {
            Storage::Decimal { precision: numbers.precision.unwrap_or(10), scale: numbers.scale.unwrap_or(0), unsigned }
        }
        "float" => Storage::Float { single: true, digits: numbers.precision.zip(numbers.scale), unsigned },
        "double" | "real" => Storage::Float { single: false, digits: numbers.precision.zip(numbers.scale), unsigned },
        "date" => Storage::Date,
        "datetime" => Storage::DateTime { fraction_digits },
        "timestamp" => Storage::Timestamp { fraction_digits },
        "time" => Storage::Time { fraction_digits },
        "year" => Storage::Year,
        "char" => Storage::Characters { max: length, trims_spaces: true },
        "varchar" => Storage::Characters { max: length, trims_spaces: false },
        "tinytext" => text(0xff),
        "text" => text(0xffff),
        "mediumtext" => text(0xff_ffff),
        "longtext" => text(0xffff_ffff),
        "binary" => Storage::Bytes { max: length, fixed: true },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Storage::Bytes { max: length, fixed: false },
        "bit" => Storage::Bits { count: numbers.precision.map_or(1, |bits| bits.clamp(1, 64) as u32) },
        "json" => Storage::Json { is_parsed: true },
        "enum" => Storage::Enum(members(type_text)),
        "set" => Storage::Set(members(type_text)),
        "uuid" => Storage::Uuid,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => Storage::Geometry,
        _ => Storage::ServerChecked,
    }
}

fn integer(bits: u32, unsigned: bool) -> Storage {
    let (min, max) = range(bits, unsigned);
    Storage::Integer { min, max }
}

fn flag(unsigned: bool) -> Storage {
    let (min, max) = range(8, unsigned);
    Storage::Flag { min, max }
}

fn range(bits: u32, unsigned: bool) -> (i64, u64) {
    match unsigned {
        true => (0, u64::MAX >> (64 - bits)),
        false => (i64::MIN >> (64 - bits), (i64::MAX as u64) >> (64 - bits)),
    }
}

/// Returns the values of a type like `enum('a','it''s')`.
///
/// The server doubles quotes, and writes a backslash before a backslash and in place of NUL, line feed and carriage return.
fn members(type_text: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut member: Option<String> = None;
    let mut characters = type_text.chars().peekable();
    while let Some(character) = characters.next() {
        match (&mut member, character) {
            (None, '\'') => member = Some(String::new()),
            (None, _) => {}
            (Some(open), '\'') if characters.peek() == Some(&'\'') => {
                characters.next();
                open.push('\'');
            }
            (Some(_), '\'') => members.extend(member.take()),
            (Some(open), '\\') => open.extend(characters.next().map(|escaped| match escaped {
                '0' => '\0',
                'n' => '\n',
                'r' => '\r',
                other => other,
            })),
            (Some(open), other) => open.push(other),
        }
    }
    members
}

/// Returns the storage of a type in SQL with the collation of created tables, on MySQL.
pub(super) fn storage_of(type_text: &str) -> Storage {
    storage_with(type_text, Some("utf8mb4_bin"))
}

/// Returns the storage of a type in SQL with a collation, on MySQL. A character set in the type is UTF-8.
pub(super) fn storage_with(type_text: &str, collation: Option<&str>) -> Storage {
    let collation = if type_text.contains(" CHARACTER SET ") { Some("utf8mb4_bin") } else { collation };
    let data_type = type_text.split(['(', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    let mut numbers = type_text
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inside, _)| inside.split(',').map_while(|number| number.trim().parse::<u64>().ok()).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter();
    let first = numbers.next();
    let numbers = Numbers { length: first, precision: first, scale: numbers.next(), fraction: first };
    storage(&data_type, type_text, &numbers, collation)
}

/// Returns a nullable column of a type with the name `c`.
#[cfg(test)]
pub(super) fn column_of(type_text: &str) -> TableColumn {
    crate::destination::column::nullable_column(type_text, storage_of(type_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_range_follows_width_and_sign() {
        assert_eq!(integer(8, false), Storage::Integer { min: -128, max: 127 });
        assert_eq!(integer(24, false), Storage::Integer { min: -8_388_608, max: 8_388_607 });
        assert_eq!(integer(32, true), Storage::Integer { min: 0, max: 4_294_967_295 });
        assert_eq!(integer(64, true), Storage::Integer { min: 0, max: u64::MAX });
        assert_eq!(column_of("tinyint(1)").storage, Storage::Flag { min: -128, max: 127 });
        assert_eq!(column_of("tinyint(4)").storage, integer(8, false));
    }

    #[test]
    fn enum_values_may_contain_quotes_commas_and_backslashes() {
        assert_eq!(members("enum('a','it''s','b,c','')"), ["a", "it's", "b,c", ""]);
        assert_eq!(members(r"enum('a\\b','c\nd','\\n','\0','\\''')"), ["a\\b", "c\nd", "\\n", "\0", "\\'"]);
    }
}
