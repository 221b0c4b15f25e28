//! The process that would load the file in a deployed stack, with a rough estimate of time and cost.

use std::time::Duration;

use serde::Serialize;

use crate::cost::{Compute, Requests};
use crate::object::ObjectVersion;
use crate::plan::{Place, PlanSettings};
use crate::route::{self, ExecutionMode, Route};

/// The process that would load the file in a deployed stack. Time and cost are rough.
#[derive(Debug, Clone, Serialize)]
pub struct RoutePlan {
    /// `function` or `task`.
    pub process: &'static str,
    /// The expected decompressed size.
    pub expected_bytes: u64,
    /// The expected time in seconds, with the start of a task.
    pub expected_seconds: u64,
    /// The expected cost in US dollars.
    pub expected_cost_usd: f64,
    /// Why an event about the object would be ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// The function of the template, unless the settings name another size.
const FUNCTION: Compute = Compute::Lambda { memory_mb: 1024 };
/// The task of the template.
const TASK: Compute = Compute::Fargate { cpu_units: 1024, memory_mb: 2048 };

/// A speed that every benchmark exceeds, in bytes per second after decompression.
const BYTES_PER_SECOND: u64 = 10 << 20;
/// The time for connections, claim and move.
const FIXED_TIME: Duration = Duration::from_secs(1);
/// The time until a task runs.
const TASK_START: Duration = Duration::from_secs(40);
/// The part of it that Fargate charges: from the download of the image on.
const IMAGE_DOWNLOAD: Duration = Duration::from_secs(10);
/// The shortest time that Fargate charges. Source: <https://aws.amazon.com/fargate/pricing>.
const TASK_MINIMUM: Duration = Duration::from_secs(60);

/// The requests of one object: its lease, its body, its copy and the tests for it.
const REQUESTS: Requests = Requests { writes: 4.0, reads: 6.0 };

/// Returns the route of an object. A local file is routed as if it were uploaded.
pub(super) fn route(settings: &PlanSettings, version: &ObjectVersion, place: Place) -> RoutePlan {
    let expected_bytes = route::expected_bytes(version);
    let time = FIXED_TIME + Duration::from_secs(expected_bytes / BYTES_PER_SECOND);
    let mode = route::execution_mode(expected_bytes, settings.inline_max_bytes, None);
    let (process, compute, wait) = match mode {
        ExecutionMode::Inline | ExecutionMode::Later => ("function", FUNCTION, Duration::ZERO),
        ExecutionMode::Task => ("task", TASK, TASK_START),
    };
    let compute = settings.pipeline.compute.unwrap_or(compute);
    let skipped = match (place, Route::of(&version.object, &settings.pipeline.prefixes)) {
        (Place::S3, Route::Skip { why }) => Some(why),
        (Place::S3, Route::Ingest) | (Place::Local, _) => None,
    };
    RoutePlan {
        process,
        expected_bytes,
        expected_seconds: (time + wait).as_secs(),
        expected_cost_usd: compute.dollars(charged_time(mode, time), REQUESTS),
        skipped,
    }
}

/// The time that AWS charges for a load of this time.
fn charged_time(mode: ExecutionMode, time: Duration) -> Duration {
    match mode {
        ExecutionMode::Inline | ExecutionMode::Later => time,
        ExecutionMode::Task => (IMAGE_DOWNLOAD + time).max(TASK_MINIMUM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_charged_for_a_minute_at_least() {
        let charged = |mode, seconds| charged_time(mode, Duration::from_secs(seconds)).as_secs();
        assert_eq!([4, 50, 300].map(|seconds| charged(ExecutionMode::Task, seconds)), [60, 60, 310]);
        assert_eq!(charged(ExecutionMode::Inline, 4), 4);
    }
}
