//! Registers the folders of a raw zone: one external table for each table, one partition for each folder of files.
//!
//! The files stay as users have uploaded them, so the table describes what is there, and nothing is converted. Columns are only
//! added. Tables that another program has created are not changed.

use aws_sdk_glue::types::{BatchUpdatePartitionRequestEntry, Partition, PartitionInput, Table};
use serde::{Deserialize, Serialize};

use super::columns::{CatalogColumn, glue_type, new_type};
use super::failure::{self, code, failure};
use super::{Catalog, Change, TRIES, is_version_conflict, pause, raw_table, table};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use spillway_formats::schema::{Column, ColumnType};

/// A file in a raw zone, as a table must describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawFile {
    /// The Glue table.
    pub(crate) table: String,
    /// The `Location` of the table: a folder (`s3://…/`).
    pub(crate) root: String,
    /// The `Location` of the file's partition.
    pub(crate) folder: String,
    /// The partition keys with the values of the file's folder; empty for a table without partitions.
    pub(crate) partition: Vec<(String, String)>,
    /// The format.
    pub(crate) format: RawFormat,
    /// The columns, in the order of the file.
    pub(crate) columns: Vec<RawColumn>,
    /// The names of columns whose types Athena does not read. The table must not have them with another type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<String>,
}

/// The format of a file, as far as it decides how a table reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawFormat {
    /// CSV: every column is a string.
    Csv {
        /// The character between two fields.
        delimiter: String,
        /// The quote.
        quote: String,
        /// Number of lines above the data.
        header_lines: usize,
    },
    /// One JSON object in each line.
    Json,
    /// Parquet.
    Parquet,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawColumn {
    /// The name in Glue.
    pub(crate) name: String,
    /// The type in Glue.
    pub(crate) glue_type: String,
    /// The key in JSON, if it is not the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// What the values of a JSON file are, to compare them with the type of an existing column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<Column>,
}

/// The result of a registration that Glue did not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The file's folder is registered.
    Done,
    /// The table would read the file wrong, for this reason. Its folder is not registered.
    Differs(String),
}

/// The result of one try.
enum Try {
    Registered(Registration),
    /// The partition was changed. Another worker can have replaced it since, so it must be read again.
    Changed,
    /// Another worker has changed the table or the partition at the same time.
    Conflict,
}

impl RawFormat {
    /// The value of the parameter `classification`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Csv { .. } => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }

    /// The name for people.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Csv { .. } => "CSV",
            Self::Json => "JSON",
            Self::Parquet => "Parquet",
        }
    }
}

impl RawColumn {
    /// A column that is a string, as every column of CSV is.
    pub(crate) fn text(name: String) -> Self {
        Self { name, glue_type: "string".to_owned(), key: None, json: None }
    }

    /// A column of JSON with these values.
    ///
    /// Numbers and booleans have types. Everything else is a string, because the SerDe reads every value as one, and times only in
    /// some spellings.
    pub(crate) fn json(name: String, column: &Column) -> Self {
        let glue_type = match new_type(column) {
            typed @ (ColumnType::Boolean | ColumnType::Integer | ColumnType::Decimal { .. } | ColumnType::Double) => {
                glue_type(typed)
            }
            ColumnType::Date
            | ColumnType::DateTime
            | ColumnType::Instant
            | ColumnType::Json
            | ColumnType::Text
            | ColumnType::Binary => "string".to_owned(),
        };
        Self { name, glue_type, key: None, json: Some(column.clone()) }
    }

    pub(super) fn catalog_column(&self) -> CatalogColumn {
        CatalogColumn { name: self.name.clone(), glue_type: self.glue_type.clone() }
    }
}

impl Catalog {
    /// Registers the folder of a file. Creates the table if it is missing, and adds the file's columns. May be repeated.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] when another program has created the table.
    pub(crate) async fn register_raw(&self, file: &RawFile) -> Result<Registration> {
        let catalog = self.with_table(&file.table);
        for attempt in 0..TRIES {
            match catalog.try_register(file).await? {
                Try::Registered(registration) => return Ok(registration),
                Try::Changed => {}
                Try::Conflict => pause(attempt).await,
            }
        }
        Err(catalog.contended())
    }

    async fn try_register(&self, file: &RawFile) -> Result<Try> {
        let Some(table) = self.raw_table(file).await? else { return Ok(Try::Conflict) };
        if !raw_table::is_ours(&table) {
            let message = format!(
                "glue table {} was not created for the raw zone by Spillway, which does not change it; drop it, or choose another \
                 RAW_DATABASE",
                self.full_name()
            );
            return Err(Error::new(ErrorKind::Settings, message));
        }
        let added = match raw_table::added_columns(&table, file) {
            Ok(added) => added,
            Err(why) => return Ok(Try::Registered(Registration::Differs(why))),
        };
        let partition = raw_table::partition(&table, file, &added)?;
        if !added.is_empty() {
            let version = table.version_id.clone();
            if let Change::VersionConflict = self.update(raw_table::with_more(table, &added)?, version).await? {
                return Ok(Try::Conflict);
            }
        }
        Failpoint::CatalogTableMade.reached().await?;
        match file.partition.is_empty() {
            true => Ok(Try::Registered(Registration::Done)),
            false => self.register_folder(file, partition).await,
        }
    }

    /// The table, which is created if it is missing; `None` if it vanished again.
    async fn raw_table(&self, file: &RawFile) -> Result<Option<Table>> {
        if let Some(table) = self.table().await? {
            return Ok(Some(table));
        }
        self.create_database().await?;
        // Another worker may have created it first. Then the table is read and extended like any other.
        self.create(raw_table::new_table(file)?).await?;
        self.table().await
    }

    /// Registers the partition of a file. An existing one gets the columns that it lacks.
    ///
    /// Usually another file of the folder has registered it, so it is read first. A partition has no version: the update of a
    /// worker with an older table can replace a newer one. So after a change, table and partition are read again, until the
    /// partition has all columns of the table. The table has a version, and each worker extends it before the partition.
    async fn register_folder(&self, file: &RawFile, input: PartitionInput) -> Result<Try> {
        let change = match self.folder(&input).await? {
            None => self.create_folder(input).await?,
            Some(found) => {
                let storage = found.storage_descriptor();
                if !table::is_at(storage, &file.folder) {
                    let location = storage.and_then(|storage| storage.location()).unwrap_or_default();
                    let why = format!("the partition of its folder is already at {location:?}");
                    return Ok(Try::Registered(Registration::Differs(why)));
                }
                if !raw_table::lacks_columns(storage, &input) {
                    Failpoint::PartitionMade.reached().await?;
                    return Ok(Try::Registered(Registration::Done));
                }
                self.update_folder(input).await?
            }
        };
        Ok(match change {
            Change::Applied => Try::Changed,
            Change::VersionConflict => Try::Conflict,
        })
    }

    async fn folder(&self, input: &PartitionInput) -> Result<Option<Partition>> {
        let (database, table) = (&self.settings.database, &self.settings.table);
        let request = self.client.get_partition().database_name(database).table_name(table);
        match request.set_partition_values(input.values.clone()).send().await {
            Ok(response) => Ok(response.partition),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(failure("GetPartition", &self.full_name(), error)),
        }
    }

    async fn create_folder(&self, input: PartitionInput) -> Result<Change> {
        let (database, table) = (&self.settings.database, &self.settings.table);
        let request = self.client.create_partition().database_name(database).table_name(table);
        match request.partition_input(input).send().await {
            Ok(_) => Ok(Change::Applied),
            Err(error) if is_version_conflict(code(&error)) => Ok(Change::VersionConflict),
            Err(error) => Err(failure("CreatePartition", &self.full_name(), error)),
        }
    }

    async fn update_folder(&self, input: PartitionInput) -> Result<Change> {
        let (database, table) = (&self.settings.database, &self.settings.table);
        let entry = BatchUpdatePartitionRequestEntry::builder()
            .set_partition_value_list(input.values.clone())
            .partition_input(input)
            .build()
            .map_err(table::invalid)?;
        let request = self.client.batch_update_partition().database_name(database).table_name(table);
        let response = request.entries(entry).send().await;
        let response = response.map_err(|error| failure("BatchUpdatePartition", &self.full_name(), error))?;
        let failed = response.errors().iter().find_map(|entry| entry.error_detail());
        let Some(detail) = failed else { return Ok(Change::Applied) };
        match detail.error_code().unwrap_or_default() {
            code if is_version_conflict(code) || code == "EntityNotFoundException" => Ok(Change::VersionConflict),
            code => {
                let message = format!("glue:BatchUpdatePartition of {} failed: {code}", self.full_name());
                Err(Error::new(failure::kind(code, None), message))
            }
        }
    }
}
