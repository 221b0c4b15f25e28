//! The records of one request, and the pauses between requests.

use std::time::{Duration, Instant};

use super::Step;
use crate::deadline::Deadline;
use crate::kinesis::{MAX_BYTES, MAX_RECORDS, StreamRecord};

/// With a rate, the number of batches per second.
const BATCHES_PER_SECOND: u32 = 5;

/// The most records in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchLimit(usize);

impl BatchLimit {
    /// The limit of Kinesis, or less, so that the changes of a second are sent at several times.
    pub(super) fn of_rate(rate: Option<u32>) -> Self {
        let records = rate.map_or(usize::MAX, |rate| (rate / BATCHES_PER_SECOND) as usize);
        Self(records.clamp(1, MAX_RECORDS))
    }
}

/// Records that are sent and recorded together.
#[derive(Debug)]
pub(super) struct Batch {
    limit: BatchLimit,
    records: Vec<StreamRecord>,
    bytes: usize,
}

impl Batch {
    pub(super) fn new(limit: BatchLimit) -> Self {
        Self { limit, records: Vec::new(), bytes: 0 }
    }

    /// Whether the record must wait for the next batch.
    pub(super) fn is_full_with(&self, record: &StreamRecord) -> bool {
        let is_over = self.records.len() == self.limit.0 || self.bytes + size(record) > MAX_BYTES;
        is_over && !self.records.is_empty()
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: StreamRecord) {
        self.bytes += size(&record);
        self.records.push(record);
    }

    /// Removes all records.
    pub(super) fn take(&mut self) -> Vec<StreamRecord> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

fn size(record: &StreamRecord) -> usize {
    record.data.len() + record.partition_key.len()
}

/// Waits until another change may be sent after this number of changes.
pub(super) async fn wait_for_rate(rate: Option<u32>, (sent, started): (u64, Instant), deadline: &Deadline) -> Step {
    let Some(rate) = rate else { return Step::Next };
    let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
    tokio::select! {
        () = tokio::time::sleep(due.saturating_sub(started.elapsed())) => Step::Next,
        _ = deadline.reached() => Step::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> StreamRecord {
        StreamRecord { data: vec![b'x'; bytes], partition_key: String::new() }
    }

    /// The sizes of the batches of these records.
    fn sizes(limit: BatchLimit, records: &[StreamRecord]) -> Vec<usize> {
        let (mut batch, mut sizes) = (Batch::new(limit), Vec::new());
        for record in records {
            if batch.is_full_with(record) {
                sizes.push(batch.take().len());
            }
            batch.push(record.clone());
        }
        sizes.push(batch.take().len());
        sizes
    }

    #[test]
    fn batches_keep_the_limits_of_a_request() {
        let unlimited = BatchLimit::of_rate(None);
        assert_eq!(sizes(unlimited, &vec![record(10); 1_201]), [500, 500, 201]);
        assert_eq!(sizes(unlimited, &vec![record(1 << 20); 5]), [4, 1]);
        assert_eq!(sizes(unlimited, &[record(10 << 20), record(1)]), [1, 1]);
        assert_eq!(sizes(BatchLimit::of_rate(Some(10)), &vec![record(1); 5]), [2, 2, 1]);
    }

    #[test]
    fn rate_gives_smaller_batches() {
        let limits = [None, Some(1), Some(100), Some(1_000_000)].map(|rate| BatchLimit::of_rate(rate).0);
        assert_eq!(limits, [500, 1, 20, 500]);
    }
}
