//! Processes the objects of one request, several small ones at a time.
//!
//! A small file spends most of its time waiting for S3 and the database. `MAX_CONCURRENT_FILES` limits how many run at
//! once, and together they buffer no more than one large file may. Large files run alone. So do all files of a load
//! mode in which the order decides the table's rows, or in which one file could block another.
//!
//! A file whose worker died is processed last and alone. So it cannot keep the other files from being loaded,
//! and no other file is counted as the cause when it ends the process again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;
use tracing::warn;

use super::{BatchResult, Dispatcher};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, chain};
use crate::object::ObjectRef;
use crate::pipeline::PipelineConfig;
use crate::reconcile;
use crate::route::{self, Route, WAITING_MAX_BYTES};
use crate::store::read::ListedObject;

/// Number of results after which their events are published: the entries of one request.
const EVENTS_AT_ONCE: usize = 10;

impl Dispatcher {
    /// Processes listed objects of a bucket. Starts them and adds their results in the given order, except that objects
    /// with which a worker has died come last.
    ///
    /// An object is not started if too little time is left for it when it is its turn. Then it has no result, costs no request,
    /// and is counted. After an interruption no further object is started.
    pub(super) async fn process_in_time(
        &self,
        bucket: &str,
        objects: Vec<ListedObject>,
        deadline: &Deadline,
    ) -> (BatchResult, usize) {
        let not_started = AtomicUsize::new(0);
        let may_start = |object: &ListedObject| {
            let is_in_time = self.is_in_time(object, deadline);
            not_started.fetch_add(usize::from(!is_in_time), Ordering::Relaxed);
            is_in_time
        };
        let results = self.process_while(bucket, objects, deadline, may_start).await;
        (results, not_started.load(Ordering::Relaxed))
    }

    /// Whether an object may start now: this process has enough time for it, or can start a task, or no later invocation
    /// would have much more time. In the last case the object fails, and the failure says why.
    fn is_in_time(&self, object: &ListedObject, deadline: &Deadline) -> bool {
        let expected = route::expected_bytes_by_key(&object.key, object.size_bytes);
        let is_for_task = self.launcher.is_some() && expected > self.inline_max_bytes.min(WAITING_MAX_BYTES);
        let needs_most = deadline.whole_time().is_some_and(|whole| expected > route::bytes_in(whole) / 4 * 3);
        is_for_task || needs_most || deadline.remaining().is_none_or(|left| left >= route::time_needed(expected))
    }

    /// Processes objects except those that may not start when it is their turn. They have no result.
    async fn process_while(
        &self,
        bucket: &str,
        objects: Vec<ListedObject>,
        deadline: &Deadline,
        may_start: impl Fn(&ListedObject) -> bool + Sync,
    ) -> BatchResult {
        let permits = Permits::of(&self.context.settings);
        let deaths = match is_any_order(&self.context.settings) && objects.len() > 1 {
            true => self.deaths(bucket).await,
            false => HashMap::new(),
        };
        let objects = suspects_last(objects, &deaths);
        let deaths = &deaths;
        let is_interrupted = AtomicBool::new(false);
        let (free, is_interrupted, may_start) = (&Semaphore::new(permits.count), &is_interrupted, &may_start);
        let mut finished = stream::iter(objects)
            .map(|object| async move {
                let (is_suspect, size_bytes) = (deaths.contains_key(&object.key), object.size_bytes);
                let needed = if is_suspect { permits.count } else { permits.needed(size_bytes) };
                let _permit = free.acquire_many(u32::try_from(needed).unwrap_or(u32::MAX)).await;
                if is_interrupted.load(Ordering::Relaxed) || !may_start(&object) {
                    return None;
                }
                let result = self.process(ObjectRef::new(bucket, object.key), Route::Ingest, deadline).await;
                if result.as_ref().is_err_and(|failure| failure.kind() == ErrorKind::Interrupted) {
                    is_interrupted.store(true, Ordering::Relaxed);
                }
                Some(result)
            })
            .buffered(permits.count);
        let mut results = BatchResult::new(&self.metrics);
        while let Some(result) = finished.next().await {
            if let Some(result) = result {
                results.add(result);
            }
            if results.unpublished() >= EVENTS_AT_ONCE {
                self.publish(&mut results).await;
            }
        }
        results
    }

    /// The number of workers that died with each object, by key.
    pub(super) async fn deaths(&self, bucket: &str) -> HashMap<String, u32> {
        match reconcile::deaths(&self.context, bucket).await {
            Ok(deaths) => deaths,
            Err(error) => {
                warn!(error = %chain(&error), "the leases of dead workers could not be read");
                HashMap::new()
            }
        }
    }
}

/// Whether the rows of the table do not depend on the order of the files, and no file could block another.
pub(super) fn is_any_order(settings: &PipelineConfig) -> bool {
    settings.database.options.allows_any_order() && settings.database.tables.current().is_any_order()
}

/// Sorts the objects by the number of workers that died with them, and leaves other objects in their order.
fn suspects_last(mut objects: Vec<ListedObject>, deaths: &HashMap<String, u32>) -> Vec<ListedObject> {
    objects.sort_by_key(|object| deaths.get(&object.key).copied().unwrap_or_default());
    objects
}

/// The permits that concurrent objects share; each object needs one or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Permits {
    count: usize,
    /// The bytes that an object with one permit may buffer.
    bytes: u64,
}

impl Permits {
    fn of(settings: &PipelineConfig) -> Self {
        let count = if is_any_order(settings) { settings.max_concurrent_files.max(1) } else { 1 };
        Self { count, bytes: settings.buffer_max_bytes / count as u64 }
    }

    /// Number of permits for an object of this size: one per `bytes`, rounded up, and at most all.
    fn needed(self, size_bytes: u64) -> usize {
        match size_bytes.checked_div(self.bytes) {
            Some(more) => usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1).min(self.count),
            None => self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use jiff::Timestamp;

    use super::{Permits, suspects_last};
    use crate::store::read::ListedObject;

    #[test]
    fn objects_with_deaths_come_last_and_others_keep_their_order() {
        let object = |key: &str| ListedObject {
            key: key.to_owned(),
            size_bytes: 1,
            etag: String::new(),
            last_modified: Timestamp::UNIX_EPOCH,
        };
        let deaths = HashMap::from([("poison".to_owned(), 2), ("neighbor".to_owned(), 1)]);
        let objects = ["poison", "b", "neighbor", "a"].map(object).to_vec();
        let sorted = suspects_last(objects, &deaths);
        assert_eq!(
            sorted.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(),
            ["b", "a", "neighbor", "poison"]
        );
    }

    #[test]
    fn small_objects_need_one_permit_and_large_ones_all() {
        let permits = Permits { count: 4, bytes: 2 << 20 };
        let needed = [0, 100_000, (2 << 20) - 1, 2 << 20, 5 << 20, 8 << 20, 5 << 30].map(|size| permits.needed(size));
        assert_eq!(needed, [1, 1, 1, 2, 3, 4, 4]);
        assert_eq!(Permits { count: 4, bytes: 0 }.needed(1), 4, "without a buffer every object runs alone");
    }
}
