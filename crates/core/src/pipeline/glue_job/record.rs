//! The record of a file's runs: one small object in S3, beside the plan. Only the holder of the lease changes it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion};
use crate::store::Store;
use crate::store::write::Created;

/// Upper bound for the size of a record.
const MAX_BYTES: u64 = 64 * 1024;
const CONTENT_TYPE: &str = "application/json";

/// The runs for one object version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The object.
    pub(crate) object: ObjectRef,
    /// The job of the runs.
    pub(crate) job: String,
    /// The run that was started last. `None` before its id is known, and after it failed.
    pub(crate) run: Option<String>,
    /// The runs that failed.
    pub(super) failed: Vec<String>,
    /// The reason why no other run is started; `None` if one may be.
    pub(super) given_up: Option<String>,
    /// The number of times that Glue refused to start a run. It changes the ETag of the record, so that another task may try.
    pub(super) refused_starts: u32,
}

/// A record as it is in S3.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    pub(crate) record: RunRecord,
    /// The ETag, including its quotes.
    pub(crate) etag: String,
    key: String,
}

impl RunRecord {
    pub(super) fn new(source: &ObjectVersion, job: &str) -> Self {
        Self {
            object: source.object.clone(),
            job: job.to_owned(),
            run: None,
            failed: Vec::new(),
            given_up: None,
            refused_starts: 0,
        }
    }

    fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("strings and numbers can be written as JSON"))
    }
}

/// The key of the plan of an object version.
pub(super) fn plan_key(prefix: &str, source_id: &str) -> String {
    format!("{prefix}plans/{source_id}.json")
}

/// The key of the record of an object version.
pub(super) fn record_key(prefix: &str, source_id: &str) -> String {
    format!("{prefix}runs/{source_id}.json")
}

/// Reads the record of an object version, or returns `None` if no worker has asked for a run.
pub(crate) async fn read(store: &Store, bucket: &str, prefix: &str, source_id: &str) -> Result<Option<StoredRecord>> {
    let key = record_key(prefix, source_id);
    let Some(small) = store.read_small(bucket, &key, MAX_BYTES).await? else { return Ok(None) };
    let record = serde_json::from_slice(&small.bytes).map_err(|cause| {
        let message =
            format!("{key} is not a readable record of Glue runs; delete it when no run of the file is under way");
        Error::new(ErrorKind::Service, message).with_source(cause)
    })?;
    Ok(Some(StoredRecord { record, etag: small.etag, key }))
}

/// Creates the record of an object version.
///
/// # Errors
/// [`ErrorKind::Busy`] if another worker has created it.
pub(super) async fn create(
    store: &Store,
    prefix: &str,
    source: &ObjectVersion,
    record: RunRecord,
) -> Result<StoredRecord> {
    let key = record_key(prefix, source.id.as_str());
    match store.put_new(&source.object.bucket, &key, record.encode(), CONTENT_TYPE).await? {
        Created::New { etag } => Ok(StoredRecord { record, etag, key }),
        Created::Exists => Err(Error::new(ErrorKind::Busy, format!("another worker has written {key}"))),
    }
}

impl StoredRecord {
    /// Replaces the record in S3.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if another worker has changed it.
    pub(super) async fn replace(self, store: &Store, record: RunRecord) -> Result<Self> {
        let (bucket, key) = (record.object.bucket.clone(), self.key);
        match store.put_if(&bucket, &key, &self.etag, record.encode(), CONTENT_TYPE).await {
            Ok(etag) => Ok(Self { record, etag, key }),
            Err(error) if matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing) => {
                Err(Error::new(ErrorKind::Busy, format!("another worker has changed {key}")).with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}
