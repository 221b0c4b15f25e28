//! Lists the files whose rows are in the fallback, from their manifests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Items, List};
use crate::error::Result;
use crate::fallback::{self, Manifest};
use crate::pipeline::Context;
use crate::reconcile::age_seconds;
use crate::route;
use crate::row_objects::Area;

/// Which files of the fallback are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FallbackFilter {
    /// Only files for this table.
    pub table: Option<String>,
    /// Only files that were uploaded to this key.
    pub key: Option<String>,
    /// Only the file whose identity begins with these hex digits.
    pub id: Option<String>,
    /// Only files after this one in the list.
    pub after: Option<String>,
    /// The largest number of files.
    pub limit: usize,
}

/// A file in the fallback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackItem {
    /// The identity of the object's version.
    pub source_id: String,
    /// The key that the file was uploaded to.
    pub key: String,
    /// The table that the rows are to be loaded into.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
    /// Number of rejected records of the file.
    pub rows_rejected: u64,
    /// The size of the uploaded file in bytes.
    pub size_bytes: u64,
    /// The reason.
    pub reason: String,
    /// When the manifest was written.
    pub written_at: Timestamp,
    /// Its age in seconds.
    pub age_seconds: u64,
    /// The key of the fallback object.
    pub fallback_key: String,
    /// The Glue table, if the manifest names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue_table: Option<String>,
    /// The partition of the Glue table.
    pub dt: String,
}

impl FallbackItem {
    fn of(manifest: Manifest) -> Self {
        Self {
            source_id: manifest.source.id.to_string(),
            key: manifest.source.object.key,
            table: manifest.target_table.to_string(),
            rows: manifest.rows,
            rows_rejected: manifest.rows_rejected,
            size_bytes: manifest.source.size_bytes,
            reason: manifest.reason,
            age_seconds: age_seconds(manifest.written_at),
            written_at: manifest.written_at,
            fallback_key: manifest.key,
            glue_table: manifest.glue_table,
            dt: manifest.dt,
        }
    }
}

/// Returns a page of the files in the fallback: pages in the order of the identities, the files of a page oldest first.
///
/// # Errors
/// When the fallback cannot be listed.
pub(super) async fn list(context: &Context, bucket: &str, filter: &FallbackFilter) -> Result<List> {
    let (store, settings) = (&context.store, &context.settings);
    let folder = route::manifests_prefix(&settings.prefixes.fallback);
    let prefix = format!("{folder}{}", filter.id.as_deref().unwrap_or_default());
    let after = filter.after.as_ref().map(|id| format!("{folder}{id}.json"));
    let is_wanted = |manifest: &Manifest| {
        filter.table.as_ref().is_none_or(|table| manifest.target_table == table.as_str())
            && filter.key.as_ref().is_none_or(|key| manifest.source.object.key == *key)
    };
    let page = fallback::ManifestPage { prefix: &prefix, after: after.as_deref(), limit: filter.limit };
    let (manifests, last) = page.read(store, bucket, Area::fallback(settings), is_wanted).await?;
    let mut items: Vec<FallbackItem> = manifests.into_iter().map(FallbackItem::of).collect();
    items.sort_by_key(|item| item.written_at);
    let id_of = |key: String| key[folder.len()..].trim_end_matches(".json").to_owned();
    Ok(List { items: Items::Fallback(items), next: last.map(id_of), note: None })
}
