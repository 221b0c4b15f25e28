//! The rows of one file on their way to the server: one at a time from the stream, checked, written in a statement's form.

use futures_util::StreamExt;

use crate::error::{Error, ErrorKind, Position, Result};
use crate::fault::FaultPoint;
use crate::format::{Batch, BatchStream};

use super::check::{Checked, check};
use super::column::TargetColumn;

/// Where in the stream the load stands.
pub(super) struct Rows<'a> {
    stream: BatchStream<'a>,
    batch: Batch,
    /// The row of `batch` that is current after [`Rows::advance`], plus one.
    next: usize,
    position: Position,
    /// Rows that were current so far.
    pub(super) taken: u64,
    /// From this byte of the file on, half of it was read.
    half_at_byte: u64,
    seen_first: bool,
    seen_half: bool,
    columns: &'a [TargetColumn],
    scratch: Vec<u8>,
}

/// How a checked value is written down.
pub(super) trait Form {
    /// NULL.
    fn null(out: &mut Vec<u8>);
    /// A value, escaped.
    fn value(column: &TargetColumn, value: &[u8], out: &mut Vec<u8>);
    /// What stands between two fields.
    const SEPARATOR: u8;
}

impl<'a> Rows<'a> {
    /// The rows of a stream for these columns, in the stream's order.
    pub(super) fn new(stream: BatchStream<'a>, columns: &'a [TargetColumn], size_bytes: u64) -> Self {
        Self {
            stream,
            batch: Batch::new(columns.len()),
            next: 0,
            position: Position::default(),
            taken: 0,
            half_at_byte: size_bytes / 2,
            seen_first: false,
            seen_half: false,
            columns,
            scratch: Vec::new(),
        }
    }

    /// Makes the next row current; `false` at the end of the file.
    pub(super) async fn advance(&mut self) -> Result<bool> {
        while self.next >= self.batch.rows() {
            let Some(batch) = self.stream.next().await else { return Ok(false) };
            self.batch = batch?;
            self.next = 0;
            if !self.batch.is_empty() && self.batch.width() != self.columns.len() {
                let (width, expected) = (self.batch.width(), self.columns.len());
                return Err(Error::new(ErrorKind::Bug, format!("a row has {width} fields, the schema {expected}")));
            }
        }
        self.position = self.batch.position(self.next);
        self.next += 1;
        self.taken += 1;
        Ok(true)
    }

    /// Where the current row, or the last one at the end, stands in its file.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Appends the current row in a statement's form. After an error `out` holds half a row.
    pub(super) fn write<F: Form>(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let row = self.next - 1;
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(F::SEPARATOR);
            }
            match check(column, self.batch.field(row, index), &mut self.scratch, self.position)? {
                Checked::Null => F::null(out),
                Checked::Bytes(bytes) => F::value(column, bytes, out),
                Checked::Scratch => F::value(column, &self.scratch, out),
            }
        }
        Ok(())
    }

    /// Whether what was written so far should be sent at once, because a fault point waits for it.
    pub(super) fn is_milestone(&self) -> bool {
        !self.seen_first || (!self.seen_half && self.position.byte >= self.half_at_byte)
    }

    /// Reaches the fault points that what was sent has passed.
    pub(super) async fn mark_sent(&mut self) {
        if !self.seen_first {
            self.seen_first = true;
            FaultPoint::RowsFirst.reached().await;
        } else if !self.seen_half && self.position.byte >= self.half_at_byte {
            self.mark_half().await;
        }
    }

    /// Reaches the half-way point, for a file that ended before its last row's start was beyond the middle.
    pub(super) async fn mark_half(&mut self) {
        if self.seen_first && !self.seen_half {
            self.seen_half = true;
            FaultPoint::RowsHalf.reached().await;
        }
    }
}
