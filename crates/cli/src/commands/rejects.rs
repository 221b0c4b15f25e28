//! `spillway rejects`: records that were not loaded, and their errors.

mod local;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use spillway_core::error::Result;
use spillway_core::listing::RejectsItem;

use crate::commands::list::{List, ListArguments, details};
use crate::commands::reports;
use crate::exit::Exit;
use crate::file_name::bucket_and_key;
use crate::output::Styles;
use crate::request::{RequestOptions, Target};
use crate::session::Session;
use crate::table::{Align, Table, bytes, duration, printable};

/// The commands about rejected records.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the files of rejected records
    List(ListArguments),
    /// Show the errors of a file of rejected records
    Show(KeyArguments),
    /// Load corrected records into the table that they came from
    Load(LoadArguments),
}

/// The arguments of `rejects load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The key of the file, such as rejected/orders/….csv
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    options: RequestOptions,
}

/// The arguments of `rejects show`.
#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    /// The key of the file, such as rejected/orders/….csv, or the path of a local file of rejected records
    #[arg(value_name = "KEY|FILE")]
    key: String,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::List(arguments) => list(&arguments, session).await,
        Command::Show(arguments) => show(&arguments, session).await,
        Command::Load(arguments) => {
            let body = arguments.options.send(session, json!({"rejects": arguments.key})).await?;
            Ok(reports::print(session, &body))
        }
    }
}

async fn list(arguments: &ListArguments, session: &Session) -> Result<Exit> {
    let list: List<RejectsItem> = arguments.request(session, "rejects").await?;
    list.print(session, "no rejected records", table, |item| format!("spillway rejects show {}", printable(&item.key)));
    Ok(Exit::Done)
}

async fn show(arguments: &KeyArguments, session: &Session) -> Result<Exit> {
    if let Some((records, errors)) = local::find(&arguments.key).filter(|_| !arguments.target.is_deployed()) {
        return local::show((&records, &errors), session);
    }
    let (bucket, key) = bucket_and_key(&arguments.key);
    let request = json!({"rejects": {"list": {"key": key}}});
    let target = arguments.target.in_bucket(bucket);
    let List { json, items } = List::<RejectsItem>::request(session, &target, &request).await?;
    session.output.result(&json, |styles| match items.first() {
        None => "no file of rejected records has this key\n".to_owned(),
        Some(item) => item_details(item, styles),
    });
    if !items.is_empty() {
        session
            .output
            .next_step(&format!("correct the records, then spillway rejects load {}", printable(&arguments.key)));
    }
    Ok(if items.is_empty() { Exit::Failed } else { Exit::Done })
}

fn table(items: &[RejectsItem], styles: Styles) -> String {
    let mut table =
        Table::new(&[("age", Align::Right), ("table", Align::Left), ("size", Align::Right), ("key", Align::Left)]);
    for item in items {
        table.row(vec![
            duration(item.age_seconds * 1000),
            item.table.clone(),
            bytes(item.size_bytes),
            item.key.clone(),
        ]);
    }
    table.text(styles)
}

fn item_details(item: &RejectsItem, styles: Styles) -> String {
    let title = printable(item.original_key.as_deref().unwrap_or(&item.key));
    let fields = [
        ("table", Some(printable(&item.table))),
        ("records", Some(printable(&item.key))),
        ("errors", Some(printable(&item.errors_key))),
        ("id", Some(item.source_id.clone())),
    ];
    let mut text = details(styles, &title, fields);
    if !item.errors.is_empty() {
        text.push('\n');
        text.push_str(&errors_table(&item.errors).text(styles));
    }
    text
}

/// A table of errors, in which each one is an object of the file of errors.
fn errors_table(errors: &[Value]) -> Table {
    let mut table = Table::new(&[
        ("record", Align::Right),
        ("line", Align::Right),
        ("column", Align::Left),
        ("code", Align::Left),
        ("reason", Align::Left),
    ]);
    for error in errors {
        let cell = |name: &str| match &error[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        table.row(["record", "line", "column", "code", "reason"].map(cell).into());
    }
    table
}
