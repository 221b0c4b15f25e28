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
use crate::pattern::{self, Contents, PatternFolder};
use crate::pipeline::{AfterLoad, Context, PipelineConfig, TableEntry, TableRules};
use crate::route::{self, Route};
use crate::store::read::ListedObject;
use crate::table_name::TableName;

/// The longest period of a folder that is listed as a whole, although only a part of it is in the window: a day.
const MAX_WHOLE_SECONDS: i64 = 24 * 60 * 60;

/// A place in the bucket that contains files of a table.
#[derive(Debug, Clone)]
pub(crate) enum Place<'p> {
    /// A folder of a pattern.
    Folder(PatternFolder<'p>),
    /// Everything under the upload prefixes, for `RDS_TABLE`.
    Uploads,
}

/// The places of each table.
pub(crate) type Places<'p> = BTreeMap<TableName, Vec<Place<'p>>>;

/// Finds the places of one table, or of every table whose files stay in place.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn places<'p>(
    context: &Context,
    bucket: &str,
    rules: &'p TableRules,
    wanted: Option<&TableName>,
) -> Result<Places<'p>> {
    let settings = &context.settings;
    let is_wanted = |entry: Option<&TableEntry>, table: &TableName| match wanted {
        Some(wanted) => wanted.to_lowercase() == table.to_lowercase(),
        None => keeps(settings, entry, table),
    };
    let mut places = Places::new();
    for (top, entry) in rules.routes.patterns.folders().zip(owners(rules)) {
        for (table, folder) in folders_of_tables(context, bucket, top).await? {
            if is_wanted(entry, &table) {
                places.entry(table).or_default().push(Place::Folder(folder));
            }
        }
    }
    if let Some(table) = rules.routes.default.as_ref().filter(|table| is_wanted(None, table)) {
        places.entry(table.clone()).or_default().push(Place::Uploads);
    }
    Ok(places)
}

/// Returns the files of a table that are in the window, oldest first.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn files(
    context: &Context,
    bucket: &str,
    (table, places): (&TableName, &[Place<'_>]),
    window: Window,
) -> Result<Vec<ListedObject>> {
    let settings = &context.settings;
    // Two patterns can lead to one key.
    let mut found: BTreeMap<String, (Timestamp, ListedObject)> = BTreeMap::new();
    for prefix in prefixes(context, bucket, places, window).await? {
        let mut pages = context.store.list(bucket, &prefix);
        while let Some(page) = pages.next().await? {
            let timed =
                |listed: ListedObject| Some((time_in_window(settings, (bucket, table), window, &listed)?, listed));
            found.extend(page.into_iter().filter_map(timed).map(|file| (file.1.key.clone(), file)));
        }
    }
    let mut files: Vec<(Timestamp, ListedObject)> = found.into_values().collect();
    files.sort_by_key(|(time, file)| (*time, file.last_modified));
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// The prefixes under which the files of the window are.
async fn prefixes(context: &Context, bucket: &str, places: &[Place<'_>], window: Window) -> Result<BTreeSet<String>> {
    let mut prefixes = BTreeSet::new();
    let mut waiting = Vec::new();
    for place in places {
        match place {
            Place::Uploads => prefixes.extend(context.settings.prefixes.upload.iter().cloned()),
            Place::Folder(folder) => waiting.push(folder.clone()),
        }
    }
    while let Some(folder) = waiting.pop() {
        if is_listed_whole(&folder, window) {
            prefixes.insert(folder.known_prefix());
            continue;
        }
        match folder.contents() {
            Contents::Folder(child) => waiting.push(child),
            Contents::Folders => {
                let is_outside =
                    |child: &PatternFolder<'_>| span(child.parts()).is_some_and(|span| !window.overlaps(span));
                waiting
                    .extend(children(context, bucket, &folder).await?.into_iter().filter(|child| !is_outside(child)));
            }
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

/// The time by which a file of the table is sorted; `None` if it is not in the window, or not a file of the table.
fn time_in_window(
    settings: &PipelineConfig,
    (bucket, table): (&str, &TableName),
    window: Window,
    listed: &ListedObject,
) -> Option<Timestamp> {
    let route = Route::of_requested(&ObjectRef::new(bucket, &listed.key), &settings.prefixes);
    if route != Route::Ingest || !route::is_file(&listed.key) {
        return None;
    }
    let key = settings.key_parts(&listed.key).ok().filter(|key| key.table == *table)?;
    match KeyTime::of(&key) {
        KeyTime::Span(span) => window.overlaps(span).then_some(span.start),
        KeyTime::Unreadable => Some(listed.last_modified),
        KeyTime::LastModified => window.contains(listed.last_modified).then_some(listed.last_modified),
    }
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
            // Files with an invalid table name are rejected when they are loaded. They belong to no table.
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
