//! The check request: tests everything that a load needs after a deployment, and leaves nothing behind.
//!
//! A failure does not stop the later tests. An item whose test needs a failed item says so.

mod delivery;

use bytes::Bytes;
use serde::Serialize;

use crate::deadline::Deadline;
use crate::destination::{AttemptsProbe, LedgerProbe, Probe};
use crate::error::{Error, Result, chain};
use crate::fallback;
use crate::pipeline::{Context, DatabaseAccess, Destinations, PipelineConfig, Refresh};
use crate::policy::policy;
use crate::row_objects::Area;
use crate::secret::CredentialSettings;

pub(crate) use delivery::Surroundings;

/// The end of most hints. It makes sense for a file only, so a check removes it.
const REPLAY_HINT: &str = "then replay the fallback";

/// The beginning of the reason of an item that lacks a privilege.
const DENIED: &str = "privilege: ";

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether every item passed.
    pub ok: bool,
    /// The items, in the order in which they were tried.
    pub items: Vec<CheckItem>,
}

/// One thing that a load needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckItem {
    /// Its name.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// The test, in words.
    pub tried: String,
    /// The result, if it says more than that the test passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How to correct the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl CheckItem {
    fn passed(name: &'static str, tried: impl Into<String>, found: Option<String>) -> Self {
        Self { name, ok: true, tried: tried.into(), found, reason: None, fix: None }
    }

    fn failed(name: &'static str, tried: impl Into<String>, reason: String, fix: &str) -> Self {
        let (reason, fix) = (Some(reason), Some(fix.to_owned()));
        Self { name, ok: false, tried: tried.into(), found: None, reason, fix }
    }

    /// The item of a test that returns what it found.
    fn of(name: &'static str, tried: impl Into<String>, result: Result<Option<String>>) -> Self {
        match result {
            Ok(found) => Self::passed(name, tried, found),
            Err(error) => Self::failed(name, tried, reason(&error), fix(&error)),
        }
    }

    /// The item of a test that cannot run because another one failed.
    fn not_tried(name: &'static str, tried: &str, cause: &str) -> Self {
        Self::failed(name, tried, format!("not tried, because {cause:?} failed"), &format!("correct {cause:?} first"))
    }
}

/// Checks the settings, S3, the upload queue, the secret, the database, the ledger, Glue, the tasks and the Glue job.
pub(crate) async fn check(
    context: &Context,
    surroundings: Surroundings<'_>,
    bucket: &str,
    deadline: &Deadline,
) -> Check {
    let mut items = vec![settings(&context.settings, bucket)];
    items.extend(table_settings(context).await);
    items.push(list(context, bucket).await);
    items.push(CheckItem::of(
        "bucket_write",
        format!("write and delete an object under {}", context.settings.prefixes.lease),
        write(context, bucket).await,
    ));
    items.extend(delivery::uploads(context, surroundings.queue, bucket).await);
    items.extend(database(&context.settings, &*context.destinations, deadline).await);
    items.push(glue(context, bucket).await);
    items.extend(lake(context).await);
    items.extend(raw_zone(context).await);
    items.push(delivery::tasks(surroundings.launcher).await);
    items.extend(delivery::glue_job(context).await);
    Check { ok: items.iter().all(|item| item.ok), items }
}

/// Checks the login, the database and the ledger: what a load of a local file needs.
pub(crate) async fn check_database(
    settings: &PipelineConfig,
    destinations: &dyn Destinations,
    deadline: &Deadline,
) -> Check {
    let items = database(settings, destinations, deadline).await;
    Check { ok: items.iter().all(|item| item.ok), items }
}

/// The settings are complete and valid, or this process would not run.
fn settings(settings: &PipelineConfig, bucket: &str) -> CheckItem {
    let rules = settings.database.tables.current();
    let tables = &rules.routes;
    let target = match &tables.default {
        Some(table) if tables.patterns.is_empty() => format!("table {table}"),
        Some(table) => format!("tables by TABLE_PATTERN, else {table}"),
        None => "tables by TABLE_PATTERN".to_owned(),
    };
    let found = format!(
        "bucket {bucket}, uploads under {}, {target}, load mode {}",
        settings.prefixes.upload.iter().map(|prefix| format!("{prefix:?}")).collect::<Vec<_>>().join(", "),
        settings.database.options.load_mode.name()
    );
    CheckItem::passed("settings", "read the settings of this function", Some(found))
}

/// Reads the table settings again, if they are an object in S3.
async fn table_settings(context: &Context) -> Option<CheckItem> {
    let tables = &context.settings.database.tables;
    let object = tables.object()?;
    let result = match tables.refresh(&context.store).await {
        Ok(Refresh::Current) => Ok(Some(format!("{} tables", tables.current().entries.len()))),
        Ok(Refresh::KeptLast(error)) | Err(error) => Err(error),
    };
    Some(CheckItem::of("table_settings", format!("read {object}"), result))
}

async fn list(context: &Context, bucket: &str) -> CheckItem {
    let listed = async {
        for prefix in &context.settings.prefixes.upload {
            context.store.list(bucket, prefix).next().await?;
        }
        Ok(None)
    };
    CheckItem::of("bucket", format!("list the upload prefixes of the bucket {bucket}"), listed.await)
}

/// Writes and deletes an object whose name is not a lease.
async fn write(context: &Context, bucket: &str) -> Result<Option<String>> {
    let key = format!("{}check-{:016x}", context.settings.prefixes.lease, fastrand::u64(..));
    let body = Bytes::from_static(b"This object can be deleted.\n");
    context.store.put_new(bucket, &key, body, "text/plain").await?;
    context.store.delete(bucket, &key).await?;
    Ok(None)
}

/// The secret, and what the database allows its user.
async fn database(settings: &PipelineConfig, destinations: &dyn Destinations, deadline: &Deadline) -> Vec<CheckItem> {
    const CONNECT: &str = "connect to the database and log in";
    let tried = match &settings.database.access {
        DatabaseAccess::Login(CredentialSettings::Inline(_)) => {
            "read RDS_HOST, RDS_USER, RDS_PASSWORD and RDS_DB from the settings".to_owned()
        }
        DatabaseAccess::Login(CredentialSettings::Secret(secret)) => format!("read the secret {:?}", secret.name),
        DatabaseAccess::Redshift(_) => "read the name of the workgroup or cluster from the settings".to_owned(),
    };
    let opened = destinations.open(&settings.database.options, true).await;
    let destination = match opened {
        Ok(destination) => destination,
        Err(error) => {
            let mut items = vec![CheckItem::of("secret", tried, Err(error))];
            items.push(CheckItem::not_tried("database", CONNECT, "secret"));
            items.extend(not_probed("secret"));
            return items;
        }
    };
    let mut items = vec![CheckItem::passed("secret", tried, None)];
    let probed = tokio::select! {
        probed = destination.probe() => probed,
        error = deadline.reached() => Err(error),
    };
    match probed {
        Ok(probe) => {
            items.push(CheckItem::passed("database", CONNECT, None));
            items.extend(probe_items(probe, settings));
        }
        Err(error) => {
            items.push(CheckItem::of("database", CONNECT, Err(error)));
            items.extend(not_probed("database"));
        }
    }
    items
}

const LOAD_STATEMENT: (&str, &str) = ("load_statement", "read how rows can be sent");
const TEMPORARY_TABLE: (&str, &str) = ("temporary_table", "create a temporary table and insert a row");
const TABLE: (&str, &str) =
    ("table", "create a table spillway_check_…, insert, read, update and delete a row, add a column, drop the table");
const LEDGER: (&str, &str) = ("ledger", "read the ledger, and insert a row that is rolled back");
const HISTORY: (&str, &str) = ("history", "look for the attempt history and the indexes; loads do not need them");

fn not_probed(cause: &str) -> [CheckItem; 5] {
    [LOAD_STATEMENT, TEMPORARY_TABLE, TABLE, LEDGER, HISTORY]
        .map(|(name, tried)| CheckItem::not_tried(name, tried, cause))
}

fn probe_items(probe: Probe, settings: &PipelineConfig) -> [CheckItem; 5] {
    let Probe { load_statement, temporary_table, table, ledger, history, grants } = probe;
    let can_create = table.is_empty();
    let of_table = match table.first() {
        None => CheckItem::passed(TABLE.0, TABLE.1, None),
        Some(first) => {
            let reasons: Vec<String> = table.iter().map(reason).collect();
            CheckItem::failed(TABLE.0, TABLE.1, reasons.join("; "), fix(first))
        }
    };
    let of_ledger = match ledger {
        Ok(LedgerProbe::Missing) if !can_create => CheckItem::failed(
            LEDGER.0,
            LEDGER.1,
            format!("{} does not exist, and the user may not create it", settings.database.options.ledger_table),
            "correct \"table\" first",
        ),
        Ok(LedgerProbe::Missing) => {
            CheckItem::passed(LEDGER.0, LEDGER.1, Some("it does not exist yet; the first load creates it".to_owned()))
        }
        Ok(LedgerProbe::Usable) => CheckItem::passed(LEDGER.0, LEDGER.1, None),
        Err(error) => CheckItem::of(LEDGER.0, LEDGER.1, Err(error)),
    };
    let mut items = [
        CheckItem::of(
            LOAD_STATEMENT.0,
            LOAD_STATEMENT.1,
            load_statement.map(|name| Some(format!("rows are sent by {name}"))),
        ),
        CheckItem::of(TEMPORARY_TABLE.0, TEMPORARY_TABLE.1, temporary_table.map(|()| None)),
        of_table,
        of_ledger,
        CheckItem::of(HISTORY.0, HISTORY.1, history.map(|probe| probe.map(history_state))),
    ];
    // The server names one missing privilege at a time. The first failure tells all of them.
    let is_denied = |item: &&mut CheckItem| item.reason.as_deref().is_some_and(|reason| reason.starts_with(DENIED));
    let mut denied = items[1..].iter_mut().filter(is_denied).filter(|_| !grants.is_empty());
    if let Some(first) = denied.next() {
        first.fix = Some(format!("run as an administrator: {grants}"));
        denied.for_each(|item| item.fix = Some(format!("run the statements of {:?}", first.name)));
    }
    items
}

/// What the history lacks. That fails no check: the next sweep creates it, if the user may.
fn history_state(probe: AttemptsProbe) -> String {
    let AttemptsProbe { table, exists, missing_indexes, missing_columns } = probe;
    let mut lacks: Vec<String> = Vec::new();
    if !exists {
        lacks.push(format!(
            "the table {table} does not exist or cannot be read, so failed attempts are only in the log"
        ));
    }
    if !missing_indexes.is_empty() {
        lacks.push(format!("without these indexes, requests read whole tables: {}", missing_indexes.join("; ")));
    }
    if !missing_columns.is_empty() {
        lacks.push(format!(
            "without this column, the ledger lists no changes of tables: {}",
            missing_columns.join("; ")
        ));
    }
    match lacks.is_empty() {
        true => format!("failed attempts are in {table}"),
        false => format!(
            "{}; the next sweep creates what is missing, if the user may; else its owner must",
            lacks.join("; ")
        ),
    }
}

async fn glue(context: &Context, bucket: &str) -> CheckItem {
    let settings = &context.settings;
    // Without a default table, the Glue tables are known only from the keys of files.
    let rules = settings.database.tables.current();
    let table = rules.routes.default.as_ref();
    let location = table.map(|table| (settings.glue_table(table), fallback::table_folder(bucket, settings, table)));
    let result = match &location {
        Some((table, folder)) => context.catalog.with_table(table).inspect(Some(folder)).await,
        None => context.catalog.inspect(None).await,
    };
    let tried = format!("read the Glue database {} and its fallback table", settings.glue.database);
    CheckItem::of("glue", tried, result.map(|found| Some(found.to_owned())))
}

/// The catalog of the lake, if there is one. Its tables are known only from the keys of files.
async fn lake(context: &Context) -> Option<CheckItem> {
    let result = Area::lake(&context.settings)?.catalog(&context.catalog).inspect(None).await;
    let tried = format!("read the Glue database {} of the lake", context.settings.lake_database);
    Some(CheckItem::of("lake", tried, result.map(|found| Some(found.to_owned()))))
}

/// The catalog of raw zones, if any table has one. Its tables are known only from the keys of files.
async fn raw_zone(context: &Context) -> Option<CheckItem> {
    let settings = &context.settings;
    if !settings.catalogs_raw() {
        return None;
    }
    let result = context.catalog.for_raw_zone(&settings.raw_database).inspect(None).await;
    let tried = format!("read the Glue database {} of raw zones", settings.raw_database);
    Some(CheckItem::of("raw_zone", tried, result.map(|found| Some(found.to_owned()))))
}

fn reason(error: &Error) -> String {
    format!("{}: {}", error.kind(), chain(error))
}

fn fix(error: &Error) -> &'static str {
    let hint = policy(error.kind()).hint;
    hint.strip_suffix(REPLAY_HINT).map_or(hint, |rest| rest.trim_end_matches([',', ';', ' ']))
}
