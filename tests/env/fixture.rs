//! The ledger of truth: what was uploaded, counted against what the database and the registered fallback hold.
//!
//! Every row carries its file, its number and a checksum over its text, so that a row which is lost, doubled, cut or
//! mixed up with another is seen. [`Fixture::verdict`] also looks for whatever a run should not leave behind.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cloud::{Account, Object};
use crate::database::{Database, Schema};
use crate::settings::Settings;
use crate::{event, fallback, wait};

/// The target table of every world.
pub const TABLE: &str = "orders";
/// The Glue database and table that the settings name.
pub const GLUE_DATABASE: &str = "ingest_fallback_db";
/// See [`GLUE_DATABASE`].
pub const GLUE_TABLE: &str = "ingest_fallback_table";
const LEDGER: &str = "spillway_ledger";
/// Texts that a careless loader damages; every file has all of them, so every file has the same widths.
const NOTES: [&str; 6] =
    ["plain", "comma, inside", "a \"quoted\" word", "two\nlines", "back\\slash \\N\\t", "naïve ☂ 雨"];
/// The server sees within moments that a killed client is gone.
const ROLLBACK_BOUND: Duration = Duration::from_secs(20);

/// One uploaded file and the rows that are in it.
#[derive(Debug, Clone)]
pub struct Input {
    /// What S3 knows about it.
    pub object: Object,
    /// The rows, as (file, record, checksum).
    pub rows: Vec<String>,
}

/// One bucket, one schema, and what was put into the one to arrive in the other.
#[derive(Debug)]
pub struct Fixture {
    /// The account with the bucket.
    pub account: Account,
    /// The schema with the target.
    pub schema: Schema,
    /// What was uploaded.
    pub inputs: Vec<Input>,
    /// Rows that the ledger counts as stored, and that a later file has replaced.
    replaced_rows: usize,
}

/// What a run came to; all of it is empty when the promise was kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rows that were uploaded and are nowhere.
    pub lost: Vec<String>,
    /// Rows that are there more often than they were uploaded, in the database, the fallback or both.
    pub doubled: Vec<String>,
    /// Rows that nobody uploaded, or whose text does not fit their checksum.
    pub unexpected: Vec<String>,
    /// Objects that are not under exactly one prefix, or still wait.
    pub misplaced: Vec<String>,
    /// Differences between the ledger and what is in the table.
    pub ledger: Vec<String>,
    /// Leases, multipart uploads, staging tables, transactions, unregistered fallback objects.
    pub left_over: Vec<String>,
}

/// How many rows are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows in the target table.
    pub database: usize,
    /// Rows in the registered fallback.
    pub fallback: usize,
}

impl Fixture {
    /// A new, empty world.
    pub fn new(account: Account, schema: Schema) -> Self {
        Self { account, schema, inputs: Vec::new(), replaced_rows: 0 }
    }

    /// The settings of a binary that works in this world.
    pub fn settings(&self) -> Settings {
        self.account
            .settings()
            .and(&self.schema.settings())
            .with("RDS_TABLE", TABLE)
            .with("GLUE_DATABASE", GLUE_DATABASE)
            .with("GLUE_TABLE", GLUE_TABLE)
            .with("RDS_RETRY_SECONDS", 3)
            .with("LEASE_SECONDS", 5)
    }

    /// Uploads a new file with this many rows; the file's own name is in each of them.
    pub async fn upload(&mut self, key: &str, records: usize) -> Result<Object> {
        let (body, rows) = file(key, records);
        let object = self.account.put(key, body).await?;
        self.inputs.push(Input { object: object.clone(), rows });
        Ok(object)
    }

    /// Uploads a file whose every note is this long and does not compress: a large file in few rows.
    pub async fn upload_large(&mut self, key: &str, records: usize, note_bytes: usize) -> Result<Object> {
        let (body, rows) = large_file(key, records, note_bytes);
        let object = self.account.put(key, body).await?;
        self.inputs.push(Input { object: object.clone(), rows });
        Ok(object)
    }

    /// Notes that a loaded object's rows are to be gone: a later file replaces the table.
    pub fn expect_replaced(&mut self, object: &Object) {
        for input in self.inputs.iter_mut().filter(|input| input.object.key == object.key) {
            self.replaced_rows += input.rows.len();
            input.rows.clear();
        }
    }

    /// Notes an object whose rows are to be nowhere: it must only come to an end.
    pub fn expect_no_rows(&mut self, object: Object) {
        self.inputs.push(Input { object, rows: Vec::new() });
    }

    /// The notification that S3 would send for these objects.
    pub fn event(&self, objects: &[&Object]) -> Value {
        event::object_created(&self.account.bucket, objects)
    }

    /// How many rows are in the target and in the registered fallback.
    pub async fn count(&self, server: &Database) -> Result<Counted> {
        Ok(Counted { database: self.database_rows(server).await?.len(), fallback: self.fallback_rows().await?.0.len() })
    }

    /// Compares what was uploaded with what arrived, and looks for what should not be left behind.
    pub async fn verdict(&self, server: &Database) -> Result<Verdict> {
        self.no_transaction(server).await?;
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
            doubled: apply(&|row, surplus| surplus > 0 && is_known(row)),
            unexpected: apply(&|row, surplus| surplus > 0 && !is_known(row)),
            misplaced: self.misplaced().await?,
            ledger: self.ledger_differences(server, in_database.len()).await?,
            left_over,
        })
    }

    /// Fails unless every row is in exactly one place, every object has one end, and nothing is left behind.
    pub async fn ensure_kept(&self, server: &Database) -> Result<()> {
        let verdict = self.verdict(server).await?;
        ensure!(verdict == Verdict::default(), "the promise is broken: {verdict:#?}");
        Ok(())
    }

    /// The rows of the target table; none when there is no such table.
    async fn database_rows(&self, server: &Database) -> Result<Vec<String>> {
        if !self.has_table(server, TABLE).await? {
            return Ok(Vec::new());
        }
        let count = server.query(&self.schema, &format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?;
        if count == [[Some("0".to_owned())]] {
            // The tests' own tables may lack the columns that are asked for next.
            return Ok(Vec::new());
        }
        let query = format!("SELECT file, record, checksum, note FROM {{schema}}.{TABLE}");
        let rows = server.query(&self.schema, &query).await?;
        Ok(rows.iter().map(|row| checked(&[&row[0], &row[1], &row[2], &row[3]])).collect())
    }

    /// The rows of the registered fallback, and what is wrong with its registration.
    async fn fallback_rows(&self) -> Result<(Vec<String>, Vec<String>)> {
        let prefix = format!("fallback/{TABLE}/");
        let found = fallback::read(&self.account, GLUE_DATABASE, GLUE_TABLE, &prefix).await?;
        let value = |row: &fallback::FallbackRow, column: &str| row.get(column).cloned().flatten();
        let rows = found
            .rows
            .iter()
            .map(|row| checked(&["file", "record", "checksum", "note"].map(|column| value(row, column)).each_ref()));
        let unregistered = found.unregistered.iter().map(|key| format!("unregistered fallback object {key}"));
        let empty =
            found.empty_partitions.iter().map(|folder| format!("registered partition without an object {folder}"));
        Ok((rows.collect(), unregistered.chain(empty).collect()))
    }

    /// Every input must be exactly once under one of the three prefixes, and no longer where it was uploaded.
    async fn misplaced(&self) -> Result<Vec<String>> {
        let mut permits: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in ["uploads/", "processed/", "failed/"] {
            for object in self.account.list(prefix).await? {
                permits.entry(object.etag).or_default().push(object.key);
            }
        }
        let place = |input: &Input| permits.get(&input.object.etag).cloned().unwrap_or_default();
        let is_right = |keys: &[String]| keys.len() == 1 && !keys[0].starts_with("uploads/");
        let wrong = self.inputs.iter().map(|input| (input, place(input))).filter(|(_, keys)| !is_right(keys));
        Ok(wrong.map(|(input, keys)| format!("{} is at {keys:?}", input.object.key)).collect())
    }

    async fn ledger_differences(&self, server: &Database, rows_in_table: usize) -> Result<Vec<String>> {
        if !self.has_table(server, LEDGER).await? {
            return Ok(if rows_in_table == 0 { Vec::new() } else { vec!["there are rows and no ledger".to_owned()] });
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

    /// Waits until the server has rolled back whatever a killed client left open.
    async fn no_transaction(&self, server: &Database) -> Result<()> {
        let is_done = async || Ok(server.open_transactions(&self.schema).await? == 0);
        wait::until("every transaction to end", ROLLBACK_BOUND, is_done).await
    }

    async fn has_table(&self, server: &Database, table: &str) -> Result<bool> {
        let query = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = '{{schema}}' AND table_name = '{table}'"
        );
        Ok(!server.query(&self.schema, &query).await?.is_empty())
    }
}

/// A CSV file and its rows as (file, record, checksum).
pub fn file(key: &str, count: usize) -> (Vec<u8>, Vec<String>) {
    let name = file_name(key);
    let notes = (1..=count).map(|record| NOTES[record % NOTES.len()].to_owned());
    written(name, notes)
}

/// A CSV file of long notes; see [`Fixture::upload_large`].
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
    written(name, (1..=count).map(note))
}

fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key).trim_end_matches(".csv")
}

fn written(name: &str, notes: impl Iterator<Item = String>) -> (Vec<u8>, Vec<String>) {
    let mut body = String::from("file,record,checksum,note\n");
    let mut rows = Vec::new();
    for (place, note) in notes.enumerate() {
        let record = place + 1;
        let checksum = checksum(name, &record.to_string(), &note);
        body.push_str(&format!("{name},{record},{checksum},\"{}\"\n", note.replace('"', "\"\"")));
        rows.push(format!("{name} {record} {checksum}"));
    }
    (body.into_bytes(), rows)
}

/// The records of the file with this name: file, record, checksum, note.
pub fn records(file: &str, count: usize) -> impl Iterator<Item = (String, usize, String, &'static str)> {
    (1..=count).map(move |record| {
        let note = NOTES[record % NOTES.len()];
        (file.to_owned(), record, checksum(file, &record.to_string(), note), note)
    })
}

fn checksum(file: &str, record: &str, note: &str) -> String {
    let digest = Sha256::digest(format!("{file}\0{record}\0{note}"));
    let hexadecimal: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // A letter in front, so that no column of checksums looks like numbers.
    format!("c{hexadecimal}")
}

/// A row as it was uploaded, or a description of what is wrong with it, which matches no uploaded row.
fn checked(values: &[&Option<String>; 4]) -> String {
    let [Some(file), Some(record), Some(stored), Some(note)] = values else {
        return format!("a row with NULL: {values:?}");
    };
    if checksum(file, record, note) != *stored {
        return format!("{file} {record} {stored}, whose text does not fit its checksum");
    }
    format!("{file} {record} {stored}")
}
