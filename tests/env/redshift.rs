//! A double of the Redshift Data API in front of a real PostgreSQL, for the tests.
//!
//! Each call runs as one transaction with REPEATABLE READ, which is Redshift's snapshot isolation. COPY reads the manifest and the
//! Parquet parts from S3 with Arrow's reader. What only Redshift does is not checked: its grammar (see
//! `scripts/check-redshift-sql`), COPY's own rules for values, its locks and its errors.

mod copy;
mod http;
mod transaction;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cloud::{Account, REGION};
use crate::database::Schema;
use crate::{postgres, run};

/// The workgroup that the double has.
pub const WORKGROUP: &str = "warehouse";
/// The interval in which the end of a transaction is looked for.
const POLL: Duration = Duration::from_millis(10);

/// A running double. It stops with the runtime of its test.
#[derive(Debug)]
pub struct DataApi {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    schema: Schema,
    s3: aws_sdk_s3::Client,
    batches: Mutex<HashMap<String, Batch>>,
    /// The id and the statements of each token.
    tokens: Mutex<HashMap<String, (String, Vec<String>)>>,
    is_down: AtomicBool,
    holds_loads: AtomicBool,
    /// Number of responses to calls with a load that are not sent.
    lost_responses: AtomicUsize,
    /// Number of results of queries in loads that are not sent.
    lost_results: AtomicUsize,
    loads: AtomicUsize,
}

/// A call and its transaction.
#[derive(Debug, Clone, Default)]
struct Batch {
    status: Status,
    error: Option<String>,
    statements: Vec<Statement>,
    is_load: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Started,
    Finished,
    Failed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
        }
    }
}

/// A statement of a transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statement {
    /// The rows that a query has returned, as the API spells their fields.
    records: Option<Vec<Vec<Value>>>,
    /// The number of rows that it has returned or changed.
    rows: u64,
    error: Option<String>,
}

impl DataApi {
    /// Starts a double in front of a schema of PostgreSQL, with the objects of an account.
    pub async fn start(schema: &Schema, account: &Account) -> Result<Self> {
        let client = postgres::connect(schema.port, &schema.user, &schema.password, &schema.name).await?;
        let getdate = "CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS \
                       $$ SELECT date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC') $$";
        client.batch_execute(getdate).await.context("cannot create GETDATE()")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State {
            schema: schema.clone(),
            s3: account.s3.clone(),
            batches: Mutex::default(),
            tokens: Mutex::default(),
            is_down: AtomicBool::new(false),
            holds_loads: AtomicBool::new(false),
            lost_responses: AtomicUsize::new(0),
            lost_results: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
        });
        tokio::spawn(http::serve(listener, state.clone()));
        Ok(Self { port, state })
    }

    /// The value of `AWS_ENDPOINT_URL_REDSHIFT_DATA`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The configuration of a client in this process.
    pub async fn config(&self) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "test account");
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(self.endpoint())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .load()
            .await
    }

    /// Closes each connection without a response, or stops doing so.
    pub fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Accepts loads but does not run them, or runs them again, also those that wait.
    pub fn hold_loads(&self, holds: bool) {
        self.state.holds_loads.store(holds, Ordering::SeqCst);
    }

    /// Does not respond to this many calls with a load, but runs them.
    pub fn lose_responses(&self, count: usize) {
        self.state.lost_responses.store(count, Ordering::SeqCst);
    }

    /// Does not respond to this many questions for the result of a query in a load.
    pub fn lose_results(&self, count: usize) {
        self.state.lost_results.store(count, Ordering::SeqCst);
    }

    /// The number of transactions with a load that were accepted.
    pub fn loads(&self) -> usize {
        self.state.loads.load(Ordering::SeqCst)
    }

    /// Waits until no transaction runs.
    pub async fn wait_until_idle(&self) -> Result<()> {
        crate::wait::until("the transactions to end", Duration::from_secs(30), async || {
            Ok(lock(&self.state.batches).values().all(|batch| batch.status != Status::Started))
        })
        .await
    }
}

/// The response to a call.
pub(crate) enum Response {
    Ok(Value),
    /// The call is refused, with this exception and message.
    Refused(&'static str, String),
    /// The connection is closed without a response.
    Lost,
}

/// Handles a call of this operation.
pub(crate) async fn handle(state: &Arc<State>, operation: &str, body: &Value) -> Response {
    if state.is_down.load(Ordering::SeqCst) {
        return Response::Lost;
    }
    let result = match operation {
        "BatchExecuteStatement" | "ExecuteStatement" => submit(state, body),
        "DescribeStatement" => describe(state, body).await,
        "GetStatementResult" => results(state, body),
        operation => return Response::Refused("UnknownOperationException", operation.to_owned()),
    };
    match result {
        Ok(response) => response,
        Err(error) => Response::Refused("ValidationException", format!("{error:#}")),
    }
}

fn submit(state: &Arc<State>, body: &Value) -> Result<Response> {
    ensure!(body["WorkgroupName"] == WORKGROUP && body["Database"].is_string(), "another database: {body}");
    // Only Spillway's own calls have several statements. The others are those of scripts.
    let sqls: Vec<String> = match body["Sql"].as_str() {
        Some(sql) => vec![sql.to_owned()],
        None => serde_json::from_value(body["Sqls"].clone())?,
    };
    ensure!((1..=40).contains(&sqls.len()), "{} statements", sqls.len());
    ensure!(sqls.iter().all(|sql| sql.len() <= 100_000), "a statement has more than 100 KB");
    let token = match (body["ClientToken"].as_str(), body["Sql"].is_string()) {
        (Some(token), _) => token.to_owned(),
        (None, true) => run::unique("token"),
        (None, false) => anyhow::bail!("no token"),
    };
    ensure!(token.len() <= 64, "the token is too long");
    let is_load = sqls.iter().any(|sql| sql.starts_with("INSERT INTO") && sql.contains("'loaded'"));
    let id = match lock(&state.tokens).entry(token) {
        std::collections::hash_map::Entry::Occupied(known) => {
            ensure!(known.get().1 == sqls, "the token was used for other statements");
            known.get().0.clone()
        }
        std::collections::hash_map::Entry::Vacant(new) => {
            let id = run::unique("statement");
            new.insert((id.clone(), sqls.clone()));
            lock(&state.batches).insert(id.clone(), Batch { is_load, ..Batch::default() });
            state.loads.fetch_add(usize::from(is_load), Ordering::SeqCst);
            tokio::spawn(run_batch(state.clone(), id.clone(), sqls, is_load));
            id
        }
    };
    if is_load && is_lost(&state.lost_responses) {
        return Ok(Response::Lost);
    }
    Ok(Response::Ok(json!({"Id": id})))
}

async fn run_batch(state: Arc<State>, id: String, sqls: Vec<String>, is_load: bool) {
    while is_load && state.holds_loads.load(Ordering::SeqCst) {
        tokio::time::sleep(POLL).await;
    }
    let (statements, result) = transaction::run(&state.schema, &state.s3, &sqls).await;
    let (status, error) = match result {
        Ok(()) => (Status::Finished, None),
        Err(error) => (Status::Failed, Some(error)),
    };
    lock(&state.batches).insert(id, Batch { status, error, statements, is_load });
}

/// Counts down the responses to lose. Returns `false` if there are none left.
fn is_lost(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

async fn describe(state: &State, body: &Value) -> Result<Response> {
    let id = body["Id"].as_str().context("no id")?;
    let wait = Duration::from_secs(body["WaitTimeSeconds"].as_u64().unwrap_or(0));
    let started = std::time::Instant::now();
    loop {
        let batch = lock(&state.batches).get(id).cloned().context("an unknown statement")?;
        if batch.status != Status::Started || started.elapsed() >= wait || state.is_down.load(Ordering::SeqCst) {
            return Ok(Response::Ok(description(id, &batch)));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn description(id: &str, batch: &Batch) -> Value {
    let statement = |(index, statement): (usize, &Statement)| {
        let status = if statement.error.is_some() { Status::Failed } else { Status::Finished };
        json!({
            "Id": format!("{id}:{}", index + 1),
            "Status": status.name(),
            "Error": statement.error,
            "ResultRows": statement.rows,
            "HasResultSet": statement.records.is_some(),
        })
    };
    let has_result = batch.statements.last().is_some_and(|statement| statement.records.is_some());
    let statements: Vec<Value> = batch.statements.iter().enumerate().map(statement).collect();
    json!({
        "Id": id,
        "Status": batch.status.name(),
        "Error": batch.error,
        "HasResultSet": has_result,
        "SubStatements": statements,
    })
}

fn results(state: &State, body: &Value) -> Result<Response> {
    let id = body["Id"].as_str().context("no id of a statement")?;
    let (id, number) = id.rsplit_once(':').unwrap_or((id, "1"));
    let batch = lock(&state.batches).get(id).cloned().context("an unknown statement")?;
    ensure!(batch.status == Status::Finished, "the statement has not finished");
    if batch.is_load && is_lost(&state.lost_results) {
        return Ok(Response::Lost);
    }
    let statement = number.parse::<usize>()?.checked_sub(1).and_then(|index| batch.statements.get(index));
    let records = statement.and_then(|statement| statement.records.clone()).context("the statement has no result")?;
    Ok(Response::Ok(json!({"Records": records, "TotalNumRows": records.len()})))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
