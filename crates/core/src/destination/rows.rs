//! The rows of a file, one at a time, for an engine that checks and sends them.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::batch::BatchStream;
use crate::destination::ValueRejects;
use crate::error::{Error, ErrorKind, Position, Result};
use crate::failpoint::RowFailpoints;
use spillway_formats::Batch;

use super::column::TableColumn;

/// Returns the first record of rows that one statement sends, and `None` if records between the rows were rejected. Then the
/// server's row numbers do not lead to records.
pub(super) fn first_of_consecutive(first_record: u64, last_record: u64, rows: u64) -> Option<u64> {
    (first_record + rows == last_record + 1).then_some(first_record)
}

/// A cursor over a file's rows.
pub(super) struct Rows<'a, S> {
    stream: BatchStream<'a>,
    batch: Batch,
    /// Index of the current row in `batch`, plus one.
    next: usize,
    position: Position,
    /// Number of rows so far, without the rejected rows.
    pub(super) accepted: u64,
    failpoints: RowFailpoints,
    columns: &'a [TableColumn<S>],
    /// Number of fields in each row of the file. Those of omitted columns are not read.
    fields: usize,
    rejects: Option<Arc<ValueRejects>>,
}

impl<'a, S> Rows<'a, S> {
    /// Returns a cursor before the first row of a stream of rows with this number of fields, for these columns.
    pub(super) fn new(stream: BatchStream<'a>, fields: usize, columns: &'a [TableColumn<S>], size_bytes: u64) -> Self {
        Self {
            stream,
            batch: Batch::new(fields),
            next: 0,
            position: Position::default(),
            accepted: 0,
            failpoints: RowFailpoints::new(size_bytes),
            columns,
            fields,
            rejects: None,
        }
    }

    /// Collects rejected rows instead of failing the load.
    pub(super) fn with_rejects(mut self, rejects: Option<Arc<ValueRejects>>) -> Self {
        self.rejects = rejects;
        self
    }

    /// Appends the current row to `out`. Returns `false`, and appends nothing, for a rejected row.
    ///
    /// # Errors
    /// An error of `encode` for which the load must fail. `out` then contains a part of the row.
    pub(super) fn encode_row(
        &mut self,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&Self, &mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let start = out.len();
        let Err(error) = encode(self, out) else { return Ok(true) };
        self.reject_row(error)?;
        out.truncate(start);
        Ok(false)
    }

    /// Rejects the current row, or returns the error when the load must fail because of it.
    fn reject_row(&mut self, error: Error) -> Result<()> {
        let is_data = error.kind() == ErrorKind::DataRefused;
        let is_collected = is_data && self.rejects.as_ref().is_some_and(|rejects| rejects.add(&error));
        if !is_collected {
            return Err(error);
        }
        self.accepted -= 1;
        Ok(())
    }

    /// Moves to the next row. Returns `false` at the end of the file.
    pub(super) async fn advance(&mut self) -> Result<bool> {
        while self.next >= self.batch.rows() {
            let Some(batch) = self.stream.next().await else { return Ok(false) };
            self.batch = batch?;
            self.next = 0;
            if !self.batch.is_empty() && self.batch.width() != self.fields {
                let (width, expected) = (self.batch.width(), self.fields);
                let message = format!("a row has {width} fields, and the schema has {expected} columns");
                return Err(Error::new(ErrorKind::Internal, message));
            }
        }
        self.position = self.batch.position(self.next);
        self.next += 1;
        self.accepted += 1;
        Ok(true)
    }

    /// Returns the position of the current row in the file, or of the last row at the end.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Returns the columns.
    pub(super) fn columns(&self) -> &'a [TableColumn<S>] {
        self.columns
    }

    /// Returns the number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Returns the columns, each with its field of the current row.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a TableColumn<S>, Option<&[u8]>)> {
        let row = self.next - 1;
        self.columns.iter().map(move |column| (column, self.batch.field(row, column.field)))
    }

    /// Whether the rows up to the current one must be sent now, because a failpoint follows.
    #[inline]
    pub(super) fn needs_flush(&self) -> bool {
        self.failpoints.needs_flush(self.position.byte)
    }

    /// Reaches the failpoint at the position of the sent rows, if there is one.
    pub(super) async fn sent(&mut self) -> Result<()> {
        self.failpoints.sent(self.position.byte).await
    }

    /// Reaches the failpoint in the middle of a file whose second half contains no start of a row.
    pub(super) async fn all_sent(&mut self) -> Result<()> {
        self.failpoints.all_sent().await
    }
}
