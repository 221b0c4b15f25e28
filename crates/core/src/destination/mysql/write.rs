//! Sending the rows of a file to their table or their staging table, by LOAD DATA or INSERT, in one piece or in
//! committed chunks.

use super::column::Storage;
use super::connect::Connection;
use super::{Plan, insert, load_data, staging};
use crate::destination::LoadMethod;
use crate::destination::engine::{Sending, Sent};
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;

/// How rows are sent, on a server whose settings are known.
#[derive(Clone, Copy)]
enum Method {
    LoadData,
    Insert,
}

/// Sends all rows. Without a staging table it stops before the transaction contains more bytes than it should.
pub(super) async fn send(
    connection: &mut Connection,
    plan: &Plan,
    sending: &Sending<'_>,
    rows: &mut Rows<'_, Storage>,
) -> Result<Sent> {
    let Plan { columns, staging, merge } = plan;
    let (place, limit_bytes) = match (staging, merge) {
        (Some(staging), _) => (staging.as_str(), staging::CHUNK_BYTES),
        (None, Some(merge)) => (merge.staging.as_str(), sending.max_transaction_bytes),
        (None, None) => (sending.table, sending.max_transaction_bytes),
    };
    let mut method = method(sending.method, connection);
    let mut stored = 0;
    loop {
        let (rows_now, at_end) = match method {
            Method::Insert => insert::load(connection, place, columns, rows, limit_bytes).await?,
            Method::LoadData => match load_data::load(connection, place, columns, rows, limit_bytes).await? {
                load_data::LoadDataResult::Stored { rows, at_end } => (rows, at_end),
                load_data::LoadDataResult::NotAllowed => {
                    method = without_load_data(sending.method)?;
                    continue;
                }
            },
        };
        stored += rows_now;
        if at_end {
            return Ok(Sent::All { stored });
        }
        if staging.is_none() {
            return Ok(Sent::TooManyBytes);
        }
        Failpoint::StagingChunk.reached().await;
    }
}

fn method(wanted: LoadMethod, connection: &Connection) -> Method {
    match wanted {
        LoadMethod::Auto if connection.facts.local_infile => Method::LoadData,
        LoadMethod::Auto | LoadMethod::Insert => Method::Insert,
        LoadMethod::LoadData => Method::LoadData,
    }
}

fn without_load_data(wanted: LoadMethod) -> Result<Method> {
    match wanted {
        LoadMethod::Auto | LoadMethod::Insert => Ok(Method::Insert),
        LoadMethod::LoadData => {
            let message =
                "the server does not allow LOAD DATA LOCAL; set its local_infile to 1, or RDS_LOAD_METHOD to auto";
            Err(Error::new(ErrorKind::Privilege, message))
        }
    }
}
