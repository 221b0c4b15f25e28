//! Dates that end with their year, such as `13/01/2024`. All values together may prove which number is the day.

use crate::schema::ColumnType;
use crate::schema::value::spelling::{DayOrder, YearLast};

/// The dates of a column so far. They are alike: the same separator, and all with a time of day or all without.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderedDates {
    separator: u8,
    has_time: bool,
    /// Whether every value is a date if the first number is the day.
    may_be_day_first: bool,
    /// Whether every value is a date if the first number is the month.
    may_be_month_first: bool,
}

impl OrderedDates {
    /// The dates of a column with one value; `None` if the value is not such a date.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let date = YearLast::parse(text)?;
        Some(Self {
            separator: date.separator,
            has_time: date.of_day.is_some(),
            may_be_day_first: date.day_first.is_some(),
            may_be_month_first: date.month_first.is_some(),
        })
    }

    /// Adds a value if it is alike and an order remains that fits every value. Returns whether it was added.
    pub(super) fn try_add(&mut self, text: &[u8]) -> bool {
        let Some(other) = Self::of(text) else { return false };
        let both = Self {
            may_be_day_first: self.may_be_day_first && other.may_be_day_first,
            may_be_month_first: self.may_be_month_first && other.may_be_month_first,
            ..*self
        };
        let is_alike = self.separator == other.separator && self.has_time == other.has_time;
        let is_added = is_alike && (both.may_be_day_first || both.may_be_month_first);
        if is_added {
            *self = both;
        }
        is_added
    }

    /// The only order that fits every value; `None` if both do.
    pub(super) fn order(&self) -> Option<DayOrder> {
        match (self.may_be_day_first, self.may_be_month_first) {
            (true, false) => Some(DayOrder::DayFirst),
            (false, true) => Some(DayOrder::MonthFirst),
            (true, true) | (false, false) => None,
        }
    }

    /// The type of the column: text unless the order is certain.
    pub(super) fn column_type(&self) -> ColumnType {
        match (self.order(), self.has_time) {
            (None, _) => ColumnType::Text,
            (Some(_), false) => ColumnType::Date,
            (Some(_), true) => ColumnType::DateTime,
        }
    }
}
