//! Which kinds of number a column's values still allow: each number can only take some away.

use crate::schema::ColumnType;
use crate::schema::value::number::{Number, short_integer};

/// The most digits a decimal has, in front of and behind the point together.
const DECIMAL_DIGITS: u8 = 38;

/// Which kinds of number hold every number so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) integer: bool,
    /// The most digits in front of and behind the point.
    pub(super) decimal: Option<(u8, u8)>,
    pub(super) double: bool,
}

/// The narrowest kind of number that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberKind {
    Integer,
    Decimal,
    Double,
    None,
}

impl Numbers {
    pub(super) const ANY: Self = Self { integer: true, decimal: Some((1, 0)), double: true };
    pub(super) const NONE: Self = Self { integer: false, decimal: None, double: false };

    /// Takes a short integer in while there were only integers: no other kind of number is lost by it.
    #[inline]
    pub(super) fn hold_short(&mut self, text: &[u8]) -> bool {
        let Self { integer: true, decimal: Some((whole, _)), .. } = self else {
            return false;
        };
        let digits = short_integer(text).map(|(_, digits)| digits);
        *whole = digits.map_or(*whole, |digits| digits.max(*whole));
        digits.is_some()
    }

    /// Takes a number in, unless the narrowest kind would be another one then.
    #[inline]
    pub(super) fn acquire_lease(&mut self, number: &Number<'_>) -> bool {
        let with = self.with(number);
        let holds = with.kind() == self.kind();
        if holds {
            *self = with;
        }
        holds
    }

    #[inline]
    pub(super) fn with(self, number: &Number<'_>) -> Self {
        let decimal = match (self.decimal, number.decimal_digits()) {
            (Some((whole, fraction)), Some((more_whole, more_fraction))) => {
                let both = (whole.max(more_whole), fraction.max(more_fraction));
                (both.0 + both.1 <= DECIMAL_DIGITS).then_some(both)
            }
            (None, _) | (_, None) => None,
        };
        Self {
            integer: self.integer && number.integer().is_some(),
            decimal,
            double: self.double && number.survives_double(),
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
