//! Finds out how a table must describe a file of a raw zone. Does no I/O.
//!
//! Athena divides text into lines before its SerDe sees it, knows compression by the name of a file alone, and applies one
//! description to all files of a table. So a file that Spillway loads can still be unreadable there.

use std::collections::HashSet;

use crate::catalog::{RawColumn, RawFile, RawFormat, catalog_name};
use crate::object::ObjectRef;
use crate::pattern::KeyPlace;
use crate::pipeline::PipelineConfig;
use crate::reader::{FileShape, ShapeContents, TextShape};
use crate::route;
use crate::table_name::TableName;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::{Layout, ReadOptions};
use spillway_formats::detect::Compression;
use spillway_formats::json::JsonValues;
use spillway_formats::numbers::counted;
use spillway_formats::schema::Schema;
use spillway_formats::schema::header::column_names;

/// A file that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceFile<'a> {
    pub(crate) object: &'a ObjectRef,
    /// Its table in the database.
    pub(crate) table: &'a TableName,
    /// How it was read.
    pub(crate) options: &'a ReadOptions,
    pub(crate) shape: &'a FileShape,
    /// The types of all values, if the file was scanned.
    pub(crate) schema: Option<&'a Schema>,
}

/// How a table must describe the file.
///
/// # Errors
/// The reason why Athena would not read the file, or would read other values.
pub(crate) fn describe(settings: &PipelineConfig, file: &SourceFile<'_>) -> Result<RawFile, String> {
    let KeyPlace { root, folder, partition } = place_of(settings, file)?;
    check_name(&file.object.key, file.shape.compression)?;
    let keys: Vec<&str> = partition.iter().map(|(name, _)| name.as_str()).collect();
    let mut unreadable = Vec::new();
    let (format, columns) = match &file.shape.contents {
        ShapeContents::Parquet(columns) => {
            unreadable = untyped(columns);
            (RawFormat::Parquet, parquet_columns(columns, &keys))
        }
        ShapeContents::Text(text) => match &text.layout {
            Some(Layout::Csv(dialect)) => (csv_format(text, dialect)?, csv_columns(&text.names, &keys)?),
            Some(Layout::Json { keys: names, joins, is_plain, .. }) => {
                check_json(text, *is_plain, file.options)?;
                (RawFormat::Json, json_columns((names, joins), &keys, file)?)
            }
            None => return Err("it was not read to its end".to_owned()),
        },
    };
    if columns.is_empty() {
        return Err("it has no column that Athena can read".to_owned());
    }
    let location = |prefix: &str| format!("s3://{}/{prefix}", file.object.bucket);
    Ok(RawFile {
        table: route::lake_table(file.table),
        root: location(&root),
        folder: location(&folder),
        partition,
        format,
        columns,
        unreadable,
    })
}

fn place_of(settings: &PipelineConfig, file: &SourceFile<'_>) -> Result<KeyPlace, String> {
    let key = file.object.key.as_str();
    let rules = settings.database.tables.current();
    let about_key = |why: String| format!("its key {why}");
    if let Some(place) = rules.routes.patterns.place_of(key) {
        return place.map_err(about_key);
    }
    let Some(prefix) = route::upload_prefix(&settings.prefixes, key) else {
        return Err("its key is under no upload prefix".to_owned());
    };
    let place = rules.routes.patterns.place_below(prefix, key, file.table).map_err(about_key)?;
    if place.partition.is_empty() && !rules.routes.patterns.is_empty() {
        return Err("its key matches no pattern, and its prefix also has the files of other tables".to_owned());
    }
    Ok(place)
}

/// Checks that Athena does not ignore the file, and knows its compression. Athena does not know endings in upper case.
fn check_name(key: &str, compression: Option<Compression>) -> Result<(), String> {
    if key.rsplit('/').next().is_some_and(|name| name.starts_with(['_', '.'])) {
        return Err("Athena ignores files whose names begin with _ or a dot".to_owned());
    }
    let ending = [".gz", ".zst", ".zip"].into_iter().find(|ending| key.ends_with(ending));
    match (compression, ending) {
        (None, None) | (Some(Compression::Gzip), Some(".gz")) | (Some(Compression::Zstd), Some(".zst")) => Ok(()),
        (Some(Compression::Zip), _) => Err("Athena reads no zip archives".to_owned()),
        (None, Some(ending)) => Err(format!("its name ends in {ending}, but it is not compressed")),
        (Some(Compression::Gzip), _) => Err("it is compressed with gzip, and its name does not end in .gz".to_owned()),
        (Some(Compression::Zstd), _) => {
            Err("it is compressed with Zstandard, and its name does not end in .zst".to_owned())
        }
    }
}

fn csv_format(text: &TextShape, dialect: &CsvDialect) -> Result<RawFormat, String> {
    let header_lines = dialect.skip_lines.unwrap_or(0) + usize::from(dialect.has_header);
    let (Some(delimiter), Some(quote)) = (dialect.delimiter, dialect.quote) else {
        return Err("its fields have no quote (CSV_QUOTE=none), and Athena expects one".to_owned());
    };
    if dialect.encoding.name() != "UTF-8" {
        return Err(format!("its encoding is {}, and Athena reads UTF-8", dialect.encoding.name()));
    }
    match dialect.escape {
        // Also with detected escapes: Spillway and Athena disagree on a backslash outside quotes.
        None if text.has_backslash => return Err(BACKSLASH.to_owned()),
        Some(escape) if escape == quote && text.has_backslash => return Err(BACKSLASH.to_owned()),
        Some(escape) if escape != quote => {
            return Err("its fields have another escape character (CSV_ESCAPE) than Athena reads".to_owned());
        }
        None | Some(_) => {}
    }
    if text.has_footer {
        return Err(
            "lines at its end are not records (CSV_SKIP_FOOTER_LINES, or a Ctrl-Z), and Athena reads them".to_owned()
        );
    }
    if header_lines == 0 && text.first_byte.is_some_and(|byte| byte > 0) {
        return Err("it begins with a byte order mark, which Athena reads as a part of the first value".to_owned());
    }
    if text.has_carriage_return {
        return Err("a value has a carriage return, where Athena begins another record".to_owned());
    }
    let expected = text.records + header_lines as u64;
    if text.lines != expected {
        return Err(format!(
            "it has {} and {}: a value has a line end, or lines are empty or comments, and Athena reads each line as a record",
            counted(text.lines, "line"),
            counted(text.records, "record")
        ));
    }
    let text = |byte: u8| char::from(byte).to_string();
    Ok(RawFormat::Csv { delimiter: text(delimiter), quote: text(quote), header_lines })
}

const BACKSLASH: &str = "a value has a backslash, which Athena reads as an escape";

/// The columns by position, as strings. A name that is also a partition key gets an ending.
fn csv_columns(names: &[String], keys: &[&str]) -> Result<Vec<RawColumn>, String> {
    let names = unique_names(names)?;
    Ok(names.iter().map(|name| RawColumn::text(free_name(name, keys, &names))).collect())
}

/// The names in Glue, which has no commas and no control characters in names.
fn unique_names(names: &[String]) -> Result<Vec<String>, String> {
    let names: Vec<String> = names.iter().map(|name| catalog_name(name)).collect();
    let mut used: HashSet<&str> = HashSet::new();
    let repeated = names.iter().find(|name| !used.insert(name.as_str())).cloned();
    match repeated {
        None => Ok(names),
        Some(name) => Err(format!("two of its columns would have the name {name:?} in Glue; rename one of them")),
    }
}

/// The name itself, or with an ending if it is also a partition key.
fn free_name(name: &str, keys: &[&str], names: &[String]) -> String {
    let mut free = name.to_owned();
    while keys.contains(&free.as_str()) || (free != name && names.contains(&free)) {
        free.push_str("__column");
    }
    free
}

fn check_json(text: &TextShape, is_plain: bool, options: &ReadOptions) -> Result<(), String> {
    if !is_plain {
        return Err("its encoding is UTF-16, and Athena reads UTF-8".to_owned());
    }
    match options.json.values {
        JsonValues::Plain => {}
        JsonValues::DynamoDb => {
            return Err("its values have the form of DynamoDB (JSON_VALUES), which Athena does not read".to_owned());
        }
        JsonValues::Changes => return Err("its records are changes (JSON_VALUES), not rows".to_owned()),
    }
    let starts_later = text.first_byte.is_some_and(|byte| byte > 0);
    if text.rejects > 0 {
        return Err("it has rejected records, and Athena fails a query that reads one of them".to_owned());
    }
    if text.has_non_finite {
        return Err(
            "it contains NaN or Infinity, which JSON does not have, and Athena fails a query that reads it".to_owned()
        );
    }
    if options.json.records_path.is_some() || starts_later || text.lines != text.records {
        return Err("it does not have one JSON object in each line, which Athena needs".to_owned());
    }
    Ok(())
}

/// The columns for the keys of the records. Keys of flattened objects are columns of the object.
fn json_columns(
    (names, joins): (&[String], &[Vec<usize>]),
    keys: &[&str],
    file: &SourceFile<'_>,
) -> Result<Vec<RawColumn>, String> {
    let mut known: HashSet<&str> = HashSet::new();
    let mut top: Vec<(usize, &str)> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let end = joins.get(index).and_then(|joins| joins.first()).copied().unwrap_or(name.len());
        let name = name.get(..end).unwrap_or(name);
        if known.insert(name) {
            top.push((index, name));
        }
    }
    let mut folded: HashSet<String> = HashSet::new();
    if let Some((_, name)) = top.iter().find(|(_, name)| !folded.insert(name.to_lowercase())) {
        return Err(format!("it has keys that differ from {name:?} only in letter case"));
    }
    let header: Vec<Vec<u8>> = top.iter().map(|(_, name)| name.as_bytes().to_vec()).collect();
    let own = unique_names(&column_names(&header))?;
    // Rules and flattening change the columns, so the schema does not have those of the file.
    let schema = file.schema.filter(|_| file.options.columns.is_empty() && file.options.json.flatten_depth == 0);
    let column = |((index, key), name): (&(usize, &str), &String)| {
        let name = free_name(name, keys, &own);
        let values = schema.and_then(|schema| schema.columns.get(*index));
        let key = (name != key.to_lowercase()).then(|| (*key).to_owned());
        let column =
            values.map_or_else(|| RawColumn::text(name.clone()), |values| RawColumn::json(name.clone(), values));
        RawColumn { key, ..column }
    };
    Ok(top.iter().zip(&own).map(column).collect())
}

/// The names of the columns whose types Athena does not know.
fn untyped(columns: &[(String, Option<String>)]) -> Vec<String> {
    columns.iter().filter(|(_, hive_type)| hive_type.is_none()).map(|(name, _)| name.to_lowercase()).collect()
}

/// The columns that Athena finds by their names and whose types it knows.
fn parquet_columns(columns: &[(String, Option<String>)], keys: &[&str]) -> Vec<RawColumn> {
    let mut used: HashSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let mut readable = Vec::with_capacity(columns.len());
    for (name, hive_type) in columns {
        let lower = name.to_lowercase();
        let Some(glue_type) = hive_type.clone().filter(|_| catalog_name(name) == lower && !lower.is_empty()) else {
            continue;
        };
        if used.insert(lower.clone()) {
            readable.push(RawColumn { glue_type, ..RawColumn::text(lower) });
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a.csv", None, "")]
    #[case("a.csv.gz", Some(Compression::Gzip), "")]
    #[case("a.CSV.GZ", None, "")]
    #[case("a.CSV.GZ", Some(Compression::Gzip), "it is compressed with gzip, and its name does not end in .gz")]
    #[case("a.ZST", Some(Compression::Zstd), "it is compressed with Zstandard, and its name does not end in .zst")]
    #[case("a.jsonl.zst", Some(Compression::Zstd), "")]
    #[case("a.csv", Some(Compression::Gzip), "it is compressed with gzip, and its name does not end in .gz")]
    #[case("a.csv.gz", Some(Compression::Zstd), "it is compressed with Zstandard, and its name does not end in .zst")]
    #[case("a.csv.gz", None, "its name ends in .gz, but it is not compressed")]
    #[case("a.csv.zip", Some(Compression::Zip), "Athena reads no zip archives")]
    #[case("in/_a.csv", None, "Athena ignores files whose names begin with _ or a dot")]
    fn compression_is_known_by_the_name(
        #[case] key: &str,
        #[case] compression: Option<Compression>,
        #[case] why: &str,
    ) {
        assert_eq!(check_name(key, compression).err().unwrap_or_default(), why);
    }

    #[test]
    fn parquet_has_the_columns_that_athena_finds() {
        let columns =
            [("Id", Some("int")), ("at", None), ("a,b", Some("string")), ("id", Some("string")), ("day", Some("date"))];
        let columns: Vec<_> = columns.map(|(name, kind)| (name.to_owned(), kind.map(str::to_owned))).to_vec();
        let readable = parquet_columns(&columns, &["day"]);
        let names: Vec<_> = readable.iter().map(|column| (column.name.as_str(), column.glue_type.as_str())).collect();
        assert_eq!(names, [("id", "int")]);
    }

    #[test]
    fn column_with_the_name_of_a_partition_key_gets_another() {
        let names = ["Day".to_owned(), "day__column".to_owned(), "note".to_owned()];
        let columns: Vec<String> =
            csv_columns(&names, &["day"]).unwrap().into_iter().map(|column| column.name).collect();
        assert_eq!(columns, ["day__column__column", "day__column", "note"]);
    }

    #[test]
    fn columns_with_one_name_in_glue_are_refused() {
        let names = ["a,b", "c", "A_B"].map(str::to_owned);
        let why = "two of its columns would have the name \"a_b\" in Glue; rename one of them";
        assert_eq!(csv_columns(&names, &[]).err().as_deref(), Some(why));
    }
}
