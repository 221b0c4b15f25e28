//! The documents of the registry, and the rules of the lock. Does no I/O.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::place::compare_versions;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectVersion, SourceId};

/// The state of a tenant's table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableState {
    /// The tenant.
    pub(super) tenant: String,
    /// The table.
    pub(super) table: String,
    /// The number of the last lock. It only grows.
    pub(super) fence: u64,
    /// The lock, while an import runs.
    pub(super) lock: Option<TableLock>,
    /// The last imported version.
    pub(super) current: Option<ImportedExport>,
    /// The import that was planned and is not finished. The next owner of the lock finishes it first.
    pub(super) planned: Option<PlannedImport>,
    /// The number of the lock whose import has failed last, so that the step fail can be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed_fence: Option<u64>,
}

/// The lock of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableLock {
    /// The execution that holds it.
    pub(super) owner: String,
    /// Its number. A step with another number has lost the lock.
    pub(super) fence: u64,
    /// The version that is imported under it.
    pub(super) version: String,
    /// When it was taken.
    pub(super) acquired_at: Timestamp,
    /// Another owner may take it after this time.
    pub(super) expires_at: Timestamp,
}

/// A version that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImportedExport {
    /// The version.
    pub(super) version: String,
    /// Its files, as they were compared.
    pub(super) files: Vec<ObjectVersion>,
    /// The last delta that was loaded into the database; `None` if none had changes.
    pub(super) loaded: Option<SourceId>,
    /// Whether the table in the database has its rows. It does not if the changes were only published.
    pub(super) is_in_table: bool,
    /// The numbers of rows and changes.
    pub(super) statistics: ImportStatistics,
}

/// An import whose delta was written. It is finished, or dropped before anything of it was stored or sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedImport {
    /// The version.
    pub(super) version: String,
    /// The files of the export.
    pub(super) files: Vec<ObjectVersion>,
    /// The delta.
    pub(super) delta: ObjectVersion,
    /// The key columns, as the export names them.
    pub(super) key: Vec<String>,
    /// The delta that must have been loaded before; see [`ImportedExport::loaded`].
    pub(super) previous: Option<SourceId>,
    /// Whether a record may have been sent to the stream. Then the import cannot be dropped.
    pub(super) may_be_published: bool,
    /// The numbers of rows and changes.
    pub(super) statistics: ImportStatistics,
}

/// The result of an import in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImportStatistics {
    /// The version that it was compared with.
    pub(super) compared_with: Option<String>,
    /// Rows of the export.
    pub(super) rows: u64,
    /// Rows that only this export has.
    pub(super) inserted: u64,
    /// Rows with other values than in the export before.
    pub(super) updated: u64,
    /// Rows that only the export before has.
    pub(super) deleted: u64,
    /// Rows that are equal in both.
    pub(super) unchanged: u64,
    /// Whether the delta was loaded into the database.
    pub(super) is_loaded: bool,
    /// Updates and deletions whose row was not in the table: it was not equal to the export before.
    pub(super) rows_missing: u64,
    /// Records that were sent to the stream.
    pub(super) published: u64,
    /// Milliseconds from the lock to the end of the import.
    pub(super) elapsed_ms: u64,
}

impl ImportStatistics {
    /// Number of changes.
    pub(super) fn changes(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

/// The outcome of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VersionState {
    /// All its files are there. It waits, or is being imported.
    Registered,
    /// It was imported.
    Done,
    /// A newer version was imported before it, so it is not needed.
    Stale,
    /// The last attempt failed. Nothing of it is stored.
    Failed,
}

/// The record of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    /// The tenant.
    pub(super) tenant: String,
    /// The table.
    pub(super) table: String,
    /// The version.
    pub(super) version: String,
    /// Its outcome.
    pub(super) state: VersionState,
    /// The files of the export.
    pub(super) files: Vec<ObjectVersion>,
    /// When it was complete for the first time.
    pub(super) registered_at: Timestamp,
    /// When the last attempt got the lock.
    pub(super) started_at: Option<Timestamp>,
    /// When the version got its outcome.
    pub(super) ended_at: Option<Timestamp>,
    /// The numbers of a version that is done.
    pub(super) statistics: Option<ImportStatistics>,
    /// The kind of the last error.
    pub(super) error_kind: Option<String>,
    /// The last error.
    pub(super) error: Option<String>,
}

/// The result of taking a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LockResult {
    /// The owner holds the lock with this number, and imports this version: its own, or a planned one.
    Locked { fence: u64, version: String },
    /// Another owner holds it.
    Busy { until: Timestamp },
    /// The version was imported.
    Done,
    /// A newer version was imported.
    Stale { current: String },
}

/// The lock of an import that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailingLock {
    /// It has this number now.
    Fence(u64),
    /// An earlier call has recorded the failure and released it.
    Released,
}

impl TableState {
    /// Takes the lock for a version. May be repeated.
    pub(super) fn take_lock(&mut self, owner: &str, version: &str, now: Timestamp, until: Timestamp) -> LockResult {
        if let Some(current) = &self.current {
            match compare_versions(version, &current.version) {
                std::cmp::Ordering::Equal => return LockResult::Done,
                std::cmp::Ordering::Less => return LockResult::Stale { current: current.version.clone() },
                std::cmp::Ordering::Greater => {}
            }
        }
        let own = self.lock.as_ref().filter(|lock| lock.owner == owner);
        let (fence, acquired_at) = match (&self.lock, own) {
            (_, Some(own)) => (own.fence, own.acquired_at),
            (Some(other), None) if now <= other.expires_at => return LockResult::Busy { until: other.expires_at },
            (Some(_) | None, None) => (self.fence + 1, now),
        };
        let version = self.planned.as_ref().map_or(version, |planned| &planned.version).to_owned();
        (self.fence, self.failed_fence) = (fence, None);
        let lock =
            TableLock { owner: owner.to_owned(), fence, version: version.clone(), acquired_at, expires_at: until };
        self.lock = Some(lock);
        LockResult::Locked { fence, version }
    }

    /// Prolongs the lock.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another owner has taken it.
    pub(super) fn renew(&mut self, fence: u64, until: Timestamp) -> Result<()> {
        match &mut self.lock {
            Some(lock) if lock.fence == fence => {
                lock.expires_at = lock.expires_at.max(until);
                Ok(())
            }
            _ => Err(self.lock_lost(fence)),
        }
    }

    /// The planned import of the version under the lock.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another owner has the lock, [`ErrorKind::EventInvalid`] when nothing is planned.
    pub(super) fn planned_under(&mut self, fence: u64, version: &str) -> Result<&mut PlannedImport> {
        if self.lock.as_ref().is_none_or(|lock| lock.fence != fence) {
            return Err(self.lock_lost(fence));
        }
        let planned = self.planned.as_mut().filter(|planned| planned.version == version);
        planned.ok_or_else(|| {
            let message = format!("no import of version {version} is planned; the step diff comes first");
            Error::new(ErrorKind::EventInvalid, message)
        })
    }

    /// Makes the planned version the last imported one, and releases the lock. May be repeated.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another owner has the lock.
    pub(super) fn finish(
        &mut self,
        (fence, version): (u64, &str),
        is_in_table: bool,
        now: Timestamp,
    ) -> Result<ImportStatistics> {
        if let Some(current) = self.current.as_ref().filter(|current| current.version == version) {
            return Ok(current.statistics.clone());
        }
        let planned = self.planned_under(fence, version)?.clone();
        let acquired_at = self.lock.as_ref().map_or(now, |lock| lock.acquired_at);
        let elapsed_ms = u64::try_from(now.duration_since(acquired_at).as_millis()).unwrap_or(0);
        let statistics = ImportStatistics { elapsed_ms, ..planned.statistics };
        // The delta of a first export has all rows.
        let is_base_in_table = self.current.as_ref().is_none_or(|base| base.is_in_table);
        let loaded = if statistics.is_loaded { Some(planned.delta.id) } else { planned.previous };
        self.current = Some(ImportedExport {
            version: planned.version,
            files: planned.files,
            loaded,
            is_in_table: is_in_table && is_base_in_table,
            statistics: statistics.clone(),
        });
        (self.planned, self.lock) = (None, None);
        Ok(statistics)
    }

    /// Releases the lock after a failure, unless another owner has it. A planned import stays.
    pub(super) fn release(&mut self, fence: u64) {
        if self.lock.as_ref().is_some_and(|lock| lock.fence == fence) {
            self.lock = None;
        }
    }

    /// Gives the lock the next number, so that earlier attempts of its owner have lost it. May be repeated.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another owner has the lock.
    pub(super) fn begin_failure(&mut self, fence: u64, until: Timestamp) -> Result<FailingLock> {
        if self.failed_fence == Some(fence) {
            let Some(lock) = &mut self.lock else { return Ok(FailingLock::Released) };
            lock.expires_at = lock.expires_at.max(until);
            return Ok(FailingLock::Fence(lock.fence));
        }
        self.renew(fence, until)?;
        self.fence += 1;
        self.failed_fence = Some(fence);
        if let Some(lock) = &mut self.lock {
            lock.fence = self.fence;
        }
        Ok(FailingLock::Fence(self.fence))
    }

    fn lock_lost(&self, fence: u64) -> Error {
        let message = match &self.lock {
            Some(lock) => format!(
                "the lock {fence} of table {} of tenant {} has expired, and {} has taken lock {}",
                self.table, self.tenant, lock.owner, lock.fence
            ),
            None => format!("the lock {fence} of table {} of tenant {} was released", self.table, self.tenant),
        };
        Error::new(ErrorKind::LeaseLost, message)
    }
}
