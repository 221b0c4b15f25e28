//! Lists the leases of a bucket and deletes expired ones.

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use super::document::{self, CLOCK_MARGIN, after};
use crate::error::{ErrorKind, Result, chain};
use crate::object::{ObjectRef, SourceId};
use crate::store::Store;
use crate::store::write::Deleted;

/// How long an expired lease is kept whose COMMIT or fallback write may be in doubt, or whose holder died.
///
/// Every attempt for the source takes that state over and renews it. A lease that has not changed for a day belongs to
/// a source that no event and no reconciliation delivers any more; Lambda's own retries end after six hours.
const IN_DOUBT_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The worker of a damaged lease.
const UNREADABLE: &str = "unreadable";

/// A lease as found in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The leased source.
    pub source_id: SourceId,
    /// The worker that holds or held it.
    pub worker: String,
    /// When it was acquired.
    pub acquired_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether a COMMIT may have been sent.
    pub commit_may_be_sent: bool,
    /// Whether a fallback object may have been written.
    pub fallback_may_be_written: bool,
    /// Number of holders in a row that died.
    pub deaths: u32,
    /// The leased object, if the lease names it.
    pub object: Option<ObjectRef>,
    key: String,
    etag: String,
}

impl LeaseInfo {
    /// Whether it has expired and no later attempt needs its state.
    async fn is_obsolete(&self, store: &Store, now: Timestamp) -> Result<bool> {
        if now <= after(self.expires_at, CLOCK_MARGIN) {
            return Ok(false);
        }
        let is_in_doubt = self.commit_may_be_sent || self.fallback_may_be_written;
        let is_needed = is_in_doubt || self.deaths > 0;
        if !is_needed || now > after(self.expires_at, IN_DOUBT_KEPT) {
            return Ok(true);
        }
        let Some(object) = &self.object else { return Ok(!is_in_doubt) };
        match store.head(object).await {
            // A newer object under the same key has a lease and a count of its own.
            Ok(found) => Ok(!is_in_doubt && found.id != self.source_id),
            Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Returns every lease under the prefix. Other objects there are skipped.
///
/// A damaged lease counts as one that never expires. So it stops neither a status nor a sweep, and nothing of its source is deleted.
///
/// # Errors
/// When S3 fails. A lease whose content is damaged is not an error.
pub async fn leases(store: &Store, bucket: &str, prefix: &str) -> Result<Vec<LeaseInfo>> {
    let now = Timestamp::now();
    let mut found = Vec::new();
    let mut pages = store.list(bucket, prefix);
    while let Some(page) = pages.next().await? {
        for listed in page {
            let Some(source_id) = listed.key.strip_prefix(prefix).and_then(SourceId::parse) else { continue };
            let Some((document, etag)) = document::read_any(store, bucket, &listed.key).await? else { continue };
            found.push(match document {
                Ok(document) => LeaseInfo {
                    source_id,
                    deaths: document.deaths(now),
                    worker: document.worker,
                    acquired_at: document.acquired_at,
                    expires_at: document.expires_at,
                    commit_may_be_sent: document.commit_may_be_sent,
                    fallback_may_be_written: document.fallback_may_be_written,
                    object: document.object,
                    key: listed.key,
                    etag,
                },
                Err(error) => {
                    warn!(error = %chain(&error), "a lease cannot be read, and counts as one that never expires");
                    LeaseInfo {
                        source_id,
                        deaths: 0,
                        worker: UNREADABLE.to_owned(),
                        acquired_at: listed.last_modified,
                        expires_at: Timestamp::MAX,
                        commit_may_be_sent: false,
                        fallback_may_be_written: false,
                        object: None,
                        key: listed.key,
                        etag,
                    }
                }
            });
        }
    }
    Ok(found)
}

/// Whether a worker holds the lease at this key.
///
/// # Errors
/// When the lease cannot be read.
pub async fn is_live(store: &Store, bucket: &str, key: &str) -> Result<bool> {
    let found = document::read(store, bucket, key).await?;
    Ok(found.is_some_and(|(document, _)| document.is_live(Timestamp::now())))
}

/// Deletes leases that had expired at this time, except those whose state a later attempt may need. Returns how many.
///
/// A later attempt is possible as long as the leased object exists. The state is kept for at most a day after the expiry.
///
/// # Errors
/// When the leases cannot be listed, read or deleted.
pub async fn drop_expired(store: &Store, bucket: &str, prefix: &str, at: Timestamp) -> Result<usize> {
    let mut dropped = 0;
    for lease in leases(store, bucket, prefix).await? {
        if lease.is_obsolete(store, at).await? {
            // A worker that takes the lease over at this moment changes its ETag, so its lease is not deleted.
            dropped += usize::from(store.delete_if(bucket, &lease.key, &lease.etag).await? == Deleted::Done);
        }
    }
    Ok(dropped)
}
