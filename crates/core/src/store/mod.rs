//! S3: reading, conditional writing, verified moves and leases.
//!
//! The SDK's types never leave this room, and its failures become our kinds in one place (`answer.rs`). Each request is
//! retried by the SDK alone; what is retried here is what the SDK cannot know: a body that breaks off, a conditional
//! write that met another one.

mod answer;
mod copy;
pub mod lease;
mod meter;
pub mod moves;
pub mod read;
#[cfg(test)]
mod scripted_responses;
#[cfg(test)]
mod tests;
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

/// How often a conditional write that met another one (409), or a body that broke off without a byte, is tried again.
const TRIES: u32 = 6;
/// Of how many objects it is remembered how they looked: of as many as can be under way at once.
const LOOKS: usize = 64;

/// A client of S3. Clones share connections.
#[derive(Clone)]
pub struct Store {
    client: Client,
    meter: Meter,
    /// What was looked at and not moved yet, the latest last.
    looks: Arc<Mutex<VecDeque<Look>>>,
}

/// An object as HEAD has shown it.
struct Look {
    source: SourceId,
    head: Box<HeadObjectOutput>,
}

impl Store {
    /// A store on the given configuration. With an endpoint of one's own, buckets are part of the path.
    pub fn new(config: &SdkConfig) -> Self {
        let meter = Meter::default();
        let settings = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(config.endpoint_url().is_some())
            .interceptor(meter.clone());
        Self { client: Client::from_conf(settings.build()), meter, looks: Arc::default() }
    }

    /// The requests that this store and its clones have sent so far.
    pub fn requests(&self) -> Requests {
        self.meter.requests()
    }
}

impl Store {
    fn remember(&self, source: &ObjectVersion, head: HeadObjectOutput) {
        let look = Look { source: source.id.clone(), head: Box::new(head) };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|old| old.source != look.source);
        if looks.len() >= LOOKS {
            looks.pop_front();
        }
        looks.push_back(look);
    }

    /// What HEAD has said of this version, if not too much else was looked at since. It is given once.
    fn remembered(&self, source: &ObjectVersion) -> Option<Box<HeadObjectOutput>> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = looks.iter().position(|look| look.source == source.id)?;
        looks.remove(place).map(|look| look.head)
    }
}

impl fmt::Debug for Store {
    // The client prints pages of its insides, the access key's id among them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}

/// Waits a little before try number `attempt`.
async fn pause(attempt: u32) {
    tokio::time::sleep(policy::backoff(attempt, fastrand::f64()).max(Duration::from_millis(10))).await;
}
