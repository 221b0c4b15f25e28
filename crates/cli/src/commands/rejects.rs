//! `spillway rejects`: records that were not loaded, and their errors.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::listing::RejectsItem;

use crate::commands::reports;
use crate::exit::Exit;
use crate::output::{Style, Styles};
use crate::request::{Target, send};
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
    Load(KeyArguments),
}

/// The arguments of `rejects list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only records of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// The largest number of files, at most 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Continue where the previous list ended: the value that it printed for --after
    #[arg(long, value_name = "TOKEN")]
    after: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// The arguments of `rejects show` and `rejects load`.
#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    /// The key of the file, such as rejected/orders/….csv
    #[arg(value_name = "KEY")]
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
            let body = send(session, &arguments.target, json!({"rejects": arguments.key})).await?;
            Ok(reports::print(session, &body))
        }
    }
}

async fn list(arguments: &ListArguments, session: &Session) -> Result<Exit> {
    let fields = json!({"table": arguments.table, "limit": arguments.limit, "after": arguments.after});
    let body = send(session, &arguments.target, json!({"rejects": {"list": fields}})).await?;
    let items = items_of(&body)?;
    session.output.result(&body["list"], |styles| match items.is_empty() {
        true => "no rejected records\n".to_owned(),
        false => table(&items, styles),
    });
    match (body["list"]["next"].as_str(), items.first()) {
        (Some(next), _) => session.output.next_step(&format!("for other files, add --after {next}")),
        (None, Some(item)) => session.output.next_step(&format!("spillway rejects show {}", printable(&item.key))),
        (None, None) => {}
    }
    Ok(Exit::Done)
}

async fn show(arguments: &KeyArguments, session: &Session) -> Result<Exit> {
    let body = send(session, &arguments.target, json!({"rejects": {"list": {"key": arguments.key}}})).await?;
    let items = items_of(&body)?;
    session.output.result(&body["list"], |styles| match items.first() {
        None => "no file of rejected records has this key\n".to_owned(),
        Some(item) => details(item, styles),
    });
    if !items.is_empty() {
        session
            .output
            .next_step(&format!("correct the records, then spillway rejects load {}", printable(&arguments.key)));
    }
    Ok(if items.is_empty() { Exit::Failed } else { Exit::Done })
}

fn items_of(body: &Value) -> Result<Vec<RejectsItem>> {
    serde_json::from_value(body["list"]["items"].clone()).map_err(|error| {
        let message = "the response has no list of files; the deployed function may be of an earlier version";
        Error::new(ErrorKind::Settings, message).with_source(error)
    })
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

fn details(item: &RejectsItem, styles: Styles) -> String {
    let title = item.original_key.as_deref().unwrap_or(&item.key);
    let mut text = format!("{}\n", styles.paint(Style::Bold, &printable(title)));
    for (name, value) in [
        ("table", item.table.clone()),
        ("records", item.key.clone()),
        ("errors", item.errors_key.clone()),
        ("id", item.source_id.clone()),
    ] {
        text.push_str(&format!("  {name:<12}{}\n", printable(&value)));
    }
    let mut table = Table::new(&[
        ("record", Align::Right),
        ("line", Align::Right),
        ("column", Align::Left),
        ("code", Align::Left),
        ("reason", Align::Left),
    ]);
    for error in &item.errors {
        let cell = |name: &str| match &error[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        table.row(["record", "line", "column", "code", "reason"].map(cell).into());
    }
    if !item.errors.is_empty() {
        text.push('\n');
        text.push_str(&table.text(styles));
    }
    text
}
