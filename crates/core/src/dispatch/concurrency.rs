//! The objects of one run, small ones several at a time: most of what a small file takes is waiting for S3 and the database.
//!
//! How many go at once is a setting, and how much of them is held in memory is not more than of one. Large objects go
//! alone. So do all of them where their order matters to what is in the table afterwards, or where one could get in another's way.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{BatchResult, Dispatcher};
use crate::config::{LoadMode, PipelineConfig, UnknownColumns};
use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::object::ObjectRef;
use crate::route::Route;
use crate::store::read::Listed;

impl Dispatcher {
    /// Takes the listed objects of a bucket, begun in their order and noted in it. Once the process is to stop, no more are
    /// begun.
    pub(crate) async fn process_all(
        &self,
        bucket: &str,
        objects: Vec<Listed>,
        deadline: &Deadline,
        results: &mut BatchResult,
    ) {
        let permits = Permits::of(&self.context.settings);
        let is_stopped = AtomicBool::new(false);
        let (free, is_stopped) = (&Semaphore::new(permits.count), &is_stopped);
        let mut ends = stream::iter(objects)
            .map(|Listed { key, size_bytes, .. }| async move {
                let needed = permits.needed(size_bytes);
                let _taken = free.acquire_many(u32::try_from(needed).unwrap_or(u32::MAX)).await;
                if is_stopped.load(Ordering::Relaxed) {
                    return None;
                }
                let end = self.outcome_of(ObjectRef::new(bucket, key), Route::Ingest, deadline).await;
                if end.as_ref().is_err_and(|failure| failure.kind() == ErrorKind::Interrupted) {
                    is_stopped.store(true, Ordering::Relaxed);
                }
                Some(end)
            })
            .buffered(permits.count);
        while let Some(end) = ends.next().await {
            if let Some(end) = end {
                self.note(end, results);
            }
        }
    }
}

/// How many objects may be under way, each of which takes one place or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Permits {
    count: usize,
    /// What is held of an object that takes one.
    bytes: u64,
}

impl Permits {
    fn of(settings: &PipelineConfig) -> Self {
        let options = &settings.database.options;
        // Of two files that replace or update the same rows the later one counts, and no column can be added to a table
        // while rows are loaded into it.
        let is_any_order = options.load_mode == LoadMode::Append && options.unknown_columns == UnknownColumns::Refuse;
        let count = if is_any_order { settings.max_concurrent_files.max(1) } else { 1 };
        Self { count, bytes: settings.files.limits.buffer_max_bytes / count as u64 }
    }

    fn needed(self, size_bytes: u64) -> usize {
        match size_bytes.checked_div(self.bytes) {
            Some(more) => usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1).min(self.count),
            None => self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Permits;

    #[test]
    fn small_objects_take_one_place_and_large_ones_all() {
        let permits = Permits { count: 4, bytes: 2 << 20 };
        let needed = [0, 100_000, (2 << 20) - 1, 2 << 20, 5 << 20, 8 << 20, 5 << 30].map(|size| permits.needed(size));
        assert_eq!(needed, [1, 1, 1, 2, 3, 4, 4]);
        assert_eq!(Permits { count: 4, bytes: 0 }.needed(1), 4, "nothing is held");
    }
}
