//! What each object uses up of the machine's time and of the requests to S3, where several are under way at once: an equal
//! share of what is used meanwhile. So the shares of all of them are what the run has used, as long as some object is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cost::Requests;
use crate::store::Store;

/// The books of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct CostMeter(Arc<Mutex<Totals>>);

#[derive(Debug, Default)]
struct Totals {
    under_way: u32,
    /// Up to where they are written.
    written: Option<(Instant, Requests)>,
    /// The share of one that had been under way from the beginning.
    due: Usage,
}

/// What was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) time: Duration,
    pub(crate) requests: Requests,
}

/// One object's share. It grows until this goes.
#[derive(Debug)]
pub(crate) struct ObjectUsage {
    cost_meter: CostMeter,
    store: Store,
    before: Usage,
}

impl CostMeter {
    /// The share of an object that begins now.
    pub(crate) fn begin(&self, store: &Store) -> ObjectUsage {
        let mut totals = self.totals();
        totals.write(Instant::now(), store.requests());
        totals.under_way += 1;
        ObjectUsage { cost_meter: self.clone(), store: store.clone(), before: totals.due }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectUsage {
    /// What the object has used up so far.
    pub(crate) fn so_far(&self) -> Usage {
        let mut totals = self.cost_meter.totals();
        totals.write(Instant::now(), self.store.requests());
        Usage {
            time: totals.due.time.saturating_sub(self.before.time),
            requests: totals.due.requests.since(self.before.requests),
        }
    }
}

impl Drop for ObjectUsage {
    fn drop(&mut self) {
        let mut totals = self.cost_meter.totals();
        totals.write(Instant::now(), self.store.requests());
        totals.under_way -= 1;
    }
}

impl Totals {
    /// Gives everybody who is under way the share of what was used since the last time.
    fn write(&mut self, now: Instant, requests: Requests) {
        if let Some((then, before)) = self.written.replace((now, requests))
            && self.under_way > 0
        {
            self.due.time += now.saturating_duration_since(then) / self.under_way;
            self.due.requests = self.due.requests.and(requests.since(before).among(self.under_way));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_nobody_pays_for_what_was_before() {
        let start = Instant::now();
        let second = |count: u64| start + Duration::from_secs(count);
        let requests = |count: f64| Requests { writes: count, reads: 2.0 * count };
        let mut totals = Totals::default();
        totals.write(start, requests(3.0));
        // Nobody is under way for a second, then one, then two, then four.
        totals.write(second(1), requests(5.0));
        assert_eq!(totals.due, Usage::default());
        totals.under_way = 1;
        totals.write(second(2), requests(6.0));
        totals.under_way = 2;
        totals.write(second(3), requests(8.0));
        totals.under_way = 4;
        totals.write(second(4), requests(8.0));
        assert_eq!(totals.due, Usage { time: Duration::from_millis(1750), requests: requests(2.0) });
    }
}
