//! Defines tables and partitions over the files of a raw zone, and compares a table with a file. Does no I/O.

use std::collections::HashMap;

use aws_sdk_glue::types::{Column, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::columns::{CatalogColumn, stored_as};
use super::raw::{RawColumn, RawFile, RawFormat};
use super::table::{self, glue_column, invalid, is_at, with_columns};
use crate::error::Result;

/// The parameter of a table that marks it as one of these.
const MARK: (&str, &str) = ("spillway", "raw");
/// The parameter of a table with the number of lines that are not data, at the start of each file.
const HEADER_LINES: &str = "skip.header.line.count";

const CSV_SERDE: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";
const JSON_SERDE: &str = "org.openx.data.jsonserde.JsonSerDe";
const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// Whether Spillway has created the table over a raw zone.
pub(super) fn is_ours(table: &Table) -> bool {
    table.parameters().and_then(|parameters| parameters.get(MARK.0)).is_some_and(|mark| mark == MARK.1)
}

/// Defines a new table.
pub(super) fn new_table(file: &RawFile) -> Result<TableInput> {
    let keys: Vec<Column> =
        file.partition.iter().map(|(name, _)| glue_column(name, "string")).collect::<Result<_>>()?;
    let mut input = TableInput::builder()
        .name(&file.table)
        .description("The files of a raw zone in place, as Spillway has loaded them")
        .table_type("EXTERNAL_TABLE")
        .parameters("EXTERNAL", "TRUE")
        .parameters(MARK.0, MARK.1)
        .parameters("classification", file.format.name())
        .set_partition_keys(Some(keys))
        .storage_descriptor(storage(&file.root, &catalog_columns(file), (&file.format, mappings(&file.columns)))?);
    if let RawFormat::Csv { header_lines, .. } = &file.format {
        input = input.parameters(HEADER_LINES, header_lines.to_string());
    }
    input.build().map_err(invalid)
}

/// Defines the table with more columns. All other properties stay.
pub(super) fn with_more(mut table: Table, added: &[RawColumn]) -> Result<TableInput> {
    let serde = table.storage_descriptor.as_mut().and_then(|storage| storage.serde_info.as_mut());
    if let Some(serde) = serde {
        serde.parameters.get_or_insert_default().extend(mappings(added));
    }
    with_columns(table, &added.iter().map(RawColumn::catalog_column).collect::<Vec<_>>())
}

/// Defines the partition of a file, with the table's columns and SerDe.
pub(super) fn partition(table: &Table, file: &RawFile, added: &[RawColumn]) -> Result<PartitionInput> {
    let mut columns = table::columns(table.storage_descriptor());
    columns.extend(added.iter().map(RawColumn::catalog_column));
    let known = table.storage_descriptor().and_then(StorageDescriptor::serde_info).and_then(SerDeInfo::parameters);
    let is_mapping = |(name, _): &(&String, &String)| name.starts_with(MAPPING);
    let known = known.into_iter().flatten().filter(is_mapping).map(|(name, key)| (name.clone(), key.clone()));
    let mappings: HashMap<String, String> = known.chain(mappings(added)).collect();
    let values = file.partition.iter().map(|(_, value)| value.clone()).collect();
    Ok(PartitionInput::builder()
        .set_values(Some(values))
        .storage_descriptor(storage(&file.folder, &columns, (&file.format, mappings))?)
        .build())
}

/// The columns that a file adds to a table of Spillway, in order.
///
/// The error is the reason why the table would read the file wrong.
pub(super) fn added_columns(table: &Table, file: &RawFile) -> Result<Vec<RawColumn>, String> {
    check_format(table, &file.format)?;
    let keys: Vec<&str> = table.partition_keys().iter().map(Column::name).collect();
    let wanted: Vec<&str> = file.partition.iter().map(|(name, _)| name.as_str()).collect();
    if keys != wanted {
        return Err(format!("its folders have the partition keys {wanted:?}, but the table has {keys:?}"));
    }
    if keys.is_empty() && !is_at(table.storage_descriptor(), &file.root) {
        let location = table.storage_descriptor().and_then(StorageDescriptor::location).unwrap_or_default();
        return Err(format!("it is not under the location {location:?} of the table"));
    }
    let existing = table::columns(table.storage_descriptor());
    match file.format {
        RawFormat::Csv { .. } => added_by_position(&existing, &file.columns),
        RawFormat::Json | RawFormat::Parquet => {
            check_unreadable(&existing, &file.unreadable)?;
            check_keys(table, &existing, &file.columns)?;
            added_by_name(&existing, &file.columns)
        }
    }
}

/// The columns of a partition that the table or the file needs and the partition lacks.
pub(super) fn lacks_columns(partition: Option<&StorageDescriptor>, wanted: &PartitionInput) -> bool {
    table::columns(partition).len() < table::columns(wanted.storage_descriptor()).len()
}

/// Checks that the table reads files of this format.
fn check_format(table: &Table, format: &RawFormat) -> Result<(), String> {
    let serde = table.storage_descriptor().and_then(StorageDescriptor::serde_info);
    let library = serde.and_then(SerDeInfo::serialization_library).unwrap_or_default();
    if library != format.serde() {
        let name = [CSV_SERDE, JSON_SERDE, PARQUET_SERDE].iter().position(|known| *known == library);
        let name = name.map_or(library, |index| ["CSV", "JSON", "Parquet"][index]);
        return Err(format!("it is {}, and the table reads {name}", format.title()));
    }
    let RawFormat::Csv { delimiter, quote, header_lines } = format else { return Ok(()) };
    let parameter = |name: &str| serde.and_then(SerDeInfo::parameters).and_then(|all| all.get(name).cloned());
    for (name, wanted, what) in [("separatorChar", delimiter, "delimiter"), ("quoteChar", quote, "quote")] {
        let found = parameter(name).unwrap_or_default();
        if found != *wanted {
            return Err(format!("its {what} is {wanted:?}, and the table reads {found:?}"));
        }
    }
    let skipped = table.parameters().and_then(|all| all.get(HEADER_LINES)).map_or("0", String::as_str);
    if skipped != header_lines.to_string() {
        return Err(format!("it has {header_lines} lines above its data, and the table skips {skipped}"));
    }
    Ok(())
}

/// CSV is read by position: the columns of a file must begin with those of the table, or the other way round.
fn added_by_position(existing: &[CatalogColumn], columns: &[RawColumn]) -> Result<Vec<RawColumn>, String> {
    for (index, (known, column)) in existing.iter().zip(columns).enumerate() {
        if known.name != column.name {
            return Err(format!(
                "its column {} is {}, and that of the table is {}: Athena reads CSV by position",
                index + 1,
                column.name,
                known.name
            ));
        }
    }
    Ok(columns.iter().skip(existing.len()).cloned().collect())
}

/// JSON and Parquet are read by name.
fn added_by_name(existing: &[CatalogColumn], columns: &[RawColumn]) -> Result<Vec<RawColumn>, String> {
    let mut added = Vec::new();
    for column in columns {
        match existing.iter().find(|known| known.name == column.name) {
            None => added.push(column.clone()),
            Some(known) if fits(&known.glue_type, column) => {}
            Some(known) => {
                return Err(format!(
                    "its column {} is {}, and that of the table is {}",
                    column.name, column.glue_type, known.glue_type
                ));
            }
        }
    }
    Ok(added)
}

/// Checks that the table reads its columns from the keys of the file. Only JSON has keys that differ from the names.
fn check_keys(table: &Table, existing: &[CatalogColumn], columns: &[RawColumn]) -> Result<(), String> {
    let serde = table.storage_descriptor().and_then(StorageDescriptor::serde_info);
    let key = |name: &str| serde.and_then(SerDeInfo::parameters).and_then(|all| all.get(&format!("{MAPPING}{name}")));
    let is_known = |column: &&RawColumn| existing.iter().any(|known| known.name == column.name);
    match columns.iter().filter(is_known).find(|column| key(&column.name) != column.key.as_ref()) {
        None => Ok(()),
        Some(column) => Err(format!("its column {} has another key than that of the table", column.name)),
    }
}

/// Checks that the table does not have the columns of a file that Athena does not read.
fn check_unreadable(existing: &[CatalogColumn], unreadable: &[String]) -> Result<(), String> {
    match existing.iter().find(|known| unreadable.contains(&known.name)) {
        None => Ok(()),
        Some(known) => Err(format!(
            "its column {} has a type that Athena does not read, and that of the table is {}",
            known.name, known.glue_type
        )),
    }
}

/// Whether a column of this type reads every value of the file's column.
fn fits(glue_type: &str, column: &RawColumn) -> bool {
    glue_type == column.glue_type
        || (glue_type == "bigint" && column.glue_type == "int")
        || column.json.as_ref().is_some_and(|json| stored_as(glue_type, json).is_some())
}

/// The prefix of the SerDe's parameters that name the key of a column.
const MAPPING: &str = "mapping.";

/// The SerDe's parameters for columns whose names differ from the keys in the file.
fn mappings(columns: &[RawColumn]) -> HashMap<String, String> {
    let mapped = columns.iter().filter_map(|column| Some((format!("{MAPPING}{}", column.name), column.key.clone()?)));
    mapped.collect()
}

fn catalog_columns(file: &RawFile) -> Vec<CatalogColumn> {
    file.columns.iter().map(RawColumn::catalog_column).collect()
}

impl RawFormat {
    fn serde(&self) -> &'static str {
        match self {
            Self::Csv { .. } => CSV_SERDE,
            Self::Json => JSON_SERDE,
            Self::Parquet => PARQUET_SERDE,
        }
    }
}

fn storage(
    location: &str,
    columns: &[CatalogColumn],
    (format, mappings): (&RawFormat, HashMap<String, String>),
) -> Result<StorageDescriptor> {
    let text =
        ("org.apache.hadoop.mapred.TextInputFormat", "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat");
    let parquet = (
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    );
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let ((input, output), own) = match format {
        RawFormat::Csv { delimiter, quote, .. } => {
            (text, vec![own("separatorChar", delimiter), own("quoteChar", quote), own("escapeChar", "\\")])
        }
        // A value that is not JSON fails the query instead of being NULL.
        RawFormat::Json => (text, vec![own("ignore.malformed.json", "false")]),
        RawFormat::Parquet => (parquet, vec![own("serialization.format", "1")]),
    };
    let parameters = own.into_iter().chain(mappings).collect();
    let serde = SerDeInfo::builder().serialization_library(format.serde()).set_parameters(Some(parameters)).build();
    let columns = columns.iter().map(|column| glue_column(&column.name, &column.glue_type)).collect::<Result<_>>()?;
    Ok(StorageDescriptor::builder()
        .set_columns(Some(columns))
        .location(location)
        .input_format(input)
        .output_format(output)
        .serde_info(serde)
        .build())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn csv(delimiter: &str, header_lines: usize) -> RawFormat {
        RawFormat::Csv { delimiter: delimiter.to_owned(), quote: "\"".to_owned(), header_lines }
    }

    fn file(format: RawFormat, columns: &[(&str, &str)]) -> RawFile {
        let column = |(name, glue_type): &(&str, &str)| RawColumn {
            name: (*name).to_owned(),
            glue_type: (*glue_type).to_owned(),
            key: None,
            json: None,
        };
        RawFile {
            table: "orders".to_owned(),
            root: "s3://b/data/orders/".to_owned(),
            folder: "s3://b/data/orders/day=1/".to_owned(),
            partition: vec![("day".to_owned(), "1".to_owned())],
            format,
            columns: columns.iter().map(column).collect(),
            unreadable: Vec::new(),
        }
    }

    fn table_of(file: &RawFile) -> Table {
        let input = new_table(file).unwrap();
        Table::builder()
            .name(input.name)
            .set_parameters(input.parameters)
            .set_partition_keys(input.partition_keys)
            .set_storage_descriptor(input.storage_descriptor)
            .build()
            .unwrap()
    }

    fn shown(added: Result<Vec<RawColumn>, String>) -> String {
        match added {
            Ok(added) => added.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(","),
            Err(why) => why,
        }
    }

    const TEXTS: &[(&str, &str)] = &[("id", "string"), ("note", "string")];

    #[rstest]
    #[case::same(csv(",", 1), TEXTS, "")]
    #[case::more(csv(",", 1), &[("id", "string"), ("note", "string"), ("new", "string")], "new")]
    #[case::fewer(csv(",", 1), &[("id", "string")], "")]
    #[case::other_order(csv(",", 1), &[("note", "string"), ("id", "string")], "its column 1 is note, and that of the table is id: Athena reads CSV by position")]
    #[case::delimiter(csv(";", 1), TEXTS, "its delimiter is \";\", and the table reads \",\"")]
    #[case::header(csv(",", 0), TEXTS, "it has 0 lines above its data, and the table skips 1")]
    #[case::json(RawFormat::Json, TEXTS, "it is JSON, and the table reads CSV")]
    #[case::parquet(RawFormat::Parquet, TEXTS, "it is Parquet, and the table reads CSV")]
    fn csv_is_compared_by_position(
        #[case] format: RawFormat,
        #[case] columns: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        let table = table_of(&file(csv(",", 1), TEXTS));
        assert_eq!(shown(added_columns(&table, &file(format, columns))), expected);
    }

    #[rstest]
    #[case::other_order(&[("b", "double"), ("a", "bigint")], "")]
    #[case::narrower(&[("a", "int"), ("new", "string")], "new")]
    #[case::other_type(&[("a", "string")], "its column a is string, and that of the table is bigint")]
    fn parquet_is_compared_by_name(#[case] columns: &[(&str, &str)], #[case] expected: &str) {
        let table = table_of(&file(RawFormat::Parquet, &[("a", "bigint"), ("b", "double")]));
        assert_eq!(shown(added_columns(&table, &file(RawFormat::Parquet, columns))), expected);
    }

    #[test]
    fn column_of_the_null_type_is_not_one_of_the_table() {
        let table = table_of(&file(RawFormat::Parquet, &[("a", "bigint")]));
        let own = file(RawFormat::Parquet, &[("a", "bigint")]);
        let other = RawFile { unreadable: vec!["b".to_owned()], ..own.clone() };
        assert_eq!(shown(added_columns(&table, &other)), "");
        let same = RawFile { columns: Vec::new(), unreadable: vec!["a".to_owned()], ..own };
        let why = "its column a has a type that Athena does not read, and that of the table is bigint";
        assert_eq!(shown(added_columns(&table, &same)), why);
    }

    #[test]
    fn folders_must_be_those_of_the_table() {
        let own = file(RawFormat::Json, TEXTS);
        let table = table_of(&own);
        let other = RawFile { partition: vec![("hour".to_owned(), "1".to_owned())], ..own.clone() };
        let why = "its folders have the partition keys [\"hour\"], but the table has [\"day\"]";
        assert_eq!(shown(added_columns(&table, &other)), why);
        // A partition has a location of its own, so the files of a table can be in several folders.
        let elsewhere = RawFile { root: "s3://b/more/".to_owned(), ..own.clone() };
        assert_eq!(shown(added_columns(&table, &elsewhere)), "");
        let flat = RawFile { partition: Vec::new(), ..own };
        let elsewhere = RawFile { root: "s3://b/more/".to_owned(), ..flat.clone() };
        assert_eq!(
            shown(added_columns(&table_of(&flat), &elsewhere)),
            "it is not under the location \"s3://b/data/orders/\" of the table"
        );
    }

    #[test]
    fn more_columns_keep_what_the_table_has() {
        let own = file(RawFormat::Json, &[("a", "bigint")]);
        let added = [RawColumn {
            name: "x_y".to_owned(),
            glue_type: "string".to_owned(),
            key: Some("x,y".to_owned()),
            json: None,
        }];
        let input = with_more(table_of(&own), &added).unwrap();
        let names: Vec<String> =
            table::columns(input.storage_descriptor()).into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["a", "x_y"]);
        let serde = input.storage_descriptor().and_then(StorageDescriptor::serde_info).unwrap();
        assert_eq!(serde.parameters().unwrap()["mapping.x_y"], "x,y");
        assert!(input.parameters().unwrap().get("spillway").is_some_and(|mark| mark == "raw"));
        let partition = partition(&table_of(&own), &own, &added).unwrap();
        assert_eq!(partition.values(), ["1"]);
        assert!(lacks_columns(table_of(&own).storage_descriptor(), &partition));
    }
}
