//! Bad records that a decoder leaves out one by one, and where in the file they end, for whoever cuts them out.

use std::collections::VecDeque;
use std::ops::Range;

use crate::reject::{Reject, RejectCode};
use crate::{Error, ErrorKind, Position, Result};

/// What a decoder has left out of its file.
#[derive(Debug)]
pub(super) struct RejectedRecords {
    /// The most bad records there may be; one more is an error.
    most: u64,
    count: u64,
    /// Those that nobody has taken yet.
    rejects: Vec<Reject>,
    watch: Option<Watch>,
}

/// Records whose ends are wanted.
#[derive(Debug)]
struct Watch {
    /// Where they begin, in order.
    starts: VecDeque<u64>,
    /// Those that have ended, line ends included where these belong to them.
    ended: Vec<Range<u64>>,
}

impl RejectedRecords {
    /// Nothing yet, and never more than `most`.
    pub(super) fn new(most: u64) -> Self {
        Self { most, count: 0, rejects: Vec::new(), watch: None }
    }

    /// Whether a bad record may be left out at all.
    pub(super) fn may_reject(&self) -> bool {
        self.most > 0
    }

    /// From here on a bad record is an error: left out, it could not be found again by its place.
    pub(super) fn keep_every_record(&mut self) {
        self.most = 0;
    }

    /// Notes a bad record, unless there are too many.
    #[cold]
    pub(super) fn reject(&mut self, code: RejectCode, error: &Error, start: Position) -> Result<()> {
        self.count += 1;
        if self.count > self.most {
            let (most, last) = (self.most, error.message());
            let message = format!("more than {most} records are bad (MAX_REJECTS); the last one: {last}");
            return Err(Error::new(ErrorKind::Invalid, message).at(start));
        }
        self.rejects.push(Reject::of(code, error));
        Ok(())
    }

    /// Those that were left out since this was last asked.
    pub(super) fn take_rejects(&mut self) -> Vec<Reject> {
        std::mem::take(&mut self.rejects)
    }

    /// Asks where the records that begin at these bytes end.
    pub(super) fn watch(&mut self, starts: VecDeque<u64>) {
        self.watch = Some(Watch { starts, ended: Vec::new() });
    }

    /// Hears of a record that has ended; `is_wanted` anyhow, or because its start is watched.
    #[inline]
    pub(super) fn ended(&mut self, record: Range<u64>, is_wanted: bool) {
        if let Some(watch) = &mut self.watch
            && (is_wanted || watch.starts.pop_front_if(|start| *start == record.start).is_some())
        {
            watch.ended.push(record);
        }
    }

    /// Those of the watched records that have ended since this was last asked.
    pub(super) fn take_ended(&mut self) -> Vec<Range<u64>> {
        self.watch.as_mut().map(|watch| std::mem::take(&mut watch.ended)).unwrap_or_default()
    }
}
