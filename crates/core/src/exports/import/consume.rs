//! A consumer of published changes: applies the records of a Kinesis data stream to tables.
//!
//! Lambda calls the function with the records of one shard, in their order, and calls it again with the same records if it fails. The
//! changes of a version of a table are loaded in one transaction. Its ledger row names the first and the last record of the table in this
//! call, so a call that comes again is found loaded. Records that come again with others are applied again, all of their table in their
//! order, which changes nothing: each has its whole row, and the changes of a row are in one shard.

use aws_smithy_types::base64;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::attempt::ChangesAttempt;
use super::{ExportImporter, wrong_settings};
use crate::deadline::Deadline;
use crate::destination::TableChanges;
use crate::error::{Error, ErrorKind, Result};
use crate::key_columns::KeyFields;
use crate::object::{ObjectRef, ObjectVersion, hash_parts};
use crate::reader::FileReader;
use crate::request::invalid;

/// The event of an event source mapping.
#[derive(Debug, Deserialize)]
struct KinesisEvent {
    #[serde(rename = "Records")]
    records: Vec<EventRecord>,
}

#[derive(Debug, Deserialize)]
struct EventRecord {
    /// Shard and sequence number.
    #[serde(rename = "eventID")]
    id: String,
    #[serde(rename = "eventSourceARN")]
    stream: String,
    kinesis: RecordData,
}

#[derive(Debug, Deserialize)]
struct RecordData {
    /// Base64.
    data: String,
}

/// The part of a message that names its table. The other parts are read as a file of changes.
#[derive(Debug, Deserialize)]
struct Message {
    source: MessageSource,
}

#[derive(Debug, Deserialize)]
struct MessageSource {
    tenant: Option<String>,
    table: String,
    export_version: String,
    key: Vec<String>,
}

/// Changes of one version of a table, in the order of their records.
#[derive(Debug)]
struct VersionRecords {
    stream: String,
    tenant: String,
    table: String,
    version: String,
    key: Vec<String>,
    first: String,
    last: String,
    lines: Vec<u8>,
    count: u64,
}

/// Whether an event has the records of a Kinesis data stream.
pub(super) fn is_kinesis_event(event: &Value) -> bool {
    event["Records"][0]["eventSource"] == "aws:kinesis"
}

impl ExportImporter {
    /// Applies the records of an event. After an error, some tables may have theirs; the same event can be applied again.
    pub(super) async fn consume(&self, event: &Value, deadline: &Deadline) -> Result<Value> {
        if !self.settings.target.has_database() {
            return Err(wrong_settings(
                "records of a stream are applied to a database, so EXPORT_TARGET must be database",
            ));
        }
        let versions = by_version(event)?;
        for records in &versions {
            let place = format!("{}/{}", records.tenant, records.table);
            let source = records.identity(&versions);
            self.apply_records(records, source, deadline).await.map_err(|error| error.for_object(place))?;
        }
        Ok(json!({"batchItemFailures": []}))
    }

    async fn apply_records(
        &self,
        records: &VersionRecords,
        (object, sha256): (ObjectRef, String),
        deadline: &Deadline,
    ) -> Result<()> {
        let VersionRecords { tenant, table, version, key, lines, count, .. } = records;
        let export = format!("{}{tenant}/{table}/{version}/changes.jsonl", self.settings.prefix);
        let (parts, config) = self.table_of_changes(&export, key)?;
        let started_at = Timestamp::now();
        let source = ObjectVersion::of_records(object, sha256, lines.len() as u64, started_at);
        let fields = KeyFields::new(&config.key_columns, &source.object, &parts, started_at);
        let reader = FileReader::of_bytes(Bytes::copy_from_slice(lines), &source, &config.files, fields);
        let table_changes = TableChanges::default();
        let attempt =
            ChangesAttempt { importer: self, deadline, delta: None, source, config, started_at, table_changes };
        let is_new = attempt.load(reader).await?.is_some();
        info!(tenant, table, records = count, is_new, "applied the records of a stream");
        Ok(())
    }
}

impl VersionRecords {
    /// The name and the hash of these records among those of the call.
    ///
    /// Both depend on all records of the table in the call. If an older version is applied again, the newer one must be too.
    fn identity(&self, call: &[Self]) -> (ObjectRef, String) {
        let of_table = || call.iter().filter(|other| (&other.tenant, &other.table) == (&self.tenant, &self.table));
        let first = of_table().next().unwrap_or(self);
        let last = of_table().next_back().unwrap_or(self);
        let mut name = format!("{}/{}/{} to {}", self.tenant, self.table, first.first, last.last);
        let mut lines = vec![String::from_utf8_lossy(&self.lines)];
        if of_table().count() > 1 {
            name += &format!(" of {}", self.version);
            lines.extend(of_table().map(|other| String::from_utf8_lossy(&other.lines)));
        }
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        (ObjectRef::new(&self.stream, name), hash_parts(&lines))
    }
}

/// The records of each version of each table. Versions of a table stay in the order of their first records.
fn by_version(event: &Value) -> Result<Vec<VersionRecords>> {
    let event = KinesisEvent::deserialize(event)
        .map_err(|error| invalid("the event is not one of a Kinesis data stream").with_source(error))?;
    let mut versions: Vec<VersionRecords> = Vec::new();
    for record in event.records {
        let broken = |why: &str| {
            let error = Error::new(ErrorKind::FileBroken, format!("the record {} {why}", record.id));
            error.for_object(&record.stream)
        };
        let data = base64::decode(&record.kinesis.data).map_err(|_| broken("is not Base64"))?;
        let message: Message = serde_json::from_slice(&data)
            .map_err(|error| broken("is not a message of spillway in the format debezium").with_source(error))?;
        let MessageSource { tenant, table, export_version, key } = message.source;
        let tenant = tenant.ok_or_else(|| broken("names no tenant; publish the changes with --tenant"))?;
        // Only the last version of a table may get more records: each has its own columns from the key of the export.
        let last = versions.iter().rposition(|found| found.tenant == tenant && found.table == table);
        let index = match last {
            Some(last) if versions[last].version == export_version && versions[last].key == key => last,
            _ => {
                versions.push(VersionRecords {
                    stream: record.stream.clone(),
                    tenant,
                    table,
                    version: export_version,
                    key,
                    first: record.id.clone(),
                    last: String::new(),
                    lines: Vec::new(),
                    count: 0,
                });
                versions.len() - 1
            }
        };
        let found = &mut versions[index];
        found.last.clone_from(&record.id);
        found.lines.extend_from_slice(&data);
        found.lines.push(b'\n');
        found.count += 1;
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u32, message: &Value) -> Value {
        let data = base64::encode(message.to_string());
        json!({"eventSource": "aws:kinesis", "eventID": format!("shard:{id}"), "eventSourceARN": "arn", "kinesis": {"data": data}})
    }

    fn message(tenant: &str, version: &str, id: u32) -> Value {
        let source = json!({"tenant": tenant, "table": "orders", "export_version": version, "key": ["id"]});
        json!({"op": "c", "before": null, "after": {"id": id.to_string()}, "source": source})
    }

    #[test]
    fn records_are_divided_by_tenant_table_and_version_in_their_order() {
        let messages = [("b", "V9", 1), ("a", "V9", 2), ("b", "V9", 3), ("b", "V10", 4), ("a", "V9", 5)];
        let records = messages.map(|(tenant, version, id)| record(id, &message(tenant, version, id)));
        let event = json!({"Records": records});
        assert!(is_kinesis_event(&event));
        let versions = by_version(&event).unwrap();
        let found = |records: &VersionRecords| (records.tenant.clone(), records.version.clone(), records.count);
        let expected = [("b", "V9", 2), ("a", "V9", 2), ("b", "V10", 1)];
        let expected = expected.map(|(tenant, version, count)| (tenant.to_owned(), version.to_owned(), count));
        assert_eq!(versions.iter().map(found).collect::<Vec<_>>(), expected);
        let b = &versions[0];
        assert_eq!(
            (b.first.as_str(), b.last.as_str(), b.key.as_slice()),
            ("shard:1", "shard:3", &["id".to_owned()][..])
        );
        // A call with fewer records of the older version has the newer one as another source, so that both are applied again.
        let fewer = by_version(&json!({"Records": [records[2], records[3]]})).unwrap();
        assert_eq!(fewer[1].lines, versions[2].lines);
        let (one, other) = (versions[2].identity(&versions), fewer[1].identity(&fewer));
        assert_eq!(one.0.key, "b/orders/shard:1 to shard:4 of V10");
        assert!(one.0 != other.0 && one.1 != other.1);
        assert_eq!(versions[1].identity(&versions).0.key, "a/orders/shard:2 to shard:5");
        let lines = String::from_utf8(b.lines.clone()).unwrap();
        assert_eq!(lines.lines().map(|line| line.contains("\"3\"")).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn other_records_are_errors() {
        let event = json!({"Records": [record(1, &json!({"op": "c"}))]});
        let error = by_version(&event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileBroken);
        assert!(error.to_string().contains("shard:1"), "{error}");
        let mut without_tenant = message("a", "V1", 1);
        without_tenant["source"]["tenant"] = Value::Null;
        let error = by_version(&json!({"Records": [record(1, &without_tenant)]})).unwrap_err();
        assert!(error.to_string().contains("--tenant"), "{error}");
        assert!(!is_kinesis_event(&json!({"export": {}})));
    }
}
