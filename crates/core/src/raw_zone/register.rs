//! Registers a folder in Glue, within a time limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::catalog::{RawFile, Registration};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Context;

/// How long one registration waits for Glue. The transaction of a load may be open during this time.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a failure of Glue stays known.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Remembers that Glue is down, so that not every file waits for it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlueOutage(Arc<Mutex<Option<Instant>>>);

impl GlueOutage {
    /// Whether Glue has failed within the last minute.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known_at(Instant::now())
    }

    fn is_known_at(&self, now: Instant) -> bool {
        self.failed_at().is_some_and(|failed_at| now.duration_since(failed_at) < KNOWN_FOR)
    }

    fn observe<T>(&self, result: &Result<T>) {
        match result {
            Err(error) if is_outage(error) => *self.failed_at() = Some(Instant::now()),
            Ok(_) => *self.failed_at() = None,
            // Glue has responded to a request that it does not allow, or that it does not accept for this table.
            Err(_) => {}
        }
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the next registration would fail as well.
pub(super) fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Service | ErrorKind::Throttled)
}

/// Registers the folder of a file. May be repeated.
///
/// # Errors
/// [`ErrorKind::Service`] also when Glue takes longer than the limit; else see `Catalog::register_raw`.
pub(crate) async fn register(context: &Context, file: &RawFile) -> Result<Registration> {
    let catalog = context.catalog.for_raw_zone(&context.settings.raw_database);
    let registered = tokio::time::timeout(LIMIT, catalog.register_raw(file)).await.unwrap_or_else(|_| {
        let message = format!("Glue did not register the folder within {} s", LIMIT.as_secs());
        Err(Error::new(ErrorKind::Service, message))
    });
    context.glue_outage.observe(&registered);
    registered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_is_known_for_a_minute() {
        let outage = GlueOutage::default();
        assert!(!outage.is_known());
        outage.clone().observe(&Err::<(), _>(Error::new(ErrorKind::Settings, "x")));
        assert!(!outage.is_known(), "Glue has responded");
        outage.clone().observe(&Err::<(), _>(Error::new(ErrorKind::Throttled, "x")));
        assert!(outage.is_known() && !outage.is_known_at(Instant::now() + KNOWN_FOR));
        outage.observe(&Ok(()));
        assert!(!outage.is_known());
    }
}
