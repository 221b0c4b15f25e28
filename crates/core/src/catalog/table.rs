//! Defines tables and partitions of row objects in Glue so that Athena and Redshift Spectrum can read them.

use std::collections::HashMap;

use aws_sdk_glue::types::{Column, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::Purpose;
use super::columns::{CatalogColumn, NULLS_COLUMN, PARTITION_KEY};
use crate::error::{Error, ErrorKind, Result};
use spillway_formats::schema::fallback::FallbackFormat;

const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
const CSV_SERDE: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";

/// The format and the use of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableKind {
    pub(super) format: FallbackFormat,
    pub(super) purpose: Purpose,
}

impl TableKind {
    fn description(self) -> &'static str {
        match self.purpose {
            Purpose::Fallback => {
                "Rows that Spillway could not load into the database; a replay loads them and removes them from here"
            }
            Purpose::Lake => "Rows of the files that Spillway has loaded, one object for each file",
        }
    }

    /// What the user can do about a table that another program made.
    fn way_out(self) -> &'static str {
        match self.purpose {
            Purpose::Fallback => "drop the table, or choose another GLUE_TABLE for the rows of RDS_TABLE",
            Purpose::Lake => "choose another LAKE_DATABASE",
        }
    }
}

/// Defines a new table over the folder `location`.
pub(super) fn new_table(name: &str, location: &str, columns: &[CatalogColumn], kind: TableKind) -> Result<TableInput> {
    let format = kind.format;
    TableInput::builder()
        .name(name)
        .description(kind.description())
        .table_type("EXTERNAL_TABLE")
        .parameters("EXTERNAL", "TRUE")
        .parameters("classification", format.extension())
        .partition_keys(glue_column(PARTITION_KEY, "string")?)
        .storage_descriptor(storage(location, columns, format)?)
        .build()
        .map_err(invalid)
}

/// Defines an existing table with more columns. All other properties stay, also those that Spillway does not set.
pub(super) fn with_columns(table: Table, added: &[CatalogColumn]) -> Result<TableInput> {
    let mut storage = table.storage_descriptor.unwrap_or_else(|| StorageDescriptor::builder().build());
    storage.columns.get_or_insert_default().extend(glue_columns(added)?);
    TableInput::builder()
        .name(table.name)
        .set_description(table.description)
        .set_owner(table.owner)
        .set_last_access_time(table.last_access_time)
        .set_last_analyzed_time(table.last_analyzed_time)
        .retention(table.retention)
        .storage_descriptor(storage)
        .set_partition_keys(table.partition_keys)
        .set_table_type(table.table_type)
        .set_parameters(table.parameters)
        .build()
        .map_err(invalid)
}

/// Defines the partition of one day, with the table's current columns.
pub(super) fn partition(
    dt: &str,
    folder: &str,
    columns: &[CatalogColumn],
    format: FallbackFormat,
) -> Result<PartitionInput> {
    Ok(PartitionInput::builder().values(dt).storage_descriptor(storage(folder, columns, format)?).build())
}

/// The columns of a table or partition, in order.
pub(super) fn columns(storage: Option<&StorageDescriptor>) -> Vec<CatalogColumn> {
    let column = |column: &Column| CatalogColumn {
        name: column.name.clone(),
        glue_type: column.r#type.as_deref().unwrap_or_default().to_lowercase(),
    };
    storage.map(|storage| storage.columns().iter().map(column).collect()).unwrap_or_default()
}

/// Whether a storage descriptor's location is this folder, with or without the slash at the end.
pub(super) fn is_at(storage: Option<&StorageDescriptor>, folder: &str) -> bool {
    let location = storage.and_then(StorageDescriptor::location).unwrap_or_default();
    location.trim_end_matches('/') == folder.trim_end_matches('/')
}

/// Checks that a table is the one of this folder and format.
///
/// In a table with another folder, a partition of this one would replace a partition of the other.
pub(super) fn check(table: &Table, full_name: &str, location: &str, kind: TableKind) -> Result<()> {
    let mismatch = |message: String| Err(Error::new(ErrorKind::Settings, message));
    let (storage, format, way_out) = (table.storage_descriptor.as_ref(), kind.format, kind.way_out());
    let serde =
        storage.and_then(StorageDescriptor::serde_info).and_then(SerDeInfo::serialization_library).unwrap_or_default();
    if serde != serde_of(format) {
        // The new table would have the same folder, so another name would not keep the CSV apart.
        let advice = match kind.purpose {
            Purpose::Fallback if serde == CSV_SERDE => {
                "an earlier version wrote CSV there: replay the fallback and drop the table"
            }
            Purpose::Fallback | Purpose::Lake => way_out,
        };
        let message = format!("glue table {full_name} uses the SerDe {serde:?}, not {:?}; {advice}", serde_of(format));
        return mismatch(message);
    }
    let keys: Vec<&str> = table.partition_keys().iter().map(Column::name).collect();
    if keys != [PARTITION_KEY] {
        return mismatch(format!(
            "glue table {full_name} is partitioned by {keys:?}, not by [{PARTITION_KEY:?}]; {way_out}"
        ));
    }
    if !is_at(storage, location) {
        let rule = match kind.purpose {
            Purpose::Fallback => "each target table needs its own GLUE_TABLE",
            Purpose::Lake => way_out,
        };
        return mismatch(format!(
            "glue table {full_name} has the location {:?}, not {location:?}; {rule}",
            storage.and_then(StorageDescriptor::location).unwrap_or_default(),
        ));
    }
    let leads_with_nulls = columns(storage).first().is_some_and(|column| column.name == NULLS_COLUMN);
    if format == FallbackFormat::Csv && !leads_with_nulls {
        return mismatch(format!("the first column of glue table {full_name} is not {NULLS_COLUMN:?}; {way_out}"));
    }
    Ok(())
}

fn serde_of(format: FallbackFormat) -> &'static str {
    match format {
        FallbackFormat::Parquet => PARQUET_SERDE,
        FallbackFormat::Csv => CSV_SERDE,
    }
}

fn storage(location: &str, columns: &[CatalogColumn], format: FallbackFormat) -> Result<StorageDescriptor> {
    let (input, output, parameters) = match format {
        FallbackFormat::Parquet => (
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            HashMap::from([("serialization.format", "1")]),
        ),
        FallbackFormat::Csv => (
            "org.apache.hadoop.mapred.TextInputFormat",
            "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            HashMap::from([("separatorChar", ","), ("quoteChar", "\""), ("escapeChar", "\\")]),
        ),
    };
    let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let serde = SerDeInfo::builder().serialization_library(serde_of(format)).set_parameters(Some(parameters)).build();
    let storage = StorageDescriptor::builder()
        .set_columns(Some(glue_columns(columns)?))
        .location(location)
        .input_format(input)
        .output_format(output)
        .serde_info(serde)
        .build();
    Ok(storage)
}

fn glue_columns(columns: &[CatalogColumn]) -> Result<Vec<Column>> {
    columns.iter().map(|column| glue_column(&column.name, &column.glue_type)).collect()
}

pub(super) fn glue_column(name: &str, glue_type: &str) -> Result<Column> {
    Column::builder().name(name).r#type(glue_type).build().map_err(invalid)
}

/// A builder's error for a missing required field. It cannot occur, as every required field is set above.
pub(super) fn invalid(error: aws_sdk_glue::error::BuildError) -> Error {
    Error::new(ErrorKind::Internal, "cannot build a Glue request").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(format: FallbackFormat) -> TableKind {
        TableKind { format, purpose: Purpose::Fallback }
    }

    fn table(format: FallbackFormat, location: &str) -> Table {
        let columns = [
            CatalogColumn { name: NULLS_COLUMN.to_owned(), glue_type: "string".to_owned() },
            CatalogColumn { name: "id".to_owned(), glue_type: "string".to_owned() },
        ];
        let input = new_table("t", location, &columns, kind(format)).unwrap();
        Table::builder()
            .name(input.name)
            .set_parameters(input.parameters)
            .set_partition_keys(input.partition_keys)
            .set_storage_descriptor(input.storage_descriptor)
            .owner("an owner")
            .build()
            .unwrap()
    }

    #[test]
    fn tables_of_another_format_or_folder_are_rejected() {
        let csv = table(FallbackFormat::Csv, "s3://b/fallback/t/");
        let parquet = table(FallbackFormat::Parquet, "s3://b/fallback/t");
        let message = |table, location, format| check(table, "db.t", location, kind(format)).unwrap_err().to_string();
        check(&csv, "db.t", "s3://b/fallback/t/", kind(FallbackFormat::Csv)).unwrap();
        check(&parquet, "db.t", "s3://b/fallback/t/", kind(FallbackFormat::Parquet)).unwrap();
        assert!(message(&csv, "s3://b/fallback/t/", FallbackFormat::Parquet).contains("replay the fallback"));
        assert!(message(&csv, "s3://b/fallback/u/", FallbackFormat::Csv).contains("its own GLUE_TABLE"));
        let lake = TableKind { format: FallbackFormat::Parquet, purpose: Purpose::Lake };
        let message = check(&csv, "db.t", "s3://b/lake/t/", lake).unwrap_err().to_string();
        assert!(message.contains("LAKE_DATABASE") && !message.contains("replay"), "{message}");
    }

    #[test]
    fn adding_columns_keeps_all_other_properties() {
        let added = [CatalogColumn { name: "new".to_owned(), glue_type: "date".to_owned() }];
        let input = with_columns(table(FallbackFormat::Parquet, "s3://b/f/"), &added).unwrap();
        let names: Vec<String> = columns(input.storage_descriptor()).into_iter().map(|column| column.name).collect();
        assert_eq!(names, [NULLS_COLUMN, "id", "new"]);
        assert_eq!((input.owner(), input.partition_keys().len()), (Some("an owner"), 1));
    }
}
