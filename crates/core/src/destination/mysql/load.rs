//! The rows of a claimed file on their way into their table, or into the one they wait in: by LOAD DATA or INSERT, at once or in
//! committed chunks.

use super::connect::Connection;
use super::{MySqlDestination, MySqlSession, insert, load_data, replace, staging, too_large_for_single_pass};
use crate::config::LoadMethod;
use crate::destination::Loaded;
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;

#[derive(Clone, Copy)]
enum Method {
    LoadData,
    Insert,
}

impl MySqlDestination {
    /// Sends all rows; answers what the server has stored.
    pub(super) async fn load_on(&self, session: &mut MySqlSession, rows: BatchStream<'_>) -> Result<Loaded> {
        let columns = session.columns.clone();
        let rejects = session.claim.value_rejects.clone();
        let mut rows = Rows::new(rows, &columns, session.claim.decoded_bytes()).with_rejects(rejects);
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(Loaded::default()),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        // What comes out of a body that was not read yet may be more than one transaction should take.
        let is_read = session.claim.body.is_some();
        let at_once = if is_read { u64::MAX } else { self.options.atomic_max_bytes };
        let (place, limit_bytes) = match (&session.staging, &session.merge) {
            (Some(staging), _) => (staging.clone(), staging::CHUNK_BYTES),
            (None, Some(merge)) => (merge.staging.clone(), at_once),
            (None, None) => (self.table.clone(), at_once),
        };
        if self.replaces(&columns) && session.staging.is_none() {
            replace::delete_rows(&mut session.connection, &self.table, &columns).await?;
        }
        let mut method = self.method(&session.connection);
        let mut stored = 0;
        loop {
            let (rows_now, at_end) = match method {
                Method::Insert => {
                    insert::load(&mut session.connection, &place, &columns, &mut rows, limit_bytes).await?
                }
                Method::LoadData => {
                    let loading = load_data::load(&mut session.connection, &place, &columns, &mut rows, limit_bytes);
                    match loading.await? {
                        load_data::LoadDataResult::Stored { rows, at_end } => (rows, at_end),
                        load_data::LoadDataResult::NotAllowed => {
                            method = self.without_load_data()?;
                            continue;
                        }
                    }
                }
            };
            stored += rows_now;
            if at_end {
                return Ok(Loaded { rows_parsed: rows.taken, rows_stored: stored, ..Loaded::default() });
            }
            if !is_read {
                return Err(too_large_for_single_pass());
            }
            Failpoint::StagingChunk.reached().await;
        }
    }

    fn method(&self, connection: &Connection) -> Method {
        match self.options.load_method {
            LoadMethod::Auto if connection.facts.local_infile => Method::LoadData,
            LoadMethod::Auto | LoadMethod::Insert => Method::Insert,
            LoadMethod::LoadData => Method::LoadData,
        }
    }

    fn without_load_data(&self) -> Result<Method> {
        match self.options.load_method {
            LoadMethod::Auto | LoadMethod::Insert => Ok(Method::Insert),
            LoadMethod::LoadData => {
                let message = "the server does not allow LOAD DATA LOCAL; set its local_infile to 1, or \
                     RDS_LOAD_METHOD to auto";
                Err(Error::new(ErrorKind::Privilege, message))
            }
        }
    }
}
