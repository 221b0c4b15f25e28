//! The import of full exports.

use std::time::Duration;

use super::storage::PREFIX;
use crate::config::setting::{Category, Choice, Declared, Info, ReadBy, Setting, Template, Value, settings};

/// Where the changes between two exports go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTarget {
    /// Into the database.
    Database,
    /// Into a stream.
    Stream,
    /// Into both.
    Both,
}

settings! { Exports EXPORTS {
    /// Destination of the changes between two exports. With it the ingest function imports exports, and accepts no other requests.
    EXPORT_TARGET: ExportTarget = Value::Choice(&[
        Choice::new("database", ExportTarget::Database),
        Choice::new("stream", ExportTarget::Stream),
        Choice::new("both", ExportTarget::Both),
    ]), Exports, Template::NotSet;

    /// Prefix of the exports, with `{tenant}/{table}/{version}/{file}` below it. If it is unset, they are at the top of the bucket.
    EXPORT_PREFIX: String = PREFIX, Exports, Template::NotSet;

    /// Kinesis data stream for the changes: a name or an ARN. Required unless `EXPORT_TARGET` is `database`.
    EXPORT_STREAM: String = Value::text("the name or the ARN of a stream"), Exports, Template::NotSet;

    /// Name of the file that is written after all files of a version, such as `_manifest.json`. If it is unset, a version is complete
    /// after `EXPORT_QUIET_SECONDS`.
    EXPORT_MANIFEST: String = Value::text("the name of a file"), Exports, Template::NotSet;

    /// Time without a new file after which a version is complete. Without effect with `EXPORT_MANIFEST`.
    EXPORT_QUIET_SECONDS: Duration = Value::number("number of seconds", 0, 86_400), Exports, Template::NotSet, default "60";

    /// Maximum share of the rows of the export before that an export may lack. More than 100 rows above it are an error, because a
    /// truncated export looks the same.
    EXPORT_MAX_DELETES: u8 = Value::number("number of percent", 0, 100), Exports, Template::NotSet, default "10";

    /// Prefix of the registry: the state of each table, and a record of each version.
    EXPORT_REGISTRY_PREFIX: String = PREFIX, Exports, Template::NotSet, default "export-registry/";

    /// Prefix of the deltas.
    EXPORT_DELTA_PREFIX: String = PREFIX, Exports, Template::NotSet, default "delta/";
}}
