//! One attempt to load changes into a table: those of a delta, or those of a stream.
//!
//! The load is that of the pipeline, without a fallback: if the database cannot take the changes, the attempt fails and is repeated.

use std::time::Duration;

use jiff::Timestamp;

use super::request::LockedVersion;
use super::{ExportImporter, wrong_settings};
use crate::deadline::Deadline;
use crate::destination::{Body, Changes, Destination, FileClaim, LoadMode, RowCounts, Succession, TableChanges};
use crate::error::{Error, ErrorKind, Result};
use crate::local_load::table_of;
use crate::object::ObjectVersion;
use crate::pattern::KeyParts;
use crate::pipeline::{FileResult, FileRows, KnownOutage, LakeObject, LoadAttempt, TableConfig, load_file};
use crate::reader::{FileReader, FileShape};
use spillway_formats::compression::DecodedLimits;
use spillway_formats::detect::FileFormat;
use spillway_formats::json::{JsonOptions, JsonValues};
use spillway_formats::reject::{Reject, RejectLimit};
use spillway_formats::schema::Schema;

/// The column with the operation of a change.
const OPERATION_COLUMN: &str = "op";

/// Time of the function that is left when it stops to wait for the database.
const RESERVE: Duration = Duration::from_secs(20);

/// One attempt to load changes.
pub(super) struct ChangesAttempt<'a> {
    pub(super) importer: &'a ExportImporter,
    pub(super) deadline: &'a Deadline,
    /// The lock that is verified before COMMIT, and the place of the delta; `None` for changes from a stream.
    pub(super) delta: Option<(&'a LockedVersion, Succession)>,
    /// The file with the changes.
    pub(super) source: ObjectVersion,
    pub(super) config: TableConfig,
    pub(super) started_at: Timestamp,
    pub(super) table_changes: TableChanges,
}

impl ExportImporter {
    /// The table of exports with this key, and the settings for its changes. `key` is the key of the changes.
    pub(super) fn table_of_changes(&self, object_key: &str, key: &[String]) -> Result<(KeyParts, TableConfig)> {
        let (parts, mut config) = table_of(&self.settings.pipeline, None, object_key)?;
        if config.destination.output.has_lake() {
            let message = "changes are loaded only into the database; set OUTPUT=database for their table";
            return Err(wrong_settings(message));
        }
        let own_key = config.destination.load_mode.key().filter(|key| !key.is_empty()).map(<[String]>::to_vec);
        config.destination.load_mode = LoadMode::Changes(Changes {
            key: own_key.unwrap_or_else(|| key.to_vec()),
            operation_column: OPERATION_COLUMN.to_owned(),
        });
        config.files.format = FileFormat::Json;
        config.files.json = JsonOptions { values: JsonValues::Changes, ..JsonOptions::default() };
        config.files.limits.rejects = RejectLimit::Count(0);
        // The rows of a delta often repeat, so it may compress well.
        config.files.limits.decoded = DecodedLimits { max_bytes: u64::MAX, max_ratio: u64::MAX };
        Ok((parts, config))
    }
}

impl ChangesAttempt<'_> {
    /// Loads the changes. Returns no counts if they were loaded before.
    pub(super) async fn load(&self, reader: FileReader) -> Result<Option<RowCounts>> {
        let loaded = Box::pin(load_file(self, reader)).await.map_err(|failure| failure.error);
        match loaded? {
            FileResult::Loaded(counts) => Ok(Some(counts)),
            FileResult::NotNeeded { .. } => Ok(None),
            FileResult::Empty => Err(Error::new(ErrorKind::FileBroken, "the file has no changes")),
        }
    }
}

impl LoadAttempt for ChangesAttempt<'_> {
    const HAS_FALLBACK: bool = false;

    fn source(&self) -> &ObjectVersion {
        &self.source
    }

    fn config(&self) -> &TableConfig {
        &self.config
    }

    fn table_changes(&self) -> &TableChanges {
        &self.table_changes
    }

    /// A hint is for people who have written the file.
    fn set_hint(&self, _: Option<String>) {}

    fn outage(&self) -> &KnownOutage {
        &self.importer.outage
    }

    fn configured_retry_budget(&self) -> Duration {
        self.importer.settings.pipeline.database.retry_budget
    }

    fn retry_budget(&self) -> Duration {
        let budget = self.configured_retry_budget();
        self.deadline.remaining().map_or(budget, |left| budget.min(left.saturating_sub(RESERVE.min(left / 2))))
    }

    async fn destination(&self, reread_secret: bool) -> Result<Box<dyn Destination>> {
        self.importer.destinations.open(&self.config.destination, reread_secret).await
    }

    fn claim(&self) -> FileClaim {
        FileClaim {
            source: self.source.clone(),
            table: self.config.name.clone(),
            worker: self.importer.worker.clone(),
            started_at: self.started_at,
            value_rejects: None,
            table_changes: self.table_changes.clone(),
            succession: self.delta.as_ref().map(|(_, succession)| succession.clone()),
        }
    }

    fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        // The same changes may be needed again, after others.
        Body { sha256: sha256.to_owned(), content_id: None, decoded_bytes, lake_key: None }
    }

    async fn write_rejects(&self, _: &FileRows<'_>, _: Vec<Reject>) -> Result<()> {
        Ok(())
    }

    async fn upload_to_lake(&self, _: &FileRows<'_>, _: &[Reject]) -> Result<Option<LakeObject<'_>>> {
        Ok(None)
    }

    async fn register_raw(&self, _: Option<&Schema>, _: &FileShape) -> Result<()> {
        Ok(())
    }

    async fn remove_earlier_rejects(&self) -> Result<()> {
        Ok(())
    }

    async fn fence_before_commit(&self) -> Result<()> {
        match &self.delta {
            Some((locked, _)) => self.importer.renew(locked, self.deadline).await,
            None => Ok(()),
        }
    }

    fn mark_commit_resolved(&self) {}
}
