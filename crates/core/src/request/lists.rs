//! Parses the list requests.

use serde::Deserialize;
use serde_json::Value;

use super::{Request, deserialize, invalid, parse_timestamp};
use crate::destination::{RunCursor, RunFilter, RunOutcome, RunPlaces};
use crate::error::Result;
use crate::listing::{DEFAULT_LIMIT, FallbackFilter, ListRequest, MAX_LIMIT, RejectsFilter};

/// The smallest number of hex digits that identify an object version.
const MIN_ID_DIGITS: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsRequest {
    bucket: Option<String>,
    runs: RunsFields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsFields {
    since: Option<String>,
    until: Option<String>,
    outcome: Option<RunOutcome>,
    table: Option<String>,
    key: Option<String>,
    key_prefix: Option<String>,
    id: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FallbackRequest {
    bucket: Option<String>,
    fallback: OnlyList<FallbackFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectsRequest {
    bucket: Option<String>,
    rejects: OnlyList<RejectsFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyList<Fields> {
    list: Fields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FallbackFields {
    table: Option<String>,
    key: Option<String>,
    id: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectsFields {
    table: Option<String>,
    key: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// Parses a list request; `None` for other requests. A request whose `rejects` is a text loads these records.
pub(super) fn parse(request: &Value, or_default: &impl Fn(Option<String>) -> String) -> Result<Option<Request>> {
    let (bucket, list) = if request.get("runs").is_some() {
        let RunsRequest { bucket, runs } = deserialize(request)?;
        let places = match bucket.clone().filter(|name| !name.is_empty()) {
            Some(bucket) => RunPlaces::Bucket(bucket),
            // Files of machines that load into the same database are part of the history of a table.
            None => RunPlaces::BucketOrLocal(or_default(None)),
        };
        (bucket, ListRequest::Runs(RunFilter { places, ..run_filter(runs)? }))
    } else if request.get("fallback").is_some() {
        let FallbackRequest { bucket, fallback: OnlyList { list } } = deserialize(request)?;
        let FallbackFields { table, key, id, after, limit } = list;
        let (id, after) = (id.map(hex_digits).transpose()?, after.map(hex_digits).transpose()?);
        (bucket, ListRequest::Fallback(FallbackFilter { table, key, id, after, limit: limit_of(limit)? }))
    } else if request.get("rejects").is_some_and(Value::is_object) {
        let RejectsRequest { bucket, rejects: OnlyList { list } } = deserialize(request)?;
        let RejectsFields { table, key, after, limit } = list;
        (bucket, ListRequest::Rejects(RejectsFilter { table, key, after, limit: limit_of(limit)? }))
    } else {
        return Ok(None);
    };
    Ok(Some(Request::List { bucket: or_default(bucket), list }))
}

fn run_filter(fields: RunsFields) -> Result<RunFilter> {
    let RunsFields { since, until, outcome, table, key, key_prefix, id, after, limit } = fields;
    let after = after.map(|text| {
        RunCursor::parse(&text)
            .ok_or_else(|| invalid(format!("after is {text:?}; accepted is the field next of a list")))
    });
    Ok(RunFilter {
        places: RunPlaces::All,
        since: since.map(|text| parse_timestamp("since", &text)).transpose()?,
        until: until.map(|text| parse_timestamp("until", &text)).transpose()?,
        outcome,
        table,
        key,
        key_prefix,
        id: id.map(hex_digits).transpose()?,
        after: after.transpose()?,
        limit: limit_of(limit)?,
    })
}

/// Returns an identity or its beginning, as object names, the ledger and reports show it.
fn hex_digits(text: String) -> Result<String> {
    let is_id = (MIN_ID_DIGITS..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(invalid(format!(
            "id is {text:?}; accepted is a source id, or its first {MIN_ID_DIGITS} or more hex digits"
        )));
    }
    Ok(text.to_ascii_lowercase())
}

fn limit_of(limit: Option<usize>) -> Result<usize> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(invalid(format!("limit is {limit}; accepted is a number from 1 to {MAX_LIMIT}")));
    }
    Ok(limit)
}
