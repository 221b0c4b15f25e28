//! `spillway exports`: imports full exports here, and shows what the registry says about imports.

use std::time::Instant;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use spillway_core::config::Environment;
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::exports::{ExportImporter, ImportProgress, ImportSettings};
use spillway_core::object::ObjectRef;

use crate::database::DatabaseOptions;
use crate::exit::{self, Exit};
use crate::file_name::FileName;
use crate::json::{list, text};
use crate::numbers::{count, counted};
use crate::output::{Style, Styles};
use crate::session::Session;
use crate::table::{Align, Table, duration, printable};

/// The commands about imports of full exports.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tables that have imports, with their last version
    List(ListArguments),
    /// Show the versions of a tenant's table: state, changes and errors
    Show(ShowArguments),
    /// Import a version: compare it with the last one, and load or publish the changes
    Import(ImportArguments),
}

/// The arguments of `exports list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only tables of this tenant
    #[arg(value_name = "TENANT")]
    tenant: Option<String>,
    /// Use this bucket instead of S3_BUCKET
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
}

/// The arguments of `exports show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The tenant
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// The table, as the keys of the exports name it
    #[arg(value_name = "TABLE")]
    table: String,
    /// Use this bucket instead of S3_BUCKET
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
}

/// The arguments of `exports import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: spillway exports import s3://data/exports/acme/orders/20201231_V0001/ --secret prod/shop"
)]
pub(crate) struct ImportArguments {
    /// Folder of the version, as s3://bucket/prefix/tenant/table/version/
    #[arg(value_name = "FOLDER")]
    folder: String,
    #[command(flatten)]
    database: DatabaseOptions,
}

/// Runs the command.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::List(ListArguments { tenant, bucket }) => {
            let status = status(session, bucket, json!({"tenant": tenant})).await?;
            session.output.result(&status, |styles| tables(&status, styles));
            Ok(Exit::Done)
        }
        Command::Show(ShowArguments { tenant, table, bucket }) => {
            let status = status(session, bucket, json!({"tenant": tenant, "table": table})).await?;
            let Some(found) = list(&status["tables"]).first() else {
                let message = format!(
                    "the registry has no table {table} of tenant {tenant}; spillway exports list shows all tables"
                );
                return Err(Error::new(ErrorKind::SourceMissing, message).with_advice());
            };
            session.output.result(found, |styles| versions(found, styles));
            Ok(Exit::Done)
        }
        Command::Import(arguments) => import(&arguments, session).await,
    }
}

/// Reads the registry.
async fn status(session: &Session, bucket: Option<String>, mut step: Value) -> Result<Value> {
    step["step"] = "status".into();
    // The registry is read without a database and without a stream.
    let mut values = vec![("EXPORT_TARGET", "stream".to_owned()), ("EXPORT_STREAM", "none".to_owned())];
    values.extend(bucket.map(|bucket| ("S3_BUCKET", bucket)));
    let importer = importer(&session.environment.fixed(values)).await?;
    Box::pin(importer.run(&json!({"export": step}), &exit::until_signal()?)).await
}

async fn importer(environment: &Environment) -> Result<ExportImporter> {
    let environment = environment.or(vec![("EXPORT_TARGET", "database".to_owned())]);
    let settings = ImportSettings::read(&environment)?;
    let missing = || Error::new(ErrorKind::Internal, "EXPORT_TARGET is set and was not found");
    Ok(Box::pin(ExportImporter::new(settings.ok_or_else(missing)?)).await)
}

async fn import(arguments: &ImportArguments, session: &Session) -> Result<Exit> {
    let (ObjectRef { bucket, key: folder, .. }, started) = (folder_of(&arguments.folder)?, Instant::now());
    let values = [arguments.database.settings()?, vec![("S3_BUCKET", bucket)]].concat();
    let environment = session.environment.fixed(values);
    let environment = environment.or(vec![("EXPORT_PREFIX", prefix_of(&folder)?)]);
    let importer = importer(&environment).await?;
    let output = &session.output;
    let notify = |progress: ImportProgress| output.note(&line(&progress));
    let deadline = exit::until_signal()?;
    let mut imported = Box::pin(importer.import(&folder, &deadline, notify)).await?;
    imported["seconds"] = started.elapsed().as_secs_f64().into();
    output.result(&imported, |styles| described(&imported, styles));
    Ok(match imported["status"].as_str() {
        Some("done" | "stale") => Exit::Done,
        _ => Exit::Failed,
    })
}

/// The folder of a version.
fn folder_of(address: &str) -> Result<ObjectRef> {
    let with_slash = if address.ends_with('/') { address.to_owned() } else { format!("{address}/") };
    match FileName::of(format!("{with_slash}_").as_ref())? {
        FileName::Object(object) => Ok(ObjectRef::new(&object.bucket, object.key.trim_end_matches('_'))),
        FileName::Local(_) => {
            let message =
                format!("{} is not a folder in S3, such as s3://data/exports/acme/orders/V1/", printable(address));
            Err(Error::new(ErrorKind::Settings, message))
        }
    }
}

/// The prefix of the exports: what is before tenant, table and version.
fn prefix_of(folder: &str) -> Result<String> {
    let mut parts: Vec<&str> = folder.trim_end_matches('/').split('/').collect();
    if parts.len() < 3 {
        let message = format!("{} does not end with tenant/table/version/", printable(folder));
        return Err(Error::new(ErrorKind::Settings, message));
    }
    parts.truncate(parts.len() - 3);
    Ok(parts.iter().map(|part| format!("{part}/")).collect())
}

fn line(progress: &ImportProgress) -> String {
    match progress {
        ImportProgress::WaitingForFiles(time) => {
            format!("waiting {} for further files of the version (EXPORT_QUIET_SECONDS)", seconds(time.as_secs()))
        }
        ImportProgress::WaitingForLock(time) => {
            format!("another import of the table has its lock; trying again in {}", seconds(time.as_secs()))
        }
        ImportProgress::Step { version, step } => format!("{}: {step}", printable(version)),
    }
}

fn seconds(seconds: u64) -> String {
    duration(seconds * 1000)
}

fn described(imported: &Value, styles: Styles) -> String {
    let [tenant, table, version] = ["tenant", "table", "version"].map(|name| text(&imported[name]));
    let place = format!("{tenant}/{table}/{version}");
    match (imported["status"].as_str(), &imported["statistics"]) {
        (Some("done"), Value::Null) => format!("{place}: {}\n", styles.paint(Style::Warning, "was imported before")),
        (Some("done"), statistics) => {
            let compared = match statistics["compared_with"].as_str() {
                Some(version) => format!("compared with {}", printable(version)),
                None => "the first version".to_owned(),
            };
            let done = styles.paint(Style::Good, "imported");
            format!("{place}: {done}, {compared}: {}\n", changes(statistics))
        }
        (Some("stale"), _) => {
            let stale = styles.paint(Style::Warning, "not imported");
            format!("{place}: {stale}, because a newer version was imported before\n")
        }
        _ => format!("{}: {}\n", styles.paint(Style::Bad, "not imported"), text(&imported["reason"])),
    }
}

/// The changes of a version in words.
fn changes(statistics: &Value) -> String {
    let number = |name: &str| count(statistics[name].as_u64().unwrap_or(0));
    let mut text = format!(
        "{}; {} inserted, {} updated, {} deleted, {} unchanged",
        counted(statistics["rows"].as_u64().unwrap_or(0), "row"),
        number("inserted"),
        number("updated"),
        number("deleted"),
        number("unchanged")
    );
    for (name, what) in [("published", "published"), ("rows_missing", "missing in the table")] {
        if statistics[name].as_u64().unwrap_or(0) > 0 {
            text += &format!(", {} {what}", number(name));
        }
    }
    text
}

fn tables(status: &Value, styles: Styles) -> String {
    let found = list(&status["tables"]);
    if found.is_empty() {
        return "the registry has no tables\n".to_owned();
    }
    let mut table = Table::new(&[
        ("tenant", Align::Left),
        ("table", Align::Left),
        ("last version", Align::Left),
        ("rows", Align::Right),
        ("now", Align::Left),
    ]);
    for one in found {
        let rows = one["current"]["statistics"]["rows"].as_u64().map(count).unwrap_or_default();
        let cells = [&one["tenant"], &one["table"], &one["current"]["version"]].map(text);
        table.row([cells.to_vec(), vec![rows, now(one)]].concat());
    }
    table.text(styles)
}

/// What happens to a table at the moment.
fn now(table: &Value) -> String {
    match (table["lock"]["version"].as_str(), table["planned"]["version"].as_str()) {
        (Some(version), _) => format!("{} is imported", printable(version)),
        (None, Some(version)) => format!("{} is not finished", printable(version)),
        (None, None) => String::new(),
    }
}

fn versions(status: &Value, styles: Styles) -> String {
    let found = list(&status["versions"]);
    let mut table = Table::new(&[
        ("version", Align::Left),
        ("state", Align::Left),
        ("files", Align::Right),
        ("ended", Align::Left),
        ("changes", Align::Left),
    ]);
    for version in found {
        let changed = if version["statistics"].is_null() { String::new() } else { changes(&version["statistics"]) };
        let ended = text(&version["ended_at"]).chars().take(19).collect::<String>().replace('T', " ");
        let files = version["files"].as_u64().map(count).unwrap_or_default();
        table.row(vec![text(&version["version"]), text(&version["state"]), files, ended, changed]);
        match version["state"].as_str() {
            Some("done") => table.paint(1, Style::Good),
            Some("failed") => table.paint(1, Style::Bad),
            _ => {}
        }
        if let Some(error) = version["error"].as_str() {
            table.below(error);
        }
    }
    let now = match now(status) {
        now if now.is_empty() => String::new(),
        now => format!("{now}\n"),
    };
    format!("{}{now}{}\n", table.text(styles), counted(found.len() as u64, "version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_bucket_and_prefix() {
        for address in ["s3://data/exports/acme/orders/V1/", "s3://data/exports/acme/orders/V1"] {
            let folder = folder_of(address).unwrap();
            assert_eq!((folder.bucket.as_str(), folder.key.as_str()), ("data", "exports/acme/orders/V1/"));
        }
        assert_eq!(prefix_of("exports/acme/orders/V1/").unwrap(), "exports/");
        assert_eq!(prefix_of("acme/orders/V1/").unwrap(), "");
        assert!(prefix_of("orders/V1/").is_err() && folder_of("exports/acme/orders/V1/").is_err());
    }

    #[test]
    fn result_is_one_line() {
        let result = |imported: Value| described(&imported, Styles(crate::output::Color::Off));
        let names = |status: &str| json!({"status": status, "tenant": "acme", "table": "orders", "version": "V2"});
        let mut done = names("done");
        assert_eq!(result(done.clone()), "acme/orders/V2: was imported before\n");
        done["statistics"] = json!({"compared_with": "V1", "rows": 1000, "inserted": 3, "updated": 2, "deleted": 1, "unchanged": 995, "published": 6});
        assert_eq!(
            result(done),
            "acme/orders/V2: imported, compared with V1: 1,000 rows; 3 inserted, 2 updated, 1 deleted, 995 unchanged, 6 published\n"
        );
        assert!(result(names("stale")).contains("newer version"));
        assert_eq!(result(json!({"status": "ignored", "reason": "no files"})), "not imported: no files\n");
    }
}
