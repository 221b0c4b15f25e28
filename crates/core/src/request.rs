//! What the ingest function and the task are asked for: one object, those below a prefix, a time window, a replay, a
//! sweep.
//!
//! A request is read strictly: an unknown field, or fields that do not go together, are refused, as a field that is
//! quietly ignored would load the wrong files.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{DefaultRequest, LoadMode, PrefixMode};
use crate::deadline::Deadline;
use crate::dispatch::{BatchResult, Dispatcher};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::replay::{ReplaySelection, replay};
use crate::route::{self, Route, is_file};
use crate::store::read::Listed;
use crate::sweep::{Cleared, SweepRequest, clear, forgotten_objects};

/// What a request may look like, for error messages.
const TAKES: &str = "it takes {\"key\"}, {\"prefix\", \"mode\": \"all\" or \"latest\"}, {\"prefix\", \"start_ts\", \
                     \"end_ts\"}, {\"rejects\"}, {\"replay\": {}} or {\"sweep\": {}}, each with \"bucket\" if it is not S3_BUCKET";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// One object, by name.
    Object(ObjectRef),
    /// Bad records that were left out, corrected: into the table they came from.
    Rejects(ObjectRef),
    /// The files below a prefix.
    Prefix {
        /// The bucket.
        bucket: String,
        /// The prefix, which need not end with a slash; several only as standing work.
        prefixes: Vec<String>,
        /// Which of them.
        choice: Selection,
    },
    /// What fell back.
    Replay {
        /// The bucket.
        bucket: String,
        /// Which of it.
        selection: ReplaySelection,
    },
    /// What nobody delivered, and what dead workers left.
    Sweep {
        /// The bucket.
        bucket: String,
        /// From which age on.
        sweep: SweepRequest,
    },
}

/// Which of the files below a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Every one, oldest first.
    All,
    /// The most recently modified one.
    Latest,
    /// Those modified in this window, oldest first.
    Window {
        /// The first moment that counts.
        start: Timestamp,
        /// The first moment after it that does not.
        end: Timestamp,
    },
}

/// What became of a request.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Its objects.
    #[serde(flatten)]
    pub results: BatchResult,
    /// What a sweep has cleared besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Cleared>,
}

impl Answer {
    /// The answer to a direct invocation, `{"statusCode", "body"}` with the reports as JSON text; an error when any
    /// object reached no end, since a failure that is only returned is a lost file.
    pub fn into_response(self) -> Result<Value> {
        let answer = Self { results: self.results.into_result()?, cleared: self.cleared };
        let body = serde_json::to_string(&answer)
            .map_err(|error| Error::new(ErrorKind::Internal, "the reports are no JSON").with_source(error))?;
        Ok(json!({ "statusCode": 200, "body": body }))
    }
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
    /// Reads a request. Without a bucket it is `bucket`'s; an empty one asks for the `standing_work`, where there is any.
    pub fn parse(request: &Value, bucket: &str, standing_work: Option<&DefaultRequest>) -> Result<Self> {
        let is_empty = request.is_null() || request.as_object().is_some_and(serde_json::Map::is_empty);
        if let Some(work) = standing_work.filter(|_| is_empty) {
            return Ok(Self::from(work.clone()));
        }
        let or_default = |named: Option<String>| named.filter(|name| !name.is_empty()).unwrap_or(bucket.to_owned());
        // The field that says what is wanted decides which others may stand beside it.
        if request.get("key").is_some() {
            let ObjectFields { bucket, key, version_id } = read(request)?;
            if key.is_empty() {
                return Err(invalid(format!("the request's key is empty; {TAKES}")));
            }
            return Ok(Self::Object(ObjectRef { bucket: or_default(bucket), key, version_id }));
        }
        if request.get("prefix").is_some() {
            let PrefixFields { bucket, prefix, mode, start_ts, end_ts } = read(request)?;
            let choice = Selection::of(mode, start_ts, end_ts)?;
            return Ok(Self::Prefix { bucket: or_default(bucket), prefixes: vec![prefix], choice });
        }
        if request.get("rejects").is_some() {
            let RejectsFields { bucket, rejects } = read(request)?;
            return Ok(Self::Rejects(ObjectRef::new(or_default(bucket), rejects)));
        }
        if request.get("replay").is_some() {
            let ReplayFields { bucket, replay: selection } = read(request)?;
            return Ok(Self::Replay { bucket: or_default(bucket), selection });
        }
        if request.get("sweep").is_some() {
            let SweepFields { bucket, sweep } = read(request)?;
            return Ok(Self::Sweep { bucket: or_default(bucket), sweep });
        }
        Err(invalid(format!("the request asks for nothing we know; {TAKES}")))
    }

    /// Does what is asked for.
    ///
    /// # Errors
    /// When the objects that are meant cannot be found out. What becomes of each of them is in the answer.
    pub async fn run(self, dispatcher: &Dispatcher, deadline: &Deadline) -> Result<Answer> {
        let answer = self.answer(dispatcher, deadline).await;
        dispatcher.context.connections.close().await;
        answer
    }

    async fn answer(self, dispatcher: &Dispatcher, deadline: &Deadline) -> Result<Answer> {
        let context = &dispatcher.context;
        let mut results = BatchResult::default();
        let mut cleared = None;
        match self {
            Self::Object(object) => {
                refuse_part_of_a_file(dispatcher, &object)?;
                let route = Route::of_asked(&object, &context.settings.prefixes);
                dispatcher.take(object, route, deadline, &mut results).await;
            }
            Self::Rejects(object) => {
                let prefixes = &context.settings.prefixes;
                if route::rejects_table(prefixes, &object.key).is_none() {
                    let message = format!(
                        "{:?} is no file of bad records; they are at {}<table>/<source id>.csv",
                        object.key, prefixes.rejected
                    );
                    return Err(invalid(message));
                }
                refuse_part_of_a_file(dispatcher, &object)?;
                dispatcher.take(object, Route::Ingest, deadline, &mut results).await;
            }
            Self::Prefix { bucket, prefixes, choice } => {
                let objects = Box::pin(find(dispatcher, &bucket, &prefixes, choice)).await?;
                dispatcher.process_all(&bucket, objects, deadline, &mut results).await;
            }
            Self::Replay { bucket, selection } => {
                for end in Box::pin(replay(context, &bucket, &selection, deadline)).await? {
                    dispatcher.note(end, &mut results);
                }
            }
            Self::Sweep { bucket, sweep } => {
                let objects = Box::pin(forgotten_objects(context, &bucket, sweep.older_than())).await?;
                dispatcher.process_all(&bucket, objects, deadline, &mut results).await;
                cleared = Some(Box::pin(clear(context, &bucket, sweep.older_than(), deadline)).await);
            }
        }
        Ok(Answer { results, cleared })
    }
}

impl From<DefaultRequest> for Request {
    fn from(work: DefaultRequest) -> Self {
        match work {
            DefaultRequest::Object(object) => Self::Object(object),
            DefaultRequest::Prefix { bucket, prefixes, mode } => Self::Prefix { bucket, prefixes, choice: mode.into() },
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
                let (start, end) = (moment("start_ts", &start)?, moment("end_ts", &end)?);
                if start >= end {
                    return Err(invalid("start_ts is not before end_ts"));
                }
                Ok(Self::Window { start, end })
            }
            (None, Some(_), None) => Err(invalid("start_ts comes without end_ts")),
            (None, None, Some(_)) => Err(invalid("end_ts comes without start_ts")),
            (Some(_), _, _) => Err(invalid("a time window has no mode")),
        }
    }

    /// Those of the files that are meant, in the order in which they are loaded.
    fn apply(self, mut files: Vec<Listed>) -> Vec<Listed> {
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

fn read<'de, T: Deserialize<'de>>(request: &'de Value) -> Result<T> {
    T::deserialize(request).map_err(|error| invalid(format!("the request cannot be read; {TAKES}")).with_source(error))
}

/// A moment: with an offset, or else in UTC; a day is its first moment.
fn moment(field: &str, text: &str) -> Result<Timestamp> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let parsed = text.parse::<Timestamp>().ok();
    let parsed = parsed.or_else(|| text.parse::<DateTime>().ok().and_then(utc));
    let parsed = parsed.or_else(|| text.parse::<Date>().ok().and_then(|day| utc(day.at(0, 0, 0, 0))));
    parsed.ok_or_else(|| {
        invalid(format!("{field} is {text:?}; it takes a day or a time such as 2026-11-20 or 2026-11-20T08:30:00Z"))
    })
}

/// The files below some prefixes, on every page of the listing, but for our own.
async fn find(dispatcher: &Dispatcher, bucket: &str, prefixes: &[String], choice: Selection) -> Result<Vec<Listed>> {
    let context = &dispatcher.context;
    let mut files = Vec::new();
    for prefix in prefixes {
        let mut pages = context.store.list(bucket, prefix);
        while let Some(page) = pages.next().await? {
            files.extend(page.into_iter().filter(|file| {
                let route = Route::of_asked(&ObjectRef::new(bucket, &file.key), &context.settings.prefixes);
                route == Route::Ingest && is_file(&file.key)
            }));
        }
    }
    Ok(choice.apply(files))
}

/// Corrected records are a part of their file, and so must not take the place of a whole table.
fn refuse_part_of_a_file(dispatcher: &Dispatcher, object: &ObjectRef) -> Result<()> {
    let settings = &dispatcher.context.settings;
    let is_part = route::rejects_table(&settings.prefixes, &object.key).is_some();
    if !is_part || settings.database.options.load_mode != LoadMode::Replace {
        return Ok(());
    }
    let message = format!(
        "with LOAD_MODE=replace the corrected records of {:?} alone would be the whole table; upload the corrected file whole",
        object.key
    );
    Err(invalid(message))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::EventInvalid, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    macro_rules! sample {
        ($name:literal) => {
            include_str!(concat!("../../../events/", $name, ".json"))
        };
    }

    fn parse(request: &str) -> Result<Request> {
        Request::parse(&serde_json::from_str(request).expect("JSON"), "standing", None)
    }

    fn prefix(choice: Selection) -> Request {
        Request::Prefix { bucket: "spillway-data".into(), prefixes: vec!["uploads/".into()], choice }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn the_samples_say_what_they_are_named_for() {
        let window = Selection::Window { start: at("2026-11-20T00:00:00Z"), end: at("2026-11-21T00:00:00Z") };
        let selection = ReplaySelection { table: None, limit: Some(100) };
        let sweep = SweepRequest { older_than_seconds: Some(3600) };
        let object = ObjectRef::new("spillway-data", "uploads/orders.csv");
        assert_eq!(parse(sample!("ingest-key")).unwrap(), Request::Object(object));
        assert_eq!(parse(sample!("ingest-prefix-all")).unwrap(), prefix(Selection::All));
        assert_eq!(parse(sample!("ingest-prefix-latest")).unwrap(), prefix(Selection::Latest));
        assert_eq!(parse(sample!("ingest-window")).unwrap(), prefix(window));
        assert_eq!(parse(sample!("ingest-replay")).unwrap(), Request::Replay { bucket: "standing".into(), selection });
        let folder = "rejected/orders/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.csv";
        let rejects = Request::Rejects(ObjectRef::new("spillway-data", folder));
        assert_eq!(parse(sample!("ingest-rejects")).unwrap(), rejects);
        let raw_zone = Request::Prefix {
            bucket: "spillway-data".into(),
            prefixes: vec!["data/batch/".into()],
            choice: Selection::All,
        };
        assert_eq!(parse(sample!("ingest-raw-zone")).unwrap(), raw_zone);
        let selection = ReplaySelection { table: Some("orders".into()), limit: Some(100) };
        let one_table = Request::Replay { bucket: "standing".into(), selection };
        assert_eq!(parse(sample!("ingest-replay-table")).unwrap(), one_table);
        assert_eq!(parse(sample!("ingest-sweep")).unwrap(), Request::Sweep { bucket: "standing".into(), sweep });
    }

    #[rstest]
    #[case(r#"{"key": "a.csv", "prefix": "b/"}"#, "the request cannot be read")]
    #[case(r#"{"key": "a.csv", "sweep": {}}"#, "the request cannot be read")]
    #[case(r#"{"key": ""}"#, "the request's key is empty")]
    #[case(r#"{"key": 7}"#, "the request cannot be read")]
    #[case(r#"{"prefix": "a/", "version_id": "v"}"#, "the request cannot be read")]
    #[case(r#"{"mode": "all"}"#, "the request asks for nothing we know")]
    #[case(r#"{"bucket": "b"}"#, "the request asks for nothing we know")]
    #[case(r#"{"keys": "a.csv"}"#, "the request asks for nothing we know")]
    #[case("{}", "the request asks for nothing we know")]
    #[case("7", "the request asks for nothing we know")]
    #[case(r#"{"prefix": "a/", "mode": "newest"}"#, "the request cannot be read")]
    #[case(r#"{"replay": {"tabel": "t"}}"#, "the request cannot be read")]
    #[case(r#"{"sweep": {"older_than_seconds": -1}}"#, "the request cannot be read")]
    #[case(r#"{"prefix": "a/", "start_ts": "2026-11-20"}"#, "start_ts comes without end_ts")]
    #[case(r#"{"prefix": "a/", "end_ts": "2026-11-20"}"#, "end_ts comes without start_ts")]
    #[case(
        r#"{"prefix": "a/", "mode": "all", "start_ts": "2026-11-20", "end_ts": "2026-11-21"}"#,
        "a time window has no mode"
    )]
    #[case(r#"{"prefix": "a/", "start_ts": "2026-11-21", "end_ts": "2026-11-20"}"#, "start_ts is not before end_ts")]
    #[case(r#"{"prefix": "a/", "start_ts": "yesterday", "end_ts": "2026-11-20"}"#, "start_ts is \"yesterday\"")]
    fn what_is_not_understood_is_refused(#[case] request: &str, #[case] expected: &str) {
        let error = parse(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EventInvalid);
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[rstest]
    #[case("2026-11-20T08:30:00+02:00", "2026-11-20T06:30:00Z")]
    #[case("2026-11-20T08:30:00", "2026-11-20T08:30:00Z")]
    #[case("2026-11-20", "2026-11-20T00:00:00Z")]
    fn moments(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(moment("start_ts", text).unwrap(), at(expected));
    }

    #[test]
    fn an_empty_request_asks_for_the_standing_work() {
        let prefixes = vec!["in/".to_owned(), "also/".to_owned()];
        let work = DefaultRequest::Prefix { bucket: "b".into(), prefixes: prefixes.clone(), mode: PrefixMode::Latest };
        let expected = Request::Prefix { bucket: "b".into(), prefixes, choice: Selection::Latest };
        for empty in [json!({}), Value::Null] {
            assert_eq!(Request::parse(&empty, "other", Some(&work)).unwrap(), expected);
        }
        let named = Request::parse(&json!({"key": "k"}), "other", Some(&work)).unwrap();
        assert_eq!(named, Request::Object(ObjectRef::new("other", "k")));
    }

    #[test]
    fn files_are_picked_oldest_first() {
        let file = |key: &str, time: &str| Listed {
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
        let keys = |choice: Selection| choice.apply(files.clone()).into_iter().map(|file| file.key).collect::<String>();
        assert_eq!(keys(Selection::All), "dabc");
        assert_eq!(keys(Selection::Latest), "c");
        let window = Selection::Window { start: at("2026-11-20T00:00:01Z"), end: at("2026-11-20T00:00:02Z") };
        assert_eq!(keys(window), "ab");
        assert!(Selection::Latest.apply(Vec::new()).is_empty());
    }

    #[test]
    fn an_answer_keeps_its_shape() {
        let answer = Answer { results: BatchResult::default(), cleared: None };
        assert_eq!(answer.into_response().unwrap(), json!({"statusCode": 200, "body": "{\"reports\":[]}"}));
    }
}
