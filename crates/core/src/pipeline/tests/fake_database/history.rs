//! The list of runs of the database in memory.

use crate::destination::{AttemptRecord, LoadDetails, Run};

/// The run that a list shows for an attempt.
pub(super) fn run_of(attempt: &AttemptRecord) -> Run {
    Run {
        source_id: attempt.source.id.to_string(),
        outcome: attempt.outcome,
        error_kind: Some(attempt.error_kind.name().to_owned()),
        attempts: 1,
        bucket: attempt.source.object.bucket.clone(),
        key: attempt.source.object.key.clone(),
        version_id: None,
        table: attempt.table.clone(),
        size_bytes: attempt.source.size_bytes,
        rows_parsed: attempt.rows_parsed,
        rows_stored: attempt.rows_stored,
        rows_rejected: attempt.rows_rejected,
        load: LoadDetails::default(),
        worker: attempt.worker.clone(),
        tool_version: String::new(),
        first_started_at: None,
        started_at: attempt.started_at,
        ended_at: Some(attempt.ended_at),
        elapsed_ms: None,
        cost_usd: None,
        moved_to: None,
        reason: Some(attempt.reason.clone()),
        table_changes: None,
    }
}
