//! The leases that exist, for people to look at and for the sweep to clear away.

use jiff::{SignedDuration, Timestamp};

use super::note::{CLOCK_MARGIN, after, lease_key, read_note};
use crate::error::{ErrorKind, Result};
use crate::object::{ObjectRef, SourceId};
use crate::store::Store;
use crate::store::write::Deleted;

/// A note that a COMMIT or a fallback may be under way outlives its lease by this much before a sweep drops it. Every
/// attempt for the source inherits the note and renews it, so one that nobody has touched for a day belongs to a source
/// that nothing delivers or sweeps any more; Lambda's own retries end after six hours.
const NOTE_KEPT: SignedDuration = SignedDuration::from_hours(24);

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
    /// The object it is about, as far as the lease says so.
    pub object: Option<ObjectRef>,
    etag: String,
}

impl LeaseInfo {
    /// Whether it has expired, and nobody who comes later has to know what it says.
    async fn is_droppable(&self, store: &Store, now: Timestamp) -> Result<bool> {
        if now <= after(self.expires_at, CLOCK_MARGIN) {
            return Ok(false);
        }
        let matters = self.commit_may_be_sent || self.fallback_may_be_written;
        if !matters || now > after(self.expires_at, NOTE_KEPT) {
            return Ok(true);
        }
        let Some(object) = &self.object else { return Ok(false) };
        match store.head(object).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(true),
            Err(error) => Err(error),
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
                object: note.object,
                etag,
            });
        }
    }
    Ok(found)
}

/// Deletes the leases that have expired, except those whose notes still matter to an attempt to come: as long as the
/// object is there, such an attempt may come. Returns how many.
pub async fn drop_expired(store: &Store, bucket: &str, prefix: &str) -> Result<usize> {
    let now = Timestamp::now();
    let mut dropped = 0;
    for lease in leases(store, bucket, prefix).await? {
        if lease.is_droppable(store, now).await? {
            let key = lease_key(prefix, &lease.source_id);
            // Whoever takes it over at this moment changes its ETag, and keeps it.
            dropped += usize::from(store.delete_if(bucket, &key, &lease.etag).await? == Deleted::Done);
        }
    }
    Ok(dropped)
}
