//! The rows of one file on their way to a server: one at a time from the stream. How a row is checked and written is the
//! engine's.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::error::{Error, ErrorKind, Position, Result};
use crate::failpoint::RowFailpoints;
use crate::format::{Batch, BatchStream};
use crate::reject::ValueRejects;

use super::column::TargetColumn;

/// Where in the stream the load stands.
pub(super) struct Rows<'a, S> {
    stream: BatchStream<'a>,
    batch: Batch,
    /// The row of `batch` that is current after [`Rows::advance`], plus one.
    next: usize,
    position: Position,
    /// Rows that were current so far and not left out.
    pub(super) accepted: u64,
    failpoints: RowFailpoints,
    columns: &'a [TargetColumn<S>],
    rejects: Option<Arc<ValueRejects>>,
}

impl<'a, S> Rows<'a, S> {
    /// The rows of a stream for these columns, in the stream's order.
    pub(super) fn new(stream: BatchStream<'a>, columns: &'a [TargetColumn<S>], size_bytes: u64) -> Self {
        Self {
            stream,
            batch: Batch::new(columns.len()),
            next: 0,
            position: Position::default(),
            accepted: 0,
            failpoints: RowFailpoints::new(size_bytes),
            columns,
            rejects: None,
        }
    }

    /// With a place where refused rows are noted and left out.
    pub(super) fn with_rejects(mut self, rejects: Option<Arc<ValueRejects>>) -> Self {
        self.rejects = rejects;
        self
    }

    /// Leaves the current row out, which was refused with this error; gives the error back when that may not be.
    pub(super) fn reject_row(&mut self, error: Error) -> Result<()> {
        let is_noted =
            error.kind() == ErrorKind::DataRefused && self.rejects.as_ref().is_some_and(|rejects| rejects.note(&error));
        if !is_noted {
            return Err(error);
        }
        self.accepted -= 1;
        Ok(())
    }

    /// Makes the next row current; `false` at the end of the file.
    pub(super) async fn advance(&mut self) -> Result<bool> {
        while self.next >= self.batch.rows() {
            let Some(batch) = self.stream.next().await else { return Ok(false) };
            self.batch = batch?;
            self.next = 0;
            if !self.batch.is_empty() && self.batch.width() != self.columns.len() {
                let (width, expected) = (self.batch.width(), self.columns.len());
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("a row has {width} fields, the schema {expected}"),
                ));
            }
        }
        self.position = self.batch.position(self.next);
        self.next += 1;
        self.accepted += 1;
        Ok(true)
    }

    /// Where the current row, or the last one at the end, stands in its file.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// How many fields each row has.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The fields of the current row, each with its column.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a TargetColumn<S>, Option<&[u8]>)> {
        let row = self.next - 1;
        self.columns.iter().enumerate().map(move |(index, column)| (column, self.batch.field(row, index)))
    }

    /// Whether a failpoint needs the rows up to the current one to be sent now.
    #[inline]
    pub(super) fn needs_flush(&self) -> bool {
        self.failpoints.needs_flush(self.position.byte)
    }

    /// Reaches the failpoint that the sent rows have passed.
    pub(super) async fn sent(&mut self) {
        self.failpoints.sent(self.position.byte).await;
    }

    /// Reaches the failpoint at half of the file, when no row starts in the second half.
    pub(super) async fn all_sent(&mut self) {
        self.failpoints.all_sent().await;
    }
}
