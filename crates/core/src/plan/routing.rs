//! The process that would load the file in a deployed stack, with a rough estimate of time and cost.

use std::time::Duration;

use crate::cost::{Compute, Requests};
use crate::object::ObjectVersion;
use crate::plan::document::RoutePlan;
use crate::plan::{Place, PlanSettings};
use crate::route::{self, ExecutionMode, Route};

/// The function of the template, unless the settings name another size.
const FUNCTION: Compute = Compute::Lambda { memory_mb: 1024 };
/// The task of the template.
const TASK: Compute = Compute::Fargate { cpu_units: 1024, memory_mb: 2048 };

/// A speed that every benchmark exceeds, in bytes per second after decompression.
const BYTES_PER_SECOND: u64 = 10 << 20;
/// The time for connections, claim and move.
const FIXED_TIME: Duration = Duration::from_secs(1);
/// The time until a task runs, which is not charged.
const TASK_START: Duration = Duration::from_secs(40);

/// The requests of one object: its lease, its body, its copy and the tests for it.
const REQUESTS: Requests = Requests { writes: 4.0, reads: 6.0 };

/// Returns the route of an object. A local file is routed as if it were uploaded.
pub(super) fn route(settings: &PlanSettings, version: &ObjectVersion, place: Place) -> RoutePlan {
    let expected_bytes = route::expected_bytes(version);
    let time = FIXED_TIME + Duration::from_secs(expected_bytes / BYTES_PER_SECOND);
    let (process, compute, wait) = match route::execution_mode(expected_bytes, settings.inline_max_bytes, None) {
        ExecutionMode::Inline => ("function", FUNCTION, Duration::ZERO),
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
        expected_cost_usd: compute.dollars(time, REQUESTS),
        skipped,
    }
}
