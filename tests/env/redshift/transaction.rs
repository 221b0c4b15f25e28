//! Runs the statements of one call in PostgreSQL.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::{Statement, copy};
use crate::database::Schema;
use crate::postgres;

/// Runs statements in one transaction. Returns those that ran, and the message of the error that ended it.
pub(super) async fn run(
    schema: &Schema,
    s3: &aws_sdk_s3::Client,
    sqls: &[String],
) -> (Vec<Statement>, Result<(), String>) {
    let mut statements = Vec::new();
    let connected = postgres::connect(schema.port, &schema.user, &schema.password, &schema.name).await;
    let client = match connected {
        Ok(client) => client,
        Err(error) => return (statements, Err(format!("Connection failed: {error:#}"))),
    };
    let begin = "SET TIME ZONE 'UTC'; BEGIN ISOLATION LEVEL REPEATABLE READ";
    let mut result = client.batch_execute(begin).await.map_err(|error| error.to_string());
    for sql in sqls {
        if result.is_err() {
            break;
        }
        match run_one(&client, s3, sql).await {
            Ok(statement) => statements.push(statement),
            Err(error) => {
                let message = format!("ERROR: {}", message(&error));
                statements.push(Statement { error: Some(message.clone()), ..Statement::default() });
                result = Err(message);
            }
        }
    }
    if result.is_ok() {
        result = client.batch_execute("COMMIT").await.map_err(|error| format!("ERROR: {error}"));
    }
    (statements, result)
}

fn message(error: &anyhow::Error) -> String {
    let database = error.chain().find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    match database.and_then(tokio_postgres::Error::as_db_error) {
        Some(error) => error.message().to_owned(),
        None => format!("{error:#}"),
    }
}

async fn run_one(client: &Client, s3: &aws_sdk_s3::Client, sql: &str) -> Result<Statement> {
    if sql.starts_with("COPY ") {
        let rows = copy::copy(client, s3, sql).await?;
        return Ok(Statement { rows, ..Statement::default() });
    }
    if sql.starts_with("SELECT ") {
        let rows = client.query(sql, &[]).await?;
        let records = rows.iter().map(record).collect::<Result<Vec<_>>>()?;
        return Ok(Statement { rows: records.len() as u64, records: Some(records), error: None });
    }
    let rows = client.execute(&without_keys(sql), &[]).await?;
    Ok(Statement { rows, ..Statement::default() })
}

/// Removes the keys of a new table: PostgreSQL has no key for distribution or order, and Redshift enforces no other key.
fn without_keys(sql: &str) -> String {
    if !sql.starts_with("CREATE TABLE") {
        return sql.to_owned();
    }
    let end = [" DISTSTYLE ", " SORTKEY ", ", PRIMARY KEY "].iter().filter_map(|keys| sql.rfind(keys)).min();
    let closing = if end.is_some_and(|end| sql[end..].starts_with(", PRIMARY")) { ")" } else { "" };
    format!("{}{closing}", &sql[..end.unwrap_or(sql.len())]).replace(" NULL UNIQUE", " NULL")
}

fn record(row: &Row) -> Result<Vec<Value>> {
    row.columns().iter().enumerate().map(|(index, column)| field(row, index, column.type_())).collect()
}

fn field(row: &Row, index: usize, column_type: &Type) -> Result<Value> {
    let number = match *column_type {
        Type::INT2 => row.try_get::<_, Option<i16>>(index)?.map(i64::from),
        Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(i64::from),
        Type::INT8 => row.try_get::<_, Option<i64>>(index)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => {
            let text: Option<String> = row.try_get(index).context("not a text")?;
            return Ok(text.map_or(json!({"isNull": true}), |text| json!({"stringValue": text})));
        }
        ref other => bail!("the double does not return values of the type {other}"),
    };
    Ok(number.map_or(json!({"isNull": true}), |number| json!({"longValue": number})))
}
