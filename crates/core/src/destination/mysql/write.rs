//! Sends the rows of a file by LOAD DATA or INSERT, in one piece or in committed chunks.

use super::column::Storage;
use super::connect::Connection;
use super::{Plan, insert, load_data, staging};
use crate::destination::LoadMethod;
use crate::destination::engine::{SendOptions, SendResult};
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::table_name::TableName;

/// The statement that sends rows.
#[derive(Clone, Copy)]
enum Statement {
    LoadData,
    Insert,
}

/// Sends all rows. Without a staging table it stops when the transaction exceeds its maximum size.
pub(super) async fn send(
    connection: &mut Connection,
    plan: &Plan,
    options: &SendOptions<'_>,
    rows: &mut Rows<'_, Storage>,
) -> Result<SendResult> {
    let Plan { columns, staging, merge } = plan;
    let (staging_table, limit_bytes) = match (staging, merge) {
        (Some(staging), _) => (Some(TableName::from(staging.as_str())), staging::CHUNK_BYTES),
        (None, Some(merge)) => (Some(merge.staging.as_str().into()), options.max_transaction_bytes),
        (None, None) => (None, options.max_transaction_bytes),
    };
    let table = staging_table.as_ref().unwrap_or(options.table);
    let mut statement = first_statement(options.method, connection);
    let mut stored = 0;
    loop {
        let (stored_now, at_end) = match statement {
            Statement::Insert => insert::load(connection, table, columns, rows, limit_bytes).await?,
            Statement::LoadData => match load_data::load(connection, table, columns, rows, limit_bytes).await? {
                load_data::LoadDataResult::Stored { rows, at_end } => (rows, at_end),
                load_data::LoadDataResult::NotAllowed => {
                    statement = statement_without_load_data(options.method)?;
                    continue;
                }
            },
        };
        stored += stored_now;
        if at_end {
            return Ok(SendResult::All { stored });
        }
        if staging.is_none() {
            return Ok(SendResult::TooManyBytes);
        }
        Failpoint::StagingChunk.reached().await?;
    }
}

fn first_statement(method: LoadMethod, connection: &Connection) -> Statement {
    match method {
        LoadMethod::Auto if connection.facts.local_infile => Statement::LoadData,
        LoadMethod::Auto | LoadMethod::Insert => Statement::Insert,
        LoadMethod::LoadData => Statement::LoadData,
    }
}

/// Returns the name of the statement for this method.
///
/// # Errors
/// When only LOAD DATA may be used, and the server does not allow it.
pub(super) fn statement_name(connection: &Connection, method: LoadMethod) -> Result<&'static str> {
    match first_statement(method, connection) {
        Statement::LoadData if connection.facts.local_infile => Ok("LOAD DATA LOCAL"),
        Statement::LoadData => statement_without_load_data(method).map(|_| "INSERT"),
        Statement::Insert if connection.facts.local_infile => Ok("INSERT"),
        Statement::Insert => Ok("INSERT, because the server's local_infile is 0"),
    }
}

fn statement_without_load_data(method: LoadMethod) -> Result<Statement> {
    match method {
        LoadMethod::Auto | LoadMethod::Insert => Ok(Statement::Insert),
        LoadMethod::LoadData => {
            let message =
                "the server does not allow LOAD DATA LOCAL; set its local_infile to 1, or RDS_LOAD_METHOD to auto";
            Err(Error::new(ErrorKind::Privilege, message))
        }
    }
}
