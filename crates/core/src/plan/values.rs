//! Counts the values of a file that do not fit the columns of its table.

use std::collections::BTreeMap;

use crate::destination::{OperationCounts, RowChecker, TypeChange, ValueRejects};
use crate::error::{Error, Result};
use crate::plan::document::{FIRST, RejectedRecord, ValuesPlan};
use spillway_formats::Batch;

/// The values that do not fit, so far.
pub(super) struct ValueCount {
    checker: Box<dyn RowChecker>,
    /// The most rows that may be rejected because of their values.
    may_reject: u64,
    /// The rows that a load would reject.
    rejects: ValueRejects,
    /// All rows so far.
    all_rows: u64,
    rows: u64,
    values: u64,
    last_record: Option<u64>,
    by_column: BTreeMap<String, u64>,
    first: Vec<RejectedRecord>,
    /// The error of the first row beyond the limit, with which a load fails.
    failure: Option<Error>,
}

impl ValueCount {
    pub(super) fn new(checker: Box<dyn RowChecker>, may_reject: u64) -> Self {
        Self {
            checker,
            may_reject,
            rejects: ValueRejects::new(may_reject),
            all_rows: 0,
            rows: 0,
            values: 0,
            last_record: None,
            by_column: BTreeMap::new(),
            first: Vec::new(),
            failure: None,
        }
    }

    /// Checks the rows of a batch.
    pub(super) fn add(&mut self, batch: &Batch) {
        // As in a load, the operations of a batch are read before its values are checked.
        if let Err(unknown) = self.checker.check_operations(batch)
            && self.failure.is_none()
        {
            self.failure = Some(unknown);
        }
        self.all_rows += batch.rows() as u64;
        for error in self.checker.check(batch) {
            self.add_error(error);
        }
    }

    fn add_error(&mut self, error: Error) {
        let record = error.position().map(|position| position.record);
        let is_new_row = record != self.last_record;
        self.last_record = record;
        self.values += 1;
        *self.by_column.entry(error.column().unwrap_or_default().to_owned()).or_default() += 1;
        if self.first.len() < FIRST {
            self.first.push(RejectedRecord::of(&error));
        }
        if is_new_row {
            self.rows += 1;
            if !self.rejects.add(&error) && self.failure.is_none() {
                self.failure = Some(error);
            }
        }
    }

    /// If a load would give a column a wider type and try again, does the same: the count starts again. Returns the change.
    pub(super) fn widen(&mut self) -> Option<TypeChange> {
        if self.failure.is_none() {
            self.failure = self.rejects.check_not_all(self.all_rows).err();
        }
        let change = self.checker.widen(self.failure.as_ref()?)?;
        (self.all_rows, self.rows, self.values, self.last_record, self.failure) = (0, 0, 0, None, None);
        self.rejects = ValueRejects::new(self.may_reject);
        self.by_column.clear();
        self.first.clear();
        Some(change)
    }

    /// Returns the operations of the rows; `None` unless the file is one of changes.
    pub(super) fn operations(&self) -> Option<OperationCounts> {
        self.checker.operations()
    }

    /// Returns the counts, and the number of rows that a load would reject.
    ///
    /// The second result is the error of the load, if it would fail. `explain` adds to it what a load adds.
    pub(super) fn finish(self, explain: impl FnOnce(&ValueRejects, Error) -> Error) -> (ValuesPlan, Result<u64>) {
        let Self { rejects, rows, values, by_column, first, failure, .. } = self;
        let result = failure.map_or(Ok(rows), |error| Err(explain(&rejects, error)));
        (ValuesPlan { rows, values, by_column, first }, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::LoadMode;
    use crate::destination::{FoundTable, Product, inspect_new};
    use crate::error::{ErrorKind, Position};
    use spillway_formats::schema::infer::Inference;

    /// A column of whole numbers with rows that do not fit.
    fn count(fields: &[&str], may_reject: u64) -> (ValuesPlan, Result<u64>) {
        let mut numbers = Batch::new(2);
        numbers.push_field(Some(b"1"));
        numbers.push_field(Some(b"2"));
        numbers.end_row(Position::default());
        let mut inference = Inference::new(vec!["a".to_owned(), "b".to_owned()]);
        inference.observe(&numbers);
        let new = inspect_new(Product::MariaDb, &"t".into(), &inference.finish(), &LoadMode::Append).unwrap();
        assert!(matches!(new.table, FoundTable::Missing { .. }));
        let mut count = ValueCount::new(new.values, may_reject);
        let mut rows = Batch::new(2);
        for (index, field) in (1..).zip(fields) {
            rows.push_field(Some(field.as_bytes()));
            rows.push_field(Some(field.as_bytes()));
            rows.end_row(Position { record: index, line: index + 1, byte: index * 10 });
        }
        count.add(&rows);
        assert!(count.widen().is_none());
        count.finish(|_, error| error)
    }

    #[test]
    fn rows_count_once_and_values_by_column() {
        let (values, rejected) = count(&["1", "x", "2", "y"], 2);
        assert_eq!((values.rows, values.values, rejected.unwrap()), (2, 4, 2));
        assert_eq!(values.by_column, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 2)]));
        let records: Vec<_> = values.first.iter().map(|first| (first.record, first.column.as_deref())).collect();
        assert_eq!(records, [(2, Some("a")), (2, Some("b")), (4, Some("a")), (4, Some("b"))]);
    }

    #[test]
    fn first_row_beyond_the_limit_is_the_error_of_the_load() {
        let error = count(&["x", "1", "y", "z"], 1).1.unwrap_err();
        assert_eq!((error.kind(), error.position().unwrap().record), (ErrorKind::DataRefused, 3));
    }
}
