//! The values of one column so far, and its type.

use super::doubt::{CommaNumbers, Doubt};
use super::family::Family;
use super::numbers::Numbers;
use crate::FieldKind;
use crate::numbers::with_thousands;
use crate::schema::value::spelling::DayOrder;
use crate::schema::value::{is_null_token, is_usual_null_token};
use crate::schema::{Column, ColumnType, TypeReason};

/// The values of one column so far.
#[derive(Debug)]
pub(super) struct ColumnState {
    pub(super) name: String,
    pub(super) family: Family,
    /// The type that the file declares, if it does.
    declared: Option<ColumnType>,
    /// The number of values that are neither missing nor null tokens.
    values: u64,
    pub(super) has_missing: bool,
    has_null_tokens: bool,
    /// Whether a null token is spelled in an unusual way.
    has_odd_null_tokens: bool,
    /// Whether null tokens mean NULL.
    pub(super) null_tokens: bool,
    /// Whether a value is the empty string, which only a text column distinguishes from NULL.
    has_empty: bool,
    /// Whether a value is a string in a file that distinguishes strings.
    has_strings: bool,
    max_bytes: u64,
    /// The record whose value removed the last narrower type, and the reason.
    forced: Option<(u64, &'static str)>,
    /// Whether values of another type came before the value that made the column text.
    has_lost_type: bool,
    /// Whether the texts are numbers with a decimal comma.
    pub(super) commas: CommaNumbers,
    /// Whether the next text decides about that.
    checks_commas: bool,
}

impl ColumnState {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            family: Family::Open,
            declared: None,
            values: 0,
            has_missing: false,
            has_null_tokens: false,
            has_odd_null_tokens: false,
            null_tokens: true,
            has_empty: false,
            has_strings: false,
            max_bytes: 0,
            forced: None,
            has_lost_type: false,
            commas: CommaNumbers::No,
            checks_commas: false,
        }
    }

    /// A column of the type that the file declares, if it does.
    pub(super) fn declared(name: String, declared: Option<ColumnType>) -> Self {
        let family = declared.map_or(Family::Open, Family::declared);
        Self { family, declared, ..Self::new(name) }
    }

    /// A column whose name is not known yet, after rows without it.
    pub(super) fn added(has_missing: bool, null_tokens: bool) -> Self {
        Self { has_missing, null_tokens, ..Self::new(String::new()) }
    }

    #[inline]
    pub(super) fn observe(&mut self, text: &[u8], kind: FieldKind, record: impl Fn() -> u64) {
        self.max_bytes = self.max_bytes.max(text.len() as u64);
        self.has_strings |= kind == FieldKind::String;
        if self.family.accepts(text, kind) {
            self.values += 1;
            if self.checks_commas {
                self.add_comma_number(text);
            }
        } else if self.null_tokens && kind == FieldKind::Plain && is_null_token(text) {
            self.has_null_tokens = true;
            self.has_odd_null_tokens |= !is_usual_null_token(text);
            self.has_empty |= text.is_empty();
        } else {
            self.values += 1;
            self.observe_misfit(text, kind, record());
        }
    }

    /// Adds a value that the family does not accept: the first value, or one that removes a type.
    #[cold]
    fn observe_misfit(&mut self, text: &[u8], kind: FieldKind, record: u64) {
        let before = self.family;
        self.family = before.widened_by(text, kind);
        self.forced = before.loss(&self.family, text, kind).map(|loss| (record, loss));
        if matches!(self.family, Family::Text) && !matches!(before, Family::Text) {
            // A date or time in another spelling is not the line of totals.
            let is_moment =
                text.first().is_some_and(u8::is_ascii_digit) && text.iter().any(|byte| b"-/:".contains(byte));
            self.has_lost_type = !matches!(before, Family::Open) && !is_moment;
            let may_have_commas = if let Family::Number(numbers) = before {
                numbers.may_have_decimal_comma()
            } else {
                matches!(before, Family::Open)
            };
            if kind == FieldKind::Plain && may_have_commas {
                self.commas = CommaNumbers::Possible;
                self.add_comma_number(text);
            }
        }
    }

    /// The numbers so far; `None` if the values are not numbers.
    pub(super) fn numbers(&self) -> Option<&Numbers> {
        if let Family::Number(numbers) = &self.family { Some(numbers) } else { None }
    }

    /// The record whose value made a column of another type text.
    pub(super) fn text_since(&self) -> Option<u64> {
        let is_text = self.has_lost_type && matches!(self.family, Family::Text);
        self.forced.filter(|_| is_text).map(|(record, _)| record)
    }

    fn add_comma_number(&mut self, text: &[u8]) {
        self.commas = self.commas.with(text);
        self.checks_commas = self.commas != CommaNumbers::No;
    }

    pub(super) fn finish(mut self, doubt: Option<Doubt>) -> Column {
        if self.has_empty && matches!(self.family, Family::Open) {
            self.family = Family::Text;
        }
        let column_type = match self.declared {
            Some(ColumnType::Binary) => self.family.column_type(),
            Some(declared) if self.family.fits(declared) => {
                self.forced = None;
                declared
            }
            Some(_) => {
                if !matches!(self.family, Family::Text) {
                    // A lost narrower type does not explain why the declared type does not fit.
                    self.forced = None;
                }
                self.family = Family::Text;
                ColumnType::Text
            }
            None if doubt.is_some() => ColumnType::Text,
            None => self.family.column_type(),
        };
        // In a text column a null token is ordinary text.
        let has_nulls = self.has_missing || (self.has_null_tokens && column_type != ColumnType::Text);
        let type_reason =
            TypeReason { forced_by_record: self.forced.map(|(record, _)| record), reason: self.reason(doubt) };
        // A column without values fits every type, whatever the file declares.
        let is_open = self.declared.is_some() && self.values == 0;
        let candidates = if is_open { Family::Open.candidates() } else { self.family.candidates() };
        let is_odd = self.has_odd_null_tokens || self.family.has_other_spellings();
        Column {
            name: self.name,
            column_type,
            has_nulls,
            null_tokens: self.null_tokens && !self.has_strings,
            is_binary: self.declared == Some(ColumnType::Binary),
            has_other_spellings: is_odd && column_type != ColumnType::Text,
            day_order: self.family.day_order(),
            max_bytes: self.max_bytes,
            candidates,
            type_reason,
        }
    }

    fn reason(&self, doubt: Option<Doubt>) -> String {
        match (self.declared, self.forced) {
            (Some(ColumnType::Binary), _) => {}
            (Some(ColumnType::Text), _) => return "the file declares it".to_owned(),
            (Some(_), None) if !matches!(self.family, Family::Text) => return "the file declares it".to_owned(),
            (Some(_), None) => return "a value does not have the type that the file declares".to_owned(),
            (Some(_) | None, _) => {}
        }
        if let Some((record, _)) = self.forced
            && let Some(reason) = doubt.and_then(|doubt| doubt.reason(&with_thousands(record)))
        {
            return reason;
        }
        if let Some((record, loss)) = self.forced {
            return format!("the value in record {} is {loss}", with_thousands(record));
        }
        let (one, many) = match &self.family {
            Family::Open | Family::Text if self.has_null_tokens && self.values == 0 => {
                return "every value is a null token".to_owned();
            }
            Family::Open | Family::Text => return "no record has a value".to_owned(),
            Family::Bytes if self.values == 0 => return "no record has a value".to_owned(),
            Family::Boolean { .. } => ("a boolean", "booleans"),
            Family::Number(_) => ("a 64-bit integer", "64-bit integers"),
            Family::Date => ("a date", "dates"),
            Family::DateTime => ("a date with a time of day", "dates with a time of day"),
            Family::Instant { .. } => {
                ("a date with a time of day and an offset", "dates with a time of day and an offset")
            }
            Family::Ordered(dates) => return ordered_dates_reason(dates.order()),
            Family::Json => ("a nested JSON value", "nested JSON values"),
            Family::Bytes | Family::Binary => ("UTF-8 text", "UTF-8 text"),
        };
        match self.values {
            1 => format!("the only value is {one}"),
            values => format!("all {} values are {many}", with_thousands(values)),
        }
    }
}

/// Why dates that end with their year have a date type, or are text.
fn ordered_dates_reason(order: Option<DayOrder>) -> String {
    let reason = match order {
        Some(DayOrder::DayFirst) => "only the day first makes every value a valid date",
        Some(DayOrder::MonthFirst) => "only the month first makes every value a valid date",
        None => {
            "every value is a date, but no value shows whether the day or the month comes first; a format in the table \
             settings decides"
        }
    };
    reason.to_owned()
}
