//! `spillway config`: checks and explains the settings of tables.

use clap::{Args, Subcommand};
use serde_json::json;
use spillway_core::config::{CommandSettings, EffectiveSettings, Origin, effective_settings};
use spillway_core::error::{Error, ErrorKind, Result};

use crate::exit::Exit;
use crate::file_name::bucket_and_key;
use crate::numbers::counted;
use crate::output::{Style, Styles};
use crate::session::Session;
use crate::table::{Align, Table, printable};

/// The JSON Schema of the settings file, for editors.
const SCHEMA: &str = include_str!("../../../../docs/table-settings.schema.json");

/// The commands about settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the settings file, by default the one of --config or SPILLWAY_CONFIG
    Check(CheckArguments),
    /// Show the settings of the table of a key, and where each comes from
    Show(ShowArguments),
    /// Print the JSON Schema of the settings file, for editors
    Schema,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Settings file
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Key of an object, or name of a file
    #[arg(value_name = "KEY")]
    key: String,
    /// Table, if the key does not name it
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
}

/// Runs the command.
pub(crate) fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Check(arguments) => check(&arguments, session),
        Command::Show(arguments) => show(&arguments, session),
        Command::Schema => {
            session.output.raw(SCHEMA.as_bytes());
            Ok(Exit::Done)
        }
    }
}

fn check(arguments: &CheckArguments, session: &Session) -> Result<Exit> {
    let file = arguments.file.clone().map(|file| ("SPILLWAY_CONFIG", file));
    let environment = session.environment.fixed(file.into_iter().collect());
    let tables = match CommandSettings::read(&environment) {
        Ok(settings) => settings.pipeline.database.tables.entry_count(),
        Err(error) => {
            let error = match &arguments.file {
                Some(file) if !error.to_string().contains(file.as_str()) => error.for_object(file),
                Some(_) | None => error,
            };
            session.output.error(&error);
            return Ok(Exit::NeedsAttention);
        }
    };
    let Some(tables) = tables else {
        let message = "no file with table settings is named (settings in S3 are not read here: copy the object to a file); name \
                       one, or set SPILLWAY_CONFIG";
        return Err(Error::new(ErrorKind::Settings, message));
    };
    session.output.result(&json!({ "ok": true, "tables": tables }), |styles| {
        let text = format!("the settings of {} are valid", counted(tables as u64, "table"));
        styles.paint(Style::Good, &text) + "\n"
    });
    Ok(Exit::Done)
}

fn show(arguments: &ShowArguments, session: &Session) -> Result<Exit> {
    let effective =
        effective_settings(&session.environment, arguments.table.as_deref(), bucket_and_key(&arguments.key).1)?;
    session.output.result(&effective, |styles| text(&effective, styles));
    Ok(Exit::Done)
}

fn text(effective: &EffectiveSettings, styles: Styles) -> String {
    let entry = match effective.entry {
        Some(number) => format!("entry {number} of the settings file"),
        None => "no entry of a settings file".to_owned(),
    };
    let rules = if effective.has_column_rules { ", with rules for columns" } else { "" };
    let name = styles.paint(Style::Bold, &printable(&effective.table));
    let mut table = Table::new(&[("setting", Align::Left), ("value", Align::Left), ("from", Align::Left)]);
    for setting in &effective.settings {
        let from = match setting.origin {
            Origin::Option => "option",
            Origin::File => "settings file",
            Origin::Environment => "environment",
            Origin::Default => "default",
        };
        let value = setting.value.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![setting.name.to_owned(), value, from.to_owned()]);
    }
    format!("table {name}: {entry}{rules}\n\n{}", table.text(styles))
}
