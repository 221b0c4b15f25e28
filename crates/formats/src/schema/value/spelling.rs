//! More spellings of a value, for a column whose type is known.
//!
//! [`super::parse`] accepts one spelling of most values, because types are inferred with it: `+1` could be a phone
//! number, and `20240115` a number. A column of an existing table has a type, so there these spellings mean one thing.
//! Callers try [`super::parse`] first, because nearly every value is spelled strictly.
//!
//! Spaces around a number, a date, a time or a boolean do not matter.
//!
//! A spelling that could mean two things is not accepted in any column: `1,5`, `007`. `01/02/2024` is accepted only with a
//! [`DayOrder`], which all values of the file have proved.

mod moment;
mod year_last;

pub use moment::{date, date_time, time_of_day};
pub(in crate::schema) use year_last::YearLast;
pub use year_last::{DayOrder, ordered_date, ordered_date_time};

use super::number::{Number, scan_exponent};

/// The most zeros that an exponent may add to a number. The largest and smallest floats need fewer.
const MAX_ADDED_ZEROS: i64 = 400;

/// Appends a number in plain digits: `-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?`. Returns `false`, and appends nothing, if the text is
/// not a number.
///
/// Accepted are a plus sign, an exponent, missing digits on one side of the point, and zeros at the end. Zeros at the
/// start are accepted only if digits follow a point: `007` may be a code, `007.50` is a number. A negative zero, as programs for
/// accounting write it, is a zero.
pub fn plain_number(text: &[u8], out: &mut Vec<u8>) -> bool {
    match Written::of(text.trim_ascii()) {
        Some(written) => written.append_plain(out),
        None => false,
    }
}

/// Appends a whole number in plain digits, like [`plain_number`]. Returns `false`, and appends nothing, for other texts.
///
/// `1.000` is not accepted, see [`may_be_thousands`].
pub fn whole_number(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let is_whole = !may_be_thousands(text) && plain_number(text, out) && !out[start..].contains(&b'.');
    if !is_whole {
        out.truncate(start);
    }
    is_whole
}

/// Whether a text is one to three digits, a point and three zeros. It may be a number of thousands, because many countries
/// separate thousands with a point. A zero is zero in both readings.
pub fn may_be_thousands(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    matches!(digits.strip_suffix(b".000"), Some([b'1'..=b'9'] | [b'1'..=b'9', _] | [b'1'..=b'9', _, _]))
}

/// A number as written. Its value is the digits `whole` and `fraction`, times ten to the power of `exponent` minus the number
/// of digits in `fraction`.
struct Written<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Written<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let (is_negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        let (whole, rest) = split_digits(rest);
        let (fraction, rest) = rest.strip_prefix(b".").map_or((&rest[..0], rest), split_digits);
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', digits @ ..] => scan_exponent(digits)?,
            _ => return None,
        };
        let is_code = whole.len() > 1 && whole[0] == b'0' && fraction.is_empty();
        let has_digits = !whole.is_empty() || !fraction.is_empty();
        (has_digits && !is_code).then_some(Self { is_negative, whole, fraction, exponent })
    }

    fn append_plain(&self, out: &mut Vec<u8>) -> bool {
        let digits = || self.whole.iter().chain(self.fraction).copied();
        let Some(first) = digits().position(|digit| digit != b'0') else {
            out.push(b'0');
            return true;
        };
        let count = self.whole.len() + self.fraction.len();
        let trailing_zeros = digits().rev().take_while(|digit| *digit == b'0').count();
        let significant = digits().skip(first).take(count - trailing_zeros - first);
        let length = (count - trailing_zeros - first) as i64;
        // The number of digits before the point; negative for zeros after it.
        let point = self.whole.len() as i64 - first as i64 + self.exponent;
        if point - length > MAX_ADDED_ZEROS || -point > MAX_ADDED_ZEROS {
            return false;
        }
        if self.is_negative {
            out.push(b'-');
        }
        if point <= 0 {
            out.extend_from_slice(b"0.");
            out.extend((point..0).map(|_| b'0'));
        }
        for (index, digit) in (0..).zip(significant) {
            if index == point && index > 0 {
                out.push(b'.');
            }
            out.push(digit);
        }
        out.extend((length..point).map(|_| b'0'));
        true
    }
}

/// The digits at the start of a text, and the rest.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// A 64-bit float, if a number in any spelling is one of its shortest texts or its text of 17 digits.
///
/// C and Java write 17 digits, such as `0.10000000000000001` for 0.1. Other digits beyond the shortest text would be lost.
/// Two texts can be equally short and near: `1125899906842624.2` and `1125899906842624.3` for 1125899906842624.25.
pub fn double(text: &[u8]) -> Option<f64> {
    with_number(text, |number| number.double().or_else(|| number.differently_written_double()))
}

/// A 32-bit float, if a number in any spelling is its shortest text, its text of 9 digits, or its exact value as a 64-bit
/// float.
pub fn single(text: &[u8]) -> Option<f32> {
    let is_exact = |value: f64| f64::from(value as f32) == value;
    with_number(text, |number| {
        number.single().or_else(|| number.double().filter(|value| is_exact(*value)).map(|value| value as f32))
    })
}

fn with_number<T>(text: &[u8], read: impl FnOnce(&Number<'_>) -> Option<T>) -> Option<T> {
    let mut plain = Vec::new();
    if !plain_number(text, &mut plain) {
        return None;
    }
    // A float keeps the sign of zero.
    if plain == b"0" && text.trim_ascii().starts_with(b"-") {
        plain = b"-0.0".to_vec();
    }
    read(&Number::scan(&plain)?)
}

/// A boolean in words, in any letter case: `true`, `t`, `yes`, `y`, `on`, and their opposites. Also the numbers 1 and 0.
pub fn boolean(text: &[u8]) -> Option<bool> {
    const WORDS: [(&[u8], bool); 10] = [
        (b"true", true),
        (b"t", true),
        (b"yes", true),
        (b"y", true),
        (b"on", true),
        (b"false", false),
        (b"f", false),
        (b"no", false),
        (b"n", false),
        (b"off", false),
    ];
    let word = text.trim_ascii();
    if let Some((_, value)) = WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)) {
        return Some(*value);
    }
    let mut digits = Vec::new();
    match plain_number(text, &mut digits).then_some(digits.as_slice()) {
        Some(b"1") => Some(true),
        Some(b"0") if !word.starts_with(b"-") => Some(false),
        _ => None,
    }
}

/// The 16 bytes of a UUID: 32 hex digits in any letter case, in the usual five groups or without hyphens, with or without
/// braces.
pub fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text = match text {
        [b'{', inner @ .., b'}'] => inner,
        text => text,
    };
    let has_hyphens = text.len() == 36;
    if !has_hyphens && text.len() != 32 {
        return None;
    }
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for (index, byte) in text.iter().enumerate() {
        if has_hyphens && matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)?;
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit as u8;
        digits += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
