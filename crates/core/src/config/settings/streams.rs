//! The transform of records for Amazon Data Firehose, and the publication of deltas.

use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Setting, Template, Value, settings};
use crate::exports::MessageFormat;

settings! { Streams STREAMS {
    /// Field of each event that names its table. With it the ingest function transforms records for Amazon Data Firehose, and
    /// accepts no requests. `templates/streaming.yaml` sets it (`TableField`).
    STREAM_TABLE_FIELD: String = Value::text("the name of a field"), Stream, Template::NotSet;

    /// Tables that events may name. Records with other tables go to the error prefix. If it is unset, every valid table name is
    /// accepted. `templates/streaming.yaml` sets it (`Tables`).
    STREAM_TABLES: Vec<String> = Value::list("table names separated by commas"), Stream, Template::NotSet;

    /// Fields that each event must have, because the tables merge by them. A record with an event that lacks one, or has `null` in
    /// it, goes to the error prefix. `templates/streaming.yaml` sets it (`KeyFields`).
    STREAM_KEY_FIELDS: Vec<String> = Value::list("names of fields separated by commas"), Stream, Template::NotSet;

    /// Format of published changes: the envelope of Debezium, or the JSON of AWS DMS.
    PUBLISH_FORMAT: MessageFormat = Value::Choice(&[
        Choice::new("debezium", MessageFormat::Debezium),
        Choice::new("dms", MessageFormat::Dms),
    ]), ExportsAndCommandLine, Template::NotSet, default "debezium";

    /// Largest record of a published change, with its partition key. A stream accepts 1 MiB, unless its own setting
    /// `MaxRecordSizeInKiB` is larger.
    PUBLISH_MAX_RECORD_BYTES: usize = Value::number("number of bytes", 1024, 10 << 20),
        ExportsAndCommandLine, Template::NotSet, default "1048576";
}}
