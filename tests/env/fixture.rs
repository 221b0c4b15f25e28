//! Uploads files, and compares their rows with the rows in the database and in the registered fallback.
//!
//! Every row contains its file name, its record number and a checksum of its text. [`Fixture::verdict`] finds rows that
//! are lost, duplicated, truncated or mixed up, and objects that a run should not leave.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cloud::{Account, Object};
use crate::database::{Database, Schema};
use crate::settings::Settings;
use crate::{event, fallback, wait};

/// The destination table of every fixture.
pub const TABLE: &str = "orders";
/// The Glue database and table that the settings name.
pub const GLUE_DATABASE: &str = "ingest_fallback_db";
/// See [`GLUE_DATABASE`].
pub const GLUE_TABLE: &str = "ingest_fallback_table";
/// The Glue database of the lake.
pub const LAKE_DATABASE: &str = "lake_tables";
/// The Glue database of raw zones.
pub const RAW_DATABASE: &str = "raw_zone";
const LEDGER: &str = "spillway_ledger";
/// Texts that loaders often damage. Every file has all of them, so the columns have the same width in every file.
const NOTES: [&str; 6] =
    ["plain", "comma, inside", "a \"quoted\" word", "two\nlines", "back\\slash \\N\\t", "naïve ☂ 雨"];
/// The time in which the server must notice that a client was killed.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(20);

/// An uploaded file and its rows.
#[derive(Debug, Clone)]
pub struct Input {
    /// The object, as S3 describes it.
    pub object: Object,
    /// The rows, as `file record checksum`.
    pub rows: Vec<String>,
}

/// A bucket, a schema, and the files that were uploaded.
#[derive(Debug)]
pub struct Fixture {
    /// The account with the bucket.
    pub account: Account,
    /// The schema with the destination table.
    pub schema: Schema,
    /// The uploaded files.
    pub inputs: Vec<Input>,
    /// The Glue database of the fallback.
    pub glue_database: String,
    /// The number of rows that the ledger counts as stored, and that a later file has replaced.
    replaced_rows: usize,
}

/// The problems that a run has left. Every list is empty if each row exists exactly once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Uploaded rows that are neither in the database nor in the fallback.
    pub lost: Vec<String>,
    /// Rows that exist more often than they were uploaded, in the database, the fallback or both.
    pub duplicated: Vec<String>,
    /// Rows that were not uploaded, or whose text does not match their checksum.
    pub unexpected: Vec<String>,
    /// Objects that are not under exactly one prefix, or are still under the upload prefix.
    pub misplaced: Vec<String>,
    /// Differences between the ledger and the table.
    pub ledger: Vec<String>,
    /// Leases, multipart uploads, staging tables, transactions, unregistered fallback objects.
    pub left_over: Vec<String>,
}

/// The numbers of rows in the database and in the fallback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows in the destination table.
    pub database: usize,
    /// Rows in the registered fallback.
    pub fallback: usize,
}

impl Fixture {
    /// A fixture without files.
    pub fn new(account: Account, schema: Schema) -> Self {
        Self { account, schema, inputs: Vec::new(), glue_database: GLUE_DATABASE.to_owned(), replaced_rows: 0 }
    }

    /// The settings of a binary that uses this bucket and schema.
    pub fn settings(&self) -> Settings {
        self.account
            .settings()
            .and(&self.schema.settings())
            .with("RDS_TABLE", TABLE)
            .with("GLUE_DATABASE", &self.glue_database)
            .with("GLUE_TABLE", GLUE_TABLE)
            .with("RDS_RETRY_SECONDS", 3)
            .with("LEASE_SECONDS", 5)
    }

    /// The settings that store rows in the lake, alone or together with the database (`lake` or `both`).
    pub fn lake_settings(&self, output: &str) -> Settings {
        self.settings().with("OUTPUT", output).with("LAKE_PREFIX", "lake/").with("LAKE_DATABASE", LAKE_DATABASE)
    }

    /// The settings that leave files in place and register them in Glue.
    pub fn raw_zone_settings(&self) -> Settings {
        self.settings().with("AFTER_LOAD", "keep").with("CATALOG_RAW", "true").with("RAW_DATABASE", RAW_DATABASE)
    }

    /// Uploads a file with this number of rows. Each row contains the file's name.
    pub async fn upload(&mut self, key: &str, records: usize) -> Result<Object> {
        let (body, rows) = file(key, records);
        let object = self.account.put(key, body).await?;
        self.inputs.push(Input { object: object.clone(), rows });
        Ok(object)
    }

    /// Uploads a large file with few rows: each note has this length and is incompressible.
    pub async fn upload_large(&mut self, key: &str, records: usize, note_bytes: usize) -> Result<Object> {
        let (body, rows) = large_file(key, records, note_bytes);
        let object = self.account.put(key, body).await?;
        self.inputs.push(Input { object: object.clone(), rows });
        Ok(object)
    }

    /// Expects that the rows of a loaded object are replaced by those of a later file.
    pub fn expect_replaced(&mut self, object: &Object) {
        for input in self.inputs.iter_mut().filter(|input| input.object.key == object.key) {
            self.replaced_rows += input.rows.len();
            input.rows.clear();
        }
    }

    /// Expects that a later file deletes these rows of a loaded object.
    pub fn expect_deleted(&mut self, object: &Object, rows: &[String]) {
        for input in self.inputs.iter_mut().filter(|input| input.object.key == object.key) {
            let before = input.rows.len();
            input.rows.retain(|row| !rows.contains(row));
            self.replaced_rows += before - input.rows.len();
        }
    }

    /// Expects that the object is moved, and that none of its rows are stored.
    pub fn expect_no_rows(&mut self, object: Object) {
        self.inputs.push(Input { object, rows: Vec::new() });
    }

    /// The notification that S3 sends for these objects.
    pub fn event(&self, objects: &[&Object]) -> Value {
        event::object_created(&self.account.bucket, objects)
    }

    /// The numbers of rows in the destination table and in the registered fallback.
    pub async fn count(&self, server: &Database) -> Result<Counted> {
        Ok(Counted { database: self.database_rows(server).await?.len(), fallback: self.fallback_rows().await?.0.len() })
    }

    /// Compares the uploaded rows with the stored rows, and looks for leftovers.
    pub async fn verdict(&self, server: &Database) -> Result<Verdict> {
        self.wait_for_rollbacks(server).await?;
        let in_database = self.database_rows(server).await?;
        let (in_fallback, mut left_over) = self.fallback_rows().await?;
        let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
        for row in self.inputs.iter().flat_map(|input| &input.rows) {
            *balance.entry(row).or_default() -= 1;
        }
        let known: Vec<&str> = balance.keys().copied().collect();
        for row in in_database.iter().chain(&in_fallback) {
            *balance.entry(row).or_default() += 1;
        }
        let is_known = |row: &str| known.binary_search(&row).is_ok();
        let apply = |wanted: &dyn Fn(&str, i64) -> bool| -> Vec<String> {
            balance.iter().filter(|(row, surplus)| wanted(row, **surplus)).map(|(row, _)| (*row).to_owned()).collect()
        };
        left_over.extend(self.left_over(server).await?);
        Ok(Verdict {
            lost: apply(&|_, surplus| surplus < 0),
            duplicated: apply(&|row, surplus| surplus > 0 && is_known(row)),
            unexpected: apply(&|row, surplus| surplus > 0 && !is_known(row)),
            misplaced: self.misplaced().await?,
            ledger: self.ledger_differences(server, in_database.len()).await?,
            left_over,
        })
    }

    /// Fails unless every row and every object exists exactly once and nothing is left over.
    pub async fn ensure_exactly_once(&self, server: &Database) -> Result<()> {
        let verdict = self.verdict(server).await?;
        ensure!(verdict == Verdict::default(), "a row, an object or a leftover is wrong: {verdict:#?}");
        Ok(())
    }

    /// Fails unless the lake has every row exactly once, in objects that the ledger names, and nothing is left over.
    pub async fn ensure_once_in_lake(&self, server: &Database) -> Result<()> {
        self.wait_for_rollbacks(server).await?;
        let found = fallback::read(&self.account, LAKE_DATABASE, TABLE, &format!("lake/{TABLE}/")).await?;
        let mut rows = checked_rows(&found.rows);
        let mut expected: Vec<String> = self.inputs.iter().flat_map(|input| input.rows.clone()).collect();
        rows.sort();
        expected.sort();
        ensure!(rows == expected, "the lake has other rows than the files: {} and {}", rows.len(), expected.len());
        let named = format!("SELECT lake_key FROM {{schema}}.{LEDGER} WHERE state = 'loaded' ORDER BY lake_key");
        let named: Vec<String> =
            server.query(&self.schema, &named).await?.into_iter().filter_map(|mut row| row.remove(0)).collect();
        let mut objects = found.objects;
        objects.sort();
        ensure!(named == objects, "the ledger names {named:?}, the lake has {objects:?}");
        let mut left_over = [found.unregistered, found.empty_partitions].concat();
        left_over.extend(self.account.keys("lake/_manifests/").await?);
        left_over.extend(self.misplaced().await?);
        left_over.extend(self.left_over(server).await?);
        ensure!(left_over.is_empty(), "left over: {left_over:?}");
        Ok(())
    }

    /// The rows of the destination table; none if the table does not exist.
    async fn database_rows(&self, server: &Database) -> Result<Vec<String>> {
        if !self.has_table(server, TABLE).await? {
            return Ok(Vec::new());
        }
        let count = server.query(&self.schema, &format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?;
        if count == [[Some("0".to_owned())]] {
            // A table that a test has created may lack the columns of the next query.
            return Ok(Vec::new());
        }
        let query = format!("SELECT file, record, checksum, note FROM {{schema}}.{TABLE}");
        let rows = server.query(&self.schema, &query).await?;
        Ok(rows.iter().map(|row| checked(&[&row[0], &row[1], &row[2], &row[3]])).collect())
    }

    /// The rows of the registered fallback, and the problems of its registration.
    async fn fallback_rows(&self) -> Result<(Vec<String>, Vec<String>)> {
        let prefix = format!("fallback/{TABLE}/");
        let found = fallback::read(&self.account, &self.glue_database, GLUE_TABLE, &prefix).await?;
        let rows = checked_rows(&found.rows);
        let unregistered = found.unregistered.iter().map(|key| format!("unregistered fallback object {key}"));
        let empty =
            found.empty_partitions.iter().map(|folder| format!("registered partition without an object {folder}"));
        Ok((rows, unregistered.chain(empty).collect()))
    }

    /// The inputs that are not exactly once under one of the three prefixes, or still under the upload prefix.
    async fn misplaced(&self) -> Result<Vec<String>> {
        let mut keys_by_etag: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in ["uploads/", "processed/", "failed/"] {
            for object in self.account.list(prefix).await? {
                keys_by_etag.entry(object.etag).or_default().push(object.key);
            }
        }
        let keys = |input: &Input| keys_by_etag.get(&input.object.etag).cloned().unwrap_or_default();
        let is_right = |keys: &[String]| keys.len() == 1 && !keys[0].starts_with("uploads/");
        let wrong = self.inputs.iter().map(|input| (input, keys(input))).filter(|(_, keys)| !is_right(keys));
        Ok(wrong.map(|(input, keys)| format!("{} is at {keys:?}", input.object.key)).collect())
    }

    async fn ledger_differences(&self, server: &Database, rows_in_table: usize) -> Result<Vec<String>> {
        if !self.has_table(server, LEDGER).await? {
            return Ok(if rows_in_table == 0 {
                Vec::new()
            } else {
                vec!["the table has rows, but no ledger exists".to_owned()]
            });
        }
        let ledger = format!("{{schema}}.{LEDGER}");
        let sum = format!("SELECT COALESCE(SUM(rows_stored), 0) FROM {ledger} WHERE state = 'loaded'");
        let loaded = server.query(&self.schema, &sum).await?;
        let loaded = loaded[0][0].clone().context("a sum is never NULL")?;
        let loading = format!("SELECT object_key FROM {ledger} WHERE state = 'loading'");
        let unfinished = server.query(&self.schema, &loading).await?;
        let mut differences: Vec<String> = unfinished.iter().map(|row| format!("still loading: {row:?}")).collect();
        if loaded != (rows_in_table + self.replaced_rows).to_string() {
            differences.push(format!("the ledger counts {loaded} rows stored, the table has {rows_in_table}"));
        }
        Ok(differences)
    }

    async fn left_over(&self, server: &Database) -> Result<Vec<String>> {
        let mut found: Vec<String> =
            self.account.keys("lease/").await?.iter().map(|key| format!("lease {key}")).collect();
        found.extend(self.account.open_uploads().await?.iter().map(|key| format!("multipart upload of {key}")));
        let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' \
                      AND table_name LIKE 'spillway\\_staging\\_%'";
        found.extend(server.query(&self.schema, tables).await?.iter().map(|row| format!("staging table {row:?}")));
        Ok(found)
    }

    /// Waits until the server has rolled back the transactions of killed clients.
    async fn wait_for_rollbacks(&self, server: &Database) -> Result<()> {
        let is_done = async || Ok(server.open_transactions(&self.schema).await? == 0);
        wait::until("every transaction to end", ROLLBACK_TIMEOUT, is_done).await
    }

    async fn has_table(&self, server: &Database, table: &str) -> Result<bool> {
        let query = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = '{{schema}}' AND table_name = '{table}'"
        );
        Ok(!server.query(&self.schema, &query).await?.is_empty())
    }
}

/// A CSV file and its rows as `file record checksum`.
pub fn file(key: &str, count: usize) -> (Vec<u8>, Vec<String>) {
    let name = file_name(key);
    let notes = (1..=count).map(|record| NOTES[record % NOTES.len()].to_owned());
    csv_file(name, notes)
}

/// A CSV file with long notes; see [`Fixture::upload_large`].
pub fn large_file(key: &str, count: usize, note_bytes: usize) -> (Vec<u8>, Vec<String>) {
    let name = file_name(key);
    let note = |record: usize| {
        let mut note = String::with_capacity(note_bytes + 64);
        let mut state = Sha256::digest(format!("{name} {record}"));
        while note.len() < note_bytes {
            note.extend(state.iter().map(|byte| format!("{byte:02x}")));
            state = Sha256::digest(state);
        }
        note.truncate(note_bytes);
        note
    };
    csv_file(name, (1..=count).map(note))
}

fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key).trim_end_matches(".csv")
}

fn csv_file(name: &str, notes: impl Iterator<Item = String>) -> (Vec<u8>, Vec<String>) {
    let mut body = String::from("file,record,checksum,note\n");
    let mut rows = Vec::new();
    for (index, note) in notes.enumerate() {
        let record = index + 1;
        let checksum = checksum(name, &record.to_string(), &note);
        body.push_str(&format!("{name},{record},{checksum},\"{}\"\n", note.replace('"', "\"\"")));
        rows.push(format!("{name} {record} {checksum}"));
    }
    (body.into_bytes(), rows)
}

/// The records of a file: file name, record number, checksum, note.
pub fn records(file: &str, count: usize) -> impl Iterator<Item = (String, usize, String, &'static str)> {
    (1..=count).map(move |record| {
        let note = NOTES[record % NOTES.len()];
        (file.to_owned(), record, checksum(file, &record.to_string(), note), note)
    })
}

fn checksum(file: &str, record: &str, note: &str) -> String {
    let digest = Sha256::digest(format!("{file}\0{record}\0{note}"));
    let hexadecimal: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // The letter keeps type inference from finding a column of numbers.
    format!("c{hexadecimal}")
}

/// Rows of a Glue table, each as it was uploaded, or a description of the problem.
fn checked_rows(rows: &[fallback::FallbackRow]) -> Vec<String> {
    let value = |row: &fallback::FallbackRow, column: &str| row.get(column).cloned().flatten();
    let columns = ["file", "record", "checksum", "note"];
    rows.iter().map(|row| checked(&columns.map(|column| value(row, column)).each_ref())).collect()
}

/// The row as it was uploaded, or a description of the problem, which matches no uploaded row.
fn checked(values: &[&Option<String>; 4]) -> String {
    let [Some(file), Some(record), Some(stored), Some(note)] = values else {
        return format!("a row with NULL: {values:?}");
    };
    if checksum(file, record, note) != *stored {
        return format!("{file} {record} {stored}, whose text does not match its checksum");
    }
    format!("{file} {record} {stored}")
}
