//! Loads files of this machine into the database, each exactly once. No S3, no lease, no fallback.
//!
//! The steps of a load are those of the pipeline. They differ in three points:
//!
//! - The claim in the ledger is the only lock. A second process that loads the same file waits for it, then fails or finds the
//!   file loaded.
//! - A file is identified by its path and its state, and its content by the checksum, both together with the table. So a renamed
//!   or changed copy of a file is read, and the same content is not loaded twice.
//! - After a failure no row is stored, and the rejected records of this load are deleted. The attempt history has the reason. If
//!   the result of a COMMIT is unknown, the next load of the file reads it from the ledger.

mod attempt;
mod reject_files;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::aws::sdk_config;
use crate::check::{Check, check_database};
use crate::deadline::Deadline;
use crate::destination::{LoadMode, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::key_columns::KeyFields;
use crate::local_file::{FileVersion, LocalFile};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pattern::KeyParts;
use crate::pipeline::{
    ConfiguredDestinations, Dedupe, Destinations, FileResult, KnownOutage, LoadAttempt, PipelineConfig, TableConfig,
    describe_result, load_file,
};
use crate::progress::Progress;
use crate::reader::FileReader;
use crate::report::Report;

use crate::store::Store;
use crate::table_name::TableName;

use attempt::LocalAttempt;
pub(crate) use attempt::{body, without_wider_type};
pub use reject_files::RejectFiles;
pub(crate) use reject_files::check_not_replaced_by_part;

/// Loads local files into the database of the settings. The connections are shared by all files.
#[derive(Debug)]
pub struct LocalLoader {
    settings: PipelineConfig,
    /// For table settings in S3.
    store: Store,
    destinations: Arc<dyn Destinations>,
    outage: KnownOutage,
    worker: String,
}

/// One file to load.
#[derive(Debug)]
pub struct LocalRequest<'a> {
    /// The file.
    pub file: &'a LocalFile,
    /// The table; `None` selects it by `key`.
    pub table: Option<&'a str>,
    /// The key by which the settings select a table and its settings.
    pub key: &'a str,
    /// Whether a file that was loaded before is loaded again.
    pub repeat: Repeat,
    /// The files for rejected records; `None` puts them beside the file.
    pub rejects: Option<RejectFiles>,
    /// Counts bytes and rows.
    pub progress: Progress,
}

/// What happens to a file, or a content, that was loaded into the same table before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It is not loaded.
    Skip,
    /// It is loaded once more. If the process dies, another run loads it yet again.
    LoadAgain,
}

impl LocalLoader {
    /// Connects to nothing yet. `host` and the process are in the worker's name in the ledger.
    pub async fn new(settings: PipelineConfig) -> Self {
        let config = Box::pin(sdk_config(&settings.region)).await;
        let store = Store::new(&config);
        let destinations = Arc::new(ConfiguredDestinations::new(&config, &settings.database, &store));
        let worker = format!("spillway on {}, process {}", settings.host, std::process::id());
        Self { settings, store, destinations, outage: KnownOutage::default(), worker }
    }

    /// Loads one file.
    ///
    /// # Errors
    /// Nothing is stored then, except with [`ErrorKind::CommitUnknown`].
    pub async fn load(&self, request: LocalRequest<'_>, deadline: &Deadline) -> Result<Report> {
        let name = request.file.name().to_owned();
        Box::pin(self.load_now(request, deadline)).await.map_err(|error| error.for_object(name))
    }

    /// Checks the login, the database and the ledger.
    pub async fn check(&self, deadline: &Deadline) -> Check {
        check_database(&self.settings, &*self.destinations, deadline).await
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.destinations.close().await;
    }

    async fn load_now(&self, request: LocalRequest<'_>, deadline: &Deadline) -> Result<Report> {
        let started = Instant::now();
        let LocalRequest { file, table, key, repeat, rejects, progress } = request;
        self.settings.database.tables.refresh(&self.store).await?;
        let (parts, config) = table_of(&self.settings, table, key)?;
        check_output(&config)?;
        check_not_replaced_by_part(file.path(), &config)?;
        let started_at = Timestamp::now();
        let source = version(&self.settings, file, &config, repeat);
        let key_fields = KeyFields::new(&config.key_columns, &source.object, &parts, started_at);
        let rejects = rejects.unwrap_or_else(|| RejectFiles::beside(file.path(), &source.id));
        let attempt = LocalAttempt::new(self, (file, source), config, started_at, (repeat, rejects));
        let work = async {
            let (source, options) = (attempt.source(), &attempt.config().files);
            let (buffer, counters) = (self.settings.buffer_max_bytes, (key_fields, progress));
            let reader = FileReader::open_local(file, source, buffer, options, counters).await?;
            let result = load_file(&attempt, reader).await.map_err(|failure| failure.error)?;
            if let FileResult::Empty = result {
                attempt.record_empty().await?;
            }
            Ok(result)
        };
        let result = tokio::select! {
            result = work => result,
            error = deadline.reached() => Err(error),
        };
        match result {
            Ok(result) => {
                let load_mode = attempt.config().destination.stored_mode();
                let mut report = describe_result(&result, load_mode, |outcome| attempt.report(outcome));
                attempt.add_rejects(&mut report);
                report.table_changes = attempt.table_changes().reported();
                report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                Ok(report)
            }
            Err(error) => {
                let error = attempt.fail(error);
                attempt.record_failure(&error).await;
                Err(error)
            }
        }
    }
}

/// The table of a file, the parts of its key, and the settings of the table.
///
/// # Errors
/// When the settings name no table for the key, or the table is one of Spillway's own.
pub(crate) fn table_of(settings: &PipelineConfig, table: Option<&str>, key: &str) -> Result<(KeyParts, TableConfig)> {
    let parts = match table {
        Some(table) => {
            let invalid = |why| Error::new(ErrorKind::Settings, format!("the table name {table:?} {why}"));
            let table = TableName::parse(table).map_err(invalid)?;
            settings.check_not_own(&table)?;
            KeyParts { table, ..KeyParts::default() }
        }
        None => settings.key_parts(key)?,
    };
    let config = settings.table(&parts.table, key);
    Ok((parts, config))
}

/// Fails if the rows of the table belong in the lake, which a local file cannot have.
///
/// # Errors
/// [`ErrorKind::Settings`].
pub(crate) fn check_output(config: &TableConfig) -> Result<()> {
    match config.destination.output {
        Output::Database => Ok(()),
        Output::Lake | Output::Both => {
            let message = "a local file is loaded only into the database; set OUTPUT=database for it";
            Err(Error::new(ErrorKind::Settings, message))
        }
    }
}

/// The version of a file for one table.
pub(crate) fn version(
    settings: &PipelineConfig,
    file: &LocalFile,
    config: &TableConfig,
    repeat: Repeat,
) -> ObjectVersion {
    let path = file.path().to_string_lossy();
    let object = ObjectRef::of_local_file(&settings.host, &path);
    let (state, identity) = match file.version() {
        FileVersion::Stamp(stamp) => (stamp.text(), vec!["local file", &*path]),
        // The same bytes through another pipe are the same version.
        FileVersion::Content(sha256) => (format!("sha256 {sha256}"), vec!["stream"]),
    };
    // But they may restore what another stream has replaced or changed in between.
    let is_new = matches!(file.version(), FileVersion::Content(_))
        && (config.dedupe == Dedupe::Version || config.destination.load_mode != LoadMode::Append);
    let repeat = if is_new { Repeat::LoadAgain } else { repeat };
    let now = Timestamp::now();
    let (attempt, last_modified) = match repeat {
        Repeat::Skip => (String::new(), file.last_modified()),
        // A file that is loaded again on purpose replaces newer ones.
        Repeat::LoadAgain => (format!("{now} {:016x}", fastrand::u64(..)), now),
    };
    let mut parts = identity;
    parts.extend([state.as_str(), attempt.as_str()]);
    parts.extend(config.name.parts());
    ObjectVersion::of_local_file(object, &parts, state.clone(), file.size_bytes(), last_modified)
}

/// The error of a load that was interrupted between COMMIT and the response.
fn interrupted_commit(cause: Error) -> Error {
    let message = "the load was interrupted while COMMIT was under way";
    Error::new(ErrorKind::CommitUnknown, message).with_source(cause)
}
