//! Lists runs: the ledger and the attempt history as one list, newest first.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::{listed_changes, time};
use super::statements::{ATTEMPT_RUNS, LEDGER_RUNS};
use super::{LedgerConnection, LedgerState, LoadDetails, Row, RunOutcome, SqlLedger, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;

/// A run: an attempt at one object version, or several that ended in the same way on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The identity of the object's version.
    pub source_id: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The kind of the error, if the run is in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    /// Number of attempts in this entry.
    pub attempts: u64,
    /// The bucket.
    pub bucket: String,
    /// The key of the object.
    pub key: String,
    /// The version id, in a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The table; empty if the key names none.
    pub table: String,
    /// The size of the object in bytes.
    pub size_bytes: u64,
    /// Rows of the file, including rejected records.
    pub rows_parsed: u64,
    /// Rows in the table or in the fallback.
    pub rows_stored: u64,
    /// Rejected records.
    pub rows_rejected: u64,
    /// The load mode and the other counts, if the run is in the ledger.
    #[serde(flatten)]
    pub load: LoadDetails,
    /// The worker of the last attempt.
    pub worker: String,
    /// Its version.
    pub tool_version: String,
    /// When the first of several attempts started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_started_at: Option<Timestamp>,
    /// When the last attempt started.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its duration in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// The cost in US dollars, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The key that the object was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The error or the reason, at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the table was changed for the file, at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_changes: Option<String>,
}

impl Run {
    /// Returns the object.
    pub fn object(&self) -> ObjectRef {
        ObjectRef { version_id: self.version_id.clone(), ..ObjectRef::new(&self.bucket, &self.key) }
    }
}

/// Where the files of listed runs are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RunPlaces {
    /// In any bucket, or on any machine.
    #[default]
    All,
    /// In this bucket.
    Bucket(String),
    /// In this bucket, or on any machine.
    BucketOrLocal(String),
}

/// Which runs are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// Only runs of files in these places.
    pub places: RunPlaces,
    /// Only runs that started at this time or later.
    pub since: Option<Timestamp>,
    /// Only runs that started before this time.
    pub until: Option<Timestamp>,
    /// Only runs with this outcome.
    pub outcome: Option<RunOutcome>,
    /// Only runs of this table.
    pub table: Option<String>,
    /// Only runs of this key.
    pub key: Option<String>,
    /// Only runs of keys that begin with this text.
    pub key_prefix: Option<String>,
    /// Only runs of the object version whose identity begins with these hex digits.
    pub id: Option<String>,
    /// Only runs after this one in the list.
    pub after: Option<RunCursor>,
    /// The largest number of runs.
    pub limit: usize,
}

/// The place of a run in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCursor {
    started_at: Timestamp,
    source_id: String,
}

impl RunCursor {
    /// Parses the text that [`RunCursor::to_text`] returns.
    pub fn parse(text: &str) -> Option<Self> {
        let (micros, source_id) = text.split_once('.')?;
        let started_at = Timestamp::from_microsecond(micros.parse().ok()?).ok()?;
        let is_hex = source_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self { started_at, source_id: source_id.to_owned() })
    }

    /// Returns the text of the cursor, for the next request.
    pub fn to_text(&self) -> String {
        format!("{}.{}", self.started_at.as_microsecond(), self.source_id)
    }

    fn of(run: &Run) -> Self {
        Self { started_at: run.started_at, source_id: run.source_id.clone() }
    }
}

/// A page of runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunPage {
    /// The runs, newest first.
    pub runs: Vec<Run>,
    /// The place where the next page begins; `None` after the last page.
    pub next: Option<RunCursor>,
    /// Whether the attempt history could be read. Without it the list has no failed attempts.
    pub has_attempts_table: bool,
}

/// The conditions of a query, and their parameters.
struct Conditions<'a> {
    sql: String,
    params: Vec<Value<'a>>,
}

impl<'a> Conditions<'a> {
    fn add(&mut self, sql: &str, param: impl Into<Value<'a>>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.params.push(param.into());
    }
}

impl SqlLedger<'_> {
    /// Returns the runs that pass a filter, newest first. Reads only, and locks nothing.
    pub(crate) async fn runs<C: LedgerConnection>(&self, connection: &mut C, filter: &RunFilter) -> Result<RunPage> {
        let Some(columns) = self.listed_columns(connection).await? else { return Ok(RunPage::default()) };
        let mut has_attempts_table = self.has_attempts(connection).await?;
        let mut runs = Vec::new();
        if filter.outcome != Some(RunOutcome::Failed) {
            let select = columns.select(LEDGER_RUNS);
            runs.extend(self.run_query(connection, (&select, "state"), filter, ledger_run).await?);
        }
        if has_attempts_table && filter.outcome.is_none_or(is_in_attempts) {
            match self.run_query(connection, (ATTEMPT_RUNS, "outcome"), filter, attempt_run).await {
                Ok(attempts) => runs.extend(attempts),
                // The ledger alone is a list, too.
                Err(error) if error.kind() == ErrorKind::Privilege => has_attempts_table = false,
                Err(error) => return Err(error),
            }
        }
        let order = |run: &Run| std::cmp::Reverse((run.started_at, run.source_id.clone()));
        runs.sort_by_key(order);
        Ok(page(runs, filter, has_attempts_table))
    }

    async fn run_query<C: LedgerConnection>(
        &self,
        connection: &mut C,
        (select, outcome_column): (&str, &str),
        filter: &RunFilter,
        run: fn(&Row) -> Result<Run>,
    ) -> Result<Vec<Run>> {
        let patterns =
            Patterns { key: filter.key_prefix.as_deref().map(like_prefix), id: filter.id.as_deref().map(like_prefix) };
        let Conditions { sql, params } = conditions(filter, outcome_column, &patterns);
        // One more than the limit shows whether there is another page.
        let limit = filter.limit + 1;
        let sql = format!("{select}{sql} ORDER BY started_at DESC, source_id DESC LIMIT {limit}");
        self.query(connection, "cannot list the runs", &sql, &params).await?.iter().map(run).collect()
    }
}

/// The LIKE patterns of a filter.
struct Patterns {
    key: Option<String>,
    id: Option<String>,
}

fn conditions<'a>(filter: &'a RunFilter, outcome_column: &str, patterns: &'a Patterns) -> Conditions<'a> {
    let mut conditions = Conditions { sql: String::new(), params: Vec::new() };
    match &filter.places {
        RunPlaces::All => {}
        RunPlaces::Bucket(bucket) => conditions.add("bucket = ?", bucket),
        RunPlaces::BucketOrLocal(bucket) => conditions.add("(bucket = ? OR bucket LIKE 'file://%')", bucket),
    }
    if let Some(since) = filter.since {
        conditions.add("started_at >= ?", since);
    }
    if let Some(until) = filter.until {
        conditions.add("started_at < ?", until);
    }
    if let Some(outcome) = filter.outcome {
        conditions.add(&format!("{outcome_column} = ?"), outcome.name());
    }
    if let Some(table) = &filter.table {
        conditions.add("target_table = ?", table);
    }
    if let Some(key) = &filter.key {
        conditions.add("object_key = ?", key);
    }
    if let Some(pattern) = &patterns.key {
        conditions.add("object_key LIKE ? ESCAPE '!'", pattern);
    }
    if let Some(pattern) = &patterns.id {
        conditions.add("source_id LIKE ? ESCAPE '!'", pattern);
    }
    if let Some(after) = &filter.after {
        conditions.add("started_at <= ?", after.started_at);
        conditions.add("(started_at < ?", after.started_at);
        conditions.sql.push_str(" OR source_id < ?)");
        conditions.params.push((&after.source_id).into());
    }
    conditions
}

/// Whether attempts with this outcome are in the history.
fn is_in_attempts(outcome: RunOutcome) -> bool {
    match outcome {
        RunOutcome::FellBack | RunOutcome::Rejected | RunOutcome::Failed => true,
        RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => false,
    }
}

/// Cuts sorted runs to a page. Runs that share a place in the list stay on one page.
fn page(mut runs: Vec<Run>, filter: &RunFilter, has_attempts_table: bool) -> RunPage {
    let mut next = None;
    if runs.len() > filter.limit && filter.limit > 0 {
        let last = RunCursor::of(&runs[filter.limit - 1]);
        let end = runs.iter().skip(filter.limit).take_while(|run| RunCursor::of(run) == last).count();
        runs.truncate(filter.limit + end);
        next = Some(last);
    }
    RunPage { runs, next, has_attempts_table }
}

/// Returns a LIKE pattern for texts that begin with this one, with the escape character `!`.
fn like_prefix(text: &str) -> String {
    format!("{}%", text.replace('!', "!!").replace('%', "!%").replace('_', "!_"))
}

/// The columns that both queries begin with, after the outcome.
fn common(row: &Row, outcome: RunOutcome, first: usize) -> Result<Run> {
    let started_at = row.optional_integer(first + 10)?.map(time).transpose()?.unwrap_or(Timestamp::UNIX_EPOCH);
    let ended_at = row.optional_integer(first + 11)?.map(time).transpose()?;
    let elapsed = ended_at.map(|ended_at| ended_at.duration_since(started_at).as_millis());
    Ok(Run {
        source_id: row.text(0)?,
        outcome,
        error_kind: None,
        attempts: 1,
        bucket: row.text(first)?,
        key: row.text(first + 1)?,
        version_id: row.optional_text(first + 2)?,
        table: row.text(first + 3)?,
        size_bytes: row.count(first + 4)?,
        rows_parsed: row.count(first + 5)?,
        rows_stored: row.count(first + 6)?,
        rows_rejected: row.count(first + 7)?,
        load: LoadDetails::default(),
        worker: row.text(first + 8)?,
        tool_version: row.text(first + 9)?,
        first_started_at: None,
        started_at,
        ended_at,
        elapsed_ms: elapsed.map(|elapsed| u64::try_from(elapsed).unwrap_or(0)),
        cost_usd: None,
        moved_to: None,
        reason: row.optional_text(first + 13)?,
        table_changes: None,
    })
}

fn ledger_run(row: &Row) -> Result<Run> {
    let run = common(row, LedgerState::from_name(&row.text(1)?)?.into(), 2)?;
    // Some databases return an empty text instead of NULL.
    let cost_usd = row.optional_text(16)?.and_then(|cost| cost.parse().ok());
    let (table_changes, load) = (listed_changes(row, 17)?, LoadDetails::read(row, 18)?);
    Ok(Run { moved_to: row.optional_text(14)?, cost_usd, table_changes, load, ..run })
}

fn attempt_run(row: &Row) -> Result<Run> {
    let name = row.text(1)?;
    let outcome = RunOutcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    let outcome = outcome.ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("the attempt history has an unknown outcome: {name}"))
    })?;
    let (run, attempts) = (common(row, outcome, 4)?, row.count(3)?);
    let first_started_at = row.optional_integer(16)?.map(time).transpose()?.filter(|_| attempts > 1);
    Ok(Run { error_kind: row.optional_text(2)?, attempts, first_started_at, ..run })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(second: i64, source_id: &str, outcome: RunOutcome) -> Run {
        Run {
            source_id: source_id.into(),
            outcome,
            error_kind: None,
            attempts: 1,
            bucket: "b".into(),
            key: "k".into(),
            version_id: None,
            table: "t".into(),
            size_bytes: 1,
            rows_parsed: 0,
            rows_stored: 0,
            rows_rejected: 0,
            load: LoadDetails::default(),
            worker: String::new(),
            tool_version: String::new(),
            first_started_at: None,
            started_at: Timestamp::from_second(second).unwrap(),
            ended_at: None,
            elapsed_ms: None,
            cost_usd: None,
            moved_to: None,
            reason: None,
            table_changes: None,
        }
    }

    #[test]
    fn runs_that_share_a_place_stay_on_one_page() {
        let runs = || {
            vec![
                run(3, "c", RunOutcome::Loaded),
                run(2, "b", RunOutcome::Loaded),
                run(2, "b", RunOutcome::Failed),
                run(1, "a", RunOutcome::Loaded),
            ]
        };
        let of = |limit| page(runs(), &RunFilter { limit, ..RunFilter::default() }, true);
        assert_eq!((of(1).runs.len(), of(2).runs.len(), of(3).runs.len(), of(4).runs.len()), (1, 3, 3, 4));
        assert_eq!(of(2).next.unwrap().to_text(), "2000000.b");
        assert_eq!(of(4).next, None);
    }

    #[test]
    fn cursor_round_trips_and_refuses_other_texts() {
        let cursor = RunCursor::parse("1764374400000001.0af9").unwrap();
        assert_eq!(cursor.to_text(), "1764374400000001.0af9");
        for text in ["", "1", "x.0a", "1.zz", "99999999999999999999.0a"] {
            assert_eq!(RunCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn key_prefix_is_not_a_pattern() {
        assert_eq!(like_prefix("50%_a!b"), "50!%!_a!!b%");
    }
}
