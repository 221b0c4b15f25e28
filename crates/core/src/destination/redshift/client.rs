//! Calls of the Redshift Data API: one transaction a call, and the rows that its queries return.
//!
//! The API runs a call on its own, also after this process has died. So a call without a response is not a call that did not
//! run: see [`Transaction`].

use std::fmt;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_redshiftdata::error::SdkError;
use aws_sdk_redshiftdata::operation::describe_statement::DescribeStatementOutput;
use aws_sdk_redshiftdata::types::{Field, StatementStatusString, StatusString, SubStatementData};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::failure::{refused, unanswered};
use super::settings::{RedshiftLogin, RedshiftServer, RedshiftSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Cell, Row};
use crate::object::hash_parts;

/// The seconds for which a call waits for the end of its statements.
const WAIT_SECONDS: i32 = 20;
/// The first and the longest pause between two questions about a running transaction.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long the call of a load that gets no response is repeated.
const REPEAT_FOR: Duration = Duration::from_secs(60);

/// A database of the Data API.
#[derive(Clone)]
pub(super) struct Client {
    client: aws_sdk_redshiftdata::Client,
    settings: RedshiftSettings,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The result of a transaction.
#[derive(Debug)]
pub(super) enum Transaction {
    /// It was committed.
    Committed(Committed),
    /// It was rolled back.
    RolledBack(RolledBack),
    /// The API has refused the call, so no statement ran.
    Refused(Error),
    /// There was no response in time. It may have been committed, or may still be.
    Unknown(Error),
}

/// A committed transaction, whose queries have results.
#[derive(Debug)]
pub(super) struct Committed {
    id: String,
    /// For each statement, the number of rows that it has returned or changed.
    pub(super) rows: Vec<u64>,
}

/// A transaction that was rolled back.
#[derive(Debug)]
pub(super) struct RolledBack {
    /// The index of the statement that failed, if the API says so.
    pub(super) statement: Option<usize>,
    /// The server's message, which may quote values.
    pub(super) message: String,
}

/// How long a caller waits for a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Until it has ended.
    None,
    /// For this time. The transaction is then unknown.
    Time(Duration),
}

impl Limit {
    /// How long a call without a response is repeated. The result of a load matters, and other calls are cheap to repeat later.
    fn repeat_for(self) -> Duration {
        match self {
            Self::None => REPEAT_FOR,
            Self::Time(_) => Duration::ZERO,
        }
    }
}

impl Client {
    pub(super) fn new(config: &SdkConfig, settings: RedshiftSettings) -> Self {
        Self { client: aws_sdk_redshiftdata::Client::new(config), settings }
    }

    pub(super) fn settings(&self) -> &RedshiftSettings {
        &self.settings
    }

    /// Runs statements in one transaction. `attempt` tells calls with equal statements apart.
    pub(super) async fn transaction(&self, sqls: &[String], attempt: &str, limit: Limit) -> Transaction {
        let started = Instant::now();
        let id = match self.submit(sqls, &token(sqls, attempt), limit).await {
            Ok(id) => id,
            Err(Submission::Refused(error)) => return Transaction::Refused(error),
            Err(Submission::Unknown(error)) => return Transaction::Unknown(error),
        };
        let (mut pause, mut answered_at) = (PAUSES.0, Instant::now());
        loop {
            match self.client.describe_statement().id(&id).wait_time_seconds(WAIT_SECONDS).send().await {
                Ok(description) => match ended(id.clone(), description) {
                    Some(ended) => return ended,
                    None => answered_at = Instant::now(),
                },
                Err(error) if answered_at.elapsed() >= limit.repeat_for() => {
                    return Transaction::Unknown(unanswered("cannot ask for the end of the transaction", &error));
                }
                Err(_) => {}
            }
            if let Limit::Time(limit) = limit
                && started.elapsed() >= limit
            {
                let message = format!("the transaction has not ended within {} s", limit.as_secs());
                return Transaction::Unknown(Error::new(ErrorKind::Conflict, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Sends the statements. A call without a response is repeated with the same token, which the API runs once.
    async fn submit(&self, sqls: &[String], token: &str, limit: Limit) -> Result<String, Submission> {
        let (started, mut pause, mut may_run) = (Instant::now(), PAUSES.0, false);
        loop {
            let RedshiftSettings { server, database, login, .. } = &self.settings;
            let call = self.client.batch_execute_statement().set_sqls(Some(sqls.to_vec())).database(database);
            let call = call.client_token(token).wait_time_seconds(WAIT_SECONDS);
            let call = match server {
                RedshiftServer::Workgroup(name) => call.workgroup_name(name),
                RedshiftServer::Cluster(name) => call.cluster_identifier(name),
            };
            let call = match login {
                RedshiftLogin::Caller => call,
                RedshiftLogin::User(name) => call.db_user(name),
                RedshiftLogin::Secret(name) => call.secret_arn(name),
            };
            let error = match call.send().await {
                Ok(output) => match output.id {
                    Some(id) => return Ok(id),
                    None => {
                        let message = "the response of the Redshift Data API names no statement";
                        return Err(Submission::Unknown(Error::new(ErrorKind::Internal, message)));
                    }
                },
                Err(error) => error,
            };
            let context = "cannot run statements in Redshift";
            if is_refusal(&error) {
                let error = refused(context, &error);
                return Err(if may_run { Submission::Unknown(error) } else { Submission::Refused(error) });
            }
            may_run = true;
            if started.elapsed() >= limit.repeat_for() {
                return Err(Submission::Unknown(unanswered(context, &error)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Returns the rows that a statement of a committed transaction has returned.
    pub(super) async fn rows(&self, committed: &Committed, statement: usize) -> Result<Vec<Row>> {
        let id = format!("{}:{}", committed.id, statement + 1);
        let (mut rows, mut next) = (Vec::new(), None);
        loop {
            let call = self.client.get_statement_result().id(&id).set_next_token(next);
            let page =
                call.send().await.map_err(|error| refused("cannot read the rows of a query in Redshift", &error))?;
            rows.extend(page.records.into_iter().map(|record| Row(record.into_iter().map(cell).collect())));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// Why a call has no statement id.
enum Submission {
    Refused(Error),
    Unknown(Error),
}

/// Whether the API has refused the call, so that no statement runs.
fn is_refusal<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(service) => service.raw().status().is_client_error(),
        _ => false,
    }
}

/// Returns a token of 64 characters, the most that the API accepts.
fn token(sqls: &[String], attempt: &str) -> String {
    hash_parts(&sqls.iter().map(String::as_str).chain([attempt]).collect::<Vec<_>>())
}

/// Returns the result of a transaction; `None` while it runs.
fn ended(id: String, description: DescribeStatementOutput) -> Option<Transaction> {
    let statements = description.sub_statements.unwrap_or_default();
    match description.status? {
        StatusString::Finished => {
            let rows = |count: i64| u64::try_from(count).unwrap_or(0);
            let rows = match statements.as_slice() {
                [] => vec![rows(description.result_rows)],
                statements => statements.iter().map(|statement| rows(statement.result_rows)).collect(),
            };
            Some(Transaction::Committed(Committed { id, rows }))
        }
        StatusString::Failed | StatusString::Aborted => {
            let is_failed = |status: &Option<StatementStatusString>| {
                matches!(status, Some(StatementStatusString::Failed | StatementStatusString::Aborted))
            };
            // The others may also count as aborted.
            let has_error =
                |statement: &SubStatementData| statement.error.as_ref().is_some_and(|text| !text.is_empty());
            let statement = statements.iter().position(has_error);
            let statement = statement.or_else(|| statements.iter().position(|statement| is_failed(&statement.status)));
            let of_statement = statement.and_then(|index| statements[index].error.clone());
            let message = of_statement.or(description.error).unwrap_or_default();
            Some(Transaction::RolledBack(RolledBack { statement, message }))
        }
        _ => None,
    }
}

fn cell(field: Field) -> Cell {
    match field {
        Field::StringValue(text) => Cell::Text(text),
        Field::LongValue(number) => Cell::Integer(number),
        Field::BooleanValue(value) => Cell::Integer(value.into()),
        Field::DoubleValue(value) => Cell::Text(value.to_string()),
        _ => Cell::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_depends_on_every_statement_and_the_attempt() {
        let sqls = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tokens = [
            token(&sqls(&["a", "b"]), "1"),
            token(&sqls(&["ab"]), "1"),
            token(&sqls(&["a", "b"]), "2"),
            token(&sqls(&["a"]), "b1"),
        ];
        for (index, token) in tokens.iter().enumerate() {
            assert_eq!(token.len(), 64);
            assert_eq!(tokens.iter().position(|other| other == token), Some(index));
        }
    }
}
