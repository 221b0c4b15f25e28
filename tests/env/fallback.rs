//! Reads the fallback through the Glue catalog: the registered partitions, and the rows of their Parquet objects.
//!
//! An object outside all partitions is reported but not read, because Athena does not read it either.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_sdk_glue::types::Table;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use crate::cloud::Account;

/// One row: the value of each column as text, and `None` for NULL.
pub type FallbackRow = BTreeMap<String, Option<String>>;

/// The registered and unregistered content of a fallback table.
#[derive(Debug, Default)]
pub struct Fallback {
    /// The rows of every object in a registered partition.
    pub rows: Vec<FallbackRow>,
    /// The objects in a registered partition.
    pub objects: Vec<String>,
    /// The objects outside all partitions.
    pub unregistered: Vec<String>,
    /// The registered partitions without objects.
    pub empty_partitions: Vec<String>,
}

/// Reads the fallback of one table. Without a Glue table, only `unregistered` has content.
pub async fn read(account: &Account, database: &str, table: &str, prefix: &str) -> Result<Fallback> {
    let mut fallback = Fallback { unregistered: data_objects(account, prefix).await?, ..Fallback::default() };
    let Some(description) = describe(account, database, table).await? else { return Ok(fallback) };
    for folder in partition_folders(account, database, table).await? {
        let keys = data_objects(account, &folder).await?;
        if keys.is_empty() {
            fallback.empty_partitions.push(folder);
            continue;
        }
        for key in keys {
            fallback.rows.extend(rows(account, &key, &description).await?);
            fallback.unregistered.retain(|other| *other != key);
            fallback.objects.push(key);
        }
    }
    Ok(fallback)
}

/// The Glue table; none if the database or the table does not exist.
pub async fn describe(account: &Account, database: &str, table: &str) -> Result<Option<Table>> {
    match account.glue.get_table().database_name(database).name(table).send().await {
        Ok(response) => Ok(response.table),
        Err(error) if error.as_service_error().is_some_and(|service| service.is_entity_not_found_exception()) => {
            Ok(None)
        }
        Err(error) => Err(error).context("cannot read the table from Glue"),
    }
}

/// The key prefix of each registered partition.
async fn partition_folders(account: &Account, database: &str, table: &str) -> Result<Vec<String>> {
    let bucket = format!("s3://{}/", account.bucket);
    let response = account.glue.get_partitions().database_name(database).table_name(table).send().await?;
    let mut folders = Vec::new();
    for partition in response.partitions() {
        let location = partition
            .storage_descriptor()
            .and_then(|storage| storage.location())
            .context("a partition has no location")?;
        let folder =
            location.strip_prefix(&bucket).with_context(|| format!("{location} is not in the test's bucket"))?;
        ensure!(folder.ends_with('/'), "{location} is not a folder");
        folders.push(folder.to_owned());
    }
    Ok(folders)
}

/// The objects that a query engine reads. It ignores names that begin with `_` or `.`.
async fn data_objects(account: &Account, prefix: &str) -> Result<Vec<String>> {
    let is_hidden = |key: &str| key.split('/').any(|part| part.starts_with(['_', '.']));
    Ok(account.keys(prefix).await?.into_iter().filter(|key| !is_hidden(key)).collect())
}

async fn rows(account: &Account, key: &str, table: &Table) -> Result<Vec<FallbackRow>> {
    let body = bytes::Bytes::from(account.get(key).await?);
    let reader = SerializedFileReader::new(body).with_context(|| format!("{key} is not Parquet"))?;
    let columns: Vec<&str> = table
        .storage_descriptor()
        .map(|storage| storage.columns())
        .unwrap_or_default()
        .iter()
        .map(|column| column.name())
        .collect();
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None)? {
        let row = row.with_context(|| format!("{key} has a row that cannot be read"))?;
        let mut values = FallbackRow::new();
        for (name, value) in row.get_column_iter() {
            ensure!(
                columns.contains(&name.as_str()),
                "{key} has the column {name}, which the Glue table does not have"
            );
            values.insert(name.clone(), text(value));
        }
        rows.push(values);
    }
    Ok(rows)
}

fn text(value: &Field) -> Option<String> {
    match value {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
