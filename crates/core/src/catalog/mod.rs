//! The Glue Data Catalog: an external table over each fallback folder, with a partition for each day.
//!
//! Every call may be repeated and may run in many workers at once. Columns are only ever appended. An outage is never
//! taken for a missing table, and the SDK's types do not leave this room.

mod columns;
mod failure;
mod table;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::types::{BatchUpdatePartitionRequestEntry, DatabaseInput, Partition, Table};

use crate::config::{FallbackFormat, GlueSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::policy;
use crate::schema::Schema;
use crate::schema::fallback::FallbackColumn;
use columns::{Assignment, CatalogColumn, PARTITION_KEY};
use failure::{code, failure};

/// How often a change is tried when other writers change the same table at the same time.
const TRIES: u32 = 12;

/// One database and table of the Glue Data Catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    client: Client,
    settings: GlueSettings,
}

/// What became of a change that others may have forestalled.
enum Change {
    Made,
    VersionConflict,
}

impl Catalog {
    /// A catalog for the table the settings name.
    pub fn new(config: &SdkConfig, settings: GlueSettings) -> Self {
        Self { client: Client::new(config), settings }
    }

    /// The same catalog for objects of another form, to look after what was written before `FALLBACK_FORMAT` changed.
    #[must_use]
    pub fn with_format(&self, format: FallbackFormat) -> Self {
        let settings = GlueSettings { format, ..self.settings.clone() };
        Self { client: self.client.clone(), settings }
    }

    /// The same catalog for another table.
    #[must_use]
    pub fn with_table(&self, table: &str) -> Self {
        let settings = GlueSettings { table: table.to_owned(), ..self.settings.clone() };
        Self { client: self.client.clone(), settings }
    }

    /// The form of the table's objects.
    pub fn format(&self) -> FallbackFormat {
        self.settings.format
    }

    /// Makes database and table over the folder `location` (`s3://…/`) where they are missing, appends the columns the
    /// file needs, and says where each column of the file goes. To be called before the object is written, whose types
    /// depend on the answer.
    pub async fn prepare(&self, location: &str, schema: &Schema) -> Result<Vec<FallbackColumn>> {
        let format = self.settings.format;
        self.reconcile(location, |existing| Ok(columns::assign(schema, existing, format))).await
    }

    /// The same for columns that an earlier attempt was given: makes or appends what is missing. A table that has one of
    /// them with another type is refused.
    pub async fn prepare_again(&self, location: &str, columns: &[FallbackColumn]) -> Result<Vec<FallbackColumn>> {
        let assign = |existing: &[CatalogColumn]| {
            columns::assign_again(columns, existing, self.settings.format).ok_or_else(|| {
                let message = format!(
                    "glue table {} no longer has the columns that a fallback object was written with; drop the table, and \
                     it is made again",
                    self.full_name()
                );
                Error::new(ErrorKind::Settings, message)
            })
        };
        self.reconcile(location, assign).await
    }

    /// Registers the partition `dt` at `folder` (`s3://…/dt=…/`) with the columns the table has now. One that is there
    /// is brought up to date when it has fewer columns or lies elsewhere.
    pub async fn register(&self, dt: &str, folder: &str) -> Result<()> {
        for attempt in 0..TRIES {
            let Some(table) = self.table().await? else {
                let message = format!("glue table {} was dropped while a file was written to it", self.full_name());
                return Err(Error::new(ErrorKind::Service, message));
            };
            let columns = table::columns(table.storage_descriptor());
            let done = match self.create_partition(dt, folder, &columns).await? {
                Change::Made => Change::Made,
                Change::VersionConflict => self.update_partition(dt, folder, &columns).await?,
            };
            if matches!(done, Change::Made) {
                Failpoint::FallbackAfterPartition.reached().await;
                return Ok(());
            }
            pause(attempt).await;
        }
        Err(self.contended())
    }

    /// Forgets the partition `dt`. One that is not there is fine.
    pub async fn drop_partition(&self, dt: &str) -> Result<()> {
        let GlueSettings { database, table, .. } = &self.settings;
        let answer =
            self.client.delete_partition().database_name(database).table_name(table).partition_values(dt).send().await;
        match answer {
            Err(error) if code(&error) != "EntityNotFoundException" => {
                Err(failure("DeletePartition", &self.full_name(), error))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Brings the table to what `assign` wants of it, against other writers that do the same.
    async fn reconcile(
        &self,
        location: &str,
        assign: impl Fn(&[CatalogColumn]) -> Result<Assignment>,
    ) -> Result<Vec<FallbackColumn>> {
        for attempt in 0..TRIES {
            let (assignment, change) = match self.table().await? {
                None => {
                    let assignment = assign(&[])?;
                    self.refuse_no_columns(&assignment)?;
                    self.make_database().await?;
                    let change = self.create_table(location, &assignment.added).await?;
                    (assignment, change)
                }
                Some(table) => {
                    table::check(&table, &self.full_name(), location, self.settings.format)?;
                    let assignment = assign(&table::columns(table.storage_descriptor()))?;
                    let change = match assignment.added.is_empty() {
                        true => Change::Made,
                        false => self.add_columns(table, &assignment.added).await?,
                    };
                    (assignment, change)
                }
            };
            if matches!(change, Change::Made) {
                Failpoint::FallbackAfterCreateTable.reached().await;
                return Ok(assignment.columns);
            }
            pause(attempt).await;
        }
        Err(self.contended())
    }

    /// The table, or `None` when Glue says that there is none (or no database). Any other failure is an error.
    async fn table(&self) -> Result<Option<Table>> {
        let GlueSettings { database, table, .. } = &self.settings;
        match self.client.get_table().database_name(database).name(table).send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(failure("GetTable", &self.full_name(), error)),
        }
    }

    /// Looks before it creates: a role may well be allowed tables but no databases.
    async fn make_database(&self) -> Result<()> {
        let database = &self.settings.database;
        match self.client.get_database().name(database).send().await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == "EntityNotFoundException" => {}
            Err(error) => return Err(failure("GetDatabase", database, error)),
        }
        let input = DatabaseInput::builder().name(database).build();
        let input =
            input.map_err(|error| Error::new(ErrorKind::Internal, "a database without a name").with_source(error))?;
        match self.client.create_database().database_input(input).send().await {
            Err(error) if code(&error) != "AlreadyExistsException" => Err(failure("CreateDatabase", database, error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn create_table(&self, location: &str, columns: &[CatalogColumn]) -> Result<Change> {
        let GlueSettings { database, table, format } = &self.settings;
        let input = table::new_table(table, location, columns, *format)?;
        match self.client.create_table().database_name(database).table_input(input).send().await {
            Ok(_) => Ok(Change::Made),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("CreateTable", &self.full_name(), error)),
        }
    }

    /// The version that was read goes along, so that a writer in between makes this one read again.
    async fn add_columns(&self, table: Table, added: &[CatalogColumn]) -> Result<Change> {
        let version = table.version_id.clone();
        let answer = self
            .client
            .update_table()
            .database_name(&self.settings.database)
            .table_input(table::with_columns(table, added)?)
            .set_version_id(version)
            .skip_archive(true)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Change::Made),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("UpdateTable", &self.full_name(), error)),
        }
    }

    async fn create_partition(&self, dt: &str, folder: &str, columns: &[CatalogColumn]) -> Result<Change> {
        let GlueSettings { database, table, format } = &self.settings;
        let input = table::partition(dt, folder, columns, *format)?;
        let request = self.client.create_partition().database_name(database).table_name(table);
        match request.partition_input(input).send().await {
            Ok(_) => Ok(Change::Made),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("CreatePartition", &self.full_name(), error)),
        }
    }

    /// Leaves a partition alone that has as many columns as we know of: somebody who knows more has been there.
    async fn update_partition(&self, dt: &str, folder: &str, columns: &[CatalogColumn]) -> Result<Change> {
        let Some(found) = self.partition(dt).await? else { return Ok(Change::VersionConflict) };
        let storage = found.storage_descriptor();
        if table::is_at(storage, folder) && table::columns(storage).len() >= columns.len() {
            return Ok(Change::Made);
        }
        let GlueSettings { database, table, format } = &self.settings;
        let entry = BatchUpdatePartitionRequestEntry::builder()
            .partition_value_list(dt)
            .partition_input(table::partition(dt, folder, columns, *format)?)
            .build()
            .map_err(|error| Error::new(ErrorKind::Internal, "a partition without a value").with_source(error))?;
        let request = self.client.batch_update_partition().database_name(database).table_name(table);
        let answer = request.entries(entry).send().await;
        let answer = answer.map_err(|error| failure("BatchUpdatePartition", &self.full_name(), error))?;
        let refused = answer.errors().iter().filter_map(|entry| entry.error_detail()).next();
        let Some(detail) = refused else { return Ok(Change::Made) };
        let code = detail.error_code().unwrap_or_default();
        if is_version_conflict(code) || code == "EntityNotFoundException" {
            return Ok(Change::VersionConflict);
        }
        let message =
            format!("glue:BatchUpdatePartition of {PARTITION_KEY}={dt} of {} failed: {code}", self.full_name());
        Err(Error::new(failure::kind(code, None), message))
    }

    async fn partition(&self, dt: &str) -> Result<Option<Partition>> {
        let GlueSettings { database, table, .. } = &self.settings;
        let request = self.client.get_partition().database_name(database).table_name(table);
        match request.partition_values(dt).send().await {
            Ok(answer) => Ok(answer.partition),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(failure("GetPartition", &self.full_name(), error)),
        }
    }

    /// An empty file has no rows to keep, and Athena reads no table without columns.
    fn refuse_no_columns(&self, assignment: &Assignment) -> Result<()> {
        match assignment.columns.is_empty() {
            true => Err(Error::new(ErrorKind::Internal, "a file without columns cannot fall back")),
            false => Ok(()),
        }
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.settings.database, self.settings.table)
    }

    fn contended(&self) -> Error {
        let message = format!("glue table {} was changed by others {TRIES} times in a row", self.full_name());
        Error::new(ErrorKind::Throttled, message)
    }
}

/// Whether somebody else was faster: what is there now is to be read again.
fn is_version_conflict(code: &str) -> bool {
    matches!(code, "AlreadyExistsException" | "ConcurrentModificationException")
}

/// Full jitter, so that writers that met once do not meet again.
async fn pause(attempt: u32) {
    let delay = policy::backoff(attempt, fastrand::f64()).min(Duration::from_secs(3));
    tokio::time::sleep(delay).await;
}
