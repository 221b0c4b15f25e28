//! Region, bucket and key prefixes.

use crate::config::setting::{Category, Declared, Info, ReadBy, Reason, Setting, Template, Value, settings};

settings! { Storage STORAGE {
    /// The region of every AWS service.
    AWS_REGION: String = Value::text("a region"), All, Template::Fixed, default "us-east-1";

    /// Another endpoint for every AWS service. S3 requests are then path-style.
    AWS_ENDPOINT_URL: String = Value::text("a URL"), All, Template::NotSet;

    /// The bucket of a request that does not name one. Required.
    S3_BUCKET: String = Value::text("the name of a bucket"), IngestAndTask, Template::Parameter("BucketName");

    /// Prefixes of the files to load. A single `/` is the whole bucket, except the prefixes below.
    UPLOAD_PREFIX: Vec<String> = Value::Text {
        form: "key prefixes separated by commas, none inside another prefix, or / for the whole bucket",
        parse: upload_prefixes,
    }, All, Template::Parameter("UploadPrefix"), default "uploads/";

    /// Destination of a file whose rows are in the database.
    PROCESSED_PREFIX: String = PREFIX, All, Template::Parameter("ProcessedPrefix"), default "processed/";

    /// Destination of a file that is invalid, or whose rows are in the fallback.
    FAILED_PREFIX: String = PREFIX, All, Template::Parameter("FailedPrefix"), default "failed/";

    /// Destination of rows that the database did not accept.
    GLUE_FALLBACK_PREFIX: String = PREFIX, All, Template::Parameter("FallbackPrefix"), default "fallback/";

    /// Leases: one small object for each file in progress.
    LEASE_PREFIX: String = PREFIX, All, Template::Parameter("LeasePrefix"), default "lease/";

    /// Destination of rejected records; see `MAX_REJECTS`.
    REJECTED_PREFIX: String = PREFIX, All, Template::Parameter("RejectedPrefix"), default "rejected/";

    /// Destination of rows for the lake; see `OUTPUT`. If it is not set, Spillway keeps no lake. To stop the lake, set
    /// `OUTPUT=database` and keep this setting, so that no object of the lake is loaded.
    LAKE_PREFIX: String = PREFIX, All, Template::Parameter("LakePrefix");
}}

pub(super) const PREFIX: Value<String> = Value::Text { form: "a key prefix outside the other prefixes", parse: prefix };

/// The prefixes between the commas. The whole bucket is one empty prefix.
fn upload_prefixes(text: &str) -> Result<Vec<String>, Reason> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    match items.as_slice() {
        [] => Err(Reason::Form),
        ["/"] => Ok(vec![String::new()]),
        items => items.iter().map(|item| prefix(item)).collect(),
    }
}

/// The prefix, with a slash at its end.
fn prefix(text: &str) -> Result<String, Reason> {
    if text.starts_with('/') {
        return Err(Reason::Because(format!("{text:?} starts with a slash")));
    }
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}
