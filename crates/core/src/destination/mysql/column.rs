//! A column of the target table as the server describes it, and how it stores values.
//!
//! Types whose values the server may change without a warning are described closely enough for [`super::check`] to
//! refuse such values; the others are the server's to check.

use crate::error::Result;

use super::connect::Connection;

/// One row of `information_schema.COLUMNS`, in the order of [`COLUMNS_SQL`].
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
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

/// MariaDB's JSON is a LONGTEXT with a constraint of the column's name. Asked for on its own: a subquery for each column would
/// open every table of the server each time, and MariaDB 10.11 was seen to crash on it while others made and dropped tables.
const JSON_COLUMNS_SQL: &str = "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS \
     WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%'";

/// A column of a MySQL table.
pub(super) type TargetColumn = crate::destination::column::TargetColumn<Storage>;

/// How the server stores a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::destination) enum Storage {
    /// Whole numbers within bounds.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: u64,
    },
    /// Exact decimals.
    Decimal {
        /// All digits.
        precision: u64,
        /// Digits behind the point.
        scale: u64,
        /// No negative numbers.
        unsigned: bool,
    },
    /// Floats of 64 bits, or of 32.
    Float {
        /// 32 bits.
        single: bool,
        /// Digits in all and behind the point, of the old form `DOUBLE(10,2)` that rounds.
        digits: Option<(u64, u64)>,
        /// No negative numbers.
        unsigned: bool,
    },
    /// Days.
    Date,
    /// Date and time on no particular clock; ours are in UTC.
    DateTime {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// Instants from 1970 to 2038.
    Timestamp {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// `HHH:MM:SS`.
    Time {
        /// Digits of a second's fraction.
        fraction_digits: u32,
    },
    /// 0000 and 1901 to 2155.
    Year,
    /// CHAR, VARCHAR: a number of characters.
    Characters {
        /// The most characters.
        max: u64,
        /// CHAR: blanks at the end are lost on reading.
        loses_blanks: bool,
    },
    /// The TEXT family: a number of bytes, where they are the same bytes as ours.
    Text {
        /// The most bytes, when the column keeps UTF-8.
        max_bytes: Option<u64>,
    },
    /// The BINARY and BLOB families: a number of bytes.
    Bytes {
        /// The most bytes.
        max: u64,
        /// BINARY: shorter values are filled up with zeros.
        fixed: bool,
    },
    /// Bits, written as a number.
    Bits {
        /// How many.
        count: u32,
    },
    /// One of these words.
    Enum(Vec<String>),
    /// Some of these words, in this order.
    Set(Vec<String>),
    /// JSON: its text as it is (MariaDB), or what it means (MySQL).
    Json {
        /// The server keeps what the text means and not the text: numbers as 64-bit integers and floats, one value for
        /// each key, keys in another order.
        keeps_meaning: bool,
    },
    /// What only the server can check: UUID, INET, geometry.
    ServerChecked,
}

/// The columns of a table, in table order.
pub(super) async fn describe(connection: &mut Connection, table: &str) -> Result<Vec<TargetColumn>> {
    let doing = "cannot read the target table's columns";
    let rows: Vec<Described> = connection.rows(doing, COLUMNS_SQL, (table,)).await?;
    let json_columns: Vec<String> = match connection.facts.is_mariadb {
        true => connection.rows(doing, JSON_COLUMNS_SQL, (table,)).await?,
        false => Vec::new(),
    };
    Ok(rows.into_iter().map(|described| column(described, &json_columns)).collect())
}

fn column(described: Described, json_columns: &[String]) -> TargetColumn {
    let (name, data_type, type_text, nullable, default, extra, length, precision, scale, fraction, collation) =
        described;
    let is_json_text = json_columns.contains(&name);
    let extra = extra.to_ascii_uppercase();
    let numbers = Numbers { length, precision, scale, fraction };
    let storage = match is_json_text {
        true => Storage::Json { keeps_meaning: false },
        false => storage(&data_type.to_ascii_lowercase(), &type_text, &numbers, collation.as_deref()),
    };
    TargetColumn {
        storage,
        collation,
        in_merge_key: false,
        name,
        type_text: if is_json_text { "json".to_owned() } else { type_text },
        nullable: nullable.eq_ignore_ascii_case("YES"),
        has_default: default.is_some() || extra.contains("AUTO_INCREMENT") || extra.contains("DEFAULT_GENERATED"),
        auto_increment: extra.contains("AUTO_INCREMENT"),
        generated: extra.contains("VIRTUAL GENERATED")
            || extra.contains("STORED GENERATED")
            || extra.contains("ROW START")
            || extra.contains("ROW END"),
        null_tokens: true,
    }
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
    let fraction_digits = numbers.fraction.map_or(0, |digits| digits.min(6) as u32);
    match data_type {
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
        "char" => Storage::Characters { max: length, loses_blanks: true },
        "varchar" => Storage::Characters { max: length, loses_blanks: false },
        "tinytext" | "text" | "mediumtext" | "longtext" => {
            let is_utf8 = collation.is_some_and(|name| name.starts_with("utf8"));
            let max_bytes = match data_type {
                "tinytext" => 0xff,
                "text" => 0xffff,
                "mediumtext" => 0xff_ffff,
                _ => 0xffff_ffff,
            };
            Storage::Text { max_bytes: is_utf8.then_some(max_bytes) }
        }
        "binary" => Storage::Bytes { max: length, fixed: true },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Storage::Bytes { max: length, fixed: false },
        "bit" => Storage::Bits { count: numbers.precision.map_or(1, |bits| bits.clamp(1, 64) as u32) },
        "json" => Storage::Json { keeps_meaning: true },
        "enum" => Storage::Enum(words(type_text)),
        "set" => Storage::Set(words(type_text)),
        _ => Storage::ServerChecked,
    }
}

fn integer(bits: u32, unsigned: bool) -> Storage {
    if unsigned {
        return Storage::Integer { min: 0, max: u64::MAX >> (64 - bits) };
    }
    Storage::Integer { min: i64::MIN >> (64 - bits), max: (i64::MAX as u64) >> (64 - bits) }
}

/// The words of `enum('a','it''s')`; quotes inside are doubled.
fn words(type_text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = type_text.chars().peekable();
    while let Some(character) = characters.next() {
        match (&mut word, character) {
            (None, '\'') => word = Some(String::new()),
            (None, _) => {}
            (Some(open), '\'') if characters.peek() == Some(&'\'') => {
                characters.next();
                open.push('\'');
            }
            (Some(_), '\'') => words.extend(word.take()),
            (Some(open), other) => open.push(other),
        }
    }
    words
}

#[cfg(test)]
pub(super) fn column_of(type_text: &str) -> TargetColumn {
    let data_type = type_text.split(['(', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    let mut numbers = type_text
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inside, _)| inside.split(',').map_while(|number| number.trim().parse::<u64>().ok()).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter();
    let first = numbers.next();
    let numbers = Numbers { length: first, precision: first, scale: numbers.next(), fraction: first };
    TargetColumn {
        name: "c".into(),
        type_text: type_text.into(),
        storage: storage(&data_type, type_text, &numbers, Some("utf8mb4_bin")),
        collation: None,
        in_merge_key: false,
        nullable: true,
        has_default: false,
        auto_increment: false,
        generated: false,
        null_tokens: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_bounds_follow_width_and_sign() {
        assert_eq!(integer(8, false), Storage::Integer { min: -128, max: 127 });
        assert_eq!(integer(24, false), Storage::Integer { min: -8_388_608, max: 8_388_607 });
        assert_eq!(integer(32, true), Storage::Integer { min: 0, max: 4_294_967_295 });
        assert_eq!(integer(64, true), Storage::Integer { min: 0, max: u64::MAX });
    }

    #[test]
    fn enum_words_keep_quotes_and_commas() {
        assert_eq!(words("enum('a','it''s','b,c','')"), ["a", "it's", "b,c", ""]);
    }
}
