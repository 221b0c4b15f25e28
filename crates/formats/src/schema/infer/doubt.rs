//! Numbers that may mean something else: points between groups of three digits, and codes such as `12E34`.
//!
//! A file whose numbers have a type of their own, such as JSON, leaves no doubt.

use super::numbers::Numbers;
use crate::schema::value::is_null_token;
use crate::schema::value::number::Number;

/// What the values of a column leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The points may separate thousands, because other columns have decimal commas. A new column is text.
    Thousands,
    /// The points may separate thousands, but nothing else in the file says so.
    PossibleThousands,
    /// The values with an exponent may be codes such as `12E34`. A new column is text.
    Code,
    /// The same with a small `e`, which some programs write in numbers.
    PossibleCode,
    /// The fractions of small numbers have different lengths, and some end with a zero: the versions `1.1` and `1.10` become equal.
    Fractions,
    /// Only the value in the last record of the file is not like the others. A new column is text.
    LastRecord,
}

impl Doubt {
    /// All doubts, the most harmful first.
    pub const ALL: [Self; 6] =
        [Self::Thousands, Self::Code, Self::PossibleThousands, Self::PossibleCode, Self::Fractions, Self::LastRecord];

    /// Why a new column is text; `None` if it is not. `record` is the number of the record with the first such value.
    pub(super) fn reason(self, record: &str) -> Option<String> {
        match self {
            Self::Thousands => Some(format!(
                "the point in record {record} may separate thousands, because other columns have decimal commas; thousands or a type in \
                 the table settings decides"
            )),
            Self::Code => Some(format!(
                "the value in record {record} may be a number with an exponent or a code; a type in the table settings decides"
            )),
            Self::PossibleThousands | Self::PossibleCode | Self::Fractions | Self::LastRecord => None,
        }
    }
}

impl Numbers {
    /// The doubt that makes a new column of these numbers text.
    pub(super) fn doubt(&self, has_decimal_comma: bool) -> Option<Doubt> {
        match self.codes {
            Codes::Capital => Some(Doubt::Code),
            Codes::NoExponent | Codes::Small | Codes::Numbers => {
                (has_decimal_comma && self.may_be_thousands()).then_some(Doubt::Thousands)
            }
        }
    }

    /// Whether every number may be written with points between groups of three digits, and one has a point.
    pub(super) fn may_be_thousands(&self) -> bool {
        self.groups == Groups::Possible && self.decimal.is_some_and(|(whole, _)| whole <= 3)
    }

    /// Whether the numbers may be versions, of which a number would not keep a zero at the end.
    pub(super) fn may_be_versions(&self) -> bool {
        self.fractions.are_mixed() && self.decimal.is_some_and(|(whole, _)| whole <= 2)
    }

    /// Whether the numbers so far may belong to a column with decimal commas.
    pub(super) fn may_have_decimal_comma(&self) -> bool {
        self.groups != Groups::Decimal && self.codes == Codes::NoExponent
    }
}

/// Whether the points in the numbers so far may separate groups of three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// No number has a point.
    NoPoint,
    /// Three digits follow each point, and the number before it is not zero.
    Possible,
    /// A point is a decimal point.
    Decimal,
}

impl Groups {
    #[inline]
    pub(super) fn with(self, number: &Number<'_>) -> Self {
        match (number.fraction_length(), self) {
            (None, groups) => groups,
            (Some(3), Self::NoPoint | Self::Possible) if number.has_whole_part() => Self::Possible,
            (Some(_), _) => Self::Decimal,
        }
    }
}

/// Whether the numbers with an exponent may be codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// No number has an exponent or a point.
    NoExponent,
    /// Each exponent is written with `e` and without a sign, and no number has a point. MySQL writes some floats like this.
    Small,
    /// The same, and one of them with `E`. Programs that write floats with `E` also write a point or a sign.
    Capital,
    /// A number has a point, or an exponent with a sign.
    Numbers,
}

impl Codes {
    #[inline]
    pub(super) fn with(self, number: &Number<'_>) -> Self {
        match (number.fraction_length(), number.has_signed_exponent()) {
            (Some(_), _) | (None, Some(true)) => Self::Numbers,
            (None, Some(false)) if self == Self::Numbers => self,
            (None, Some(false)) if self == Self::Capital || number.has_capital_exponent() => Self::Capital,
            (None, Some(false)) => Self::Small,
            (None, None) => self,
        }
    }
}

/// The lengths of the fractions of the numbers with a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fractions {
    shortest: u8,
    /// The longest that has at least two digits and ends with a zero.
    longest_with_zero: u8,
    /// Whether a number has no point.
    has_whole: bool,
}

impl Fractions {
    pub(super) const NONE: Self = Self { shortest: u8::MAX, longest_with_zero: 0, has_whole: false };

    #[inline]
    pub(super) fn with(self, number: &Number<'_>) -> Self {
        let Some(length) = number.fraction_length() else { return Self { has_whole: true, ..self } };
        let length = u8::try_from(length).unwrap_or(u8::MAX);
        let with_zero = if length > 1 && number.ends_with_zero() { length } else { 0 };
        Self { shortest: self.shortest.min(length), longest_with_zero: self.longest_with_zero.max(with_zero), ..self }
    }

    /// Whether two texts such as `1.1` and `1.10` may be different values. Each number has a point.
    pub(super) fn are_mixed(self) -> bool {
        !self.has_whole && self.longest_with_zero > self.shortest
    }

    /// Whether a number has a point.
    pub(super) fn has_point(self) -> bool {
        self.shortest < u8::MAX
    }
}

/// Whether the values of a text column are numbers with a decimal comma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommaNumbers {
    /// A value is not such a number.
    No,
    /// Every value may be one.
    Possible,
    /// Every value may be one, and a value is one without doubt.
    Certain,
}

impl CommaNumbers {
    /// The result with one more value.
    pub(super) fn with(self, text: &[u8]) -> Self {
        if self == Self::No || text == b"-" || is_null_token(text) {
            return self;
        }
        match (Self::of(text), self) {
            (Self::No, _) => Self::No,
            (Self::Certain, _) | (_, Self::Certain) => Self::Certain,
            (Self::Possible, _) => Self::Possible,
        }
    }

    /// A number may have a unit after it. `1,500` may be one and a half or 1500.
    fn of(text: &[u8]) -> Self {
        let Some(last) = text.iter().rposition(u8::is_ascii_digit) else { return Self::No };
        let number = text[..=last].strip_prefix(b"-").unwrap_or(&text[..=last]);
        let mut parts = number.split(|byte| *byte == b',');
        let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next());
        let are_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        let groups: Vec<&[u8]> = whole.split(|byte| *byte == b'.').collect();
        let is_grouped = groups.len() > 1;
        let is_whole = groups.iter().all(|group| are_digits(group))
            && (!is_grouped || (groups[0].len() <= 3 && groups[1..].iter().all(|group| group.len() == 3)));
        if !is_whole || parts.next().is_some() || !fraction.is_none_or(are_digits) {
            return Self::No;
        }
        let is_certain = fraction.is_some_and(|digits| is_grouped || digits.len() != 3 || whole == b"0");
        if is_certain { Self::Certain } else { Self::Possible }
    }
}

#[cfg(test)]
mod tests {
    use super::CommaNumbers::{Certain, No, Possible};

    #[test]
    fn decimal_commas_are_found() {
        for (texts, expected) in [
            (&["12,50"][..], Certain),
            (&["1.500,25", "-", "7"], Certain),
            (&["-0,5", "NULL"], Certain),
            (&["12,50 \u{20ac}"], Certain),
            (&["1,500", "2,750"], Possible),
            (&["1,234,567"], No),
            (&["12,50", "x"], No),
            (&["17.03.2024"], No),
            (&["1.5", "12,50"], No),
            (&["A"], No),
        ] {
            let found = texts.iter().fold(Possible, |commas, text| commas.with(text.as_bytes()));
            assert_eq!(found, expected, "{texts:?}");
        }
    }
}
