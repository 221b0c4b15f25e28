//! The transform of records for Amazon Data Firehose.

use crate::config::setting::{Category, Declared, Info, ReadBy, Setting, Template, Value, settings};

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
}}
