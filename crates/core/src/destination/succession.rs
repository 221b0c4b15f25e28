//! The order of the deltas of a table: each one is loaded only after the one before it.

use crate::object::SourceId;

/// The place of a delta among the deltas of a table.
///
/// The ledger row of the last loaded delta has a name in its column `current_of`. The transaction of the next delta takes the name
/// over, so the rows of a late worker are never stored after newer ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// The name, which has at most 64 characters.
    pub name: String,
    /// The delta that must have been the last one; `None` for the first delta.
    pub previous: Option<SourceId>,
}
