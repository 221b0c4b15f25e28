//! The fate of one object, as it is answered, logged and shown.

use serde::{Deserialize, Serialize};

use crate::object::ObjectRef;

/// Where an object's rows are now. Each of these is an end: the event need not come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In the target table, by this attempt.
    Loaded,
    /// In the target table, by an earlier attempt or, with `DEDUPE=content`, from the same bytes under the same key.
    AlreadyLoaded,
    /// Nowhere, rightly: a newer file has replaced the table already.
    Superseded,
    /// In the fallback: S3 and Glue.
    FellBack,
    /// Nowhere: the file itself is broken; it lies under the failed prefix with the reason beside it.
    Rejected,
    /// Nowhere, on purpose: not a file for us, or gone.
    Skipped,
    /// Handed to a Fargate task, which will report its own outcome.
    HandedOver,
    /// From the fallback into the target table.
    Replayed,
}

impl Outcome {
    /// The name in logs, reports and the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::AlreadyLoaded => "already_loaded",
            Self::Superseded => "superseded",
            Self::FellBack => "fell_back",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::HandedOver => "handed_over",
            Self::Replayed => "replayed",
        }
    }
}

/// What happened to one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The object as it was named.
    pub object: ObjectRef,
    /// Its identity, once S3 has answered for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Its end.
    pub outcome: Outcome,
    /// The target table, where one was involved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Rows read from the file.
    pub rows_parsed: u64,
    /// Rows of this object that are in the table or the fallback. In a merge fewer than were read when several have the
    /// same key, of which only the last is stored.
    pub rows_stored: u64,
    /// Of those, rows of the table that a merge has changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_updated: u64,
    /// Of those, rows that the table had already, in a merge.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_unchanged: u64,
    /// Bad records of the file that were left out.
    #[serde(default)]
    pub rows_rejected: u64,
    /// The key under which these are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    /// The object's size in bytes.
    pub size_bytes: u64,
    /// The time this attempt took.
    pub elapsed_ms: u64,
    /// What it has cost in US dollars (see [`crate::cost`]), where it is known what this runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The key the object has now, when it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// Why it ended like this, when it is not a plain load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Nothing is lost, and still a person must look: a run with such a report exits non-zero.
    #[serde(default)]
    pub needs_attention: bool,
}

impl Report {
    /// A report with an outcome and nothing counted yet.
    pub fn new(object: ObjectRef, outcome: Outcome) -> Self {
        Self {
            object,
            source_id: None,
            outcome,
            table: None,
            rows_parsed: 0,
            rows_stored: 0,
            rows_updated: 0,
            rows_unchanged: 0,
            rows_rejected: 0,
            rejects: None,
            size_bytes: 0,
            elapsed_ms: 0,
            cost_usd: None,
            moved_to: None,
            reason: None,
            needs_attention: false,
        }
    }

    /// With the reason for the outcome.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
