//! The step diff: compares an export with the last imported one, and writes the delta once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracing::info;

use super::request::LockedVersion;
use super::state::{ImportStatistics, ImportedExport, PlannedImport, TableState, VersionRecord};
use super::{ExportImporter, lock_end};
use crate::deadline::Deadline;
use crate::destination::Mirror;
use crate::error::{Error, ErrorKind, Result};
use crate::exports::{DeltaFile, DeltaWriter, DiffRequest, ExportSource, Summary, table_config};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion, hash_parts};
use crate::progress::Progress;
use crate::request::invalid;
use crate::store::sent_upload::KeyOwner;
use crate::store::upload::Upload;
use crate::store::write::{Created, Deleted};

/// Number of changes that are written without a pause.
const YIELD_AFTER: u64 = 1024;

/// Number of bytes that are sent at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A file in the folder for temporary files, which is deleted with this value.
struct TemporaryDelta(PathBuf);

impl TemporaryDelta {
    fn new() -> Self {
        let name = format!("spillway-{}-{:016x}.jsonl.zst", std::process::id(), fastrand::u64(..));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TemporaryDelta {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_file(&self.0);
    }
}

impl ExportImporter {
    /// Writes the delta of a version, and plans its import. A planned import is found and not compared again.
    pub(super) async fn diff(&self, locked: &LockedVersion, deadline: &Deadline) -> Result<Value> {
        self.renew(locked, deadline).await?;
        let state = self.registry.state(&locked.place.tenant, &locked.place.table).await?;
        if let Some(planned) = &state.planned {
            return match planned.version == locked.place.version {
                true => Ok(described(planned)),
                false => Err(invalid(format!("the import of version {} is planned, and comes first", planned.version))),
            };
        }
        let record = self.registry.record(&locked.place).await?;
        let record = record.ok_or_else(|| invalid("the version is not registered; the step register comes first"))?;
        let (delta, summary) = self.delta(locked, &record, &state).await?;
        Failpoint::ImportDeltaWritten.reached().await?;
        let current = state.current.as_ref();
        let planned = PlannedImport {
            version: locked.place.version.clone(),
            files: record.files,
            delta,
            key: summary.key.clone(),
            previous: current.and_then(|current| current.loaded.clone()),
            may_be_published: false,
            statistics: statistics(&summary, current),
        };
        let until = lock_end(deadline.remaining());
        self.registry
            .change_state(locked.names(), |state| {
                state.renew(locked.fence, until)?;
                state.planned = Some(planned.clone());
                Ok(())
            })
            .await?;
        Failpoint::ImportPlanned.reached().await?;
        Ok(described(&planned))
    }

    /// The delta of a version, and its first line. Writes it unless an earlier attempt has written the same one.
    async fn delta(
        &self,
        locked: &LockedVersion,
        record: &VersionRecord,
        state: &TableState,
    ) -> Result<(ObjectVersion, Summary)> {
        let (settings, place) = (&self.settings, &locked.place);
        let key = format!("{}{}/{}/{}.jsonl.zst", settings.delta_prefix, place.tenant, place.table, place.version);
        let object = ObjectRef::new(&settings.bucket, key);
        let run = self.run_id(record, state)?;
        if let Some(current) = &state.current {
            self.check_is_in_table(current)?;
        }
        match self.store.owner_of(&object.bucket, &object.key).await? {
            KeyOwner::Missing => {}
            KeyOwner::Run(found) if found == run => return self.written(&object).await,
            // An attempt that compared other files wrote it. It is not planned, and this worker has the lock.
            KeyOwner::Run(_) => self.remove(&object).await?,
            KeyOwner::Other => {
                let message = "another object has the key of this delta; move it";
                return Err(Error::new(ErrorKind::DestinationTaken, message).for_object(object));
            }
        }
        if let Some(current) = &state.current {
            self.check_files_exist(current).await?;
        }
        let summary = self.compare(record, state.current.as_ref(), (&object, &run)).await?;
        Ok((self.store.head(&object).await?, summary))
    }

    /// Compares the files, and writes the delta.
    async fn compare(
        &self,
        record: &VersionRecord,
        current: Option<&ImportedExport>,
        (object, run): (&ObjectRef, &str),
    ) -> Result<Summary> {
        let versions = |files: &[ObjectVersion]| files.iter().cloned().map(ExportSource::Version).collect::<Vec<_>>();
        let request = DiffRequest {
            old: current.map(|current| versions(&current.files)).unwrap_or_default(),
            new: versions(&record.files),
            table: None,
            key: None,
            progress: Progress::default(),
        };
        let mut comparison = Box::pin(self.differ.compare(request)).await?;
        self.check_plausible(comparison.summary())?;
        let file = TemporaryDelta::new();
        let mut writer = DeltaWriter::create(&file.0)?;
        writer.write_summary(comparison.summary())?;
        while let Some(change) = comparison.next_change()? {
            writer.write(&change)?;
            if change.seq.is_multiple_of(YIELD_AFTER) {
                // The deadline can end the step here.
                tokio::task::yield_now().await;
            }
        }
        writer.finish()?;
        self.upload(&file.0, object, run).await?;
        Ok(comparison.summary().clone())
    }

    /// The identity of a comparison: its files and its key.
    fn run_id(&self, record: &VersionRecord, state: &TableState) -> Result<String> {
        let first = record.files.first().ok_or_else(|| invalid("the version has no files"))?;
        let config = table_config(&self.settings.pipeline, None, &first.object.key)?;
        let current = state.current.as_ref();
        let previous = current.and_then(|current| current.loaded.as_ref()).map(ToString::to_string).unwrap_or_default();
        let mut parts = vec!["import", &previous, "old"];
        parts.extend(current.into_iter().flat_map(|current| &current.files).map(|file| file.id.as_str()));
        parts.push("new");
        parts.extend(record.files.iter().map(|file| file.id.as_str()));
        parts.push("key");
        parts.extend(config.export_key.iter().map(String::as_str));
        Ok(hash_parts(&parts))
    }

    /// A delta that an earlier attempt wrote, with its first line.
    async fn written(&self, object: &ObjectRef) -> Result<(ObjectVersion, Summary)> {
        let delta = self.store.head(object).await?;
        let source = ExportSource::Version(delta.clone());
        let file = DeltaFile::open(&self.settings.pipeline, &self.store, &source, Progress::default()).await?;
        let summary = file.read().await?.summary().clone();
        info!(delta = %object, "the delta of an earlier attempt is used");
        Ok((delta, summary))
    }

    async fn remove(&self, object: &ObjectRef) -> Result<()> {
        let version = self.store.head(object).await?;
        match self.store.delete_if(&object.bucket, &object.key, &version.etag).await? {
            Deleted::Done | Deleted::Gone => Ok(()),
            Deleted::Changed => {
                let message = "another worker has written the delta at the same time";
                Err(Error::new(ErrorKind::Busy, message).for_object(object))
            }
        }
    }

    /// Sends a delta. An object that exists is another attempt's, so this one fails and is repeated.
    async fn upload(&self, path: &Path, object: &ObjectRef, run: &str) -> Result<()> {
        let mut upload = self.store.upload_of_run(&object.bucket, &object.key, "application/zstd", run);
        if let Err(error) = send_file(path, &mut upload).await {
            // The lifecycle rule of the bucket deletes what this leaves.
            let _best_effort = upload.abort().await;
            return Err(error);
        }
        match upload.finish_new().await? {
            Created::New { .. } => Ok(()),
            Created::Exists => match self.store.owner_of(&object.bucket, &object.key).await? {
                KeyOwner::Run(found) if found == run => Ok(()),
                KeyOwner::Run(_) | KeyOwner::Other | KeyOwner::Missing => {
                    let message = "another worker has written the delta at the same time";
                    Err(Error::new(ErrorKind::Busy, message).for_object(object))
                }
            },
        }
    }

    /// Fails if the table does not have the rows of the last imported version, because `EXPORT_TARGET` was another one.
    pub(super) fn check_is_in_table(&self, current: &ImportedExport) -> Result<()> {
        if current.is_in_table || !self.settings.target.has_database() {
            return Ok(());
        }
        let message = format!(
            "the changes of version {}, the last one that was imported, were only published, so the table does not have its rows; start \
             again as docs/exports.md explains",
            current.version
        );
        Err(Error::new(ErrorKind::ExportRefused, message).with_advice())
    }

    /// Fails if a file of the last imported version was deleted or replaced.
    async fn check_files_exist(&self, current: &ImportedExport) -> Result<()> {
        for file in &current.files {
            let lost = |what: &str, cause: Option<Error>| {
                let message = format!(
                    "a file of version {}, the last one that was imported, {what}; restore it, or start again as docs/exports.md \
                     explains",
                    current.version
                );
                let error = Error::new(ErrorKind::ExportRefused, message).for_object(&file.object);
                match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                }
            };
            match self.store.head(&file.object).await {
                Ok(found) if found.etag == file.etag => {}
                Ok(_) => return Err(lost("was replaced", None)),
                Err(error) if error.kind() == ErrorKind::SourceMissing => return Err(lost("is missing", Some(error))),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fails if an export has other columns than the one before, or would delete too many rows.
    fn check_plausible(&self, summary: &Summary) -> Result<()> {
        let (changes, Some(old)) = (&summary.schema_changes, &summary.old) else { return Ok(()) };
        if !changes.added.is_empty() || !changes.removed.is_empty() {
            let list = |columns: &[String]| if columns.is_empty() { "none".to_owned() } else { columns.join(", ") };
            let message = format!(
                "the export has other columns than the one before (new: {}; missing: {}), so its rows cannot be told apart by it; start \
                 again with this export as docs/exports.md explains",
                list(&changes.added),
                list(&changes.removed)
            );
            return Err(Error::new(ErrorKind::ExportRefused, message).with_advice());
        }
        let max_deletes_percent = self.settings.max_deletes_percent;
        let allowed = Mirror { key: Vec::new(), scope: Vec::new(), max_deletes_percent }.allowed_deletes(old.rows);
        if summary.counts.deleted <= allowed {
            return Ok(());
        }
        let message = format!(
            "the export lacks {} of the {} rows of the one before, more than the {allowed} that may be deleted; it may be truncated; if it \
             is right, raise EXPORT_MAX_DELETES ({max_deletes_percent} %) and start its import again",
            summary.counts.deleted, old.rows
        );
        Err(Error::new(ErrorKind::ExportRefused, message).with_advice())
    }
}

/// Appends a file to an upload.
async fn send_file(path: &Path, upload: &mut Upload) -> Result<()> {
    let failed = |error: std::io::Error| {
        let message = format!("the delta in {} cannot be read", path.display());
        Error::new(ErrorKind::Internal, message).with_source(error)
    };
    let (mut file, mut piece) = (File::open(path).map_err(failed)?, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(()),
            length => upload.write(&piece[..length]).await?,
        }
    }
}

fn statistics(summary: &Summary, current: Option<&ImportedExport>) -> ImportStatistics {
    ImportStatistics {
        compared_with: current.map(|current| current.version.clone()),
        rows: summary.new.rows,
        inserted: summary.counts.inserted,
        updated: summary.counts.updated,
        deleted: summary.counts.deleted,
        unchanged: summary.counts.unchanged,
        ..ImportStatistics::default()
    }
}

fn described(planned: &PlannedImport) -> Value {
    json!({"status": "planned", "delta": planned.delta.object.key, "statistics": planned.statistics})
}
