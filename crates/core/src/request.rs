//! Parses requests: one object, corrected rejects, the files under a prefix, a replay or a sweep. Pure.
//!
//! Parsing is strict: unknown fields and fields that do not go together are errors, because an ignored field would load
//! the wrong files. [`crate::dispatch`] runs the request.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::replay::ReplaySelection;
use crate::store::read::ListedObject;

/// The accepted requests, for error messages.
const ACCEPTED: &str = "accepted are {\"key\"}, {\"prefix\", \"mode\": \"all\" or \"latest\"}, {\"prefix\", \"start_ts\", \
                        \"end_ts\"}, {\"rejects\"}, {\"replay\": {}} and {\"sweep\": {}}, each with \"bucket\" if it is not S3_BUCKET";

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
        Err(invalid(format!("unknown request; {ACCEPTED}")))
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    macro_rules! sample {
        ($name:literal) => {
            include_str!(concat!("../../../events/", $name, ".json"))
        };
    }

    fn parse(request: &str) -> Result<Request> {
        Request::parse(&serde_json::from_str(request).expect("JSON"), "default", None)
    }

    fn prefix(selection: Selection) -> Request {
        Request::Prefix { bucket: "spillway-data".into(), prefixes: vec!["uploads/".into()], selection }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn sample_requests_are_parsed() {
        let window = Selection::Window { start: at("2026-11-20T00:00:00Z"), end: at("2026-11-21T00:00:00Z") };
        let selection = ReplaySelection { table: None, limit: Some(100) };
        let sweep = SweepRequest { older_than_seconds: Some(3600) };
        let object = ObjectRef::new("spillway-data", "uploads/orders.csv");
        assert_eq!(parse(sample!("ingest-key")).unwrap(), Request::Object(object));
        assert_eq!(parse(sample!("ingest-prefix-all")).unwrap(), prefix(Selection::All));
        assert_eq!(parse(sample!("ingest-prefix-latest")).unwrap(), prefix(Selection::Latest));
        assert_eq!(parse(sample!("ingest-window")).unwrap(), prefix(window));
        assert_eq!(parse(sample!("ingest-replay")).unwrap(), Request::Replay { bucket: "default".into(), selection });
        let folder = "rejected/orders/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.csv";
        let rejects = Request::Rejects(ObjectRef::new("spillway-data", folder));
        assert_eq!(parse(sample!("ingest-rejects")).unwrap(), rejects);
        let raw_zone = Request::Prefix {
            bucket: "spillway-data".into(),
            prefixes: vec!["data/batch/".into()],
            selection: Selection::All,
        };
        assert_eq!(parse(sample!("ingest-raw-zone")).unwrap(), raw_zone);
        let selection = ReplaySelection { table: Some("orders".into()), limit: Some(100) };
        let one_table = Request::Replay { bucket: "default".into(), selection };
        assert_eq!(parse(sample!("ingest-replay-table")).unwrap(), one_table);
        assert_eq!(parse(sample!("ingest-sweep")).unwrap(), Request::Sweep { bucket: "default".into(), sweep });
    }

    #[rstest]
    #[case(r#"{"key": "a.csv", "prefix": "b/"}"#, "invalid request")]
    #[case(r#"{"key": "a.csv", "sweep": {}}"#, "invalid request")]
    #[case(r#"{"key": ""}"#, "the key is empty")]
    #[case(r#"{"key": 7}"#, "invalid request")]
    #[case(r#"{"prefix": "a/", "version_id": "v"}"#, "invalid request")]
    #[case(r#"{"mode": "all"}"#, "unknown request")]
    #[case(r#"{"bucket": "b"}"#, "unknown request")]
    #[case(r#"{"keys": "a.csv"}"#, "unknown request")]
    #[case("{}", "unknown request")]
    #[case("7", "unknown request")]
    #[case(r#"{"prefix": "a/", "mode": "newest"}"#, "invalid request")]
    #[case(r#"{"replay": {"tabel": "t"}}"#, "invalid request")]
    #[case(r#"{"sweep": {"older_than_seconds": -1}}"#, "invalid request")]
    #[case(r#"{"prefix": "a/", "start_ts": "2026-11-20"}"#, "start_ts needs end_ts")]
    #[case(r#"{"prefix": "a/", "end_ts": "2026-11-20"}"#, "end_ts needs start_ts")]
    #[case(
        r#"{"prefix": "a/", "mode": "all", "start_ts": "2026-11-20", "end_ts": "2026-11-21"}"#,
        "mode cannot be combined with start_ts and end_ts"
    )]
    #[case(r#"{"prefix": "a/", "start_ts": "2026-11-21", "end_ts": "2026-11-20"}"#, "start_ts is not before end_ts")]
    #[case(r#"{"prefix": "a/", "start_ts": "yesterday", "end_ts": "2026-11-20"}"#, "start_ts is \"yesterday\"")]
    fn invalid_requests_are_rejected(#[case] request: &str, #[case] expected: &str) {
        let error = parse(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EventInvalid);
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[rstest]
    #[case("2026-11-20T08:30:00+02:00", "2026-11-20T06:30:00Z")]
    #[case("2026-11-20T08:30:00", "2026-11-20T08:30:00Z")]
    #[case("2026-11-20", "2026-11-20T00:00:00Z")]
    fn timestamps_are_parsed(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(parse_timestamp("start_ts", text).unwrap(), at(expected));
    }

    #[test]
    fn an_empty_request_is_the_default_request() {
        let prefixes = vec!["in/".to_owned(), "also/".to_owned()];
        let default =
            DefaultRequest::Prefix { bucket: "b".into(), prefixes: prefixes.clone(), mode: PrefixMode::Latest };
        let expected = Request::Prefix { bucket: "b".into(), prefixes, selection: Selection::Latest };
        for empty in [json!({}), Value::Null] {
            assert_eq!(Request::parse(&empty, "other", Some(&default)).unwrap(), expected);
        }
        let named = Request::parse(&json!({"key": "k"}), "other", Some(&default)).unwrap();
        assert_eq!(named, Request::Object(ObjectRef::new("other", "k")));
    }

    #[test]
    fn files_are_selected_oldest_first() {
        let file = |key: &str, time: &str| ListedObject {
            key: key.into(),
            size_bytes: 1,
            etag: String::new(),
            last_modified: at(time),
        };
        let files = vec![
            file("c", "2026-11-20T00:00:02Z"),
            file("b", "2026-11-20T00:00:01Z"),
            file("a", "2026-11-20T00:00:01Z"),
            file("d", "2026-11-20T00:00:00Z"),
        ];
        let keys =
            |selection: Selection| selection.apply(files.clone()).into_iter().map(|file| file.key).collect::<String>();
        assert_eq!(keys(Selection::All), "dabc");
        assert_eq!(keys(Selection::Latest), "c");
        let window = Selection::Window { start: at("2026-11-20T00:00:01Z"), end: at("2026-11-20T00:00:02Z") };
        assert_eq!(keys(window), "ab");
        assert!(Selection::Latest.apply(Vec::new()).is_empty());
    }

    #[test]
    fn sweep_ignores_the_last_15_minutes_by_default() {
        assert_eq!(SweepRequest::default().older_than(), Duration::from_secs(900));
    }
}
