//! Numbers, dates and times as text, with every digit.

use std::io::Write;

use crate::FieldKind;
use crate::schema::value::{Value, write_text};

pub(super) const NANOS_PER_SECOND: i128 = 1_000_000_000;
pub(super) const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND;

/// Writes a value as [`std::fmt::Display`] shows it.
pub(super) fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing to a vector never fails");
}

/// Writes the shortest digits that parse to the same 32-bit float.
pub(super) fn float32(value: f32, out: &mut Vec<u8>) -> FieldKind {
    if !value.is_finite() {
        return not_finite(value.into(), out);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    let short = if value == 0.0 && value.is_sign_negative() { None } else { text.strip_suffix(".0") };
    out.extend_from_slice(short.unwrap_or(text).as_bytes());
    FieldKind::Plain
}

/// Writes the shortest digits that parse to the same 64-bit float.
pub(super) fn float64(value: f64, out: &mut Vec<u8>) -> FieldKind {
    if !value.is_finite() {
        return not_finite(value, out);
    }
    write_text(&Value::Double(value), out);
    FieldKind::Plain
}

/// Writes the name of the value. It is a string, so that type inference does not treat `NaN` as a null token.
fn not_finite(value: f64, out: &mut Vec<u8>) -> FieldKind {
    let name = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    out.extend_from_slice(name.as_bytes());
    FieldKind::String
}

/// Writes the digits of a decimal with `scale` of them after the point, or with `-scale` zeros appended.
pub(super) fn decimal(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    out.extend_from_slice(sign.as_bytes());
    let fraction_digits = usize::from(scale.max(0) as u8);
    if digits.len() <= fraction_digits {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + fraction_digits - digits.len(), b'0');
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let (whole, fraction) = digits.split_at(digits.len() - fraction_digits);
    out.extend_from_slice(whole.as_bytes());
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
    if scale < 0 && digits != "0" {
        out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
    }
}

/// Writes date and time of day of a number of nanoseconds since 1970-01-01 00:00:00.
pub(super) fn date_time(nanos: i128, out: &mut Vec<u8>) {
    date(nanos.div_euclid(NANOS_PER_DAY) as i64, out);
    out.push(b' ');
    time(nanos.rem_euclid(NANOS_PER_DAY), out);
}

/// Writes the date, and the time of day unless it is midnight.
pub(super) fn date_unless_midnight(nanos: i128, out: &mut Vec<u8>) {
    match nanos.rem_euclid(NANOS_PER_DAY) {
        0 => date(nanos.div_euclid(NANOS_PER_DAY) as i64, out),
        _ => date_time(nanos, out),
    }
}

/// Writes `YYYY-MM-DD` in the Gregorian calendar; years outside of 0 to 9999 have a sign and as many digits as they need.
///
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
pub(super) fn date(days: i64, out: &mut Vec<u8>) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        0..=9999 => display(format_args!("{year:04}-{month:02}-{day:02}"), out),
        _ => display(format_args!("{year:+05}-{month:02}-{day:02}"), out),
    }
}

/// Writes `HH:MM:SS` of a number of nanoseconds since midnight, with six or nine digits of a fraction if it is not zero.
pub(super) fn time(nanos: i128, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    display(format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60), out);
    match fraction {
        0 => {}
        nanos if nanos % 1000 == 0 => display(format_args!(".{:06}", nanos / 1000), out),
        nanos => display(format_args!(".{nanos:09}"), out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnType;
    use crate::schema::value::parse;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit() {
        for (unscaled, scale, expected) in [
            ("0", 0, "0"),
            ("5", 3, "0.005"),
            ("-5", 1, "-0.5"),
            ("12345", 2, "123.45"),
            ("-120", 0, "-120"),
            ("7", -2, "700"),
            ("0", -2, "0"),
            ("0", 2, "0.00"),
        ] {
            assert_eq!(written(|out| decimal(unscaled, scale, out)), expected);
        }
    }

    #[test]
    fn timestamps_are_exact_in_every_year() {
        for (nanos, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999999999"),
            (1_500_000, "1970-01-01 00:00:00.001500"),
            (951_782_400 * NANOS_PER_SECOND, "2000-02-29 00:00:00"),
            (253_402_300_799 * NANOS_PER_SECOND, "9999-12-31 23:59:59"),
            (253_402_300_800 * NANOS_PER_SECOND, "+10000-01-01 00:00:00"),
            (-62_167_219_201 * NANOS_PER_SECOND, "-0001-12-31 23:59:59"),
        ] {
            assert_eq!(written(|out| date_time(nanos, out)), expected);
        }
        assert_eq!(written(|out| date_unless_midnight(NANOS_PER_DAY, out)), "1970-01-02");
    }

    #[test]
    fn float32_has_its_own_shortest_digits() {
        for (value, expected) in [(0.1, "0.1"), (16_777_216.0, "16777216"), (-0.0, "-0.0"), (f32::NAN, "NaN")] {
            assert_eq!(
                written(|out| {
                    float32(value, out);
                }),
                expected
            );
        }
    }

    /// A database reads the digits as a 64-bit float first, and may round it to 32 bits.
    #[test]
    fn float32_survives_a_64_bit_float() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            // A linear congruential generator, so that each run tests the same floats.
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if value.is_finite() {
                let text = written(|out| {
                    float32(value, out);
                });
                assert!(parse(ColumnType::Double, Some(text.as_bytes())).is_some(), "{text}");
                assert_eq!((text.parse::<f64>().unwrap() as f32).to_bits(), bits, "{text}");
            }
        }
    }
}
