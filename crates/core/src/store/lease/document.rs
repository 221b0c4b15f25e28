//! The JSON document in a lease object: its fields, when it is live, how it is read and written.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, hash_parts};
use crate::store::Store;
use crate::store::write::Created;

/// Largest assumed difference between two workers' clocks: a lease is taken over only this long after its expiry.
pub(super) const CLOCK_MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// Upper bound for the size of a lease object.
const MAX_BYTES: u64 = 64 * 1024;
const CONTENT_TYPE: &str = "application/json";

/// The content of a lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseDocument {
    pub(super) worker: String,
    /// Distinguishes acquisitions, also those of one worker.
    pub(super) token: String,
    pub(super) acquired_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) commit_may_be_sent: bool,
    #[serde(default)]
    pub(super) fallback_may_be_written: bool,
    /// Number of acquisitions in a row that have not ended the lease, including the current one. A worker that dies
    /// leaves its own acquisition in this count.
    #[serde(default)]
    pub(super) unended_acquisitions: u32,
    /// The leased object. Once it is gone, no later attempt needs the other fields.
    pub(super) object: Option<ObjectRef>,
}

impl LeaseDocument {
    /// The document of a new acquisition that expires `ttl` from now.
    pub(super) fn new(object: &ObjectRef, worker: &str, ttl: Duration) -> Self {
        let now = Timestamp::now();
        let random = fastrand::u128(..).to_string();
        Self {
            worker: worker.to_owned(),
            token: hash_parts(&[worker, &now.as_nanosecond().to_string(), &random]),
            acquired_at: now,
            expires_at: after(now, signed(ttl)),
            commit_may_be_sent: false,
            fallback_may_be_written: false,
            unended_acquisitions: 1,
            object: Some(object.clone()),
        }
    }

    /// Whether another worker must not take the lease over yet.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now <= after(self.expires_at, CLOCK_MARGIN)
    }

    /// Whether a COMMIT or a fallback write may be in doubt, so that the next attempt must read this document.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.commit_may_be_sent || self.fallback_may_be_written
    }

    /// Number of holders in a row that died with the lease, as of `now`. The current holder is dead if it has expired.
    pub(super) fn deaths(&self, now: Timestamp) -> u32 {
        self.unended_acquisitions.saturating_sub(u32::from(self.is_live(now)))
    }

    fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("strings, booleans and timestamps can be written as JSON"))
    }
}

/// Reads a lease object: its document and its ETag, or `None` when it does not exist.
pub(super) async fn read(store: &Store, bucket: &str, key: &str) -> Result<Option<(LeaseDocument, String)>> {
    let Some((document, etag)) = read_any(store, bucket, key).await? else { return Ok(None) };
    document.map(|document| Some((document, etag)))
}

/// Reads a lease object like [`read`]. For a damaged one, returns the error and the ETag.
pub(super) async fn read_any(
    store: &Store,
    bucket: &str,
    key: &str,
) -> Result<Option<(Result<LeaseDocument>, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    let document = serde_json::from_slice(&small.bytes).map_err(|cause| {
        let message = format!("{key} is not a readable lease; delete it when no worker runs");
        Error::new(ErrorKind::Service, message).with_source(cause)
    });
    Ok(Some((document, small.etag)))
}

/// Creates a lease object. Returns its ETag, or `None` when it exists already.
pub(super) async fn create(store: &Store, bucket: &str, key: &str, document: &LeaseDocument) -> Result<Option<String>> {
    match store.put_new(bucket, key, document.encode(), CONTENT_TYPE).await? {
        Created::New { etag } => Ok(Some(etag)),
        Created::Exists => Ok(None),
    }
}

/// Overwrites the lease object that has this ETag. Returns the new ETag, or `None` when it was changed or deleted.
pub(super) async fn overwrite(
    store: &Store,
    bucket: &str,
    key: &str,
    etag: &str,
    document: &LeaseDocument,
) -> Result<Option<String>> {
    match store.put_if(bucket, key, etag, document.encode(), CONTENT_TYPE).await {
        Ok(etag) => Ok(Some(etag)),
        Err(error) if matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

pub(super) fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
