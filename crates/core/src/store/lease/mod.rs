//! The lease: an object that says which worker holds a source, until when, and what may already be under way.
//!
//! It keeps a slow loader and a faster fallback from both finishing while the database cannot be asked. Every change
//! carries the ETag of the lease it changes, so of two workers one always learns that it is too late. The ledger, not the
//! lease, decides whether rows are loaded.

mod listing;
mod note;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

pub use self::listing::{LeaseInfo, drop_expired, leases};
use self::note::{CLOCK_MARGIN, Note, after, encode, lease_key, read_note, signed};
use super::write::{Created, Deleted};
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, SourceId};

const CONTENT_TYPE: &str = "application/json";

/// What an expired lease said before we took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// The worker that held it.
    pub worker: String,
    /// A COMMIT may have been sent: no fallback unless the database can be asked.
    pub commit_may_be_sent: bool,
    /// A fallback object may be about to appear: abort its uploads first, then look whether it is there.
    pub fallback_may_be_written: bool,
}

/// A lease that we hold. A task renews it until it is given back; when it is only dropped, renewal ends and it expires.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    previous_holder: Option<Inherited>,
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

/// Changed only while its lock is held, the request included: renewal and the road never write at once.
#[derive(Debug)]
struct State {
    note: Note,
    etag: String,
    is_lost: bool,
}

impl Lease {
    /// Takes the lease of a source: a new one, or an expired one, whose notes are inherited.
    ///
    /// The lease lies in the object's bucket. `Busy` while another worker's lease is live. `worker` is a name for people to read.
    pub async fn acquire(
        store: &Store,
        object: &ObjectRef,
        prefix: &str,
        source_id: &SourceId,
        worker: &str,
        ttl: Duration,
    ) -> Result<Self> {
        let key = lease_key(prefix, source_id);
        let bucket = object.bucket.as_str();
        let note = Note::new(object, worker, ttl);
        let acquire_lease = |note: Note, etag: String, previous_holder: Option<Inherited>| {
            let state = Mutex::new(State { note, etag, is_lost: false });
            let (store, bucket, key) = (store.clone(), bucket.to_owned(), key.clone());
            let shared = Arc::new(Shared { store, bucket, key, ttl, state });
            let renewal = tokio::spawn(Arc::clone(&shared).renew()).abort_handle();
            Self { shared, previous_holder, renewal }
        };
        for attempt in 0..TRIES {
            if let Created::New { etag } = store.put_new(bucket, &key, encode(&note), CONTENT_TYPE).await? {
                return Ok(acquire_lease(note, etag, None));
            }
            let Some((found, etag)) = read_note(store, bucket, &key).await? else {
                // Given back between the two requests.
                pause(attempt).await;
                continue;
            };
            if found.token == note.token {
                // Ours: the answer to the first try was lost.
                return Ok(acquire_lease(found, etag, None));
            }
            if found.is_live(Timestamp::now()) {
                let message = format!("worker {} holds {key} until {}", found.worker, found.expires_at);
                return Err(Error::new(ErrorKind::Busy, message));
            }
            let heir = Note {
                commit_may_be_sent: found.commit_may_be_sent,
                fallback_may_be_written: found.fallback_may_be_written,
                ..Note::new(object, worker, ttl)
            };
            let previous_holder = Inherited {
                worker: found.worker,
                commit_may_be_sent: found.commit_may_be_sent,
                fallback_may_be_written: found.fallback_may_be_written,
            };
            match store.put_if(bucket, &key, &etag, encode(&heir), CONTENT_TYPE).await {
                Ok(etag) => return Ok(acquire_lease(heir, etag, Some(previous_holder))),
                Err(error) if is_overtaken(&error) => {
                    // Overtaken by another worker, or by our own first try.
                    if let Some((found, etag)) = read_note(store, bucket, &key).await?
                        && found.token == heir.token
                    {
                        return Ok(acquire_lease(found, etag, Some(previous_holder)));
                    }
                    pause(attempt).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("other workers are taking {key} by turns")))
    }

    /// What an earlier attempt left, when this lease was taken over from an expired one.
    pub fn previous_holder(&self) -> Option<&Inherited> {
        self.previous_holder.as_ref()
    }

    /// Fails with `LeaseLost` when the lease was taken over or has expired. Asks nobody but our own clock and memory.
    pub async fn check(&self) -> Result<()> {
        self.shared.state.lock().await.check(&self.shared.key)
    }

    /// Proves that the lease is ours, and so that nobody who took it over has done anything yet.
    pub async fn verify(&self) -> Result<()> {
        self.shared.mark(|_| {}).await
    }

    /// Notes that a COMMIT may be sent from now on, and proves that the lease is ours. Without `Ok`, do not COMMIT.
    pub async fn mark_commit(&self) -> Result<()> {
        self.shared.mark(|note| note.commit_may_be_sent = true).await
    }

    /// Notes that the fallback object is about to appear, and proves that the lease is ours. Without `Ok`, do not complete
    /// its upload. Whoever inherits this note aborts the upload before anything else.
    pub async fn mark_fallback(&self) -> Result<()> {
        self.shared.mark(|note| note.fallback_may_be_written = true).await
    }

    /// Gives the lease back because the outcome is known, whatever it is.
    pub async fn release(self) -> Result<()> {
        self.renewal.abort();
        let mut state = self.shared.state.lock().await;
        self.shared.delete(&mut state).await
    }

    /// Leaves the lease behind, expired, noting that a COMMIT may have been sent: the next attempt inherits it.
    pub async fn release_unknown(self) -> Result<()> {
        self.renewal.abort();
        let mut state = self.shared.state.lock().await;
        self.shared.leave(&mut state, |note| note.commit_may_be_sent = true).await
    }

    /// Gives the lease back after an attempt that came to no end: notes that matter stay for the next one to inherit.
    pub async fn abandon(self) -> Result<()> {
        self.renewal.abort();
        let mut state = self.shared.state.lock().await;
        if state.note.matters() {
            self.shared.leave(&mut state, |_| {}).await
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
    fn check(&self, key: &str) -> Result<()> {
        if self.is_lost {
            return Err(Error::new(ErrorKind::LeaseLost, format!("another worker has taken over {key}")));
        }
        if self.note.expires_at <= Timestamp::now() {
            let message = format!("{key} has expired at {}", self.note.expires_at);
            return Err(Error::new(ErrorKind::LeaseLost, message));
        }
        Ok(())
    }
}

impl Shared {
    /// Renews the lease every third of its time until it is lost. Other failures are tried again until it expires.
    async fn renew(self: Arc<Self>) {
        let mut wait = self.ttl / 3;
        loop {
            tokio::time::sleep(wait).await;
            let mut state = self.state.lock().await;
            if let Err(error) = state.check(&self.key) {
                tracing::warn!(lease = self.key, error = &error as &dyn std::error::Error, "the lease is lost");
                return;
            }
            wait = match self.rewrite(&mut state, |_| {}).await {
                Ok(()) => self.ttl / 3,
                // When it is lost, the next round says so and ends.
                Err(_) => self.ttl / 20,
            };
        }
    }

    async fn mark(&self, change: impl Fn(&mut Note)) -> Result<()> {
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
            match self.rewrite(&mut state, &change).await {
                Ok(()) => return state.check(&self.key),
                Err(error) => match error.kind() {
                    ErrorKind::Service | ErrorKind::Throttled | ErrorKind::Busy => last = Some(error),
                    _ => return Err(error),
                },
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Writes the note anew with a later end and `change`, in bounded time.
    async fn rewrite(&self, state: &mut State, change: impl Fn(&mut Note)) -> Result<()> {
        let extend = |note: &mut Note| {
            note.expires_at = after(Timestamp::now(), signed(self.ttl));
            change(note);
        };
        tokio::time::timeout(self.ttl / 3, self.replace(state, extend)).await.unwrap_or_else(|elapsed| {
            let message = format!("{} was not written in time", self.key);
            Err(Error::new(ErrorKind::Service, message).with_source(elapsed))
        })
    }

    async fn leave(&self, state: &mut State, change: impl Fn(&mut Note)) -> Result<()> {
        let end = |note: &mut Note| {
            note.expires_at = after(Timestamp::now(), -CLOCK_MARGIN);
            change(note);
        };
        match self.replace(state, end).await {
            // Whoever has it now has inherited what we noted.
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(()),
            other => other,
        }
    }

    /// Changes the lease if it still is ours. A put whose answer was lost has changed the ETag: then it is read again.
    async fn replace(&self, state: &mut State, change: impl Fn(&mut Note)) -> Result<()> {
        for _ in 0..TRIES {
            let mut note = state.note.clone();
            change(&mut note);
            match self.store.put_if(&self.bucket, &self.key, &state.etag, encode(&note), CONTENT_TYPE).await {
                Ok(etag) => {
                    state.etag = etag;
                    state.note = note;
                    return Ok(());
                }
                Err(error) if is_overtaken(&error) => self.refresh(state).await?,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Service, format!("{} changes faster than it can be written", self.key)))
    }

    async fn delete(&self, state: &mut State) -> Result<()> {
        for _ in 0..TRIES {
            match self.store.delete_if(&self.bucket, &self.key, &state.etag).await? {
                Deleted::Done | Deleted::Gone => return Ok(()),
                Deleted::Changed => match self.refresh(state).await {
                    Ok(()) => {}
                    // It is another worker's now, and so is its end.
                    Err(error) if error.kind() == ErrorKind::LeaseLost => return Ok(()),
                    Err(error) => return Err(error),
                },
            }
        }
        Err(Error::new(ErrorKind::Service, format!("{} changes faster than it can be deleted", self.key)))
    }

    /// Reads the lease again. Ours: its ETag is taken over. Another's, or none: lost.
    async fn refresh(&self, state: &mut State) -> Result<()> {
        match read_note(&self.store, &self.bucket, &self.key).await? {
            Some((found, etag)) if found.token == state.note.token => {
                state.etag = etag;
                state.note.commit_may_be_sent |= found.commit_may_be_sent;
                state.note.fallback_may_be_written |= found.fallback_may_be_written;
                Ok(())
            }
            Some(_) | None => {
                state.is_lost = true;
                state.check(&self.key)
            }
        }
    }
}

/// A conditional put met another lease, or none.
fn is_overtaken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing)
}
