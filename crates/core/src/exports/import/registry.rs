//! The registry: JSON objects in the bucket, each changed only by conditional writes.
//!
//! A table of a tenant has one state object. It contains the lock, the last imported version, and the import that was planned and
//! is not finished. So each change of them is one conditional write, and a worker whose lock was taken over can change nothing. A
//! record per version shows its outcome to people. It decides nothing.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::place::ExportPlace;
use super::state::{TableState, VersionRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;
use crate::policy;
use crate::store::Store;
use crate::store::write::Created;

/// The largest object of the registry. An export of ten thousand files needs about 4 MiB.
const MAX_BYTES: u64 = 16 << 20;

/// Number of attempts for a write that conflicts with others.
const TRIES: u32 = 12;

/// The objects of the registry.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    pub(super) store: Store,
    pub(super) bucket: String,
    /// `EXPORT_REGISTRY_PREFIX`.
    pub(super) prefix: String,
}

impl Registry {
    /// Reads the state of a table; a new one if it is missing.
    pub(super) async fn state(&self, tenant: &str, table: &str) -> Result<TableState> {
        let (state, _) = self.read(&self.state_key(tenant, table)).await?;
        Ok(state.unwrap_or_else(|| new_state(tenant, table)))
    }

    /// Changes the state of a table by a conditional write. `change` is called again if another write was faster.
    ///
    /// # Errors
    /// Those of `change`, after which nothing was written.
    pub(super) async fn change_state<T>(
        &self,
        (tenant, table): (&str, &str),
        change: impl Fn(&mut TableState) -> Result<T>,
    ) -> Result<T> {
        let key = self.state_key(tenant, table);
        self.change(&key, |found: &mut Option<TableState>| {
            change(found.get_or_insert_with(|| new_state(tenant, table)))
        })
        .await
    }

    /// Reads the record of a version.
    pub(super) async fn record(&self, place: &ExportPlace) -> Result<Option<VersionRecord>> {
        Ok(self.read(&self.record_key(place)).await?.0)
    }

    /// Changes the record of a version by a conditional write.
    pub(super) async fn change_record<T>(
        &self,
        place: &ExportPlace,
        change: impl Fn(&mut Option<VersionRecord>) -> T,
    ) -> Result<T> {
        self.change(&self.record_key(place), |found: &mut Option<VersionRecord>| Ok(change(found))).await
    }

    fn state_key(&self, tenant: &str, table: &str) -> String {
        format!("{}{tenant}/{table}/state.json", self.prefix)
    }

    fn record_key(&self, ExportPlace { tenant, table, version }: &ExportPlace) -> String {
        format!("{}{tenant}/{table}/versions/{version}.json", self.prefix)
    }

    async fn read<D: DeserializeOwned>(&self, key: &str) -> Result<(Option<D>, Option<String>)> {
        let Some(object) = self.store.read_small(&self.bucket, key, MAX_BYTES).await? else { return Ok((None, None)) };
        let document = serde_json::from_slice(&object.bytes).map_err(|error| {
            let message =
                "the object is not one of the registry of exports; docs/exports.md explains how to start again";
            Error::new(ErrorKind::Settings, message).with_source(error).for_object(ObjectRef::new(&self.bucket, key))
        })?;
        Ok((Some(document), Some(object.etag)))
    }

    async fn change<D, T>(&self, key: &str, change: impl Fn(&mut Option<D>) -> Result<T>) -> Result<T>
    where
        D: Serialize + DeserializeOwned + Clone + PartialEq,
    {
        for attempt in 0..TRIES {
            let (found, etag) = self.read::<D>(key).await?;
            let mut document = found.clone();
            let result = change(&mut document)?;
            // Nothing to write: `change` changed nothing, or an earlier write of this call took effect and only its response was lost.
            let Some(document) = document.filter(|document| Some(document) != found.as_ref()) else {
                return Ok(result);
            };
            if self.write(key, etag.as_deref(), &document).await? {
                return Ok(result);
            }
            let pause = policy::backoff(attempt, fastrand::f64()).min(Duration::from_secs(1));
            tokio::time::sleep(pause).await;
        }
        let message = format!("other workers changed the object during each of {TRIES} attempts");
        Err(Error::new(ErrorKind::Busy, message).for_object(ObjectRef::new(&self.bucket, key)))
    }

    /// Writes an object over the one with this ETag, or a new one. Returns whether it was written.
    async fn write(&self, key: &str, etag: Option<&str>, document: &impl Serialize) -> Result<bool> {
        const CONTENT_TYPE: &str = "application/json";
        let json = serde_json::to_vec_pretty(document)
            .map_err(|error| Error::new(ErrorKind::Internal, "cannot write the registry as JSON").with_source(error))?;
        let bytes = Bytes::from(json);
        let Some(etag) = etag else {
            let created = self.store.put_new(&self.bucket, key, bytes, CONTENT_TYPE).await?;
            return Ok(matches!(created, Created::New { .. }));
        };
        match self.store.put_if(&self.bucket, key, etag, bytes, CONTENT_TYPE).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::SourceChanged | ErrorKind::SourceMissing) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn new_state(tenant: &str, table: &str) -> TableState {
    TableState { tenant: tenant.to_owned(), table: table.to_owned(), ..TableState::default() }
}
