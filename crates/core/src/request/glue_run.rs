//! Parses the request for a run of the Glue job.

use serde::Deserialize;
use serde_json::Value;

use super::{ACCEPTED, deserialize, invalid};
use crate::error::Result;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    bucket: Option<String>,
    glue_run: String,
}

/// Returns the bucket, if the request names one, and the id of the run; `None` for another request.
pub(super) fn parse(request: &Value) -> Result<Option<(Option<String>, String)>> {
    if request.get("glue_run").is_none() {
        return Ok(None);
    }
    let Fields { bucket, glue_run } = deserialize(request)?;
    if glue_run.is_empty() {
        return Err(invalid(format!("the id of the run is empty; {ACCEPTED}")));
    }
    Ok(Some((bucket, glue_run)))
}
