//! Parses the text of a number, and returns its exact value as a 64-bit integer, a decimal or a double.
//!
//! The grammar is that of JSON: `-`, digits without leading zeros, a point with digits after it, an exponent. Everything else
//! is rejected: plus signs, spaces, separators, and also `-0`. Only [`Number::scan_any`] also accepts `.5` and `5.`.

/// The most digits of a decimal.
const DECIMAL_DIGITS: usize = 38;
/// The most digits of a decimal after the point.
pub(in crate::schema) const DECIMAL_SCALE: usize = 30;
/// Any number of this many digits fits 64 bits.
const U64_DIGITS: usize = 19;
/// A float holds every decimal of 15 digits exactly.
const DOUBLE_SAFE_LIMIT: u64 = 1_000_000_000_000_000;
/// The most digits of a short integer.
const SHORT_DIGITS: usize = 15;

/// The value and the number of digits of an integer of at most 15 digits. This is the fast path for most numbers: integer,
/// decimal and double columns hold all of them.
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

/// A number as written.
pub(in crate::schema) struct Number<'a> {
    text: &'a [u8],
    negative: bool,
    /// The digits before the point; 0 in `.5`.
    whole_digits: usize,
    has_point: bool,
    /// The digits after the point; 0 in `5.`.
    fraction_digits: usize,
    /// The number after `e`, limited so that adding numbers of digits cannot overflow.
    exponent: Option<i64>,
    /// All digits as one number; valid only if they are at most [`U64_DIGITS`].
    mantissa: u64,
}

impl<'a> Number<'a> {
    /// Parses a text that is exactly one number.
    #[inline]
    pub(in crate::schema) fn scan(text: &'a [u8]) -> Option<Self> {
        Self::scan_parts(text).filter(Self::has_all_digits)
    }

    /// Whether there are digits on both sides of the point, if there is one.
    #[inline]
    pub(in crate::schema) fn has_all_digits(&self) -> bool {
        self.whole_digits > 0 && (self.fraction_digits > 0 || !self.has_point)
    }

    /// Parses a number that may lack the digits on one side of its point: `.5` is `0.5`, and `5.` is `5.0`.
    #[inline]
    pub(in crate::schema) fn scan_any(text: &'a [u8]) -> Option<Self> {
        let number = Self::scan_parts(text)?;
        (number.whole_digits + number.fraction_digits > 0).then_some(number)
    }

    /// Parses a number in which the digits on both sides of the point may be missing.
    #[inline]
    fn scan_parts(text: &'a [u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let sign_length = usize::from(negative);
        let mut mantissa = 0;
        let whole_digits = scan_digits(&text[sign_length..], &mut mantissa);
        if whole_digits > 1 && text[sign_length] == b'0' {
            return None;
        }
        let (has_point, fraction_digits) = (false, 0);
        let mut number = Self { text, negative, whole_digits, has_point, fraction_digits, exponent: None, mantissa };
        let mut rest = &text[sign_length + whole_digits..];
        if let Some(after_point) = rest.strip_prefix(b".") {
            number.has_point = true;
            number.fraction_digits = scan_digits(after_point, &mut number.mantissa);
            rest = &after_point[number.fraction_digits..];
        }
        if let [b'e' | b'E', after_e @ ..] = rest {
            number.exponent = Some(scan_exponent(after_e)?);
            rest = &[];
        }
        let plain_minus_zero = negative && !number.has_point && number.is_zero();
        (rest.is_empty() && !plain_minus_zero).then_some(number)
    }

    /// The number of digits after the point; `None` without a point.
    #[inline]
    pub(in crate::schema) fn fraction_length(&self) -> Option<usize> {
        self.has_point.then_some(self.fraction_digits)
    }

    /// Whether the digits before the point are not zero.
    #[inline]
    pub(in crate::schema) fn has_whole_part(&self) -> bool {
        self.whole_digits > 0 && self.text[usize::from(self.negative)] != b'0'
    }

    /// Whether the last character is a zero.
    #[inline]
    pub(in crate::schema) fn ends_with_zero(&self) -> bool {
        self.text.last() == Some(&b'0')
    }

    /// Whether the exponent is written with a sign; `None` without an exponent.
    #[inline]
    pub(in crate::schema) fn has_signed_exponent(&self) -> Option<bool> {
        self.exponent?;
        Some(self.text.iter().skip(1).any(|byte| matches!(byte, b'+' | b'-')))
    }

    /// Whether the exponent is written with the letter `E`.
    #[inline]
    pub(in crate::schema) fn has_capital_exponent(&self) -> bool {
        self.exponent.is_some() && self.text.contains(&b'E')
    }

    /// The number as a 64-bit integer; `None` if it has a point or an exponent, or is out of range.
    #[inline]
    pub(in crate::schema) fn integer(&self) -> Option<i64> {
        if self.has_point || self.exponent.is_some() || self.whole_digits > U64_DIGITS {
            return None;
        }
        if self.negative { 0i64.checked_sub_unsigned(self.mantissa) } else { i64::try_from(self.mantissa).ok() }
    }

    /// The numbers of digits before and after the point, if a decimal holds the number. A zero before the point counts.
    #[inline]
    pub(in crate::schema) fn decimal_digits(&self) -> Option<(u8, u8)> {
        self.fitting_digits(self.whole_digits, self.fraction_digits)
    }

    /// The same for a number that may lack the digits on one side of its point. A zero counts in their place.
    #[cold]
    pub(in crate::schema) fn any_decimal_digits(&self) -> Option<(u8, u8)> {
        self.fitting_digits(self.whole_digits.max(1), self.fraction_digits.max(usize::from(self.has_point)))
    }

    #[inline]
    fn fitting_digits(&self, whole: usize, fraction: usize) -> Option<(u8, u8)> {
        let fits = self.exponent.is_none()
            && whole + fraction <= DECIMAL_DIGITS
            && fraction <= DECIMAL_SCALE
            && !(self.negative && self.is_zero());
        fits.then_some((whole as u8, fraction as u8))
    }

    /// The number times ten to the power of `scale`, if such a decimal holds it exactly.
    ///
    /// The fraction may be longer than the scale if only zeros are beyond it.
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

    /// The number as a float, if the shortest text of that float is the same number.
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

    /// The number as a float in other digits than [`Number::double`] expects: the 17 digits that C's `%.17g` writes, or,
    /// if two texts are equally short and equally near to the float, the greater one, which Rust's `{}` writes.
    #[cold]
    pub(in crate::schema) fn differently_written_double(&self) -> Option<f64> {
        let text = std::str::from_utf8(self.text).ok()?;
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        let is_same = self.is_written_as(&format!("{value:.16e}")) || self.is_written_as(&format!("{value:e}"));
        is_same.then_some(value)
    }

    /// The number as a 32-bit float, if it is that float's shortest text or its text of 9 digits.
    #[cold]
    pub(in crate::schema) fn single(&self) -> Option<f32> {
        let text = std::str::from_utf8(self.text).ok()?;
        let value: f32 = text.parse().ok().filter(|value: &f32| value.is_finite())?;
        let is_same = self.is_written_as(&format!("{value:e}")) || self.is_written_as(&format!("{value:.8e}"));
        is_same.then_some(value)
    }

    /// Whether another text is the same number.
    fn is_written_as(&self, text: &str) -> bool {
        let other = Number::scan(text.as_bytes()).and_then(|number| number.significant_digits());
        other.is_some() && other == self.significant_digits()
    }

    /// Whether [`Number::double`] returns a float.
    #[inline]
    pub(in crate::schema) fn fits_double(&self) -> bool {
        self.is_short() || self.double().is_some()
    }

    /// Whether the digits are so few that a float always holds them. This is the fast path for nearly every number.
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
        let fraction_start = start + self.whole_digits + usize::from(self.has_point);
        let fraction = &self.text[fraction_start..fraction_start + self.fraction_digits];
        whole.iter().chain(fraction).map(|byte| byte - b'0')
    }

    /// The number without zeros at its end; `None` if a float cannot have so many digits.
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

/// `mantissa` times ten to the power of `exponent`. The mantissa has no zeros at its end.
#[derive(PartialEq)]
struct Significant {
    mantissa: u64,
    exponent: i64,
}

/// Counts the digits at the start and appends them to `mantissa`, which wraps if there are too many.
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

/// Parses the number after `e`, limited so that adding numbers of digits cannot overflow.
pub(super) fn scan_exponent(text: &[u8]) -> Option<i64> {
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
        // No float has such an exponent, and the sums above are far from overflow.
        exponent = (exponent * 10 + i64::from(digit)).min(1_000_000_000_000);
    }
    Some(if negative { -exponent } else { exponent })
}
