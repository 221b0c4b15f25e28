//! The catalog of raw zones: files that stay in place, as tables that Athena reads (`CATALOG_RAW`).
//!
//! [`describe()`] finds out how a table must describe a file, or why Athena would read it wrong. [`register()`] registers it in Glue,
//! for which a load waits a few seconds at most. If Glue fails, the registration is noted in S3, and a sweep or a sync registers
//! the folder later. While an outage is known, a load only writes the note. So no folder is forgotten.

mod describe;
mod notes;
mod register;

pub(crate) use describe::{SourceFile, describe};
pub(crate) use notes::{note, register_noted};
pub(crate) use register::{GlueOutage, register};
