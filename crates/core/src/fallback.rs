//! The spillway: rows that the database did not take go to S3 and into the Glue catalog, and come back from there.
//!
//! The data object is the commit point: one for each source, at a key made from the identity alone, visible in one step
//! when its upload completes. The manifest is written before it, the catalog after it.

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::config::RoadSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BatchStream;
use crate::object::Source;
use crate::schema::Schema;
use crate::store::Store;

/// What is known of a fallback object, kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whose rows these are.
    pub source: Source,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: String,
    /// The table the rows were meant for.
    pub target_table: String,
    /// The file's own columns.
    pub schema: Schema,
    /// How many rows.
    pub rows: u64,
    /// Why they are here.
    pub reason: String,
}

/// What goes over the spillway.
#[derive(Debug, Clone, Copy)]
pub struct Spill<'a> {
    /// Whose rows these are.
    pub source: &'a Source,
    /// SHA-256 of the source's body in hex.
    pub body_sha256: &'a str,
    /// The file's columns.
    pub schema: &'a Schema,
    /// How many rows the first pass has counted.
    pub rows: u64,
    /// Why, without row values.
    pub reason: &'a str,
}

fn missing<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Service, "this build has no fallback yet; the object waits in place"))
}

/// The guard: the manifest of this source's fallback object, when the object itself is there, in whichever form.
///
/// # Errors
/// An outage is never taken for absence.
#[allow(clippy::unused_async, reason = "asks S3")]
pub async fn find(_store: &Store, _settings: &RoadSettings, _source: &Source) -> Result<Option<Manifest>> {
    Ok(None)
}

/// Writes manifest and data object and registers them. `announce` is called when all bytes are sent and the object is
/// about to appear; its error stops that.
///
/// # Errors
/// Nothing is visible then, or the object is there and only its registration is missing.
#[allow(clippy::unused_async, reason = "asks S3")]
pub async fn write(
    _store: &Store,
    _catalog: &Catalog,
    _settings: &RoadSettings,
    _spill: &Spill<'_>,
    _rows: BatchStream<'_>,
    _announce: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    missing()
}

/// Registers a fallback object that an earlier attempt has written.
///
/// # Errors
/// When the catalog cannot be changed.
#[allow(clippy::unused_async, reason = "asks Glue")]
pub async fn register_found(_catalog: &Catalog, _settings: &RoadSettings, _found: &Manifest) -> Result<()> {
    missing()
}

/// The rows of a fallback object, as the source had them.
///
/// # Errors
/// When the object cannot be read.
#[allow(clippy::unused_async, reason = "asks S3")]
pub async fn open_rows(_store: &Store, _manifest: &Manifest) -> Result<BatchStream<'static>> {
    missing()
}

/// Takes a fallback object out: the data object, the partition once it is empty, the manifest. May be repeated.
///
/// # Errors
/// When something of it may still be there.
#[allow(clippy::unused_async, reason = "asks S3")]
pub async fn remove(_store: &Store, _catalog: &Catalog, _settings: &RoadSettings, _manifest: &Manifest) -> Result<()> {
    missing()
}

/// The manifests of all fallback objects that were meant for a table, oldest source first.
///
/// # Errors
/// When the fallback cannot be listed.
#[allow(clippy::unused_async, reason = "asks S3")]
pub async fn list(_store: &Store, _bucket: &str, _settings: &RoadSettings, _table: &str) -> Result<Vec<Manifest>> {
    Ok(Vec::new())
}
