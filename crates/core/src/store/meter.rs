//! Counts the requests sent to S3, by price class.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::cost::Requests;

/// Counts the requests of a client, each attempt separately. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<RequestCounts>);

#[derive(Debug, Default)]
struct RequestCounts {
    writes: AtomicU64,
    reads: AtomicU64,
}

impl Meter {
    pub(super) fn requests(&self) -> Requests {
        let RequestCounts { writes, reads } = &*self.0;
        Requests { writes: writes.load(Ordering::Relaxed) as f64, reads: reads.load(Ordering::Relaxed) as f64 }
    }
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "Meter"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let is_listing = request.uri().split_once('?').is_some_and(|(_, query)| {
            query.split('&').any(|part| part.starts_with("list-type=") || part == "uploads" || part == "uploads=")
        });
        let count = match request.method() {
            "DELETE" => return Ok(()),
            "GET" | "HEAD" if !is_listing => &self.0.reads,
            _ => &self.0.writes,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
