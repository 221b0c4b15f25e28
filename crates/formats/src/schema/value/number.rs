//! Numbers as they are written: one scan over the bytes, then what the number is exactly, as 64-bit integer, decimal or double.
//!
//! The grammar is JSON's: `-`, digits without leading zeros, a point with digits behind it, an exponent. A minus sign before
//! a plain zero is refused, and so is everything else: plus signs, blanks, separators, `.5`, `5.`.

/// The most digits a decimal has.
const DECIMAL_DIGITS: usize = 38;
/// The most digits a decimal has behind the point.
pub(in crate::schema) const DECIMAL_SCALE: usize = 30;
/// As many digits always fit 64 bits.
const U64_DIGITS: usize = 19;
/// A float keeps every decimal of 15 digits.
const DOUBLE_SAFE_LIMIT: u64 = 1_000_000_000_000_000;
const SHORT_DIGITS: usize = 15;

/// The value and the digits of a whole number of at most 15 digits: the short way for most numbers there are. Integer,
/// decimal and double hold each of them.
#[inline]
pub(in crate::schema) fn short_integer(text: &[u8]) -> Option<(i64, u8)> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > SHORT_DIGITS || (digits.first() == Some(&b'0') && text.len() > 1) {
        return None;
    }
    let mut magnitude = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + i64::from(digit);
    }
    let value = if negative { -magnitude } else { magnitude };
    (!digits.is_empty()).then_some((value, digits.len() as u8))
}

/// A number as it is written.
pub(in crate::schema) struct Number<'a> {
    text: &'a [u8],
    negative: bool,
    whole_digits: usize,
    fraction_digits: usize,
    /// What stands behind `e`, kept within bounds in which adding digit counts cannot overflow.
    exponent: Option<i64>,
    /// All digits as one number; only right while they are at most [`U64_DIGITS`].
    mantissa: u64,
}

impl<'a> Number<'a> {
    /// Reads the whole text as a number.
    #[inline]
    pub(in crate::schema) fn scan(text: &'a [u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let sign_length = usize::from(negative);
        let mut mantissa = 0;
        let whole_digits = scan_digits(&text[sign_length..], &mut mantissa);
        if whole_digits == 0 || (whole_digits > 1 && text[sign_length] == b'0') {
            return None;
        }
        let mut number = Self { text, negative, whole_digits, fraction_digits: 0, exponent: None, mantissa };
        let mut rest = &text[sign_length + whole_digits..];
        if let Some(after_point) = rest.strip_prefix(b".") {
            number.fraction_digits = scan_digits(after_point, &mut number.mantissa);
            if number.fraction_digits == 0 {
                return None;
            }
            rest = &after_point[number.fraction_digits..];
        }
        if let [b'e' | b'E', after_e @ ..] = rest {
            number.exponent = Some(scan_exponent(after_e)?);
            rest = &[];
        }
        let plain_minus_zero = negative && number.fraction_digits == 0 && number.is_zero();
        (rest.is_empty() && !plain_minus_zero).then_some(number)
    }

    /// The number as a 64-bit integer; `None` with a point or an exponent, or out of range.
    #[inline]
    pub(in crate::schema) fn integer(&self) -> Option<i64> {
        if self.fraction_digits > 0 || self.exponent.is_some() || self.whole_digits > U64_DIGITS {
            return None;
        }
        if self.negative { 0i64.checked_sub_unsigned(self.mantissa) } else { i64::try_from(self.mantissa).ok() }
    }

    /// Digits in front of and behind the point, when the number is an exact decimal. A zero in front counts.
    #[inline]
    pub(in crate::schema) fn decimal_digits(&self) -> Option<(u8, u8)> {
        let fits = self.exponent.is_none()
            && self.whole_digits + self.fraction_digits <= DECIMAL_DIGITS
            && self.fraction_digits <= DECIMAL_SCALE
            && !(self.negative && self.is_zero());
        fits.then_some((self.whole_digits as u8, self.fraction_digits as u8))
    }

    /// The number times ten to the power of `scale`, when a decimal of that form holds it exactly. Zeros at the end of
    /// the fraction may go beyond the scale.
    pub(in crate::schema) fn decimal(&self, precision: u8, scale: u8) -> Option<i128> {
        let scale = usize::from(scale);
        if self.exponent.is_some() || self.whole_digits > DECIMAL_DIGITS || (self.negative && self.is_zero()) {
            return None;
        }
        let kept_fraction = self.fraction_digits.min(scale);
        let mut unscaled: i128 = 0;
        if self.whole_digits + self.fraction_digits <= U64_DIGITS && kept_fraction == self.fraction_digits {
            unscaled = self.mantissa.into();
        } else {
            for digit in self.digits().take(self.whole_digits + kept_fraction) {
                unscaled = unscaled.checked_mul(10)?.checked_add(digit.into())?;
            }
            if self.digits().skip(self.whole_digits + kept_fraction).any(|digit| digit != 0) {
                return None;
            }
        }
        let padding = 10i128.checked_pow((scale - kept_fraction) as u32)?;
        unscaled = unscaled.checked_mul(padding)?;
        let limit = 10i128.checked_pow(precision.into())?;
        (unscaled < limit).then_some(if self.negative { -unscaled } else { unscaled })
    }

    /// The number as a float, when the shortest text for that float means the same number.
    pub(in crate::schema) fn double(&self) -> Option<f64> {
        let text = std::str::from_utf8(self.text).ok()?;
        if self.is_short() {
            return text.parse().ok();
        }
        let written = self.significant_digits()?;
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        let mut buffer = zmij::Buffer::new();
        let shortest = Number::scan(buffer.format_finite(value).as_bytes())?.significant_digits()?;
        (shortest == written).then_some(value)
    }

    /// Whether [`Number::double`] keeps the number.
    #[inline]
    pub(in crate::schema) fn survives_double(&self) -> bool {
        self.is_short() || self.double().is_some()
    }

    /// Few enough digits that no float loses them: the short way for nearly every number there is.
    #[inline]
    fn is_short(&self) -> bool {
        if self.whole_digits + self.fraction_digits > U64_DIGITS {
            return false;
        }
        let scale = self.exponent.unwrap_or(0) - self.fraction_digits as i64;
        self.mantissa == 0 || (self.mantissa < DOUBLE_SAFE_LIMIT && (-290..=290).contains(&scale))
    }

    fn is_zero(&self) -> bool {
        if self.whole_digits + self.fraction_digits <= U64_DIGITS {
            self.mantissa == 0
        } else {
            self.digits().all(|digit| digit == 0)
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        let start = usize::from(self.negative);
        let whole = &self.text[start..start + self.whole_digits];
        let fraction_start = start + self.whole_digits + usize::from(self.fraction_digits > 0);
        let fraction = &self.text[fraction_start..fraction_start + self.fraction_digits];
        whole.iter().chain(fraction).map(|byte| byte - b'0')
    }

    /// The number without zeros at its end; `None` when a float cannot have so many digits.
    fn significant_digits(&self) -> Option<Significant> {
        let mut significant = Significant { mantissa: self.mantissa, exponent: self.exponent.unwrap_or(0) };
        significant.exponent -= self.fraction_digits as i64;
        if self.whole_digits + self.fraction_digits > U64_DIGITS {
            significant.mantissa = 0;
            let mut zeros = 0;
            for digit in self.digits() {
                if digit == 0 {
                    zeros += 1;
                    continue;
                }
                let shift = if significant.mantissa == 0 { 0 } else { 10u64.checked_pow(zeros + 1)? };
                significant.mantissa = significant.mantissa.checked_mul(shift)?.checked_add(digit.into())?;
                zeros = 0;
            }
            significant.exponent += i64::from(zeros);
        }
        if significant.mantissa == 0 {
            return Some(Significant { mantissa: 0, exponent: 0 });
        }
        while significant.mantissa.is_multiple_of(10) {
            significant.mantissa /= 10;
            significant.exponent += 1;
        }
        Some(significant)
    }
}

/// A number as `mantissa` times ten to the power of `exponent`, the mantissa without zeros at its end.
#[derive(PartialEq)]
struct Significant {
    mantissa: u64,
    exponent: i64,
}

/// Counts the digits in front and adds them to `mantissa`, which wraps when there are too many.
#[inline]
fn scan_digits(text: &[u8], mantissa: &mut u64) -> usize {
    let mut count = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(digit.into());
        count += 1;
    }
    count
}

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent: i64 = 0;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        // Beyond this nothing is a finite float, and the sums above stay far from overflow.
        exponent = (exponent * 10 + i64::from(digit)).min(1_000_000_000_000);
    }
    Some(if negative { -exponent } else { exponent })
}
