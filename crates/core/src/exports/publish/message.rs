//! The message of a change: Debezium's envelope, or the JSON of AWS DMS.
//!
//! Sources: "Data change events" in Debezium's documentation of its connectors, and "Using Amazon Kinesis Data Streams as a
//! target" in the user guide of AWS DMS. Both allow further fields.

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};
use crate::exports::{DeltaChange, DeltaRow, DeltaValue, Operation};
use crate::object::hex;

/// The name of the connector in Debezium's envelope.
const CONNECTOR: &str = "spillway";

/// The format of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// Debezium's envelope, without its schema.
    Debezium,
    /// The JSON of AWS DMS, with the row before an update.
    Dms,
}

impl MessageFormat {
    /// The name, as `PUBLISH_FORMAT` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debezium => "debezium",
            Self::Dms => "dms",
        }
    }
}

/// Whether a delta belongs to the first export of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshot {
    /// Its changes are all rows of the table.
    First,
    /// Its changes follow an older export.
    Later,
}

/// What all messages of a delta have in common.
#[derive(Debug, Clone)]
pub(super) struct MessageContext {
    pub(super) format: MessageFormat,
    /// `STACK_NAME`, the logical name of the source.
    pub(super) name: String,
    pub(super) table: String,
    pub(super) tenant: Option<String>,
    /// The version of the new export.
    pub(super) export_version: String,
    pub(super) snapshot: Snapshot,
    /// When the delta was written.
    pub(super) written_at: Timestamp,
    /// The names of the key columns.
    pub(super) key: Vec<String>,
}

impl MessageContext {
    /// The bytes of the message of a change.
    ///
    /// # Errors
    /// Never, unless the program has a bug.
    pub(super) fn message(&self, change: &DeltaChange, partition_key: &str, now: Timestamp) -> Result<Vec<u8>> {
        let bytes = match self.format {
            MessageFormat::Debezium => serde_json::to_vec(&self.debezium(change, now)),
            MessageFormat::Dms => serde_json::to_vec(&self.dms(change, partition_key)),
        };
        bytes.map_err(|error| Error::new(ErrorKind::Internal, "a message cannot be written as JSON").with_source(error))
    }

    fn debezium<'a>(&'a self, change: &'a DeltaChange, now: Timestamp) -> Envelope<'a> {
        let row = |row: &'a Option<DeltaRow>| row.as_ref().map(|row| Row { row, bytes: BytesForm::HexObject });
        let source = Source {
            version: env!("CARGO_PKG_VERSION"),
            connector: CONNECTOR,
            name: &self.name,
            ts_ms: self.written_at.as_millisecond(),
            snapshot: match self.snapshot {
                Snapshot::First => "true",
                Snapshot::Later => "false",
            },
            db: self.tenant.as_deref().unwrap_or_default(),
            sequence: sequence(change.seq),
            table: &self.table,
            tenant: self.tenant.as_deref(),
            export_version: &self.export_version,
            key: &self.key,
        };
        let op = match self.snapshot {
            Snapshot::First => "r",
            Snapshot::Later => change.operation.name(),
        };
        let (before, after) = (row(&change.before), row(&change.after));
        Envelope { before, after, source, op, ts_ms: now.as_millisecond(), transaction: () }
    }

    fn dms<'a>(&'a self, change: &'a DeltaChange, partition_key: &'a str) -> DmsMessage<'a> {
        let row = |row: &'a Option<DeltaRow>| row.as_ref().map(|row| Row { row, bytes: BytesForm::HexText });
        let (before, after) = (row(&change.before), row(&change.after));
        let (data, before_image, operation) = match (change.operation, self.snapshot) {
            (Operation::Create, Snapshot::First) => (after, None, "load"),
            (Operation::Create, Snapshot::Later) => (after, None, "insert"),
            (Operation::Update, _) => (after, before, "update"),
            (Operation::Delete, _) => (before, None, "delete"),
        };
        let metadata = DmsMetadata {
            timestamp: format!("{:.6}", self.written_at),
            record_type: "data",
            operation,
            partition_key_type: "primary-key",
            partition_key_value: partition_key,
            schema_name: self.tenant.as_deref().unwrap_or_default(),
            table_name: &self.table,
            tenant: self.tenant.as_deref(),
            export_version: &self.export_version,
            sequence: sequence(change.seq),
            key_columns: &self.key,
        };
        DmsMessage { data, before_image, metadata }
    }
}

/// The number of a change as text that sorts like the number. In Debezium's envelope, `sequence` is a string.
fn sequence(seq: u64) -> String {
    format!("{seq:020}")
}

/// Debezium's envelope.
#[derive(Serialize)]
struct Envelope<'a> {
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
    source: Source<'a>,
    op: &'a str,
    /// When the message was created.
    ts_ms: i64,
    /// Changes of an export belong to no transaction.
    transaction: (),
}

#[derive(Serialize)]
struct Source<'a> {
    version: &'a str,
    connector: &'a str,
    name: &'a str,
    ts_ms: i64,
    /// A string, as in Debezium's envelope.
    snapshot: &'a str,
    db: &'a str,
    sequence: String,
    table: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    export_version: &'a str,
    key: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DmsMessage<'a> {
    data: Option<Row<'a>>,
    /// The field that DMS adds with `BeforeImageSettings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_image: Option<Row<'a>>,
    metadata: DmsMetadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DmsMetadata<'a> {
    timestamp: String,
    record_type: &'a str,
    operation: &'a str,
    partition_key_type: &'a str,
    partition_key_value: &'a str,
    schema_name: &'a str,
    table_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    export_version: &'a str,
    sequence: String,
    key_columns: &'a [String],
}

/// How bytes that are not UTF-8 are written.
#[derive(Clone, Copy)]
pub(super) enum BytesForm {
    /// `{"hex": "ff"}`, as in a delta.
    HexObject,
    /// `"0xff"`, as DMS writes binary columns.
    HexText,
}

/// A row as a JSON object, in the order of its columns.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) row: &'a DeltaRow,
    pub(super) bytes: BytesForm,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.row.fields();
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            match (value, self.bytes) {
                (DeltaValue::Null, _) => map.serialize_entry(name, &())?,
                (DeltaValue::Text(text), _) => map.serialize_entry(name, text)?,
                (DeltaValue::Bytes(bytes), BytesForm::HexObject) => {
                    map.serialize_entry(name, &Hex { hex: hex(bytes) })?
                }
                (DeltaValue::Bytes(bytes), BytesForm::HexText) => {
                    map.serialize_entry(name, &format!("0x{}", hex(bytes)))?;
                }
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Hex {
    hex: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[(&str, DeltaValue)]) -> DeltaRow {
        let columns: Vec<String> = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        DeltaRow::of(columns.into(), fields.iter().map(|(_, value)| value.clone()).collect())
    }

    fn update() -> DeltaChange {
        let text = |text: &str| DeltaValue::Text(text.to_owned());
        DeltaChange {
            seq: 12,
            operation: Operation::Update,
            key: row(&[("id", text("7"))]),
            before: Some(row(&[("id", text("7")), ("note", DeltaValue::Null)])),
            after: Some(row(&[
                ("note", text("a \"b\"\n")),
                ("id", text("7")),
                ("raw", DeltaValue::Bytes(vec![0xff, 0])),
            ])),
        }
    }

    fn context(format: MessageFormat, snapshot: Snapshot, tenant: Option<&str>) -> MessageContext {
        MessageContext {
            format,
            name: "spillway".to_owned(),
            table: "orders".to_owned(),
            tenant: tenant.map(str::to_owned),
            export_version: "2026-11-29".to_owned(),
            snapshot,
            written_at: "2026-11-29T10:00:00.5Z".parse().unwrap(),
            key: vec!["id".to_owned()],
        }
    }

    fn message(context: &MessageContext, change: &DeltaChange) -> String {
        let now = "2026-11-29T11:00:00Z".parse().unwrap();
        let message = context.message(change, "{\"id\":\"7\"}", now).unwrap();
        String::from_utf8(message).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }

    #[test]
    fn debezium_envelope_has_both_rows_and_the_source() {
        let context = context(MessageFormat::Debezium, Snapshot::Later, Some("acme"));
        assert_eq!(
            message(&context, &update()),
            concat!(
                r#"{"before":{"id":"7","note":null},"after":{"note":"a \"b\"\n","id":"7","raw":{"hex":"ff00"}},"#,
                r#""source":{"version":"VERSION","connector":"spillway","name":"spillway","ts_ms":1795946400500,"#,
                r#""snapshot":"false","db":"acme","sequence":"00000000000000000012","table":"orders","tenant":"acme","#,
                r#""export_version":"2026-11-29","key":["id"]},"op":"u","ts_ms":1795950000000,"transaction":null}"#
            )
        );
    }

    #[test]
    fn rows_of_a_first_export_are_reads() {
        let change = DeltaChange { operation: Operation::Create, before: None, ..update() };
        let debezium = message(&context(MessageFormat::Debezium, Snapshot::First, None), &change);
        assert!(debezium.starts_with(r#"{"before":null,"after":{"note""#), "{debezium}");
        assert!(debezium.contains(r#""snapshot":"true","db":"","sequence""#) && debezium.contains(r#""op":"r""#));
        let dms = message(&context(MessageFormat::Dms, Snapshot::First, None), &change);
        assert!(dms.contains(r#""operation":"load""#) && !dms.contains("tenant"), "{dms}");
    }

    #[test]
    fn dms_message_has_data_and_metadata() {
        let context = context(MessageFormat::Dms, Snapshot::Later, Some("acme"));
        assert_eq!(
            message(&context, &update()),
            concat!(
                r#"{"data":{"note":"a \"b\"\n","id":"7","raw":"0xff00"},"before-image":{"id":"7","note":null},"#,
                r#""metadata":{"timestamp":"2026-11-29T10:00:00.500000Z","record-type":"data","operation":"update","#,
                r#""partition-key-type":"primary-key","partition-key-value":"{\"id\":\"7\"}","schema-name":"acme","#,
                r#""table-name":"orders","tenant":"acme","export-version":"2026-11-29","#,
                r#""sequence":"00000000000000000012","key-columns":["id"]}}"#
            )
        );
        let delete = DeltaChange { operation: Operation::Delete, after: None, ..update() };
        let delete = message(&context, &delete);
        assert!(delete.starts_with(r#"{"data":{"id":"7","note":null},"metadata""#), "{delete}");
        assert!(delete.contains(r#""operation":"delete""#), "{delete}");
        let insert = DeltaChange { operation: Operation::Create, before: None, ..update() };
        assert!(message(&context, &insert).contains(r#""operation":"insert""#));
    }
}
