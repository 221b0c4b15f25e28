//! The state of a table in the raw zone: its last run, and the value that its cursor has reached.
//!
//! It is one JSON object. Each write of it has the ETag of the one before as its condition, so of two runs at once only one
//! becomes the next run. The run is written with the ids of its uploads before any of them is completed. From then on it will be
//! finished, by this process or by a later one.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::sent_upload::SavedUpload;
use crate::store::write::Created;

/// The largest state that is read. That of 10,000 parts is smaller.
const MAX_BYTES: u64 = 256 << 20;

const CONTENT_TYPE: &str = "application/json";

/// The state as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableState {
    /// The database of all runs.
    pub(super) source: String,
    /// The table or query of all runs.
    pub(super) relation: String,
    /// The value that the runs with a cursor have reached.
    #[serde(default)]
    pub(super) cursor: Option<CursorState>,
    /// The last run.
    pub(super) run: PlannedRun,
}

/// The value that a cursor has reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CursorState {
    pub(super) column: String,
    pub(super) value: Option<String>,
}

/// A run whose rows are all sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedRun {
    /// The prefix of its objects.
    pub(super) folder: String,
    /// When the plan was written.
    pub(super) planned_at: Timestamp,
    /// Whether every part is visible and the manifest is written.
    pub(super) is_published: bool,
    /// The uploads that make its parts visible; empty once it is published.
    pub(super) uploads: Vec<SavedUpload>,
    /// The manifest.
    pub(super) manifest: Manifest,
}

/// The state object, as it was read or written last.
#[derive(Debug)]
pub(super) struct StateObject<'a> {
    store: &'a Store,
    bucket: &'a str,
    key: String,
    etag: Option<String>,
    /// `None` before the first run.
    pub(super) state: Option<TableState>,
}

/// The result of writing a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planned {
    /// The run is the table's next run.
    Yes,
    /// Another run was.
    AnotherRun,
}

impl<'a> StateObject<'a> {
    /// Reads the state.
    pub(super) async fn read(store: &'a Store, bucket: &'a str, key: String) -> Result<Self> {
        let Some(object) = store.read_small(bucket, &key, MAX_BYTES).await? else {
            return Ok(Self { store, bucket, key, etag: None, state: None });
        };
        let state = serde_json::from_slice(&object.bytes).map_err(|error| {
            let message = format!("s3://{bucket}/{key} is not the state of an extract");
            Error::new(ErrorKind::FileBroken, message).with_source(error)
        })?;
        Ok(Self { store, bucket, key, etag: Some(object.etag), state: Some(state) })
    }

    /// The address of the object, for messages.
    pub(super) fn address(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    /// Writes the next run, if no other run was written since the state was read.
    ///
    /// # Errors
    /// After an error the run may be planned, so its uploads must not be aborted.
    pub(super) async fn plan(&mut self, state: TableState) -> Result<Planned> {
        let written = self.write(&state).await;
        if let Ok(Some(etag)) = written {
            (self.etag, self.state) = (Some(etag), Some(state));
            return Ok(Planned::Yes);
        }
        // The SDK may have sent the request twice, and the second one met the first. Upload ids are unique.
        let found = Self::read(self.store, self.bucket, self.key.clone()).await?;
        let is_own = found
            .state
            .as_ref()
            .is_some_and(|found| found.run.manifest == state.run.manifest && found.run.uploads == state.run.uploads);
        *self = found;
        match written {
            _ if is_own => Ok(Planned::Yes),
            Ok(_) => Ok(Planned::AnotherRun),
            Err(error) => Err(error),
        }
    }

    /// Notes that the last run is published. If another process has noted it, reads the state again: that process may also have
    /// planned the next run, which is not published yet.
    pub(super) async fn mark_published(&mut self) -> Result<()> {
        let Some(mut state) = self.state.clone() else { return Ok(()) };
        state.run.is_published = true;
        state.run.uploads.clear();
        if let Some(etag) = self.write(&state).await? {
            (self.etag, self.state) = (Some(etag), Some(state));
            return Ok(());
        }
        *self = Self::read(self.store, self.bucket, self.key.clone()).await?;
        Ok(())
    }

    /// Writes a state over the one that was read. Returns the ETag, or `None` if another state has been written.
    async fn write(&self, state: &TableState) -> Result<Option<String>> {
        let json = serde_json::to_vec_pretty(state)
            .map_err(|error| Error::new(ErrorKind::Internal, "cannot write the state as JSON").with_source(error))?;
        let bytes = Bytes::from(json);
        match &self.etag {
            None => Ok(match self.store.put_new(self.bucket, &self.key, bytes, CONTENT_TYPE).await? {
                Created::New { etag } => Some(etag),
                Created::Exists => None,
            }),
            Some(etag) => match self.store.put_if(self.bucket, &self.key, etag, bytes, CONTENT_TYPE).await {
                Ok(etag) => Ok(Some(etag)),
                Err(error) if matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}
