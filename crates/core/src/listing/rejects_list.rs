//! Lists the files of rejected records, and shows the errors of one of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Items, List};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::pipeline::Context;
use crate::reconcile::age_seconds;
use crate::route;
use crate::store::Store;
use crate::store::read::ListedObject;
use crate::table_name::TableName;

/// Number of bytes of the error file that are read.
const ERRORS_BYTES: u64 = 256 * 1024;

/// Number of errors that are shown.
const MAX_ERRORS: usize = 100;

/// Which files of rejected records are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RejectsFilter {
    /// Only files of this table.
    pub table: Option<String>,
    /// Only the file with this key, with its errors.
    pub key: Option<String>,
    /// Only files after this key.
    pub after: Option<String>,
    /// The largest number of files.
    pub limit: usize,
}

/// A file of rejected records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectsItem {
    /// Its key.
    pub key: String,
    /// The table that the records belong to.
    pub table: String,
    /// The identity of the file that contained the records.
    pub source_id: String,
    /// The size in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub last_modified: Timestamp,
    /// Its age in seconds.
    pub age_seconds: u64,
    /// The key of the file with the error of each record.
    pub errors_key: String,
    /// The key of the file that contained the records; only if one file is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_key: Option<String>,
    /// The first errors; only if one file is shown. They contain no values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Value>,
}

/// Returns a page of the files of rejected records, in the order of their keys.
///
/// # Errors
/// When S3 cannot be read.
pub(super) async fn list(context: &Context, bucket: &str, filter: &RejectsFilter) -> Result<List> {
    let prefixes = &context.settings.prefixes;
    let invalid = |why| Error::new(ErrorKind::EventInvalid, format!("\"table\" {why}"));
    let prefix = match (&filter.key, &filter.table) {
        (Some(key), _) => key.clone(),
        (None, Some(table)) => route::rejects_prefix(prefixes, &TableName::parse(table).map_err(invalid)?, ""),
        (None, None) => prefixes.rejected.clone(),
    };
    let is_wanted = |listed: &ListedObject| {
        let table = route::rejects_table(prefixes, &listed.key)?;
        (filter.key.as_ref().is_none_or(|key| listed.key == *key)).then_some(table)
    };
    let (mut items, mut next) = (Vec::new(), None);
    let mut pages = context.store.list_after(bucket, &prefix, filter.after.as_deref());
    'pages: while let Some(page) = pages.next().await? {
        for listed in page {
            let Some(table) = is_wanted(&listed) else { continue };
            if items.len() == filter.limit {
                next = items.last().map(|item: &RejectsItem| item.key.clone());
                break 'pages;
            }
            items.push(item(listed, &table));
        }
    }
    if filter.key.is_some() {
        for item in &mut items {
            add_errors(&context.store, bucket, item).await?;
        }
    }
    Ok(List { items: Items::Rejects(items), next, note: None })
}

fn item(listed: ListedObject, table: &TableName) -> RejectsItem {
    let name = listed.key.rsplit('/').next().unwrap_or_default();
    RejectsItem {
        source_id: name.split('.').next().unwrap_or_default().to_owned(),
        table: table.to_string(),
        size_bytes: listed.size_bytes,
        last_modified: listed.last_modified,
        age_seconds: age_seconds(listed.last_modified),
        errors_key: route::errors_key_for(&listed.key),
        key: listed.key,
        original_key: None,
        errors: Vec::new(),
    }
}

/// Reads the first errors. A missing error file is not an error, because users may delete it.
async fn add_errors(store: &Store, bucket: &str, item: &mut RejectsItem) -> Result<()> {
    let errors = ObjectRef::new(bucket, &item.errors_key);
    let source = match store.head(&errors).await {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::SourceMissing => return Ok(()),
        Err(error) => return Err(error),
    };
    let bytes = store.read_range(&errors, &source.etag, 0..source.size_bytes.min(ERRORS_BYTES)).await?;
    // A last line that was cut is not JSON.
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    item.errors = lines.take(MAX_ERRORS).collect();
    let first = item.errors.first().and_then(|error: &Value| error["object_key"].as_str());
    item.original_key = first.map(str::to_owned);
    Ok(())
}
