//! Acquires a lease: creates a new one or takes over an expired one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::document::{self, LeaseDocument};
use super::{Lease, PreviousHolder, Shared, State};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::store::{Store, TRIES, pause};

impl Lease {
    /// Acquires the lease at `key` in the object's bucket, and starts to renew it.
    ///
    /// An expired lease is taken over together with its state. `worker` is a name for log readers.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while another worker's lease is live.
    pub async fn acquire(store: &Store, object: &ObjectRef, key: String, worker: &str, ttl: Duration) -> Result<Self> {
        let acquisition = Acquisition { store, object, key, worker, ttl };
        let document = LeaseDocument::new(object, worker, ttl);
        for attempt in 0..TRIES {
            if let Some(lease) = acquisition.attempt(&document).await? {
                return Ok(lease);
            }
            pause(attempt).await;
        }
        let message = format!("other workers changed {} during each of {TRIES} attempts", acquisition.key);
        Err(Error::new(ErrorKind::Busy, message))
    }
}

/// The parameters of one call of [`Lease::acquire`].
struct Acquisition<'a> {
    store: &'a Store,
    object: &'a ObjectRef,
    key: String,
    worker: &'a str,
    ttl: Duration,
}

impl Acquisition<'_> {
    /// Returns the lease, or `None` when another worker changed the lease object in between.
    async fn attempt(&self, document: &LeaseDocument) -> Result<Option<Lease>> {
        let bucket = &self.object.bucket;
        if let Some(etag) = document::create(self.store, bucket, &self.key, document).await? {
            return Ok(Some(self.lease(document.clone(), etag, None)));
        }
        let Some((found, etag)) = document::read(self.store, bucket, &self.key).await? else {
            // Its holder released it between the two requests.
            return Ok(None);
        };
        if found.token == document.token {
            // An earlier attempt of this call created it, and its response was lost.
            return Ok(Some(self.lease(found, etag, None)));
        }
        if found.is_live(Timestamp::now()) {
            let message = format!("worker {} holds {} until {}", found.worker, self.key, found.expires_at);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        self.take_over(found, &etag).await
    }

    async fn take_over(&self, expired: LeaseDocument, etag: &str) -> Result<Option<Lease>> {
        let bucket = &self.object.bucket;
        let deaths = expired.deaths(Timestamp::now());
        let document = LeaseDocument {
            unended_acquisitions: deaths.saturating_add(1),
            commit_may_be_sent: expired.commit_may_be_sent,
            fallback_may_be_written: expired.fallback_may_be_written,
            ..LeaseDocument::new(self.object, self.worker, self.ttl)
        };
        let previous_holder = Some(PreviousHolder {
            worker: expired.worker,
            commit_may_be_sent: expired.commit_may_be_sent,
            fallback_may_be_written: expired.fallback_may_be_written,
            deaths,
        });
        if let Some(etag) = document::overwrite(self.store, bucket, &self.key, etag, &document).await? {
            return Ok(Some(self.lease(document, etag, previous_holder)));
        }
        // Another worker took it over, or this write succeeded and its response was lost.
        match document::read(self.store, bucket, &self.key).await? {
            Some((found, etag)) if found.token == document.token => Ok(Some(self.lease(found, etag, previous_holder))),
            Some(_) | None => Ok(None),
        }
    }

    fn lease(&self, document: LeaseDocument, etag: String, previous_holder: Option<PreviousHolder>) -> Lease {
        let shared = Arc::new(Shared {
            store: self.store.clone(),
            bucket: self.object.bucket.clone(),
            key: self.key.clone(),
            ttl: self.ttl,
            state: Mutex::new(State { document, etag, is_lost: false }),
        });
        let renewal = tokio::spawn(Arc::clone(&shared).keep_renewing()).abort_handle();
        Lease { shared, previous_holder, renewal }
    }
}
