//! The table of each key, and the settings of single tables (`SPILLWAY_CONFIG`).
//!
//! If these settings are an object in S3, it can change while a process runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::object::ObjectRef;
use crate::pattern::{KeyParts, TablePatterns};
use crate::pipeline::TableConfig;
use crate::route::{self, TableRoutes};
use crate::store::Store;
use crate::table_name::TableName;

/// The largest file of table settings, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The rules that choose a table and its settings for each key.
#[derive(Debug, Clone)]
pub struct TableRules {
    /// The patterns of the entries, then those of `TABLE_PATTERN`; and `RDS_TABLE` for all other keys.
    pub routes: TableRoutes,
    /// The entries of the table settings, in the order of the file; `TableRules::entry` selects one.
    pub entries: Vec<TableEntry>,
}

/// One `[[table]]` of the table settings.
#[derive(Debug, Clone)]
pub struct TableEntry {
    /// The patterns of the keys; empty if only the table's name selects the entry.
    pub patterns: TablePatterns,
    /// The name of the table; `None` if it depends on the key.
    pub name: Option<TableName>,
    /// The settings. `PipelineConfig::table` replaces their table name by that of the key's table.
    pub config: TableConfig,
}

impl TableRules {
    /// Rules without table settings.
    pub fn of_routes(routes: TableRoutes) -> Self {
        Self { routes, entries: Vec::new() }
    }

    /// The entry for files with this key in this table, if any.
    ///
    /// It is the first entry whose pattern matches the key and yields this table. If none does, it is the first with this name.
    pub(crate) fn entry(&self, table: &TableName, key: &str) -> Option<&TableEntry> {
        // Names from keys are in lower case.
        let is_table = |name: &TableName| name.to_lowercase() == table.to_lowercase();
        let by_key = |entry: &&TableEntry| entry.patterns.match_key(key).is_some_and(|found| is_table(&found.table));
        let by_name = |entry: &&TableEntry| entry.name.as_ref().is_some_and(is_table);
        self.entries.iter().find(by_key).or_else(|| self.entries.iter().find(by_name))
    }

    /// Whether an entry applies by the key of a file.
    pub(crate) fn has_patterns_of_entries(&self) -> bool {
        self.entries.iter().any(|entry| !entry.patterns.is_empty())
    }

    /// The table of a key, and the named parts of the key.
    ///
    /// # Errors
    /// See `route::key_parts`.
    pub(crate) fn key_parts(&self, key: &str, ledger_table: &str) -> Result<KeyParts> {
        route::key_parts(key, &self.routes, ledger_table)
    }

    /// Whether the entries allow files to be loaded in any order, and concurrently: all append rows and add no columns.
    pub(crate) fn is_any_order(&self) -> bool {
        self.entries.iter().all(|entry| entry.config.destination.allows_any_order())
    }
}

/// The current rules, and the file in S3 that they come from, if any. Clones share them.
#[derive(Debug, Clone)]
pub struct Tables {
    current: Arc<RwLock<Arc<TableRules>>>,
    file: Option<Arc<TableFile>>,
}

/// Reads the rules from the text of a file.
type Parse = Box<dyn Fn(&str) -> Result<TableRules> + Send + Sync>;

/// A file of table settings in S3.
struct TableFile {
    object: ObjectRef,
    parse: Parse,
    /// The version of the current rules; `None` before the first one was read.
    etag: Mutex<Option<String>>,
}

impl fmt::Debug for TableFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.object)
    }
}

/// The result of [`Tables::refresh`].
#[derive(Debug)]
pub(crate) enum Refresh {
    /// The rules are those of the current file.
    Current,
    /// The current file is invalid or missing. The rules are those of the last valid version.
    KeptLast(Error),
}

impl Tables {
    /// Rules that do not change.
    pub fn fixed(rules: TableRules) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(rules))), file: None }
    }

    /// Rules from a file in S3. `initial` applies until a refresh has read the file.
    pub fn in_s3(
        object: ObjectRef,
        initial: TableRules,
        parse: impl Fn(&str) -> Result<TableRules> + Send + Sync + 'static,
    ) -> Self {
        let file = TableFile { object, parse: Box::new(parse), etag: Mutex::new(None) };
        Self { file: Some(Arc::new(file)), ..Self::fixed(initial) }
    }

    /// The current rules.
    pub(crate) fn current(&self) -> Arc<TableRules> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of entries of the table settings; `None` without table settings, or before a file in S3 was read.
    pub fn entry_count(&self) -> Option<usize> {
        Some(self.current().entries.len()).filter(|count| *count > 0)
    }

    /// The file in S3 that the rules come from, if any.
    pub(crate) fn object(&self) -> Option<&ObjectRef> {
        self.file.as_ref().map(|file| &file.object)
    }

    /// Reads the file again if it has changed. Rules without a file in S3 cost no request.
    ///
    /// # Errors
    /// When the file cannot be read, or when it is invalid and this process has read no valid version before. An invalid
    /// file does not fail later refreshes: the last valid rules stay in use, and the file needs attention.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<Refresh> {
        let Some(file) = &self.file else { return Ok(Refresh::Current) };
        let error = match self.read(file, store).await {
            Ok(()) => return Ok(Refresh::Current),
            Err(error) => error,
        };
        let is_first = file.etag.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_first || error.kind() != ErrorKind::Settings {
            return Err(error);
        }
        warn!(error = %chain(&error), object = %file.object, "the table settings are not valid: the last valid version stays in use");
        Ok(Refresh::KeptLast(error))
    }

    async fn read(&self, file: &TableFile, store: &Store) -> Result<()> {
        let found = store.head(&file.object).await.map_err(|error| unreadable(file, error))?;
        if file.etag.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&found.etag) {
            return Ok(());
        }
        if found.size_bytes > MAX_FILE_BYTES {
            return Err(invalid(file, format!("it is longer than {MAX_FILE_BYTES} bytes")));
        }
        let bytes = match found.size_bytes {
            0 => Bytes::new(),
            size_bytes => {
                let read = store.read_range(&file.object, &found.etag, 0..size_bytes).await;
                read.map_err(|error| unreadable(file, error))?
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid(file, "it is not valid UTF-8".to_owned()))?;
        let rules = (file.parse)(text)?;
        info!(object = %file.object, tables = rules.entries.len(), "the table settings were read");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        *file.etag.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.etag);
        Ok(())
    }
}

/// The error for a file that cannot be read.
///
/// A missing file has the kind `Settings`. The kind `SourceMissing` would mean that an uploaded object is gone and needs no
/// processing.
fn unreadable(file: &TableFile, error: Error) -> Error {
    let kind = if error.kind() == ErrorKind::SourceMissing { ErrorKind::Settings } else { error.kind() };
    Error::new(kind, format!("the table settings in {} cannot be read", file.object)).with_source(error)
}

fn invalid(file: &TableFile, why: String) -> Error {
    let message = format!("the table settings in {} cannot be used: {why}", file.object);
    Error::new(ErrorKind::Settings, message)
}
