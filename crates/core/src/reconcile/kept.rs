//! Files that stay at their key after they are loaded (`AFTER_LOAD=keep`): only the ledger shows which of them are done.
//!
//! A listing has no version ids. So if every version of a key must be loaded, S3 is asked for the current one.

use std::collections::{HashMap, HashSet};

use tracing::warn;

use crate::deadline::Deadline;
use crate::destination::DoneVersion;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::ObjectRef;
use crate::pipeline::{AfterLoad, Context, Dedupe, TableConfig, ask};
use crate::store::read::ListedObject;

/// Number of keys that one query of the ledger contains.
const KEYS_AT_ONCE: usize = 500;

/// Listed files, by what is left to do.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Files that may need a load, in the order of the listing.
    pub(crate) pending: Vec<ListedObject>,
    /// Number of files that stay in place and need no load.
    pub(crate) done: usize,
    /// Files that stay in place while the ledger cannot be read.
    pub(crate) unknown: Vec<ListedObject>,
    /// Why the ledger cannot be read.
    pub(crate) error: Option<Error>,
}

impl Files {
    /// Separates the files that need no load. Asks nothing if no table keeps its files.
    pub(crate) async fn sort(context: &Context, bucket: &str, files: Vec<ListedObject>, deadline: &Deadline) -> Self {
        let settings = &context.settings;
        if !settings.keeps_files() {
            return Self { pending: files, ..Self::default() };
        }
        let mut sorted = Self::default();
        for chunk in files.chunks(KEYS_AT_ONCE) {
            sorted.add(context, bucket, chunk, deadline).await;
        }
        sorted
    }

    /// Adds files. After the ledger could not be read once, it is not asked again.
    async fn add(&mut self, context: &Context, bucket: &str, files: &[ListedObject], deadline: &Deadline) {
        let with_config = |file: &'_ ListedObject| context.settings.table_of_key(&file.key);
        let kept: Vec<(&ListedObject, TableConfig)> = files
            .iter()
            .filter_map(|file| Some((file, with_config(file)?)))
            .filter(|(_, config)| config.after_load == AfterLoad::Keep)
            .collect();
        let done = match &self.error {
            None => Box::pin(done(context, bucket, &kept, deadline)).await.map(Some).unwrap_or_else(|error| {
                warn!(error = %chain(&error), "the ledger cannot be read, so files that stay in place wait");
                self.error = Some(error);
                None
            }),
            Some(_) => None,
        };
        match done {
            Some(done) => {
                self.done += done.len();
                self.pending.extend(files.iter().filter(|file| !done.contains(file.key.as_str())).cloned());
            }
            None => {
                let kept: HashSet<&str> = kept.iter().map(|(file, _)| file.key.as_str()).collect();
                let is_kept = |file: &ListedObject| kept.contains(file.key.as_str());
                let (unknown, pending): (Vec<_>, Vec<_>) = files.iter().cloned().partition(is_kept);
                self.unknown.extend(unknown);
                self.pending.extend(pending);
            }
        }
    }
}

/// Returns the keys of the files that need no load.
async fn done<'a>(
    context: &Context,
    bucket: &str,
    kept: &[(&'a ListedObject, TableConfig)],
    deadline: &Deadline,
) -> Result<HashSet<&'a str>> {
    if kept.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<&str> = kept.iter().map(|(file, _)| file.key.as_str()).collect();
    let etags: Vec<&str> = kept.iter().map(|(file, _)| file.etag.as_str()).collect();
    let (keys, etags) = (keys.as_slice(), etags.as_slice());
    let versions = ask(context, deadline, async |destination| destination.loaded_versions(bucket, keys, etags).await);
    let mut by_key: HashMap<String, Vec<DoneVersion>> = HashMap::new();
    for version in versions.await? {
        by_key.entry(version.key.clone()).or_default().push(version);
    }
    let mut done = HashSet::new();
    for (file, config) in kept {
        let versions = by_key.get(&file.key).map(Vec::as_slice).unwrap_or_default();
        if is_done(context, bucket, (file, config), versions).await? {
            done.insert(file.key.as_str());
        }
    }
    Ok(done)
}

/// Whether a listed file is one of these versions.
async fn is_done(
    context: &Context,
    bucket: &str,
    (file, config): (&ListedObject, &TableConfig),
    versions: &[DoneVersion],
) -> Result<bool> {
    let mut same = versions.iter().filter(|version| version.etag == file.etag && version.size_bytes == file.size_bytes);
    let loads_content_once = config.dedupe == Dedupe::Content && !config.destination.load_mode.loads_full_exports();
    if loads_content_once || same.clone().any(|version| version.version_id.is_none()) {
        return Ok(same.next().is_some());
    }
    if same.clone().next().is_none() {
        return Ok(false);
    }
    match context.store.head(&ObjectRef::new(bucket, &file.key)).await {
        Ok(current) => Ok(same.any(|version| version.source_id == current.id.as_str())),
        Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(true),
        Err(error) => Err(error),
    }
}
