//! `spillway fallback`: the rows that the database did not accept.

use clap::{Args, Subcommand};
use serde_json::json;
use spillway_core::error::Result;
use spillway_core::listing::FallbackItem;

use crate::commands::list::{List, ListArguments, details, is_id};
use crate::commands::reports;
use crate::exit::Exit;
use crate::numbers::count;
use crate::output::Styles;
use crate::request::{RequestOptions, Target};
use crate::session::Session;
use crate::table::{Align, Table, bytes, duration, printable};

/// The commands about the fallback.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the files whose rows are in the fallback
    List(ListArguments),
    /// Show the rows of one file in the fallback: reason, table and place
    Show(ShowArguments),
    /// Load the rows of the fallback into the database
    Replay(ReplayArguments),
}

/// The arguments of `fallback show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The key that the file was uploaded to, or the first eight or more digits of its id
    #[arg(value_name = "KEY|ID")]
    file: String,
    #[command(flatten)]
    target: Target,
}

/// The arguments of `fallback replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Only rows of this table; by default of every table, or of RDS_TABLE if it is the only table of the settings
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// The largest number of files; by default all
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    #[command(flatten)]
    options: RequestOptions,
}

/// Runs the command.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::List(arguments) => list(&arguments, session).await,
        Command::Show(arguments) => show(&arguments, session).await,
        Command::Replay(arguments) => {
            let request = json!({"replay": {"table": arguments.table, "limit": arguments.limit}});
            let body = arguments.options.send(session, request).await?;
            Ok(reports::print(session, &body))
        }
    }
}

async fn list(arguments: &ListArguments, session: &Session) -> Result<Exit> {
    let list: List<FallbackItem> = arguments.request(session, "fallback").await?;
    list.print(session, "the fallback is empty", table, |_| {
        "spillway fallback replay, when the cause is gone".to_owned()
    });
    Ok(Exit::Done)
}

async fn show(arguments: &ShowArguments, session: &Session) -> Result<Exit> {
    let file = &arguments.file;
    let field = if is_id(file) { "id" } else { "key" };
    let request = json!({"fallback": {"list": {field: file}}});
    let List { json, items } = List::<FallbackItem>::request(session, &arguments.target, &request).await?;
    session.output.result(&json, |styles| match items.is_empty() {
        true => format!("no file in the fallback has this {field}\n"),
        false => items.iter().map(|item| item_details(item, styles)).collect::<Vec<_>>().join("\n"),
    });
    Ok(if items.is_empty() { Exit::Failed } else { Exit::Done })
}

fn table(items: &[FallbackItem], styles: Styles) -> String {
    let mut table = Table::new(&[
        ("age", Align::Right),
        ("table", Align::Left),
        ("rows", Align::Right),
        ("rejected", Align::Right),
        ("id", Align::Left),
        ("key", Align::Left),
    ]);
    for item in items {
        table.row(vec![
            duration(item.age_seconds * 1000),
            item.table.clone(),
            count(item.rows),
            count(item.rows_rejected),
            item.source_id.get(..16).unwrap_or_default().to_owned(),
            item.key.clone(),
        ]);
        table.below(&item.reason);
    }
    table.text(styles)
}

fn item_details(item: &FallbackItem, styles: Styles) -> String {
    let glue = item.glue_table.as_deref().map(|table| format!("{}, partition dt={}", printable(table), item.dt));
    let fields = [
        ("reason", Some(printable(&item.reason))),
        ("table", Some(printable(&item.table))),
        ("rows", Some(count(item.rows))),
        ("rejected", (item.rows_rejected > 0).then(|| count(item.rows_rejected))),
        ("size", Some(bytes(item.size_bytes))),
        ("written", Some(item.written_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())),
        ("Glue table", glue),
        ("object", Some(printable(&item.fallback_key))),
        ("id", Some(item.source_id.clone())),
    ];
    details(styles, &printable(&item.key), fields)
}
