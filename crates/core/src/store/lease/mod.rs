//! The lease: an S3 object with the worker on a source, its expiry, and whether COMMIT or fallback may be in doubt.
//!
//! It keeps a slow loader and a faster fallback from both finishing while the database cannot be asked. Every change is
//! conditional on the ETag of the lease object, so of two workers one always fails. The ledger, not the lease, decides
//! whether rows are loaded.

mod acquire;
mod document;
mod listing;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use self::document::{CLOCK_MARGIN, LeaseDocument, after, signed};
pub use self::listing::{LeaseInfo, drop_expired, is_live, leases};
use super::write::Deleted;
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};

/// The state in an expired lease when this worker took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousHolder {
    /// The worker that held it.
    pub worker: String,
    /// A COMMIT may have been sent: no fallback until the database can be asked.
    pub commit_may_be_sent: bool,
    /// A fallback object may be about to appear: abort its uploads first, then check whether it exists.
    pub fallback_may_be_written: bool,
    /// Number of holders in a row that died, including this one. A holder that released or abandoned the lease is not
    /// counted.
    pub deaths: u32,
}

/// A lease held by this worker, renewed in the background.
///
/// A dropped lease is no longer renewed and expires.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    previous_holder: Option<PreviousHolder>,
    renewal: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    bucket: String,
    key: String,
    ttl: Duration,
    state: Mutex<State>,
}

/// The lease object as last written.
///
/// The lock is held during each request, so that the renewal and the pipeline never write at the same time.
#[derive(Debug)]
struct State {
    document: LeaseDocument,
    etag: String,
    is_lost: bool,
}

impl Lease {
    /// The state of an earlier attempt, when this lease was taken over from an expired one.
    pub fn previous_holder(&self) -> Option<&PreviousHolder> {
        self.previous_holder.as_ref()
    }

    /// Verifies that this worker still holds the lease, and renews it.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`]. After `Ok`, no successor has changed anything before this call.
    pub async fn verify(&self) -> Result<()> {
        self.shared.fence(|_| {}).await
    }

    /// Records that a COMMIT may be sent, and verifies that this worker still holds the lease.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`]. After any error, do not send COMMIT.
    pub async fn fence_before_commit(&self) -> Result<()> {
        self.shared.fence(|document| document.commit_may_be_sent = true).await
    }

    /// Records that the fallback object may appear, and verifies that this worker still holds the lease.
    ///
    /// A successor that finds this record aborts the upload before anything else.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`]. After any error, do not complete the upload.
    pub async fn fence_before_publish(&self) -> Result<()> {
        self.shared.fence(|document| document.fallback_may_be_written = true).await
    }

    /// Deletes the lease after an attempt whose outcome is known.
    pub async fn release(self) -> Result<()> {
        self.renewal.abort();
        let mut state = self.shared.state.lock().await;
        self.shared.delete(&mut state).await
    }

    /// Ends the lease after a failed attempt. State that is in doubt, and the number of earlier holders that died, stay
    /// in the expired lease for the next attempt.
    pub async fn abandon(self) -> Result<()> {
        self.renewal.abort();
        let mut state = self.shared.state.lock().await;
        let has_dead_holders = state.document.unended_acquisitions > 1;
        if state.document.is_in_doubt() || has_dead_holders {
            self.shared.expire(&mut state).await
        } else {
            self.shared.delete(&mut state).await
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl State {
    /// Fails with `LeaseLost` when the lease is known to be taken over, or has expired by this worker's clock.
    fn check(&self, key: &str) -> Result<()> {
        if self.is_lost {
            return Err(Error::new(ErrorKind::LeaseLost, format!("another worker has taken over {key}")));
        }
        if self.document.expires_at <= Timestamp::now() {
            let message = format!("{key} expired at {}", self.document.expires_at);
            return Err(Error::new(ErrorKind::LeaseLost, message));
        }
        Ok(())
    }
}

impl Shared {
    /// Renews the lease after every third of its time until it is lost. Other failures are retried until it expires.
    async fn keep_renewing(self: Arc<Self>) {
        let mut wait = self.ttl / 3;
        loop {
            tokio::time::sleep(wait).await;
            let mut state = self.state.lock().await;
            if let Err(error) = state.check(&self.key) {
                tracing::warn!(lease = self.key, error = &error as &dyn std::error::Error, "lost the lease");
                return;
            }
            wait = match self.renew(&mut state, |_| {}).await {
                Ok(()) => self.ttl / 3,
                // A lost lease ends the loop at the next check.
                Err(_) => self.ttl / 20,
            };
        }
    }

    /// Renews the lease with `change` until that succeeds or the lease is lost.
    async fn fence(&self, change: impl Fn(&mut LeaseDocument)) -> Result<()> {
        let mut state = self.state.lock().await;
        let mut attempt = 0;
        let mut last = None;
        loop {
            if let Err(lost) = state.check(&self.key) {
                return Err(match last {
                    Some(cause) => lost.with_source(cause),
                    None => lost,
                });
            }
            match self.renew(&mut state, &change).await {
                Ok(()) => return state.check(&self.key),
                Err(error) => match error.kind() {
                    // `Busy` is S3's 409: it is still processing another write to the same key.
                    ErrorKind::Service | ErrorKind::Throttled | ErrorKind::Busy => last = Some(error),
                    _ => return Err(error),
                },
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Writes the document with a later expiry and `change`, within a third of the lease's time.
    async fn renew(&self, state: &mut State, change: impl Fn(&mut LeaseDocument)) -> Result<()> {
        let extend = |document: &mut LeaseDocument| {
            document.expires_at = after(Timestamp::now(), signed(self.ttl));
            change(document);
        };
        tokio::time::timeout(self.ttl / 3, self.update(state, extend)).await.unwrap_or_else(|elapsed| {
            let message = format!("writing {} took longer than {} s", self.key, self.ttl.as_secs() / 3);
            Err(Error::new(ErrorKind::Service, message).with_source(elapsed))
        })
    }

    /// Writes the document as expired, so that the next attempt can take it over at once.
    async fn expire(&self, state: &mut State) -> Result<()> {
        let expire = |document: &mut LeaseDocument| {
            document.expires_at = after(Timestamp::now(), -CLOCK_MARGIN);
            document.unended_acquisitions = document.unended_acquisitions.saturating_sub(1);
        };
        match self.update(state, expire).await {
            // The successor has taken over the state too.
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(()),
            other => other,
        }
    }

    /// Writes a changed document if this worker still holds the lease.
    async fn update(&self, state: &mut State, change: impl Fn(&mut LeaseDocument)) -> Result<()> {
        for _ in 0..TRIES {
            let mut document = state.document.clone();
            change(&mut document);
            match document::overwrite(&self.store, &self.bucket, &self.key, &state.etag, &document).await? {
                Some(etag) => {
                    state.etag = etag;
                    state.document = document;
                    return Ok(());
                }
                // An earlier write whose response was lost has changed the ETag too.
                None => self.reload(state).await?,
            }
        }
        Err(Error::new(ErrorKind::Service, format!("{} changed during each of {TRIES} writes", self.key)))
    }

    async fn delete(&self, state: &mut State) -> Result<()> {
        for _ in 0..TRIES {
            match self.store.delete_if(&self.bucket, &self.key, &state.etag).await? {
                Deleted::Done | Deleted::Gone => return Ok(()),
                Deleted::Changed => match self.reload(state).await {
                    Ok(()) => {}
                    // The lease belongs to a successor, which deletes it.
                    Err(error) if error.kind() == ErrorKind::LeaseLost => return Ok(()),
                    Err(error) => return Err(error),
                },
            }
        }
        Err(Error::new(ErrorKind::Service, format!("{} changed during each of {TRIES} deletes", self.key)))
    }

    /// Reads the lease object again and adopts its ETag. Fails with `LeaseLost` when it is gone or another worker's.
    async fn reload(&self, state: &mut State) -> Result<()> {
        match document::read(&self.store, &self.bucket, &self.key).await? {
            Some((found, etag)) if found.token == state.document.token => {
                state.etag = etag;
                state.document.commit_may_be_sent |= found.commit_may_be_sent;
                state.document.fallback_may_be_written |= found.fallback_may_be_written;
                Ok(())
            }
            Some(_) | None => {
                state.is_lost = true;
                state.check(&self.key)
            }
        }
    }
}
