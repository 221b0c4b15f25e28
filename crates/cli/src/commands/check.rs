//! `spillway check`: tests everything that a load needs.

use clap::Args;
use serde_json::{Value, json};
use spillway_core::config::{CommandSettings, DatabaseChoice};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::local_load::LocalLoader;

use crate::exit::{self, Exit};
use crate::output::{Style, Styles};
use crate::request::{RequestOptions, with_database};
use crate::session::Session;
use crate::table::printable;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: RequestOptions,
}

/// Runs the command. Without a bucket, it tests only what loads of local files need: the database.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let options = &arguments.options;
    let has_bucket = options.target.names_bucket(&session.environment)?;
    let check = match has_bucket {
        true => options.send(session, json!({"check": {}})).await?["check"].take(),
        false => check_database(options, session).await?,
    };
    session.output.result(&check, |styles| text(&check, styles));
    if !has_bucket {
        session.output.next_step("with --bucket NAME and the settings of a stack, such as RDS_TABLE, the check also tests what a deployed stack needs");
    }
    Ok(if check["ok"] == true { Exit::Done } else { Exit::NeedsAttention })
}

async fn check_database(options: &RequestOptions, session: &Session) -> Result<Value> {
    let settings = CommandSettings::read(&with_database(session, &options.target, &options.database)?)?;
    if settings.database == DatabaseChoice::Missing {
        let message = "nothing to check: name a bucket (--bucket NAME or S3_BUCKET) to test what a stack needs, or a database (--to URL or \
                       the settings RDS_…) to test what loads of local files need";
        return Err(Error::new(ErrorKind::Settings, message).with_advice());
    }
    let loader = LocalLoader::new(settings.pipeline).await;
    let check = loader.check(&exit::until_signal()?).await;
    loader.close().await;
    serde_json::to_value(check)
        .map_err(|error| Error::new(ErrorKind::Internal, "the check cannot be written as JSON").with_source(error))
}

fn text(check: &Value, styles: Styles) -> String {
    let mut text = String::new();
    for item in check["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let field = |name: &str| item[name].as_str().map(printable);
        let sign = match item["ok"] == true {
            true => styles.paint(Style::Good, "ok    "),
            false => styles.paint(Style::Bad, "failed"),
        };
        let name = field("name").unwrap_or_default();
        text.push_str(&format!("{sign}  {name:<16}{}\n", field("tried").unwrap_or_default()));
        for (label, value) in [("", field("found")), ("reason: ", field("reason")), ("fix: ", field("fix"))] {
            if let Some(value) = value {
                text.push_str(&format!("        {:<16}{}\n", "", styles.paint(Style::Dim, &format!("{label}{value}"))));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn failed_items_show_reason_and_fix() {
        let check = json!({"ok": false, "items": [
            {"name": "bucket", "ok": true, "tried": "list", "found": "3 files"},
            {"name": "secret", "ok": false, "tried": "read", "reason": "it is missing", "fix": "create it"},
        ]});
        let expected = "\
ok      bucket          list
                        3 files
failed  secret          read
                        reason: it is missing
                        fix: create it
";
        assert_eq!(text(&check, Styles(Color::Off)), expected);
    }
}
