//! Reads the parameters of extracts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{deserialize, invalid, parse_timestamp};
use crate::error::Result;
use crate::extract::{ExtractRequest, PartCompression, PartLimits, Relation};
use crate::table_name::TableName;

/// The most extracts in one request.
const MAX_EXTRACTS: usize = 100;

/// One extract of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractJob {
    /// The secret with the login of the source; without one, the source is the database of the settings.
    pub secret: Option<String>,
    /// What is extracted.
    pub extract: ExtractRequest,
    /// Whether a Fargate task runs it.
    pub in_task: bool,
    fields: Fields,
}

impl ExtractJob {
    /// Returns the request with which a task runs this extract: with a fixed time, so that a repeated start is the same one.
    pub(crate) fn task_request(&self, bucket: &str, now: Timestamp) -> Value {
        let at = self.fields.at.clone().unwrap_or_else(|| now.to_string());
        let fields = Fields { at: Some(at), run_in: None, ..self.fields.clone() };
        serde_json::json!({ "bucket": bucket, "extract": fields })
    }
}

/// The fields of one extract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The prefix of the raw zone.
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<PartCompression>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_in: Option<RunIn>,
}

/// The process that runs an extract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RunIn {
    Function,
    Task,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFields {
    bucket: Option<String>,
    extract: OneOrMore,
}

/// One extract, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<Value>),
    One(Value),
}

/// Returns the bucket and the extracts of a request.
pub(super) fn parse(request: &Value) -> Result<(Option<String>, Vec<ExtractJob>)> {
    let RequestFields { bucket, extract } = deserialize(request)?;
    let items = match extract {
        OneOrMore::More(items) => items,
        OneOrMore::One(item) => vec![item],
    };
    if items.is_empty() || items.len() > MAX_EXTRACTS {
        return Err(invalid(format!("\"extract\" has {} extracts; write 1 to {MAX_EXTRACTS}", items.len())));
    }
    let jobs = items.iter().map(|item| deserialize::<Fields>(item)?.read()).collect::<Result<_>>()?;
    Ok((bucket, jobs))
}

impl Fields {
    fn read(self) -> Result<ExtractJob> {
        let (relation, name) = extract_relation(self.table.as_deref(), self.query.as_deref(), self.name.as_deref())?;
        let secret = self.secret.clone().filter(|secret| !secret.is_empty());
        let prefix = match &self.to {
            to if to.starts_with("s3://") => {
                return Err(invalid(
                    "\"to\" is a prefix of the bucket, such as data/batch/; \"bucket\" names another bucket",
                ));
            }
            to if to.is_empty() || to.ends_with('/') => to.clone(),
            to => format!("{to}/"),
        };
        let defaults = PartLimits::default();
        let extract = ExtractRequest {
            relation,
            name,
            prefix,
            cursor: self.cursor.clone(),
            slot: self.at.as_deref().map(|at| parse_timestamp("at", at)).transpose()?,
            limits: PartLimits {
                rows: self.batch_size.unwrap_or(defaults.rows),
                bytes: self.part_bytes.unwrap_or(defaults.bytes),
            },
            compression: self.compression.unwrap_or_default(),
        };
        Ok(ExtractJob { secret, extract, in_task: self.run_in == Some(RunIn::Task), fields: self })
    }
}

/// Returns the relation that a request names, and its name in the raw zone.
///
/// # Errors
/// [`crate::error::ErrorKind::EventInvalid`] unless there is exactly one of a table and a query with a name.
pub fn extract_relation(table: Option<&str>, query: Option<&str>, name: Option<&str>) -> Result<(Relation, String)> {
    match (table, query, name) {
        (Some(table), None, name) => {
            let table = TableName::parse(table).map_err(|why| invalid(format!("the table {why}")))?;
            if table.is_empty() {
                return Err(invalid("the table is empty"));
            }
            let name = name.map_or_else(|| table.own_name().to_owned(), str::to_owned);
            Ok((Relation::Table(table), name))
        }
        (None, Some(query), Some(name)) if !query.trim().is_empty() => {
            Ok((Relation::Query(query.to_owned()), name.to_owned()))
        }
        (None, Some(_), Some(_)) => Err(invalid("the query is empty")),
        (None, Some(_), None) => Err(invalid("an extract of a query needs \"name\", its name in the raw zone")),
        (Some(_), Some(_), _) | (None, None, _) => Err(invalid("an extract needs either \"table\" or \"query\"")),
    }
}

/// Reads a time. `name` is that of its option or field, for the error.
///
/// # Errors
/// [`crate::error::ErrorKind::EventInvalid`] when it is not a date or a timestamp.
pub fn time(name: &str, text: &str) -> Result<Timestamp> {
    parse_timestamp(name, text)
}
