//! Compares two full exports of a table by key, and returns the changes in the order of their keys.
//!
//! Both files are read once, at the same time, and their rows are divided by the hash of their key into partitions in a temporary
//! file. Then each pair of partitions is compared in memory. A pair that is too large is divided again. The changes are sorted
//! in memory, or in sorted runs in a temporary file. So the memory is limited for exports of any size; the disk needs space for
//! both exports after decompression. The comparison needs no database, and applies nothing.
//!
//! Rows are compared as the reader returns them: by the text of each field. NULL and an empty string differ.

mod change;
mod columns;
mod compare;
mod delta;
mod import;
mod memory;
mod partitions;
mod publish;
mod read;
mod read_delta;
mod record;
mod sort;
mod summary;
mod table;
mod temporary;
#[cfg(test)]
mod tests;

use tokio::task::JoinSet;
use tracing::Instrument;

pub use change::{Change, Value};
pub use columns::SchemaChanges;
pub use delta::{DeltaCompression, DeltaWriter};
pub use import::{Completion, ExportImporter, ImportProgress, ImportSettings, ImportTarget};
pub use publish::{DeltaPublisher, MessageFormat, Publication, PublishRequest, PublishSummary, Scope, Start};
pub use read_delta::{DeltaChange, DeltaFile, DeltaReader, DeltaRow, DeltaValue};
pub use sort::Operation;
pub use summary::{ChangeCounts, ExportSummary, Summary};

use crate::aws::sdk_config;
use crate::error::{Error, ErrorKind, Result};
use crate::key_columns::KeyFields;
use crate::local_file::LocalFile;
use crate::local_load::{self, Repeat};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::{PipelineConfig, TableConfig};
use crate::progress::Progress;
use crate::reader::FileReader;
use crate::store::Store;
use crate::table_name::TableName;
use columns::ComparedColumns;
use compare::{Comparer, Side};
use memory::Memory;
use read::{Export, ExportFile};
use sort::SortedChanges;
use spillway_formats::detect::{Compression, Format};
use spillway_formats::reject::RejectLimit;

/// Compares exports with the same settings.
#[derive(Debug)]
pub struct ExportDiffer {
    pipeline: PipelineConfig,
    memory: Memory,
    store: Store,
}

/// Two exports to compare.
#[derive(Debug)]
pub struct DiffRequest<'a> {
    /// The files of the older export; none if the new one is the first.
    pub old: Vec<ExportSource<'a>>,
    /// The files of the newer export, at least one.
    pub new: Vec<ExportSource<'a>>,
    /// The table whose settings apply to both exports; `None` selects it by key.
    pub table: Option<&'a str>,
    /// The key by which the settings select a table and its settings; `None` uses the key or the path of the newer export.
    pub key: Option<&'a str>,
    /// Counts the bytes and rows of both files.
    pub progress: Progress,
}

/// An export or a delta.
#[derive(Debug)]
pub enum ExportSource<'a> {
    /// A file of this machine.
    Local(&'a LocalFile),
    /// The newest version of an object in S3.
    Object(ObjectRef),
    /// One version of an object in S3.
    Version(ObjectVersion),
}

/// The result of a comparison, with its changes.
#[derive(Debug)]
pub struct Comparison {
    summary: Summary,
    columns: ComparedColumns,
    changes: SortedChanges,
    /// The number of changes that were returned.
    seq: u64,
}

impl Comparison {
    /// The counts of rows, and the columns that differ.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns the next change, in the order of keys.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub fn next_change(&mut self) -> Result<Option<Change<'_>>> {
        let Some(change) = self.changes.next()? else { return Ok(None) };
        self.seq += 1;
        Ok(Some(Change::new(self.seq, change, &self.columns)))
    }
}

impl ExportDiffer {
    /// Connects to nothing yet. `memory_bytes` is `DIFF_MEMORY`.
    pub async fn new(pipeline: PipelineConfig, memory_bytes: u64) -> Self {
        let config = Box::pin(sdk_config(&pipeline.region)).await;
        Self::with_store(pipeline, memory_bytes, Store::new(&config))
    }

    fn with_store(pipeline: PipelineConfig, memory_bytes: u64, store: Store) -> Self {
        Self { pipeline, memory: Memory::new(memory_bytes), store }
    }

    /// Compares two exports.
    ///
    /// # Errors
    /// When an export cannot be read, has a bad record or no key column, or when a key is NULL or in an export twice.
    pub async fn compare(&self, request: DiffRequest<'_>) -> Result<Comparison> {
        self.pipeline.database.tables.refresh(&self.store).await?;
        let first = request.new.first().ok_or_else(|| Error::new(ErrorKind::Internal, "the export has no file"))?;
        let key = request.key.unwrap_or_else(|| own_key(first));
        let config = table_config(&self.pipeline, request.table, key)?;
        let new = self.open_all(&request.new, &config, &request.progress).await?;
        if config.export_key.is_empty() {
            let message = "the columns that identify a row are not known; name them with --key COLUMNS or EXPORT_KEY";
            return Err(Error::new(ErrorKind::Settings, message).with_advice());
        }
        let old = self.open_all(&request.old, &config, &request.progress).await?;
        let mut size: u64 = 0;
        for file in old.iter().chain(&new) {
            size = size.saturating_add(estimated_bytes(file).await?);
        }
        let (old, new) = read(old, new, self.memory.partitions(size), self.memory).await?;
        for source in request.old.iter().chain(&request.new) {
            if let ExportSource::Local(file) = source {
                file.check_unchanged().map_err(|error| error.for_object(file.name()))?;
            }
        }
        Box::pin(compare(old, new, self.memory)).await
    }

    async fn open_all(
        &self,
        sources: &[ExportSource<'_>],
        config: &TableConfig,
        progress: &Progress,
    ) -> Result<Vec<ExportFile>> {
        let mut files = Vec::with_capacity(sources.len());
        for source in sources {
            let file = self.open_now(source, config, progress).await;
            files.push(file.map_err(|error| error.for_object(name_of(source)))?);
        }
        Ok(files)
    }

    async fn open_now(
        &self,
        source: &ExportSource<'_>,
        config: &TableConfig,
        progress: &Progress,
    ) -> Result<ExportFile> {
        let pipeline = &self.pipeline;
        let mut options = config.files.clone();
        // A record that is skipped would look like a row that was deleted.
        options.limits.rejects = RejectLimit::Count(0);
        let (buffer, progress) = (pipeline.buffer_max_bytes, progress.clone());
        let mut summary = ExportSummary { file: name_of(source), ..ExportSummary::default() };
        let reader = match source {
            ExportSource::Local(file) => {
                let version = local_load::version(pipeline, file, config, Repeat::Skip);
                summary.size_bytes = version.size_bytes;
                let fields = (KeyFields::default(), progress);
                FileReader::open_local(file, &version, buffer, &options, fields).await?
            }
            ExportSource::Object(_) | ExportSource::Version(_) => {
                let version = version_of(&self.store, source).await?;
                summary.size_bytes = version.size_bytes;
                summary.version_id.clone_from(&version.object.version_id);
                summary.etag = Some(version.etag.clone());
                let fields = KeyFields::default();
                FileReader::open(&self.store, &version, buffer, &options, &fields).await?.with_progress(progress)
            }
        };
        Ok(ExportFile { reader, summary, key: config.export_key.clone() })
    }
}

fn name_of(source: &ExportSource<'_>) -> String {
    match source {
        ExportSource::Local(file) => file.name().to_owned(),
        ExportSource::Object(object) => object.to_string(),
        ExportSource::Version(version) => version.object.to_string(),
    }
}

/// The version of an object to read.
///
/// # Errors
/// When S3 does not return it, or the source is a local file.
async fn version_of(store: &Store, source: &ExportSource<'_>) -> Result<ObjectVersion> {
    match source {
        ExportSource::Local(_) => Err(Error::new(ErrorKind::Internal, "a local file is not an object in S3")),
        ExportSource::Object(object) => store.head(object).await,
        ExportSource::Version(version) => Ok(version.clone()),
    }
}

/// The key by which the settings select the table of an export.
fn own_key<'a>(source: &'a ExportSource<'_>) -> &'a str {
    match source {
        ExportSource::Local(file) => file.name(),
        ExportSource::Object(object) => &object.key,
        ExportSource::Version(version) => &version.object.key,
    }
}

/// The settings of both exports. A comparison needs no table, so a key without one has the default settings.
fn table_config(pipeline: &PipelineConfig, table: Option<&str>, key: &str) -> Result<TableConfig> {
    if table.is_none() && pipeline.key_parts(key).is_err() {
        return Ok(pipeline.table_defaults(&TableName::default()));
    }
    local_load::table_of(pipeline, table, key).map(|(_, config)| config)
}

/// The expected size of the rows, from the size of the file and its compression.
async fn estimated_bytes(file: &ExportFile) -> Result<u64> {
    let (format, compression) =
        file.reader.format().await.map_err(|error| error.for_object(file.summary.file.clone()))?;
    let factor = match (format, compression) {
        (Format::Parquet, _) => 5,
        (Format::Streaming(_), Some(Compression::Gzip | Compression::Zstd | Compression::Zip)) => 10,
        (Format::Streaming(_), None) => 1,
    };
    Ok(file.summary.size_bytes.saturating_mul(factor))
}

/// Reads both exports at the same time. The first error stops the other read.
async fn read(
    old: Vec<ExportFile>,
    new: Vec<ExportFile>,
    partitions: usize,
    memory: Memory,
) -> Result<(Export, Export)> {
    let mut tasks = JoinSet::new();
    let (mut old_export, mut new_export) = (old.is_empty().then(|| Export::none(partitions, memory)), None);
    for (side, files) in [(Side::Old, old), (Side::New, new)] {
        if files.is_empty() {
            continue;
        }
        let work = async move { Ok::<_, Error>((side, Export::read(files, partitions, memory).await?)) };
        tasks.spawn(work.in_current_span());
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => match result? {
                (Side::Old, export) => old_export = Some(export),
                (Side::New, export) => new_export = Some(export),
            },
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(stopped) => return Err(Error::new(ErrorKind::Internal, "reading was stopped").with_source(stopped)),
            },
        }
    }
    old_export.zip(new_export).ok_or_else(|| Error::new(ErrorKind::Internal, "an export was not read"))
}

/// Compares two exports that were read.
async fn compare(mut old: Export, mut new: Export, memory: Memory) -> Result<Comparison> {
    let mut comparer = Comparer::new(&old, &new, memory);
    comparer.compare(&mut old, &mut new).await?;
    let (common, counts, changes) = comparer.finish(&new.columns)?;
    let summary = Summary {
        schema_changes: if old.summary.is_some() { common.changes.clone() } else { SchemaChanges::default() },
        old: old.summary,
        new: new.summary.unwrap_or_default(),
        key: new.columns.key_names(),
        counts,
    };
    let columns = ComparedColumns { old: old.columns, new: new.columns, common };
    Ok(Comparison { summary, columns, changes, seq: 0 })
}
