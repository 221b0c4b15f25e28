//! A dry run: finds out what a load of a file would do, and writes nothing.
//!
//! It reads the file with the reader of the pipeline, and the database with the read-only steps of a load
//! ([`crate::destination::Destination::inspect`]). So its result is that of a load, except for what only the server checks at the end: unique keys,
//! foreign keys, CHECK constraints, triggers, and values of types that the server parses. [`TablePlan::not_checked`] lists what a
//! load mode adds to that.

mod document;
mod format;
mod routing;
mod row_changes;
mod values;

use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::Timestamp;

pub use document::{
    ColumnPlan, CsvPlan, FormatPlan, Plan, PlannedError, PlannedOutcome, RejectedRecord, Rejects, TablePlan, ValuesPlan,
};
pub use routing::RoutePlan;
pub use row_changes::DeletesPlan;

use crate::aws::sdk_config;
use crate::destination::{
    Body, FileClaim, FileSchema, FoundTable, Inspection, LedgerState, Product, TableChanges, changes_hint, inspect_new,
};
use crate::error::{Error, ErrorKind, Result};
use crate::key_columns::KeyFields;
use crate::local_file::LocalFile;
use crate::local_load::{self, Repeat};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::{
    ConfiguredDestinations, Destinations, FileRows, PipelineConfig, TableConfig, empty_file, object_body,
};
use crate::progress::Progress;
use crate::reader::{FileReader, ScanResult};

use crate::route::Route;
use crate::store::Store;
use spillway_formats::detect::{Compression, Format};
use values::ValueCount;

/// Makes plans with the same settings.
#[derive(Debug)]
pub struct Planner {
    settings: PlanSettings,
    store: Store,
    database: Database,
}

#[derive(Debug)]
enum Database {
    Live(Arc<dyn Destinations>),
    None(Product),
}

/// The settings of a dry run.
#[derive(Debug, Clone)]
pub struct PlanSettings {
    /// The pipeline.
    pub pipeline: PipelineConfig,
    /// Whether the plan uses the database of the pipeline's settings.
    pub database: DatabaseUse,
    /// `INLINE_MAX_BYTES`: larger objects go to a task.
    pub inline_max_bytes: u64,
}

/// The database that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseUse {
    /// The live database of the settings.
    Live,
    /// No database: the statements are for a new table of this product.
    None(Product),
}

/// One file to plan.
#[derive(Debug)]
pub struct PlanRequest<'a> {
    /// The file.
    pub source: PlanSource<'a>,
    /// The table; `None` selects it by `key`.
    pub table: Option<&'a str>,
    /// The key by which the settings select a table and its settings.
    pub key: &'a str,
    /// Counts bytes and rows.
    pub progress: Progress,
}

/// Where the file is.
#[derive(Debug)]
pub enum PlanSource<'a> {
    /// A file of this machine.
    Local(&'a LocalFile),
    /// An object in S3.
    Object(ObjectRef),
}

/// A file that is read for a plan.
struct Planned {
    version: ObjectVersion,
    reader: FileReader,
    config: TableConfig,
    place: Place,
}

/// Where a file is, which decides the outcome of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Local,
    S3,
}

impl Planner {
    /// Connects to nothing yet.
    pub async fn new(settings: PlanSettings) -> Self {
        let pipeline = &settings.pipeline;
        let config = Box::pin(sdk_config(&pipeline.region)).await;
        let store = Store::new(&config);
        let database = match settings.database {
            DatabaseUse::Live => {
                Database::Live(Arc::new(ConfiguredDestinations::new(&config, &pipeline.database, &store)))
            }
            DatabaseUse::None(product) => Database::None(product),
        };
        Self { store, database, settings }
    }

    /// Returns what a load of the file would do.
    ///
    /// # Errors
    /// When the file cannot be read, or the database cannot be asked. A file that would not load is not an error.
    pub async fn plan(&self, request: PlanRequest<'_>) -> Result<Plan> {
        let name = match &request.source {
            PlanSource::Local(file) => file.name().to_owned(),
            PlanSource::Object(object) => object.to_string(),
        };
        Box::pin(self.plan_now(request, &name)).await.map_err(|error| error.for_object(name))
    }

    /// Whether the settings name a table for a file with this key.
    pub fn names_table(&self, key: &str) -> bool {
        self.settings.pipeline.key_parts(key).is_ok()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        if let Database::Live(destinations) = &self.database {
            destinations.close().await;
        }
    }

    async fn plan_now(&self, request: PlanRequest<'_>, name: &str) -> Result<Plan> {
        let file = self.open(request).await?;
        let mut plan = Plan::new(name, file.version.size_bytes);
        plan.route = Some(routing::route(&self.settings, &file.version, file.place));
        if let Err(error) = self.fill(&mut plan, &file).await {
            plan.fail(local_load::without_wider_type(error, &file.config), file.place)?;
        }
        Ok(plan)
    }

    /// Opens the file with the settings of its table.
    async fn open(&self, request: PlanRequest<'_>) -> Result<Planned> {
        let pipeline = &self.settings.pipeline;
        pipeline.database.tables.refresh(&self.store).await?;
        let PlanRequest { source, table, key, progress } = request;
        let table = match (&source, table) {
            (PlanSource::Object(object), Some(table)) => pipeline.check_table(object, table).map(|()| None)?,
            (_, table) => table,
        };
        let (parts, config) = local_load::table_of(pipeline, table, key)?;
        let (buffer, files) = (pipeline.buffer_max_bytes, &config.files);
        let fields = |object: &ObjectRef| KeyFields::new(&config.key_columns, object, &parts, Timestamp::now());
        match source {
            PlanSource::Local(file) => {
                local_load::check_output(&config)?;
                local_load::check_not_replaced_by_part(file.path(), &config)?;
                let version = local_load::version(pipeline, file, &config, Repeat::Skip);
                let fields = (fields(&version.object), progress);
                let reader = FileReader::open_local(file, &version, buffer, files, fields).await?;
                Ok(Planned { version, reader, config, place: Place::Local })
            }
            PlanSource::Object(object) => {
                if Route::of_requested(&object, &pipeline.prefixes) != Route::Ingest {
                    let message = "no load reads this object: Spillway itself writes under its prefix, or its name is not that of a file";
                    return Err(Error::new(ErrorKind::EventInvalid, message).with_advice().for_object(object));
                }
                let version = self.store.head(&object).await?;
                let fields = fields(&version.object);
                let reader = FileReader::open(&self.store, &version, buffer, files, &fields).await?;
                Ok(Planned { version, reader, config, place: Place::S3 })
            }
        }
    }

    /// Reads the file and compares it with its table.
    ///
    /// # Errors
    /// The error of a load of this file.
    async fn fill(&self, plan: &mut Plan, file: &Planned) -> Result<()> {
        let (format, compression) = file.reader.format().await?;
        plan.format = Some(format::describe(&file.config.files, &file.version, format, compression));
        let scan = file.reader.scan().await?;
        plan.add_scan(&scan);
        if let Some(format) = &mut plan.format {
            format::add_layout(format, &file.config.files, &scan.layout, scan.schema.columns.len());
        }
        if scan.schema.columns.is_empty() {
            empty_file(&file.config.destination.load_mode)?;
            return Ok(());
        }
        // The lake needs no table.
        if !file.config.destination.output.has_database() {
            return Ok(());
        }
        plan.hint.clone_from(&scan.hint);
        let hint = changes_hint(&scan.schema);
        let (inspection, rows) = self.inspect(file, scan).await?;
        let Inspection { needs_no_load, earlier_load_mode, table, table_rows, values } = inspection;
        if hint.is_some() && matches!(table, FoundTable::Missing { .. }) {
            plan.hint = hint;
        }
        plan.add_table(&file.config, table);
        plan.earlier_load_mode = earlier_load_mode;
        if let Some(state) = needs_no_load {
            plan.outcome = match state {
                LedgerState::Superseded => PlannedOutcome::Superseded,
                LedgerState::Loaded | LedgerState::Duplicate | LedgerState::FellBack | LedgerState::Rejected => {
                    PlannedOutcome::AlreadyLoaded
                }
            };
            return Ok(());
        }
        let mut count = ValueCount::new(values, rows.remaining_rejects(file.config.files.limits.rejects));
        loop {
            let mut batches = rows.open().await?;
            while let Some(batch) = batches.try_next().await? {
                count.add(&batch);
            }
            // As in a load, each value that needs a wider column starts another pass.
            match count.widen() {
                Some(change) => plan.add_type_change(change),
                None => break,
            }
        }
        let operations = count.operations();
        let found = count.finish(|rejects, error| rows.explain_refusal(&file.config, Some(rejects), error));
        plan.add_values(operations, found)?;
        plan.add_deletes(&file.config, table_rows)
    }

    async fn inspect(&self, file: &Planned, scan: ScanResult) -> Result<(Inspection, FileRows<'static>)> {
        let config = &file.config;
        let rows = FileRows::of_file(file.reader.clone(), scan);
        let destinations = match &self.database {
            Database::Live(destinations) => destinations,
            Database::None(product) => {
                let new = inspect_new(*product, &config.name, &rows.schema, &config.destination.load_mode)?;
                return Ok((new, rows));
            }
        };
        let destination = destinations.open(&config.destination, false).await?;
        let claim = FileClaim {
            source: file.version.clone(),
            table: config.name.clone(),
            worker: String::new(),
            started_at: Timestamp::now(),
            value_rejects: rows.value_rejects(config.files.limits.rejects).map(Arc::new),
            table_changes: TableChanges::default(),
            succession: None,
        };
        let body = body(file, &rows);
        let schema = FileSchema::Final { schema: &rows.schema, body: &body };
        let inspection = destination.inspect(&claim, schema).await?;
        Ok((inspection, rows))
    }
}

/// The body as the ledger would record it.
fn body(file: &Planned, rows: &FileRows<'_>) -> Body {
    let (sha256, bytes) = (rows.body_sha256.as_str(), rows.decoded_bytes);
    match file.place {
        Place::Local => local_load::body(&file.config, Repeat::Skip, sha256, bytes),
        Place::S3 => object_body(&file.version.object, &file.config, sha256, bytes),
    }
}

/// The plan of an object that was scanned, as the Glue job reads it. Values are not compared with the table.
pub(crate) fn of_scan(
    source: &ObjectVersion,
    config: &TableConfig,
    (found, compression): (Format, Option<Compression>),
    scan: &ScanResult,
    table: Option<FoundTable>,
) -> Plan {
    let mut plan = Plan::new(&source.object.to_string(), source.size_bytes);
    let mut layout = format::describe(&config.files, source, found, compression);
    plan.add_scan(scan);
    format::add_layout(&mut layout, &config.files, &scan.layout, scan.schema.columns.len());
    plan.format = Some(layout);
    if let Some(table) = table {
        plan.add_table(config, table);
    }
    plan
}

/// Whether an error is a property of the file or its table, so that a load would fail in the same way.
pub(crate) fn is_result(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::FileBroken | ErrorKind::TableMismatch | ErrorKind::DataRefused | ErrorKind::ExportRefused)
}
