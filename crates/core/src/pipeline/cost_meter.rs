//! Measures the time and the S3 requests of each object in a run.
//!
//! Objects that are processed at the same time share the usage of that time equally. So the usage of all objects adds
//! up to the usage of the run, as long as at least one object is in progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cost::Requests;
use crate::store::Store;

/// The usage of one run. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CostMeter(Arc<Mutex<Totals>>);

#[derive(Debug, Default)]
struct Totals {
    in_progress: u32,
    /// The time and the requests of the last update.
    updated: Option<(Instant, Requests)>,
    /// The usage of an object that has been in progress since the start of the run.
    per_object: Usage,
}

/// Time and S3 requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) time: Duration,
    pub(crate) requests: Requests,
}

/// The usage of one object. It grows until this is dropped.
#[derive(Debug)]
pub(crate) struct ObjectUsage {
    cost_meter: CostMeter,
    store: Store,
    start: Usage,
}

impl CostMeter {
    /// Starts to measure an object.
    pub(crate) fn begin(&self, store: &Store) -> ObjectUsage {
        let mut totals = self.totals();
        totals.update(Instant::now(), store.requests());
        totals.in_progress += 1;
        ObjectUsage { cost_meter: self.clone(), store: store.clone(), start: totals.per_object }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectUsage {
    /// The usage of the object so far.
    pub(crate) fn so_far(&self) -> Usage {
        let mut totals = self.cost_meter.totals();
        totals.update(Instant::now(), self.store.requests());
        Usage {
            time: totals.per_object.time.saturating_sub(self.start.time),
            requests: totals.per_object.requests.since(self.start.requests),
        }
    }
}

impl Drop for ObjectUsage {
    fn drop(&mut self) {
        let mut totals = self.cost_meter.totals();
        totals.update(Instant::now(), self.store.requests());
        totals.in_progress -= 1;
    }
}

impl Totals {
    /// Divides the usage since the last update among the objects in progress.
    fn update(&mut self, now: Instant, requests: Requests) {
        if let Some((then, before)) = self.updated.replace((now, requests))
            && self.in_progress > 0
        {
            self.per_object.time += now.saturating_duration_since(then) / self.in_progress;
            self.per_object.requests = self.per_object.requests.and(requests.since(before).among(self.in_progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_share_usage_equally_from_their_start() {
        let start = Instant::now();
        let second = |count: u64| start + Duration::from_secs(count);
        let requests = |count: f64| Requests { writes: count, reads: 2.0 * count };
        let mut totals = Totals::default();
        totals.update(start, requests(3.0));
        // No object is in progress for a second, then one, then two, then four.
        totals.update(second(1), requests(5.0));
        assert_eq!(totals.per_object, Usage::default());
        totals.in_progress = 1;
        totals.update(second(2), requests(6.0));
        totals.in_progress = 2;
        totals.update(second(3), requests(8.0));
        totals.in_progress = 4;
        totals.update(second(4), requests(8.0));
        assert_eq!(totals.per_object, Usage { time: Duration::from_millis(1750), requests: requests(2.0) });
    }
}
