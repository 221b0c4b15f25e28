//! What the commands share that list files or runs.

use clap::Args;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use spillway_core::error::{Error, ErrorKind, Result};

use crate::output::{Style, Styles};
use crate::request::{Needs, Target, send_reading};
use crate::session::Session;

/// The arguments of a command that lists files.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only files of this table
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

impl ListArguments {
    /// Requests the list of this kind, such as `fallback`.
    ///
    /// # Errors
    /// When the request failed.
    pub(crate) async fn request<T: DeserializeOwned>(&self, session: &Session, kind: &str) -> Result<List<T>> {
        let fields = json!({"table": self.table, "limit": self.limit, "after": self.after});
        List::request(session, &self.target, &json!({kind: {"list": fields}})).await
    }
}

/// A list in the body of a response.
#[derive(Debug)]
pub(crate) struct List<T> {
    /// The list as JSON.
    pub(crate) json: Value,
    /// Its items.
    pub(crate) items: Vec<T>,
}

impl<T: DeserializeOwned> List<T> {
    /// Sends a request for a list of objects in S3. It needs no database.
    ///
    /// # Errors
    /// When the request failed, or the response has no list.
    pub(crate) async fn request(session: &Session, target: &Target, request: &Value) -> Result<Self> {
        Self::of_body(send_reading(&session.environment, target, Needs::Bucket, request.clone()).await?)
    }

    /// The list in the body of a response.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn of_body(mut body: Value) -> Result<Self> {
        let json = body["list"].take();
        let items = Vec::deserialize(&json["items"]).map_err(|error| {
            let message = "the response has no list; the deployed function may be of an earlier version";
            Error::new(ErrorKind::Settings, message).with_source(error)
        })?;
        Ok(Self { json, items })
    }

    /// Prints the list: `empty`, or the table of its items. Then it says how the list continues, or else what to do next.
    pub(crate) fn print(
        &self,
        session: &Session,
        empty: &str,
        table: impl FnOnce(&[T], Styles) -> String,
        next_step: impl FnOnce(&T) -> String,
    ) {
        session.output.result(&self.json, |styles| match self.items.is_empty() {
            true => format!("{empty}\n"),
            false => table(&self.items, styles),
        });
        match (self.next(), self.items.first()) {
            (Some(next), _) => session.output.next_step(&format!("for other files, add --after {next}")),
            (None, Some(item)) => session.output.next_step(&next_step(item)),
            (None, None) => {}
        }
    }

    /// Where the next list continues; `None` at the end.
    pub(crate) fn next(&self) -> Option<&str> {
        self.json["next"].as_str()
    }

    /// What the list lacks, for people.
    pub(crate) fn note(&self) -> Option<&str> {
        self.json["note"].as_str()
    }
}

/// Whether a text is an id, or its first eight or more digits, and not a key.
pub(crate) fn is_id(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A title with a line for each field that has a value. Title and values must be printable.
pub(crate) fn details<const N: usize>(styles: Styles, title: &str, fields: [(&str, Option<String>); N]) -> String {
    let mut text = format!("{}\n", styles.paint(Style::Bold, title));
    for (name, value) in fields {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<14}{value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hex_digits_are_an_id() {
        assert!(is_id("4f56059ba10be879") && is_id("4F56059B"));
        assert!(!is_id("4f56059") && !is_id("uploads/4f56059b.csv") && !is_id("orders00"));
    }
}
