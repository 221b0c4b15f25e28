//! Finds the tables of a bucket and the files of a window, by the patterns of keys.
//!
//! A pattern with a time in it, such as `data/{table}/year={year}/month={month}/day={day}/**`, limits the listing to the days of
//! the window. Folders are listed level by level, so their names may have any spelling. A folder that is wholly in the window, or
//! not longer than a day, is listed as a whole.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::window::{KeyTime, Window, is_time_part, span};
use crate::error::Result;
use crate::object::ObjectRef;
use crate::pattern::{self, Contents, KeyParts, PatternFolder};
use crate::pipeline::{AfterLoad, Context, PipelineConfig, TableEntry, TableRules};
use crate::route::{self, Route};
use crate::store::read::ListedObject;
use crate::table_name::TableName;

/// The longest period of a folder that is listed as a whole, although only a part of it is in the window: a day.
const MAX_WHOLE_SECONDS: i64 = 24 * 60 * 60;

/// A part of the bucket that contains files of a table.
#[derive(Debug, Clone)]
pub(crate) enum SearchRoot<'p> {
    /// A folder of a pattern.
    Folder(PatternFolder<'p>),
    /// Everything under the upload prefixes, for `RDS_TABLE`.
    Uploads,
}

/// The files of a table in a window.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files, oldest first.
    pub(crate) files: Vec<ListedObject>,
    /// Number of other files in the listed folders whose keys give no table.
    pub(crate) unmatched: u64,
}

/// The search roots of each table.
pub(crate) type SearchRoots<'p> = BTreeMap<TableName, Vec<SearchRoot<'p>>>;

/// Finds the search roots of one table, or of every table whose files stay in place.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn roots<'p>(
    context: &Context,
    bucket: &str,
    rules: &'p TableRules,
    wanted: Option<&TableName>,
) -> Result<SearchRoots<'p>> {
    let settings = &context.settings;
    let is_wanted = |entry: Option<&TableEntry>, table: &TableName| match wanted {
        Some(wanted) => wanted.to_lowercase() == table.to_lowercase(),
        None => keeps(settings, entry, table),
    };
    let mut roots = SearchRoots::new();
    for (top, entry) in rules.routes.patterns.folders().zip(owners(rules)) {
        for (table, folder) in folders_of_tables(context, bucket, top).await? {
            if is_wanted(entry, &table) {
                roots.entry(table).or_default().push(SearchRoot::Folder(folder));
            }
        }
    }
    if let Some(table) = rules.routes.default.as_ref().filter(|table| is_wanted(None, table)) {
        roots.entry(table.clone()).or_default().push(SearchRoot::Uploads);
    }
    Ok(roots)
}

/// Lists the files of a table that are in the window.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn files(
    context: &Context,
    bucket: &str,
    (table, roots): (&TableName, &[SearchRoot<'_>]),
    window: Window,
) -> Result<Listing> {
    let settings = &context.settings;
    let mut found: Vec<(Timestamp, ListedObject)> = Vec::new();
    let mut unmatched = 0;
    for prefix in without_nested(prefixes(context, bucket, roots, window).await?) {
        let mut pages = context.store.list(bucket, &prefix);
        while let Some(page) = pages.next().await? {
            for listed in page.into_iter().filter(|listed| is_upload(settings, bucket, &listed.key)) {
                match settings.key_parts(&listed.key) {
                    Ok(key) if key.table == *table => {
                        found.extend(time_in_window(&key, window, &listed).map(|time| (time, listed)));
                    }
                    Ok(_) => {}
                    Err(_) => unmatched += 1,
                }
            }
        }
    }
    found.sort_by_key(|(time, file)| (*time, file.last_modified));
    Ok(Listing { files: found.into_iter().map(|(_, file)| file).collect(), unmatched })
}

/// The prefixes without those that begin with another one. So no key is listed twice, although two patterns can lead to it.
fn without_nested(sorted: BTreeSet<String>) -> Vec<String> {
    let mut prefixes: Vec<String> = Vec::new();
    for prefix in sorted {
        if !prefixes.last().is_some_and(|last| prefix.starts_with(last.as_str())) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// The prefixes under which the files of the window are.
async fn prefixes(
    context: &Context,
    bucket: &str,
    roots: &[SearchRoot<'_>],
    window: Window,
) -> Result<BTreeSet<String>> {
    let mut prefixes = BTreeSet::new();
    let mut waiting = Vec::new();
    for root in roots {
        match root {
            SearchRoot::Uploads => prefixes.extend(context.settings.prefixes.upload.iter().cloned()),
            SearchRoot::Folder(folder) => waiting.push(folder.clone()),
        }
    }
    while let Some(folder) = waiting.pop() {
        // A root can be such a folder itself, if the table is below the time in the pattern.
        if span(folder.parts()).is_some_and(|span| !window.overlaps(span)) {
            continue;
        }
        if is_listed_whole(&folder, window) {
            prefixes.insert(folder.known_prefix());
            continue;
        }
        match folder.contents() {
            Contents::Folder(child) => waiting.push(child),
            Contents::Folders => waiting.extend(children(context, bucket, &folder).await?),
            Contents::Files => {
                prefixes.insert(folder.known_prefix());
            }
        }
    }
    Ok(prefixes)
}

/// Whether the folders below would not narrow the listing, or not by much.
fn is_listed_whole(folder: &PatternFolder<'_>, window: Window) -> bool {
    let is_short = |start: Timestamp, end: Timestamp| end.duration_since(start).as_secs() <= MAX_WHOLE_SECONDS;
    window.is_everything()
        || !folder.has_part_below(is_time_part)
        || span(folder.parts()).is_some_and(|span| window.covers(span) || is_short(span.start, span.end))
}

/// Whether a key can be that of an upload.
fn is_upload(settings: &PipelineConfig, bucket: &str, key: &str) -> bool {
    let route = Route::of_requested(&ObjectRef::new(bucket, key), &settings.prefixes);
    route == Route::Ingest && route::is_file(key)
}

/// The time by which a file is sorted; `None` if it is not in the window.
fn time_in_window(key: &KeyParts, window: Window, listed: &ListedObject) -> Option<Timestamp> {
    let is_inside = match KeyTime::of(key) {
        KeyTime::Span(span) => window.overlaps(span),
        KeyTime::Unreadable => true,
        KeyTime::LastModified => window.contains(listed.last_modified),
    };
    is_inside.then(|| time_of_key(key, listed))
}

fn time_of_key(key: &KeyParts, listed: &ListedObject) -> Timestamp {
    match KeyTime::of(key) {
        KeyTime::Span(span) => span.start,
        KeyTime::Unreadable | KeyTime::LastModified => listed.last_modified,
    }
}

/// The time of a file: that in its key, or else S3's `LastModified`.
pub(crate) fn time_of(settings: &PipelineConfig, listed: &ListedObject) -> Timestamp {
    settings.key_parts(&listed.key).map_or(listed.last_modified, |key| time_of_key(&key, listed))
}

/// The folders of a pattern in which the table of all files is known, each with its table.
async fn folders_of_tables<'p>(
    context: &Context,
    bucket: &str,
    top: PatternFolder<'p>,
) -> Result<Vec<(TableName, PatternFolder<'p>)>> {
    let ledger_table = &context.settings.database.options.ledger_table;
    let mut found = Vec::new();
    let mut waiting = vec![top];
    while let Some(folder) = waiting.pop() {
        if let Some(name) = folder.table() {
            // An upload event for such a file rejects it. A sync ignores it, because no table can have this name.
            found.extend(pattern::table_name(&name, ledger_table).ok().map(|table| (table, folder)));
            continue;
        }
        match folder.contents() {
            Contents::Folder(child) => waiting.push(child),
            Contents::Folders => waiting.extend(children(context, bucket, &folder).await?),
            // The name of the file decides the table.
            Contents::Files => {
                let tables = tables_of_files(context, bucket, &folder.known_prefix()).await?;
                found.extend(tables.into_iter().map(|table| (table, folder.clone())));
            }
        }
    }
    Ok(found)
}

/// The folders in a folder that the pattern matches, without Spillway's own.
async fn children<'p>(context: &Context, bucket: &str, folder: &PatternFolder<'p>) -> Result<Vec<PatternFolder<'p>>> {
    let listed = context.store.folders(bucket, &folder.known_prefix()).await?;
    let child = |prefix: &String| {
        let name = prefix.strip_prefix(folder.prefix())?.strip_suffix('/')?;
        folder.child(name)
    };
    let is_own = |prefix: &String| route::is_own(prefix, &context.settings.prefixes);
    Ok(listed.iter().filter(|prefix| !is_own(prefix)).filter_map(child).collect())
}

/// The tables of the files under a prefix.
async fn tables_of_files(context: &Context, bucket: &str, prefix: &str) -> Result<BTreeSet<TableName>> {
    let mut tables = BTreeSet::new();
    let mut pages = context.store.list(bucket, prefix);
    while let Some(page) = pages.next().await? {
        tables.extend(page.iter().filter_map(|listed| Some(context.settings.key_parts(&listed.key).ok()?.table)));
    }
    Ok(tables)
}

/// Whether the loaded files of a table stay in place. `entry` is the entry of the table settings that the pattern belongs to.
fn keeps(settings: &PipelineConfig, entry: Option<&TableEntry>, table: &TableName) -> bool {
    let after_load = entry.map_or_else(|| settings.table(table, "").after_load, |entry| entry.config.after_load);
    after_load == AfterLoad::Keep
}

/// The entry of the table settings that each pattern belongs to; `None` for the patterns of `TABLE_PATTERN`.
fn owners(rules: &TableRules) -> impl Iterator<Item = Option<&TableEntry>> {
    let of_entries = rules.entries.iter().flat_map(|entry| std::iter::repeat_n(Some(entry), entry.patterns.len()));
    of_entries.chain(std::iter::repeat(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_prefixes_are_listed_once() {
        let prefixes = ["a/", "a/b/", "a/b/c", "ab/", "b/x", "b/xy"].map(str::to_owned);
        assert_eq!(without_nested(prefixes.into()), ["a/", "ab/", "b/x"]);
        assert_eq!(without_nested([String::new(), "a/".to_owned()].into()), [""]);
    }
}
