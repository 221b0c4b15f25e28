//! A load into the fake database, from its first row to COMMIT.

use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, FutureExt};

use super::{CommitFault, FakeDatabase, Step};
use crate::batch::BatchStream;
use crate::destination::{
    Body, CommitResult, FileClaim, LedgerState, OpenClaim, OpenLoad, ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::error::{Error, ErrorKind, Result};
use spillway_formats::Batch;

/// A load whose rows are not committed.
pub(super) struct FakeLoad {
    pub(super) database: FakeDatabase,
    pub(super) claim: FileClaim,
    pub(super) columns: Vec<String>,
    pub(super) is_provisional: bool,
    pub(super) rows: Vec<String>,
}

impl FakeLoad {
    async fn write_rows(&mut self, mut rows: BatchStream<'_>) -> Result<WriteResult> {
        self.database.call(Step::Write)?;
        self.database.hang_if(Step::Write).await;
        while let Some(batch) = rows.try_next().await? {
            for row in 0..batch.rows() {
                self.write_row(&batch, row)?;
            }
        }
        if self.is_provisional && self.database.state().needs_scan == Some(Step::Write) {
            return Ok(WriteResult::NeedsScan(ScanReason::ColumnsMissing));
        }
        if self.database.state().loses_a_row {
            self.rows.pop();
        }
        Ok(WriteResult::Written(RowCounts::inserted(self.rows.len() as u64)))
    }

    fn write_row(&mut self, batch: &Batch, row: usize) -> Result<()> {
        let field = |column| String::from_utf8_lossy(batch.field(row, column).unwrap_or(b"NULL")).into_owned();
        let fields: Vec<String> = (0..batch.width()).map(field).collect();
        let refused = self.database.state().refused_value;
        let Some(column) = refused.and_then(|value| fields.iter().position(|field| field == value)) else {
            self.rows.push(fields.join(","));
            return Ok(());
        };
        let error = Error::new(ErrorKind::DataRefused, "the value does not fit the column");
        let error = error.at(batch.position(row)).in_column(self.columns[column].clone()).of_one_record();
        match &self.claim.value_rejects {
            Some(rejects) if rejects.add(&error) => Ok(()),
            Some(_) | None => Err(error),
        }
    }

    fn apply(&self, counts: RowCounts, body: Body) {
        let mut state = self.database.state();
        let id = &self.claim.source.id;
        assert!(state.entry_in_target(id).is_none(), "the rows of a source were committed twice");
        state.put_ledger(id, LedgerState::Loaded, counts, String::new(), body.content_id);
        if let Some(row) = state.ledger.get_mut(id) {
            row.lake_key = body.lake_key;
        }
        state.rows.extend(self.rows.iter().map(|row| (id.clone(), row.clone())));
    }
}

impl OpenLoad for FakeLoad {
    fn write<'a>(&'a mut self, rows: BatchStream<'a>) -> BoxFuture<'a, Result<WriteResult>> {
        self.write_rows(rows).boxed()
    }
}

impl OpenClaim for FakeLoad {
    fn undo(self: Box<Self>) -> BoxFuture<'static, ()> {
        let _ = self.database.call(Step::Undo);
        async {}.boxed()
    }

    fn keep_alive(&mut self) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn finalize(self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            self.database.hang_if(Step::Finalize).await;
            self.database.call(Step::Finalize)?;
            if self.is_provisional && self.database.state().has_content(body.content_id.as_deref()) {
                return Err(Error::new(ErrorKind::Conflict, "the same content is loaded under another source id"));
            }
            Ok(Box::new(FakeReady { load: *self, body, counts }) as Box<dyn ReadyLoad>)
        }
        .boxed()
    }
}

/// A load that only lacks its COMMIT.
struct FakeReady {
    load: FakeLoad,
    body: Body,
    counts: RowCounts,
}

impl ReadyLoad for FakeReady {
    fn undo(self: Box<Self>) -> BoxFuture<'static, ()> {
        let _ = self.load.database.call(Step::Undo);
        async {}.boxed()
    }

    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        async move {
            let Self { load, body, counts } = *self;
            if let Err(error) = load.database.call(Step::Commit) {
                return CommitResult::NotCommitted(error);
            }
            load.database.hang_if(Step::Commit).await;
            let fault = load.database.state().commit_faults.pop_front();
            let unknown = || CommitResult::Unknown(Error::new(ErrorKind::CommitUnknown, "no response to COMMIT"));
            match fault {
                None => {
                    load.apply(counts, body);
                    CommitResult::Committed
                }
                Some(CommitFault::LostAfterCommit) => {
                    load.apply(counts, body);
                    unknown()
                }
                Some(CommitFault::LostBeforeCommit) => unknown(),
            }
        }
        .boxed()
    }
}
