//! Registers row objects in the Glue Data Catalog: one external table per folder, one partition per day. `raw` registers the
//! files of a raw zone.
//!
//! Every call can be repeated and can run in many workers at once. Columns are only appended, never changed or removed.
//! An outage is never read as a missing table. SDK types do not leave this module.

mod columns;
mod failure;
mod raw;
mod raw_table;
mod table;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::types::{BatchUpdatePartitionRequestEntry, DatabaseInput, Partition, Table, TableInput};

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::policy;
use columns::{Assignment, CatalogColumn, PARTITION_KEY};
use failure::{code, failure};
use spillway_formats::schema::Schema;
use spillway_formats::schema::fallback::{FallbackColumn, FallbackFormat};
use table::TableKind;

pub(crate) use columns::catalog_name;
pub(crate) use raw::{RawColumn, RawFile, RawFormat, Registration};

/// Number of attempts for a change while other workers change the same table.
const TRIES: u32 = 12;

/// The Glue database and table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlueSettings {
    /// `GLUE_DATABASE`, in lower case.
    pub database: String,
    /// `GLUE_TABLE`, in lower case: for rows of `RDS_TABLE`.
    pub table: String,
}

/// The use of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The database did not accept them.
    Fallback,
    /// `OUTPUT` sends them to the lake.
    Lake,
}

/// One database and table of the Glue Data Catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    client: Client,
    settings: GlueSettings,
    kind: TableKind,
}

/// The result of a change.
enum Change {
    Applied,
    /// Another worker changed the table or partition first: read it again.
    VersionConflict,
}

impl Catalog {
    /// Returns a catalog of the fallback for the table in the settings.
    pub fn new(config: &SdkConfig, settings: GlueSettings) -> Self {
        let kind = TableKind { format: FallbackFormat::Parquet, purpose: Purpose::Fallback };
        Self { client: Client::new(config), settings, kind }
    }

    /// Returns a catalog of the lake in this database. [`Catalog::with_table`] names the table.
    pub(crate) fn for_lake(&self, database: &str) -> Self {
        let settings = GlueSettings { database: database.to_owned(), table: String::new() };
        let kind = TableKind { format: FallbackFormat::Parquet, purpose: Purpose::Lake };
        Self { client: self.client.clone(), settings, kind }
    }

    /// Returns a catalog of tables over raw zones in this database.
    pub(crate) fn for_raw_zone(&self, database: &str) -> Self {
        self.for_lake(database)
    }

    /// Returns this catalog for objects of another format: earlier versions also wrote CSV.
    #[must_use]
    pub fn with_format(&self, format: FallbackFormat) -> Self {
        Self { kind: TableKind { format, ..self.kind }, ..self.clone() }
    }

    /// Returns this catalog for another table.
    #[must_use]
    pub fn with_table(&self, table: &str) -> Self {
        Self { settings: GlueSettings { table: table.to_owned(), ..self.settings.clone() }, ..self.clone() }
    }

    /// Creates database and table if missing, appends missing columns, and returns the column of each file column.
    ///
    /// `location` is the table's folder (`s3://…/`). Call this before writing the object: its types depend on the
    /// result.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] when the existing table is not a table of this folder and format.
    pub async fn prepare(&self, location: &str, schema: &Schema) -> Result<Vec<FallbackColumn>> {
        self.update_table(location, |existing| Ok(columns::assign(schema, existing))).await
    }

    /// Like [`Catalog::prepare`], for the columns that an earlier attempt has assigned.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] also when the table has one of these columns with another type.
    pub async fn prepare_again(&self, location: &str, columns: &[FallbackColumn]) -> Result<Vec<FallbackColumn>> {
        let assign = |existing: &[CatalogColumn]| {
            columns::assign_again(columns, existing, self.kind.format).ok_or_else(|| {
                let message = format!(
                    "glue table {} no longer has the columns of an existing object with rows; drop the table, and the next \
                     attempt creates it again",
                    self.full_name()
                );
                Error::new(ErrorKind::Settings, message)
            })
        };
        self.update_table(location, assign).await
    }

    /// Returns what of the database and the table exists. Changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] when the existing table is not a fallback table of the folder `location` and this format.
    pub(crate) async fn inspect(&self, location: Option<&str>) -> Result<&'static str> {
        if !self.has_database().await? {
            return Ok(match self.kind.purpose {
                Purpose::Fallback => "the database does not exist yet; the first fallback creates it",
                Purpose::Lake => "the database does not exist yet; the first file creates it",
            });
        }
        let Some(location) = location else { return Ok("the database exists") };
        match self.table().await? {
            None => Ok("the table does not exist yet; the first fallback creates it"),
            Some(table) => {
                table::check(&table, &self.full_name(), location, self.kind)?;
                Ok("the table exists")
            }
        }
    }

    /// Registers the partition `dt` at `folder` (`s3://…/dt=…/`) with the table's current columns.
    ///
    /// Updates an existing partition that has fewer columns or another location.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] when other workers keep changing the table.
    pub async fn register(&self, dt: &str, folder: &str) -> Result<()> {
        for attempt in 0..TRIES {
            let Some(table) = self.table().await? else {
                let message = format!("glue table {} was dropped while rows were written", self.full_name());
                return Err(Error::new(ErrorKind::Service, message));
            };
            let columns = table::columns(table.storage_descriptor());
            let change = match self.create_partition(dt, folder, &columns).await? {
                Change::Applied => Change::Applied,
                Change::VersionConflict => self.update_partition(dt, folder, &columns).await?,
            };
            if matches!(change, Change::Applied) {
                Failpoint::PartitionMade.reached().await?;
                return Ok(());
            }
            pause(attempt).await;
        }
        Err(self.contended())
    }

    /// Drops the partition `dt`. A missing partition is not an error.
    pub async fn drop_partition(&self, dt: &str) -> Result<()> {
        let GlueSettings { database, table } = &self.settings;
        let response =
            self.client.delete_partition().database_name(database).table_name(table).partition_values(dt).send().await;
        match response {
            Err(error) if code(&error) != "EntityNotFoundException" => {
                Err(failure("DeletePartition", &self.full_name(), error))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Creates or extends the table as `assign` requires, and retries when another worker changes it at the same time.
    async fn update_table(
        &self,
        location: &str,
        assign: impl Fn(&[CatalogColumn]) -> Result<Assignment>,
    ) -> Result<Vec<FallbackColumn>> {
        for attempt in 0..TRIES {
            let (assignment, change) = match self.table().await? {
                None => {
                    let assignment = assign(&[])?;
                    self.check_has_columns(&assignment)?;
                    self.create_database().await?;
                    let change = self.create_table(location, &assignment.added).await?;
                    (assignment, change)
                }
                Some(table) => {
                    table::check(&table, &self.full_name(), location, self.kind)?;
                    let assignment = assign(&table::columns(table.storage_descriptor()))?;
                    let change = match assignment.added.is_empty() {
                        true => Change::Applied,
                        false => self.add_columns(table, &assignment.added).await?,
                    };
                    (assignment, change)
                }
            };
            if matches!(change, Change::Applied) {
                Failpoint::CatalogTableMade.reached().await?;
                return Ok(assignment.columns);
            }
            pause(attempt).await;
        }
        Err(self.contended())
    }

    /// The table, or `None` when Glue says that the table or database does not exist.
    async fn table(&self) -> Result<Option<Table>> {
        let GlueSettings { database, table } = &self.settings;
        match self.client.get_table().database_name(database).name(table).send().await {
            Ok(response) => Ok(response.table),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(failure("GetTable", &self.full_name(), error)),
        }
    }

    async fn has_database(&self) -> Result<bool> {
        let database = &self.settings.database;
        match self.client.get_database().name(database).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(false),
            Err(error) => Err(failure("GetDatabase", database, error)),
        }
    }

    /// Creates the database if missing. Checks first, because a role may not be allowed to create databases.
    async fn create_database(&self) -> Result<()> {
        let database = &self.settings.database;
        if self.has_database().await? {
            return Ok(());
        }
        let input = DatabaseInput::builder().name(database).build();
        let input = input.map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot build the request for a new database").with_source(error)
        })?;
        match self.client.create_database().database_input(input).send().await {
            Err(error) if code(&error) != "AlreadyExistsException" => Err(failure("CreateDatabase", database, error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn create_table(&self, location: &str, columns: &[CatalogColumn]) -> Result<Change> {
        self.create(table::new_table(&self.settings.table, location, columns, self.kind)?).await
    }

    async fn create(&self, input: TableInput) -> Result<Change> {
        match self.client.create_table().database_name(&self.settings.database).table_input(input).send().await {
            Ok(_) => Ok(Change::Applied),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("CreateTable", &self.full_name(), error)),
        }
    }

    /// Appends columns. The request contains the version read, so that it fails after another worker's change.
    async fn add_columns(&self, table: Table, added: &[CatalogColumn]) -> Result<Change> {
        let version = table.version_id.clone();
        self.update(table::with_columns(table, added)?, version).await
    }

    async fn update(&self, input: TableInput, version: Option<String>) -> Result<Change> {
        let response = self
            .client
            .update_table()
            .database_name(&self.settings.database)
            .table_input(input)
            .set_version_id(version)
            .skip_archive(true)
            .send()
            .await;
        match response {
            Ok(_) => Ok(Change::Applied),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("UpdateTable", &self.full_name(), error)),
        }
    }

    async fn create_partition(&self, dt: &str, folder: &str, columns: &[CatalogColumn]) -> Result<Change> {
        let GlueSettings { database, table } = &self.settings;
        let input = table::partition(dt, folder, columns, self.kind.format)?;
        let request = self.client.create_partition().database_name(database).table_name(table);
        match request.partition_input(input).send().await {
            Ok(_) => Ok(Change::Applied),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("CreatePartition", &self.full_name(), error)),
        }
    }

    /// Updates a partition, unless it has at least these columns: a worker that read a newer table has updated it.
    async fn update_partition(&self, dt: &str, folder: &str, columns: &[CatalogColumn]) -> Result<Change> {
        let Some(found) = self.partition(dt).await? else { return Ok(Change::VersionConflict) };
        let storage = found.storage_descriptor();
        if table::is_at(storage, folder) && table::columns(storage).len() >= columns.len() {
            return Ok(Change::Applied);
        }
        let GlueSettings { database, table } = &self.settings;
        let entry = BatchUpdatePartitionRequestEntry::builder()
            .partition_value_list(dt)
            .partition_input(table::partition(dt, folder, columns, self.kind.format)?)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot build the request for a partition").with_source(error)
            })?;
        let request = self.client.batch_update_partition().database_name(database).table_name(table);
        let response = request.entries(entry).send().await;
        let response = response.map_err(|error| failure("BatchUpdatePartition", &self.full_name(), error))?;
        let failed = response.errors().iter().filter_map(|entry| entry.error_detail()).next();
        let Some(detail) = failed else { return Ok(Change::Applied) };
        let code = detail.error_code().unwrap_or_default();
        if is_version_conflict(code) || code == "EntityNotFoundException" {
            return Ok(Change::VersionConflict);
        }
        let message =
            format!("glue:BatchUpdatePartition of {PARTITION_KEY}={dt} of {} failed: {code}", self.full_name());
        Err(Error::new(failure::kind(code, None), message))
    }

    async fn partition(&self, dt: &str) -> Result<Option<Partition>> {
        let GlueSettings { database, table } = &self.settings;
        let request = self.client.get_partition().database_name(database).table_name(table);
        match request.partition_values(dt).send().await {
            Ok(response) => Ok(response.partition),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(failure("GetPartition", &self.full_name(), error)),
        }
    }

    /// Fails for a file without columns: it has no rows to keep, and Athena cannot read a table without columns.
    fn check_has_columns(&self, assignment: &Assignment) -> Result<()> {
        match assignment.columns.is_empty() {
            true => Err(Error::new(ErrorKind::Internal, "a file without columns cannot be registered")),
            false => Ok(()),
        }
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.settings.database, self.settings.table)
    }

    fn contended(&self) -> Error {
        let message = format!("other workers changed glue table {} during each of {TRIES} attempts", self.full_name());
        Error::new(ErrorKind::Throttled, message)
    }
}

/// Whether another worker's change came first.
fn is_version_conflict(code: &str) -> bool {
    matches!(code, "AlreadyExistsException" | "ConcurrentModificationException")
}

/// Waits before the next attempt. Full jitter keeps conflicting workers apart.
async fn pause(attempt: u32) {
    let delay = policy::backoff(attempt, fastrand::f64()).min(Duration::from_secs(3));
    tokio::time::sleep(delay).await;
}
