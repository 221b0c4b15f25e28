//! Parses requests: one object, corrected rejects, the files under a prefix, a replay, a sweep, a sync, an extract, a status, a
//! check or a list. Pure.
//!
//! Parsing is strict: unknown fields and fields that do not go together are errors, because an ignored field would load
//! the wrong files. [`crate::dispatch`] runs the request.

mod extract;
mod glue_run;
mod lists;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::extract::{ExtractJob, extract_relation, time};

use crate::error::{Error, ErrorKind, Result};
use crate::listing::ListRequest;
use crate::object::ObjectRef;
use crate::replay::ReplaySelection;
use crate::status::StatusRequest;
use crate::store::read::ListedObject;
use crate::sync::{SyncRequest, Window};
use crate::table_name::TableName;

/// The accepted requests, for error messages.
const ACCEPTED: &str = "accepted are {\"key\"}, {\"prefix\", \"mode\": \"all\" or \"latest\"}, {\"prefix\", \"start_ts\", \
                        \"end_ts\"}, {\"rejects\"}, {\"replay\": {}}, {\"sweep\": {}}, {\"sync\": {}}, {\"extract\": {}}, {\"glue_run\"}, {\"status\": {}}, {\"check\": {}}, {\"runs\": {}}, \
                        {\"fallback\": {\"list\": {}}} and {\"rejects\": {\"list\": {}}}, each with \"bucket\" if it is not S3_BUCKET";

/// The default of [`SweepRequest::older_than_seconds`].
const DEFAULT_AGE_SECONDS: u64 = 15 * 60;

/// Which of the files under a prefix are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum PrefixMode {
    /// Every file, oldest first.
    #[default]
    All,
    /// The most recently modified file.
    Latest,
}

/// The request that settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultRequest {
    /// `CSV_KEY` and `CSV_VERSION_ID`.
    Object(ObjectRef),
    /// `CSV_PREFIX` and `CSV_MODE`.
    Prefix {
        /// The bucket.
        bucket: String,
        /// `CSV_PREFIX`, or every upload prefix.
        prefixes: Vec<String>,
        /// Which files.
        mode: PrefixMode,
    },
}

/// A parsed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Load one object.
    Object(ObjectRef),
    /// Load corrected rejected records into the table of their file.
    Rejects(ObjectRef),
    /// Load the files under prefixes.
    Prefix {
        /// The bucket.
        bucket: String,
        /// The prefixes, with or without a slash at the end; more than one only in a default request.
        prefixes: Vec<String>,
        /// Which of the files are loaded.
        selection: Selection,
    },
    /// Load fallback objects into the database.
    Replay {
        /// The bucket.
        bucket: String,
        /// Which of the fallback objects are replayed.
        selection: ReplaySelection,
    },
    /// Load files that no event has delivered, and delete the leftovers of dead workers.
    Sweep {
        /// The bucket.
        bucket: String,
        /// The parameters.
        sweep: SweepRequest,
    },
    /// Load the files of a time window, table by table.
    Sync {
        /// The bucket.
        bucket: String,
        /// The parameters.
        sync: SyncRequest,
    },
    /// Write tables or queries of a database into the raw zone.
    Extract {
        /// The bucket.
        bucket: String,
        /// The extracts, in order.
        extracts: Vec<ExtractJob>,
    },
    /// Continue with the file of a run of the Glue job that has ended.
    GlueRun {
        /// The bucket.
        bucket: String,
        /// The id of the run.
        run: String,
    },
    /// Report what waits, or where a file is.
    Status {
        /// The bucket.
        bucket: String,
        /// The parameters.
        status: StatusRequest,
    },
    /// Test the deployment.
    Check {
        /// The bucket.
        bucket: String,
    },
    /// List runs, rows in the fallback or rejected records.
    List {
        /// The bucket.
        bucket: String,
        /// The parameters.
        list: ListRequest,
    },
}

/// The parameters of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// The minimum age in seconds of the files, uploads and staging tables to process; defaults to 900.
    #[serde(default)]
    pub older_than_seconds: Option<u64>,
}

impl SweepRequest {
    /// The minimum age.
    pub(crate) fn older_than(&self) -> Duration {
        Duration::from_secs(self.older_than_seconds.unwrap_or(DEFAULT_AGE_SECONDS))
    }
}

/// Which of the files under a prefix are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All files, oldest first.
    All,
    /// The file that was modified last.
    Latest,
    /// The files modified in a time window, oldest first.
    Window {
        /// Start of the window, inclusive.
        start: Timestamp,
        /// End of the window, exclusive.
        end: Timestamp,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectFields {
    bucket: Option<String>,
    key: String,
    version_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefixFields {
    bucket: Option<String>,
    prefix: String,
    mode: Option<PrefixMode>,
    start_ts: Option<String>,
    end_ts: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectsFields {
    bucket: Option<String>,
    rejects: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayFields {
    bucket: Option<String>,
    replay: ReplaySelection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepFields {
    bucket: Option<String>,
    sweep: SweepRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncFields {
    bucket: Option<String>,
    sync: SyncParameters,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncParameters {
    table: Option<String>,
    start_ts: Option<String>,
    end_ts: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusFields {
    bucket: Option<String>,
    status: StatusRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckFields {
    bucket: Option<String>,
    #[serde(rename = "check")]
    _check: NoFields,
}

/// An object without fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl Request {
    /// Parses a request. `bucket` is the default bucket; an empty request means `default_request`, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::EventInvalid`] when the request is not one of the accepted ones.
    pub fn parse(request: &Value, bucket: &str, default_request: Option<&DefaultRequest>) -> Result<Self> {
        let is_empty = request.is_null() || request.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(default) = default_request.filter(|_| is_empty) {
            return Ok(Self::from(default.clone()));
        }
        let or_default = |named: Option<String>| named.filter(|name| !name.is_empty()).unwrap_or(bucket.to_owned());
        // The field that names the request decides which other fields are allowed.
        if request.get("key").is_some() {
            let ObjectFields { bucket, key, version_id } = deserialize(request)?;
            if key.is_empty() {
                return Err(invalid(format!("the key is empty; {ACCEPTED}")));
            }
            return Ok(Self::Object(ObjectRef { bucket: or_default(bucket), key, version_id }));
        }
        if request.get("prefix").is_some() {
            let PrefixFields { bucket, prefix, mode, start_ts, end_ts } = deserialize(request)?;
            let selection = Selection::of(mode, start_ts, end_ts)?;
            return Ok(Self::Prefix { bucket: or_default(bucket), prefixes: vec![prefix], selection });
        }
        if let Some(list) = lists::parse(request, &or_default)? {
            return Ok(list);
        }
        if request.get("rejects").is_some() {
            let RejectsFields { bucket, rejects } = deserialize(request)?;
            return Ok(Self::Rejects(ObjectRef::new(or_default(bucket), rejects)));
        }
        if request.get("replay").is_some() {
            let ReplayFields { bucket, replay: selection } = deserialize(request)?;
            return Ok(Self::Replay { bucket: or_default(bucket), selection });
        }
        if request.get("sweep").is_some() {
            let SweepFields { bucket, sweep } = deserialize(request)?;
            return Ok(Self::Sweep { bucket: or_default(bucket), sweep });
        }
        if request.get("sync").is_some() {
            let SyncFields { bucket, sync } = deserialize(request)?;
            return Ok(Self::Sync { bucket: or_default(bucket), sync: sync.read()? });
        }
        if request.get("extract").is_some() {
            let (bucket, extracts) = extract::parse(request)?;
            return Ok(Self::Extract { bucket: or_default(bucket), extracts });
        }
        if let Some((bucket, run)) = glue_run::parse(request)? {
            return Ok(Self::GlueRun { bucket: or_default(bucket), run });
        }
        Self::parse_report(request, or_default)
    }

    /// Parses the requests that report and load nothing.
    fn parse_report(request: &Value, or_default: impl Fn(Option<String>) -> String) -> Result<Self> {
        if request.get("status").is_some() {
            let StatusFields { bucket, status } = deserialize(request)?;
            if status.key.as_ref().is_some_and(String::is_empty) {
                return Err(invalid(format!("the key is empty; {ACCEPTED}")));
            }
            return Ok(Self::Status { bucket: or_default(bucket), status });
        }
        if request.get("check").is_some() {
            let CheckFields { bucket, .. } = deserialize(request)?;
            return Ok(Self::Check { bucket: or_default(bucket) });
        }
        Err(invalid(format!("unknown request; {ACCEPTED}")))
    }
}

impl SyncParameters {
    fn read(self) -> Result<SyncRequest> {
        let table = self.table.as_deref().map(TableName::parse).transpose();
        let table = table.map_err(|why| invalid(format!("the table {why}")))?;
        if table.as_ref().is_some_and(|table| table.is_empty()) {
            return Err(invalid("the table is empty; without \"table\" every table with AFTER_LOAD=keep is synced"));
        }
        let time = |field, text: Option<String>| text.map(|text| parse_timestamp(field, &text)).transpose();
        let window = Window { from: time("start_ts", self.start_ts)?, to: time("end_ts", self.end_ts)? };
        if window.from.zip(window.to).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("start_ts is not before end_ts"));
        }
        Ok(SyncRequest { table, window: Some(window).filter(|window| *window != Window::default()) })
    }
}

impl From<DefaultRequest> for Request {
    fn from(default: DefaultRequest) -> Self {
        match default {
            DefaultRequest::Object(object) => Self::Object(object),
            DefaultRequest::Prefix { bucket, prefixes, mode } => {
                Self::Prefix { bucket, prefixes, selection: mode.into() }
            }
        }
    }
}

impl From<PrefixMode> for Selection {
    fn from(mode: PrefixMode) -> Self {
        match mode {
            PrefixMode::All => Self::All,
            PrefixMode::Latest => Self::Latest,
        }
    }
}

impl Selection {
    fn of(mode: Option<PrefixMode>, start: Option<String>, end: Option<String>) -> Result<Self> {
        match (mode, start, end) {
            (mode, None, None) => Ok(mode.unwrap_or_default().into()),
            (None, Some(start), Some(end)) => {
                let (start, end) = (parse_timestamp("start_ts", &start)?, parse_timestamp("end_ts", &end)?);
                if start >= end {
                    return Err(invalid("start_ts is not before end_ts"));
                }
                Ok(Self::Window { start, end })
            }
            (None, Some(_), None) => Err(invalid("start_ts needs end_ts")),
            (None, None, Some(_)) => Err(invalid("end_ts needs start_ts")),
            (Some(_), _, _) => Err(invalid("mode cannot be combined with start_ts and end_ts")),
        }
    }

    /// Returns the selected files in load order: by time, then by key.
    pub(crate) fn apply(self, mut files: Vec<ListedObject>) -> Vec<ListedObject> {
        files.sort_by(|one, other| (one.last_modified, &one.key).cmp(&(other.last_modified, &other.key)));
        match self {
            Self::All => files,
            Self::Latest => files.pop().into_iter().collect(),
            Self::Window { start, end } => {
                files.retain(|file| start <= file.last_modified && file.last_modified < end);
                files
            }
        }
    }
}

fn deserialize<'de, T: Deserialize<'de>>(request: &'de Value) -> Result<T> {
    T::deserialize(request).map_err(|error| invalid(format!("invalid request; {ACCEPTED}")).with_source(error))
}

/// Parses a timestamp: without an offset it is in UTC, without a time it is the start of the day.
fn parse_timestamp(field: &str, text: &str) -> Result<Timestamp> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let parsed = text.parse::<Timestamp>().ok();
    let parsed = parsed.or_else(|| text.parse::<DateTime>().ok().and_then(utc));
    let parsed = parsed.or_else(|| text.parse::<Date>().ok().and_then(|day| utc(day.at(0, 0, 0, 0))));
    parsed.ok_or_else(|| {
        invalid(format!(
            "{field} is {text:?}; accepted is a date or a timestamp such as 2026-11-20 or 2026-11-20T08:30:00Z"
        ))
    })
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::EventInvalid, message)
}
