//! The lease: an object that says which worker holds a source, until when, and what may already be under way.
//!
//! It keeps a slow loader and a faster fallback from both finishing while the database cannot be asked. Every change
//! carries the ETag of the lease it changes, so of two workers one always learns that it is too late. The ledger, not the
//! lease, decides whether rows are loaded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::write::{Created, Deleted};
use super::{Store, TRIES, pause};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{SourceId, hash_parts};

/// How far two workers' clocks may be apart: a lease is taken over only this long after its end.
const CLOCK_MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// A note that a COMMIT or a fallback may be under way outlives its lease by this much before a sweep drops it. Every
/// attempt for the source inherits the note and renews it, so one that nobody has touched for a day belongs to a source
/// that nothing delivers or sweeps any more; Lambda's own retries end after six hours.
const NOTE_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// No lease is larger.
const MAX_BYTES: u64 = 64 * 1024;
const CONTENT_TYPE: &str = "application/json";

/// What is written in the lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    worker: String,
    /// Tells one acquisition from any other, also by the same worker.
    token: String,
    acquired_at: Timestamp,
    expires_at: Timestamp,
    commit_may_be_sent: bool,
    #[serde(default)]
    fallback_may_be_written: bool,
}

impl Note {
    fn is_live(&self, now: Timestamp) -> bool {
        now <= after(self.expires_at, CLOCK_MARGIN)
    }

    /// Whether the next attempt must know of this note.
    fn matters(&self) -> bool {
        self.commit_may_be_sent || self.fallback_may_be_written
    }
}

/// What an expired lease said before we took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// The worker that held it.
    pub worker: String,
    /// A COMMIT may have been sent: no fallback unless the database can be asked.
    pub commit_may_be_sent: bool,
    /// A fallback object may have been, or may still be, written: no load; write the fallback (again).
    pub fallback_may_be_written: bool,
}

/// A lease as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The source it is about.
    pub source_id: SourceId,
    /// Who holds or held it.
    pub worker: String,
    /// Since when.
    pub acquired_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// Whether a COMMIT may have been sent.
    pub commit_may_be_sent: bool,
    /// Whether a fallback object may have been written.
    pub fallback_may_be_written: bool,
    etag: String,
}

/// A lease that we hold. A task renews it until it is given back; when it is only dropped, renewal ends and it expires.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    inherited: Option<Inherited>,
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
    /// `Busy` while another worker's lease is live. `worker` is a name for people to read.
    pub async fn acquire(
        store: &Store,
        bucket: &str,
        prefix: &str,
        source_id: &SourceId,
        worker: &str,
        ttl: Duration,
    ) -> Result<Self> {
        let key = lease_key(prefix, source_id);
        let note = new_note(worker, ttl);
        let hold = |note: Note, etag: String, inherited: Option<Inherited>| {
            let state = Mutex::new(State { note, etag, is_lost: false });
            let (store, bucket, key) = (store.clone(), bucket.to_owned(), key.clone());
            let shared = Arc::new(Shared { store, bucket, key, ttl, state });
            let renewal = tokio::spawn(Arc::clone(&shared).renew()).abort_handle();
            Self { shared, inherited, renewal }
        };
        for attempt in 0..TRIES {
            if let Created::New { etag } = store.put_new(bucket, &key, encode(&note), CONTENT_TYPE).await? {
                return Ok(hold(note, etag, None));
            }
            let Some((found, etag)) = read_note(store, bucket, &key).await? else {
                // Given back between the two requests.
                pause(attempt).await;
                continue;
            };
            if found.token == note.token {
                // Ours: the answer to the first try was lost.
                return Ok(hold(found, etag, None));
            }
            if found.is_live(Timestamp::now()) {
                let message = format!("worker {} holds {key} until {}", found.worker, found.expires_at);
                return Err(Error::new(ErrorKind::Busy, message));
            }
            let heir = Note {
                commit_may_be_sent: found.commit_may_be_sent,
                fallback_may_be_written: found.fallback_may_be_written,
                ..new_note(worker, ttl)
            };
            let inherited = Inherited {
                worker: found.worker,
                commit_may_be_sent: found.commit_may_be_sent,
                fallback_may_be_written: found.fallback_may_be_written,
            };
            match store.put_if(bucket, &key, &etag, encode(&heir), CONTENT_TYPE).await {
                Ok(etag) => return Ok(hold(heir, etag, Some(inherited))),
                Err(error) if is_overtaken(&error) => {
                    // Overtaken by another worker, or by our own first try.
                    if let Some((found, etag)) = read_note(store, bucket, &key).await?
                        && found.token == heir.token
                    {
                        return Ok(hold(found, etag, Some(inherited)));
                    }
                    pause(attempt).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("other workers are taking {key} by turns")))
    }

    /// What an earlier attempt left, when this lease was taken over from an expired one.
    pub fn inherited(&self) -> Option<&Inherited> {
        self.inherited.as_ref()
    }

    /// Fails with `LeaseLost` when the lease was taken over or has expired. Asks nobody but our own clock and memory.
    pub async fn check(&self) -> Result<()> {
        self.shared.state.lock().await.check(&self.shared.key)
    }

    /// Notes that a COMMIT may be sent from now on, and proves that the lease is ours. Without `Ok`, do not COMMIT.
    pub async fn mark_commit(&self) -> Result<()> {
        self.shared.mark(|note| note.commit_may_be_sent = true).await
    }

    /// Notes that a fallback object may be written from now on, and proves that the lease is ours. Without `Ok`, do not
    /// write it. Whoever inherits this note knows not to load behind the back of a write that is still on its way.
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
    pub async fn give_up(self) -> Result<()> {
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
                state.is_lost = true;
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

/// Every lease below the prefix. Objects there that are no leases are left out.
pub async fn leases(store: &Store, bucket: &str, prefix: &str) -> Result<Vec<LeaseInfo>> {
    let mut found = Vec::new();
    let mut pages = store.list(bucket, prefix);
    while let Some(page) = pages.next().await? {
        for listed in page {
            let Some(source_id) = listed.key.strip_prefix(prefix).and_then(SourceId::parse) else { continue };
            let Some((note, etag)) = read_note(store, bucket, &listed.key).await? else { continue };
            found.push(LeaseInfo {
                source_id,
                worker: note.worker,
                acquired_at: note.acquired_at,
                expires_at: note.expires_at,
                commit_may_be_sent: note.commit_may_be_sent,
                fallback_may_be_written: note.fallback_may_be_written,
                etag,
            });
        }
    }
    Ok(found)
}

/// Deletes the leases that have expired, except those whose notes still matter to an attempt to come. Returns how many.
pub async fn drop_expired(store: &Store, bucket: &str, prefix: &str) -> Result<usize> {
    let now = Timestamp::now();
    let mut dropped = 0;
    for lease in leases(store, bucket, prefix).await? {
        let matters = lease.commit_may_be_sent || lease.fallback_may_be_written;
        let kept_until = after(lease.expires_at, if matters { NOTE_KEPT } else { CLOCK_MARGIN });
        if kept_until < now {
            let key = lease_key(prefix, &lease.source_id);
            // Whoever takes it over at this moment changes its ETag, and keeps it.
            dropped += usize::from(store.delete_if(bucket, &key, &lease.etag).await? == Deleted::Done);
        }
    }
    Ok(dropped)
}

fn lease_key(prefix: &str, source_id: &SourceId) -> String {
    format!("{prefix}{source_id}")
}

fn new_note(worker: &str, ttl: Duration) -> Note {
    let now = Timestamp::now();
    let random = fastrand::u128(..).to_string();
    Note {
        worker: worker.to_owned(),
        token: hash_parts(&[worker, &now.as_nanosecond().to_string(), &random]),
        acquired_at: now,
        expires_at: after(now, signed(ttl)),
        commit_may_be_sent: false,
        fallback_may_be_written: false,
    }
}

async fn read_note(store: &Store, bucket: &str, key: &str) -> Result<Option<(Note, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    match serde_json::from_slice(&small.bytes) {
        Ok(note) => Ok(Some((note, small.etag))),
        Err(cause) => {
            let message = format!("{key} is no lease that can be read; delete it once no worker runs");
            Err(Error::new(ErrorKind::Service, message).with_source(cause))
        }
    }
}

fn encode(note: &Note) -> Bytes {
    Bytes::from(serde_json::to_vec(note).expect("a note is plain text and times"))
}

/// A conditional put met another lease, or none.
fn is_overtaken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
