//! The kinds of number that hold every number of a column. More numbers only remove kinds.

use super::doubt::{Codes, Fractions, Groups};
use crate::schema::ColumnType;
use crate::schema::value::number::{Number, short_integer};

/// The most digits of a decimal, before and after the point together.
const DECIMAL_DIGITS: u8 = 38;

/// The kinds of number that hold every number so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) integer: bool,
    /// The most digits before and after the point of any number.
    pub(super) decimal: Option<(u8, u8)>,
    pub(super) double: bool,
    /// Whether a number lacks the digits on one side of its point.
    pub(super) lacks_digits: bool,
    /// Whether the points may separate groups of three digits.
    pub(super) groups: Groups,
    /// Whether the numbers with an exponent may be codes.
    pub(super) codes: Codes,
    /// The lengths of the fractions.
    pub(super) fractions: Fractions,
}

/// The narrowest kind that holds every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberKind {
    Integer,
    Decimal,
    Double,
    None,
}

impl Numbers {
    pub(super) const ANY: Self = Self {
        integer: true,
        decimal: Some((1, 0)),
        double: true,
        lacks_digits: false,
        groups: Groups::NoPoint,
        codes: Codes::NoExponent,
        fractions: Fractions::NONE,
    };
    pub(super) const NONE: Self = Self { integer: false, decimal: None, double: false, ..Self::ANY };

    /// Adds a short integer if all numbers so far are integers. It removes no kind. Returns whether it was added.
    #[inline]
    pub(super) fn try_add_short(&mut self, text: &[u8]) -> bool {
        let Self { integer: true, decimal: Some((whole, _)), .. } = self else {
            return false;
        };
        let digits = short_integer(text).map(|(_, digits)| digits);
        *whole = digits.map_or(*whole, |digits| digits.max(*whole));
        digits.is_some()
    }

    /// Adds a number unless that changes the narrowest kind. Returns whether it was added.
    #[inline]
    pub(super) fn try_add(&mut self, number: &Number<'_>) -> bool {
        self.keep_kind(self.with(number, number.decimal_digits()))
    }

    /// Changes to `with_number` unless that changes the narrowest kind. Returns whether it was changed.
    #[inline]
    fn keep_kind(&mut self, with_number: Self) -> bool {
        let is_same_kind = with_number.kind() == self.kind();
        if is_same_kind {
            *self = with_number;
        }
        is_same_kind
    }

    /// Adds a number that lacks the digits on one side of its point unless that changes the narrowest kind. Returns whether it
    /// was added.
    #[cold]
    pub(super) fn try_add_odd(&mut self, text: &[u8]) -> bool {
        Number::scan_any(text).is_some_and(|number| self.keep_kind(self.with_any(&number)))
    }

    /// The kinds that also hold `number`, in any spelling.
    pub(super) fn with_any(self, number: &Number<'_>) -> Self {
        Self {
            lacks_digits: self.lacks_digits || !number.has_all_digits(),
            ..self.with(number, number.any_decimal_digits())
        }
    }

    /// The kinds that also hold `number`, which has these digits as a decimal.
    #[inline]
    fn with(self, number: &Number<'_>, digits: Option<(u8, u8)>) -> Self {
        let decimal = match (self.decimal, digits) {
            (Some((whole, fraction)), Some((more_whole, more_fraction))) => {
                let both = (whole.max(more_whole), fraction.max(more_fraction));
                (both.0 + both.1 <= DECIMAL_DIGITS).then_some(both)
            }
            (None, _) | (_, None) => None,
        };
        Self {
            integer: self.integer && number.integer().is_some(),
            decimal,
            double: self.double && number.fits_double(),
            lacks_digits: self.lacks_digits,
            groups: self.groups.with(number),
            codes: self.codes.with(number),
            fractions: self.fractions.with(number),
        }
    }

    #[inline]
    pub(super) fn kind(&self) -> NumberKind {
        match (self.integer, self.decimal, self.double) {
            (true, _, _) => NumberKind::Integer,
            (false, Some(_), _) => NumberKind::Decimal,
            (false, None, true) => NumberKind::Double,
            (false, None, false) => NumberKind::None,
        }
    }

    pub(super) fn column_type(&self) -> ColumnType {
        match (self.integer, self.decimal, self.double) {
            (true, _, _) => ColumnType::Integer,
            (false, Some((whole, scale)), _) => ColumnType::Decimal { precision: whole + scale, scale },
            (false, None, true) => ColumnType::Double,
            (false, None, false) => ColumnType::Text,
        }
    }
}
