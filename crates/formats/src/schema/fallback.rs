//! The names and types of a file's columns in the fallback. The catalog chooses them, and the encoders use them.
//!
//! The catalog chooses because its table contains earlier files, one of which may have created a column of the same name with
//! another type. A value that is stored in another type is restored in the file's type.

use serde::{Deserialize, Serialize};

use super::ColumnType;
use super::value::{Value, parse, write_text};

/// The format of fallback objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackFormat {
    /// Typed and compressed. This is the default.
    Parquet,
    /// Every column is a string.
    Csv,
}

impl FallbackFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Parquet, Self::Csv];

    /// The file name extension, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// A column of a file in the fallback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackColumn {
    /// The column's name in the catalog and in the Parquet file, lower case.
    pub name: String,
    /// The type of the values in the file, in which a replay restores them.
    pub file_type: ColumnType,
    /// The type in which they are stored. It holds every value of the file.
    pub stored_type: ColumnType,
    /// The index of the column in the catalog's table, from 0. CSV is read by index, Parquet by name.
    pub place: usize,
}

impl FallbackColumn {
    /// The value to store for a field, or `None` if the field does not have the file's type.
    ///
    /// A value that is stored as text keeps its spelling. A null token is NULL unless the file's type is text.
    pub fn store<'a>(&self, field: Option<&'a [u8]>) -> Option<Value<'a>> {
        let value = parse(self.file_type, field)?;
        if value == Value::Null || self.stored_type == self.file_type {
            return Some(value);
        }
        match (self.file_type, self.stored_type) {
            (ColumnType::Text, ColumnType::Binary) => parse(ColumnType::Binary, field),
            // CSV, which stores bytes in hex.
            (ColumnType::Binary, ColumnType::Text) => Some(value),
            // Text that looks like a value of another type would be restored in another spelling.
            (ColumnType::Text | ColumnType::Binary, _) | (_, ColumnType::Binary) => None,
            (_, stored_type) => parse(stored_type, field),
        }
    }

    /// A stored value in the file's type, or `None` if [`FallbackColumn::store`] did not store it.
    ///
    /// Text and JSON are returned unchanged, because they are the spelling of the file.
    pub fn restore<'a>(&self, stored: Value<'a>) -> Option<Value<'a>> {
        match (stored, self.file_type) {
            (Value::Null, _) | (Value::Json(_), _) | (Value::Text(_), _) => Some(stored),
            (Value::Boolean(_), ColumnType::Boolean)
            | (Value::Integer(_), ColumnType::Integer)
            | (Value::Double(_), ColumnType::Double)
            | (Value::Date { .. }, ColumnType::Date)
            | (Value::DateTime { .. }, ColumnType::DateTime)
            | (Value::Instant { .. }, ColumnType::Instant)
            | (Value::Binary(_), ColumnType::Binary) => Some(stored),
            (Value::Binary(bytes), ColumnType::Text) => std::str::from_utf8(bytes).ok().map(Value::Text),
            (Value::Integer(value), ColumnType::Decimal { precision, scale }) => {
                rescaled(value.into(), 0, precision, scale)
            }
            (Value::Integer(value), ColumnType::Double) => Some(Value::Double(value as f64)),
            (Value::Decimal { unscaled, scale: stored_scale }, ColumnType::Decimal { precision, scale }) => {
                rescaled(unscaled, stored_scale, precision, scale)
            }
            (Value::Decimal { unscaled, scale }, ColumnType::Integer) => {
                let Value::Decimal { unscaled, .. } = rescaled(unscaled, scale, 38, 0)? else { return None };
                i64::try_from(unscaled).ok().map(Value::Integer)
            }
            (Value::Decimal { unscaled, scale }, ColumnType::Double) => {
                format!("{unscaled}e-{scale}").parse().ok().map(Value::Double)
            }
            (Value::Double(value), ColumnType::Integer) => Some(Value::Integer(value as i64)),
            (Value::Double(value), ColumnType::Decimal { precision, scale }) => decimal(value, precision, scale),
            (Value::DateTime { micros }, ColumnType::Date) => {
                i32::try_from(micros.div_euclid(86_400_000_000)).ok().map(|days| Value::Date { days })
            }
            (
                Value::Boolean(_)
                | Value::Integer(_)
                | Value::Decimal { .. }
                | Value::Double(_)
                | Value::Date { .. }
                | Value::DateTime { .. }
                | Value::Instant { .. }
                | Value::Binary(_),
                _,
            ) => None,
        }
    }
}

/// The decimal that was stored as a float: its digits are those of the float's shortest text, as [`parse`] has checked.
fn decimal(value: f64, precision: u8, scale: u8) -> Option<Value<'static>> {
    let mut text = Vec::new();
    write_text(&Value::Double(value), &mut text);
    let text = String::from_utf8(text).ok()?;
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?;
    match u8::try_from(-exponent) {
        Ok(fraction_digits) => rescaled(unscaled, fraction_digits, precision, scale),
        Err(_) => {
            let factor = 10i128.checked_pow(u32::try_from(exponent).ok()?)?;
            rescaled(unscaled.checked_mul(factor)?, 0, precision, scale)
        }
    }
}

/// The same number with another scale, or `None` if it does not fit.
fn rescaled(unscaled: i128, from_scale: u8, precision: u8, scale: u8) -> Option<Value<'static>> {
    let factor = 10i128.checked_pow(u32::from(from_scale.abs_diff(scale)))?;
    let rescaled = match from_scale <= scale {
        true => unscaled.checked_mul(factor)?,
        false if unscaled % factor == 0 => unscaled / factor,
        false => return None,
    };
    let fits = rescaled.unsigned_abs() < 10u128.checked_pow(precision.into())?;
    fits.then_some(Value::Decimal { unscaled: rescaled, scale })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of a field after a round trip through another type.
    fn round_trip(file_type: ColumnType, stored_type: ColumnType, field: &str) -> Option<String> {
        let column = FallbackColumn { name: "c".to_owned(), file_type, stored_type, place: 0 };
        let mut text = Vec::new();
        write_text(&column.restore(column.store(Some(field.as_bytes()))?)?, &mut text);
        Some(String::from_utf8(text).unwrap())
    }

    #[test]
    fn value_in_another_type_is_restored_in_the_files_type() {
        let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
        for (file_type, stored_type, field, expected) in [
            (ColumnType::Integer, decimal(12, 2), "-5", "-5"),
            (ColumnType::Integer, ColumnType::Double, "9007199254740992", "9007199254740992"),
            (ColumnType::Integer, ColumnType::Text, "42", "42"),
            (ColumnType::Boolean, ColumnType::Text, "TRUE", "TRUE"),
            (ColumnType::Boolean, ColumnType::Boolean, "tRUE", "true"),
            (decimal(2, 1), ColumnType::Text, ".5", ".5"),
            (decimal(2, 1), decimal(12, 4), "-.5", "-0.5"),
            (decimal(2, 1), ColumnType::Double, "5.", "5.0"),
            (ColumnType::Integer, ColumnType::Integer, "none", ""),
            (ColumnType::Text, ColumnType::Text, "none", "none"),
            (ColumnType::Json, ColumnType::Text, "{\"a\": [1.0]}", "{\"a\": [1.0]}"),
            (ColumnType::Json, ColumnType::Json, "[ ]", "[ ]"),
            (decimal(5, 2), decimal(12, 4), "1.50", "1.50"),
            (decimal(5, 2), ColumnType::Double, "-0.25", "-0.25"),
            (decimal(20, 0), ColumnType::Double, "10000000000000000000", "10000000000000000000"),
            // Two decimals of this length are equally near to the float. The right one must be restored.
            (decimal(18, 1), ColumnType::Double, "2189498951600788.2", "2189498951600788.2"),
            (decimal(30, 12), ColumnType::Double, "0.000000015000", "0.000000015000"),
            (decimal(38, 2), ColumnType::Double, "-150000000000000000000.00", "-150000000000000000000.00"),
            (ColumnType::Double, decimal(12, 4), "1.5", "1.5"),
            (ColumnType::Instant, ColumnType::Text, "2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00+02:00"),
            (ColumnType::Text, ColumnType::Binary, "\\x41", "\\x41"),
            (ColumnType::Binary, ColumnType::Text, "", ""),
        ] {
            assert_eq!(
                round_trip(file_type, stored_type, field).as_deref(),
                Some(expected),
                "{file_type:?} {stored_type:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn decimal_that_a_float_holds_is_restored(mantissa in any::<i64>(), keep in 1..19usize, scale in 0..18u8) {
            let digits: String = mantissa.unsigned_abs().to_string().chars().take(keep).collect();
            let file_type = ColumnType::Decimal { precision: 38, scale };
            let mut text = Vec::new();
            write_text(&Value::Decimal { unscaled: digits.parse().unwrap(), scale }, &mut text);
            let text = String::from_utf8(text).unwrap();
            if parse(ColumnType::Double, Some(text.as_bytes())).is_some() {
                prop_assert_eq!(round_trip(file_type, ColumnType::Double, &text), Some(text));
            }
        }
    }

    #[test]
    fn value_that_could_not_be_restored_is_not_stored() {
        assert_eq!(round_trip(ColumnType::Text, ColumnType::Integer, "7"), None);
        assert_eq!(round_trip(ColumnType::Binary, ColumnType::Integer, "7"), None);
        assert_eq!(round_trip(ColumnType::Integer, ColumnType::Binary, "7"), None);
        assert_eq!(round_trip(ColumnType::Integer, ColumnType::Integer, "x"), None);
        assert_eq!(round_trip(ColumnType::Json, ColumnType::Text, "{\"a\""), None);
        assert_eq!(round_trip(ColumnType::Double, ColumnType::Decimal { precision: 3, scale: 1 }, "1.25"), None);
    }

    #[test]
    fn null_token_is_null_unless_the_column_is_text() {
        assert_eq!(round_trip(ColumnType::Integer, ColumnType::Text, "N/A").as_deref(), Some(""));
        assert_eq!(round_trip(ColumnType::Text, ColumnType::Text, "N/A").as_deref(), Some("N/A"));
    }
}
