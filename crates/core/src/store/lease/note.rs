//! What is written in a lease object, and how long it counts.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, SourceId, hash_parts};
use crate::store::Store;

/// How far two workers' clocks may be apart: a lease is taken over only this long after its end.
pub(super) const CLOCK_MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// No lease is larger.
const MAX_BYTES: u64 = 64 * 1024;

/// What is written in the lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) worker: String,
    /// Tells one acquisition from any other, also by the same worker.
    pub(super) token: String,
    pub(super) acquired_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) commit_may_be_sent: bool,
    #[serde(default)]
    pub(super) fallback_may_be_written: bool,
    /// The object it is about. Once that is gone, no attempt can come that would have to know the rest.
    pub(super) object: Option<ObjectRef>,
}

impl Note {
    /// A note of a new acquisition, good for `ttl` from now.
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
            object: Some(object.clone()),
        }
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now <= after(self.expires_at, CLOCK_MARGIN)
    }

    /// Whether the next attempt must know of this note.
    pub(super) fn matters(&self) -> bool {
        self.commit_may_be_sent || self.fallback_may_be_written
    }
}

pub(super) fn lease_key(prefix: &str, source_id: &SourceId) -> String {
    format!("{prefix}{source_id}")
}

pub(super) async fn read_note(store: &Store, bucket: &str, key: &str) -> Result<Option<(Note, String)>> {
    let Some(small) = store.read_small(bucket, key, MAX_BYTES).await? else { return Ok(None) };
    match serde_json::from_slice(&small.bytes) {
        Ok(note) => Ok(Some((note, small.etag))),
        Err(cause) => {
            let message = format!("{key} is no lease that can be read; delete it once no worker runs");
            Err(Error::new(ErrorKind::Service, message).with_source(cause))
        }
    }
}

pub(super) fn encode(note: &Note) -> Bytes {
    Bytes::from(serde_json::to_vec(note).expect("a note is plain text and times"))
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

pub(super) fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
