//! The catalog of raw zones: files that stay in place, as tables that Athena reads (`CATALOG_RAW`).
//!
//! [`describe`] finds out how a table must describe a file, or why Athena would read it wrong. `catalog` registers it. If Glue
//! fails, the registration is noted in S3, and a sweep or a sync makes up for it. So a load never waits for Glue, and no folder
//! is forgotten.

mod describe;
mod notes;

pub(crate) use describe::{SourceFile, describe};
pub(crate) use notes::{note, register_noted};
