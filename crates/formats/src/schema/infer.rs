//! Chooses the types of columns from every value of a file. A column starts with all types, and values only remove types.
//!
//! The types form families (booleans, numbers, dates, dates with times, instants). No text parses as a value of two
//! families. So the first value decides the family of a column, and at the first value of another family the column
//! becomes text. Most values are parsed only once.
//!
//! If the file distinguishes strings and nested values ([`crate::FieldKind`]), this limits the families: a string is a date, a
//! date-time (with or without an offset) or text, but never a number. Only nested values are JSON.
//!
//! A column of dates that end with their year (`13/01/2024`) has a date type only if exactly one order of day and month fits
//! every value. The schema then names this order.
//!
//! A column of numbers is text if they may mean something else ([`Doubt`]), unless the file distinguishes numbers from texts.
//!
//! Bytes that the file does not declare as text are text if every value is UTF-8 without NUL, because old writers do not
//! declare their strings as text.

mod column_state;
mod doubt;
mod family;
mod numbers;
mod ordered_dates;

use column_state::ColumnState;
pub use doubt::Doubt;
use doubt::{Codes, CommaNumbers};

use super::{ColumnType, Schema};
use crate::Batch;

/// Infers the schema of one file from its batches.
#[derive(Debug)]
pub struct Inference {
    columns: Vec<ColumnState>,
    rows: u64,
    null_tokens: bool,
    names: NameSource,
    has_typed_numbers: bool,
    /// Whether a setting says that a column has decimal commas.
    has_comma_rule: bool,
    /// The number of the last record.
    last_record: u64,
}

/// Where the names of the columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameSource {
    File,
    Positions,
}

impl Inference {
    /// Starts with the final names of the columns (see [`super::header::column_names`]), in the order of the file.
    pub fn new(names: Vec<String>) -> Self {
        Self::of(names.into_iter().map(ColumnState::new).collect())
    }

    fn of(columns: Vec<ColumnState>) -> Self {
        Self {
            columns,
            rows: 0,
            null_tokens: true,
            names: NameSource::File,
            has_typed_numbers: false,
            has_comma_rule: false,
            last_record: 0,
        }
    }

    /// Leaves no doubt about numbers, because the file distinguishes them from texts.
    #[must_use]
    pub fn with_typed_numbers(mut self) -> Self {
        self.has_typed_numbers = true;
        self
    }

    /// Marks the file as one with decimal commas, because a setting says so about a column.
    #[must_use]
    pub fn with_decimal_commas(mut self) -> Self {
        self.has_comma_rule = true;
        self
    }

    /// Marks the names as positions, because the file has no header.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.names = NameSource::Positions;
        self
    }

    /// Treats null tokens as ordinary values, because the file marks missing values in another way.
    #[must_use]
    pub fn without_null_tokens(mut self) -> Self {
        self.null_tokens = false;
        self.columns.iter_mut().for_each(|column| column.null_tokens = false);
        self
    }

    /// Starts with the types that the file declares, if it does. A column with a value of another type becomes text, and bytes that
    /// are all UTF-8 become text too.
    pub fn declared(columns: impl IntoIterator<Item = (String, Option<ColumnType>)>) -> Self {
        let column = |(name, declared): (String, Option<ColumnType>)| ColumnState::declared(name, declared);
        let columns = columns.into_iter().map(column).collect();
        Self::of(columns).without_null_tokens().with_typed_numbers()
    }

    /// Adds the values of a batch.
    ///
    /// The batch may be wider than the one before: the new columns are at its end, and missing in all earlier rows. Their names
    /// are passed to [`Inference::finish_as`].
    pub fn observe(&mut self, batch: &Batch) {
        debug_assert!(batch.width() >= self.columns.len(), "a batch is narrower than the one before");
        let (has_missing, null_tokens) = (self.rows > 0, self.null_tokens);
        self.columns
            .resize_with(batch.width().max(self.columns.len()), || ColumnState::added(has_missing, null_tokens));
        self.rows += batch.rows() as u64;
        if let Some(last) = batch.rows().checked_sub(1) {
            self.last_record = batch.position(last).record;
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            for row in 0..batch.rows() {
                match batch.field(row, index) {
                    None => column.has_missing = true,
                    Some(text) => column.observe(text, batch.kind(row, index), || batch.position(row).record),
                }
            }
        }
    }

    /// Whether a table created for the values so far would have the columns of `schema`, which may have more columns at its
    /// end. Only for a file that does not declare types.
    pub fn would_create_columns_of(&self, schema: &Schema) -> bool {
        let has_commas = self.has_decimal_commas();
        self.columns.iter().zip(&schema.columns).all(|(seen, column)| {
            let seen = match self.text_doubt(seen, has_commas) {
                None => seen.family.column_type(),
                Some(_) => ColumnType::Text,
            };
            seen.with_headroom() == column.column_type.with_headroom()
        })
    }

    /// Whether a column is text so far.
    pub fn is_text(&self, column: usize) -> bool {
        self.columns.get(column).is_none_or(|column| column.family.column_type() == ColumnType::Text)
    }

    /// What the values leave open, with the index of the column.
    pub fn doubts(&self) -> Vec<(usize, Doubt)> {
        if self.has_typed_numbers {
            return Vec::new();
        }
        let has_commas = self.has_decimal_commas();
        let of_column = |column: &ColumnState| self.text_doubt(column, has_commas).or_else(|| self.open_doubt(column));
        let doubts = self.columns.iter().enumerate();
        doubts.filter_map(|(index, column)| of_column(column).map(|doubt| (index, doubt))).collect()
    }

    /// The doubt that makes a column of numbers text.
    fn text_doubt(&self, column: &ColumnState, has_commas: bool) -> Option<Doubt> {
        let numbers = column.numbers().filter(|_| !self.has_typed_numbers)?;
        numbers.doubt(has_commas)
    }

    /// The doubt that does not change the type of a column.
    fn open_doubt(&self, column: &ColumnState) -> Option<Doubt> {
        let Some(numbers) = column.numbers() else {
            return (column.text_since() == Some(self.last_record)).then_some(Doubt::LastRecord);
        };
        if numbers.may_be_thousands() && !self.has_decimal_points() {
            return Some(Doubt::PossibleThousands);
        }
        if numbers.codes == Codes::Small {
            return Some(Doubt::PossibleCode);
        }
        numbers.may_be_versions().then_some(Doubt::Fractions)
    }

    /// Whether a column has decimal commas.
    fn has_decimal_commas(&self) -> bool {
        self.has_comma_rule || self.columns.iter().any(|column| column.commas == CommaNumbers::Certain)
    }

    /// Whether a point in a column of numbers is a decimal point without doubt.
    fn has_decimal_points(&self) -> bool {
        let mut numbers = self.columns.iter().filter_map(ColumnState::numbers);
        numbers.any(|numbers| numbers.fractions.has_point() && !numbers.may_be_thousands())
    }

    /// The schema after all batches, with the final names of the columns.
    pub fn finish_as(mut self, names: Vec<String>) -> Schema {
        debug_assert!(names.len() >= self.columns.len(), "a column has no name");
        self.columns.resize_with(names.len(), || ColumnState::new(String::new()));
        for (column, name) in self.columns.iter_mut().zip(names) {
            column.name = name;
        }
        self.finish()
    }

    /// The schema after all batches. A column without values is text.
    pub fn finish(self) -> Schema {
        let unnamed = match self.names {
            NameSource::File => 0,
            NameSource::Positions => self.columns.len(),
        };
        let has_commas = self.has_decimal_commas();
        let doubts: Vec<_> = self.columns.iter().map(|column| self.text_doubt(column, has_commas)).collect();
        let columns = self.columns.into_iter().zip(doubts).map(|(column, doubt)| column.finish(doubt)).collect();
        Schema { columns, unnamed, is_of_changes: false }
    }
}

#[cfg(test)]
mod tests;
