//! S3: reading, conditional writing, verified moves and leases.
//!
//! SDK types do not leave this module, and `failure.rs` maps SDK failures to error kinds. The SDK retries single requests. This
//! module retries what the SDK cannot: bodies that break off, writes that S3 refused with 409 because of another write, and
//! responses of HEAD that GET contradicts. A lease also retries its renewal.

mod copy;
mod failure;
mod folders;
pub mod lease;
mod meter;
pub mod moves;
pub(crate) mod notifications;
pub mod read;
#[cfg(test)]
mod scripted_responses;
pub(crate) mod sent_upload;
#[cfg(test)]
mod tests;
pub mod upload;
pub mod write;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;

use meter::Meter;

use crate::cost::Requests;
use crate::object::{ObjectVersion, SourceId};
use crate::policy;

/// Number of attempts for a write that S3 refuses because of another write (HTTP 409); of resumptions in a row for a body that
/// makes no progress.
const TRIES: u32 = 6;
/// Capacity of the HEAD cache: the largest number of files that are processed at once.
const HEAD_CACHE_CAPACITY: usize = 64;

/// An S3 client. Clones share connections.
#[derive(Clone)]
pub struct Store {
    client: Client,
    meter: Meter,
    /// HEAD responses of objects that were not moved yet, oldest first. They save the move two requests.
    heads: Arc<Mutex<VecDeque<CachedHead>>>,
}

/// The HEAD response of one object version.
struct CachedHead {
    source: SourceId,
    head: Box<HeadObjectOutput>,
}

impl Store {
    /// Returns a store. With a custom endpoint the bucket is part of the path, not of the host name.
    pub fn new(config: &SdkConfig) -> Self {
        let meter = Meter::default();
        let settings = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(config.endpoint_url().is_some())
            .interceptor(meter.clone());
        Self { client: Client::from_conf(settings.build()), meter, heads: Arc::default() }
    }

    /// Number of requests that this store and its clones have sent.
    pub fn requests(&self) -> Requests {
        self.meter.requests()
    }
}

impl Store {
    fn cache_head(&self, source: &ObjectVersion, head: HeadObjectOutput) {
        let cached = CachedHead { source: source.id.clone(), head: Box::new(head) };
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.retain(|old| old.source != cached.source);
        if heads.len() >= HEAD_CACHE_CAPACITY {
            heads.pop_front();
        }
        heads.push_back(cached);
    }

    /// Removes the HEAD response of this version from the cache and returns it.
    fn take_cached_head(&self, source: &ObjectVersion) -> Option<Box<HeadObjectOutput>> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let index = heads.iter().position(|cached| cached.source == source.id)?;
        heads.remove(index).map(|cached| cached.head)
    }
}

impl fmt::Debug for Store {
    // The client's own output is long and contains the id of the access key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}

/// Waits before the next attempt; `attempt` counts from zero.
async fn pause(attempt: u32) {
    tokio::time::sleep(policy::backoff(attempt, fastrand::f64()).max(Duration::from_millis(10))).await;
}
