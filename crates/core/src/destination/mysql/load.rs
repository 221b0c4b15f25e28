//! Sending the rows of a claimed file to their table or their staging table, by LOAD DATA or INSERT, in one piece or in committed chunks.

use super::connect::Connection;
use super::{MySqlDestination, MySqlLoad, insert, load_data, replace, staging};
use crate::destination::rows::Rows;
use crate::destination::{LoadMethod, RowCounts, ScanReason, WriteResult};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;

#[derive(Clone, Copy)]
enum Method {
    LoadData,
    Insert,
}

impl MySqlLoad {
    /// Sends all rows. Returns the counts of the rows that the server has stored.
    pub(super) async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<WriteResult> {
        let size_bytes = self.decoded_bytes();
        let Self { destination, connection, claim, body, columns, staging, merge } = self;
        let mut rows = Rows::new(rows, columns, size_bytes).with_rejects(claim.value_rejects.clone());
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(WriteResult::Written(RowCounts::default())),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        // A compressed body of unknown size may be larger than one transaction should be.
        let transaction_bytes = if body.is_some() { u64::MAX } else { destination.options().atomic_max_bytes };
        let (place, limit_bytes) = match (&*staging, &*merge) {
            (Some(staging), _) => (staging, staging::CHUNK_BYTES),
            (None, Some(merge)) => (&merge.staging, transaction_bytes),
            (None, None) => (&claim.table, transaction_bytes),
        };
        if destination.replaces(columns) && staging.is_none() {
            replace::delete_rows(connection, &claim.table, columns).await?;
        }
        let mut method = destination.method(connection);
        let mut stored = 0;
        loop {
            let (rows_now, at_end) = match method {
                Method::Insert => insert::load(connection, place, columns, &mut rows, limit_bytes).await?,
                Method::LoadData => match load_data::load(connection, place, columns, &mut rows, limit_bytes).await? {
                    load_data::LoadDataResult::Stored { rows, at_end } => (rows, at_end),
                    load_data::LoadDataResult::NotAllowed => {
                        method = destination.without_load_data()?;
                        continue;
                    }
                },
            };
            stored += rows_now;
            if at_end {
                let counts = RowCounts { rows_parsed: rows.taken, rows_stored: stored, ..RowCounts::default() };
                return Ok(WriteResult::Written(counts));
            }
            if body.is_none() {
                return Ok(WriteResult::NeedsScan(ScanReason::SizeUnknown));
            }
            Failpoint::StagingChunk.reached().await;
        }
    }
}

impl MySqlDestination {
    fn method(&self, connection: &Connection) -> Method {
        match self.options().load_method {
            LoadMethod::Auto if connection.facts.local_infile => Method::LoadData,
            LoadMethod::Auto | LoadMethod::Insert => Method::Insert,
            LoadMethod::LoadData => Method::LoadData,
        }
    }

    fn without_load_data(&self) -> Result<Method> {
        match self.options().load_method {
            LoadMethod::Auto | LoadMethod::Insert => Ok(Method::Insert),
            LoadMethod::LoadData => {
                let message = "the server does not allow LOAD DATA LOCAL; set its local_infile to 1, or \
                     RDS_LOAD_METHOD to auto";
                Err(Error::new(ErrorKind::Privilege, message))
            }
        }
    }
}
