//! Extracts: writes a table or a query of a database into the raw zone, in bounded parts.
//!
//! The rows are read once, in one snapshot. Each part is sent as an upload that stays invisible. After the last row, the run is
//! written to the state of the table, with the ids of its uploads. Then the uploads are completed in order, and the manifest is
//! written last. So a run that dies before its plan leaves nothing visible, and a planned run is finished by the next one. No part
//! is ever written from another snapshot.

mod manifest;
mod parts;
mod publish;
mod run;
mod state;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tracing::{info, warn};

use crate::aws::sdk_config;
use crate::deadline::Deadline;
use crate::destination::source::{CursorRange, SourceDatabase};
use crate::destination::{Credentials, DestinationOptions, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::progress::Progress;
use crate::secret::{CredentialSettings, Secrets};
use crate::store::Store;

pub use crate::destination::source::{Relation, SourceColumn};
pub use manifest::{Manifest, ManifestCursor, ManifestPart};
use parts::{PartWriter, SentParts, abort_all};
use run::Run;
pub use run::{ExtractRequest, PartCompression, PartLimits};
use state::{CursorState, Planned, PlannedRun, StateObject, TableState};

/// The database that extracts read.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The region of the secret and the bucket.
    pub region: String,
    /// The login.
    pub credentials: CredentialSettings,
    /// A secret with the certificates that verify the server.
    pub ca_secret: Option<String>,
    /// TLS and the limit for connecting.
    pub options: DestinationOptions,
}

/// What an extract has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtractResult {
    /// Whether this run read the source.
    pub status: ExtractStatus,
    /// The bucket.
    pub bucket: String,
    /// The prefix of the parts and the manifest.
    pub folder: String,
    /// The folder of an earlier run that this run finished first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<String>,
    /// The manifest.
    #[serde(flatten)]
    pub manifest: Manifest,
}

/// Whether an extract read the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtractStatus {
    /// The rows were read and are visible.
    Extracted,
    /// An earlier attempt had sent all rows. This one made the rest of them visible and read nothing.
    Finished,
    /// The run was complete before.
    AlreadyExtracted,
}

/// Runs extracts of one database.
#[derive(Debug, Clone)]
pub struct Extractor {
    store: Store,
    secrets: Secrets,
    settings: SourceSettings,
}

impl Extractor {
    /// Builds the clients. Nothing is connected yet.
    pub async fn new(settings: SourceSettings) -> Self {
        let config = Box::pin(sdk_config(&settings.region)).await;
        let secrets = Secrets::new(&config, settings.credentials.clone());
        Self { store: Store::new(&config), secrets, settings }
    }

    /// Extracts a table or a query into the bucket.
    ///
    /// # Errors
    /// When the source or S3 fails. An extract that is sent again with the same time loses and repeats no row.
    pub async fn run(
        &self,
        bucket: &str,
        request: &ExtractRequest,
        progress: &Progress,
        deadline: &Deadline,
    ) -> Result<ExtractResult> {
        request.check()?;
        let source = source_name(&self.settings.credentials);
        let run = Run::of(request, &source);
        let mut state = StateObject::read(&self.store, bucket, request.state_key()).await?;
        check_same_source(&state, request, &source)?;
        let mut finished = None;
        // Another process may publish the same run at the same time, and plan the next one.
        while let Some(folder) = self.finish_planned(bucket, &mut state).await? {
            finished = Some(folder);
        }
        check_same_source(&state, request, &source)?;
        let result = |status, finished_before, manifest| ExtractResult {
            status,
            bucket: bucket.to_owned(),
            folder: run.folder.clone(),
            finished_before,
            manifest,
        };
        if let Some(manifest) = self.manifest_of(bucket, &run).await? {
            let (status, finished) = match finished {
                Some(folder) if folder == run.folder => (ExtractStatus::Finished, None),
                finished => (ExtractStatus::AlreadyExtracted, finished),
            };
            return Ok(result(status, finished, manifest));
        }
        self.check_folder_is_free(bucket, &run).await?;
        let (sent, manifest) = self.read_source(bucket, request, &run, (&state, progress, deadline)).await?;
        let next = next_state(&state, request, &run, &source, sent, manifest.clone());
        self.plan(bucket, &mut state, next).await?;
        publish::publish(&self.store, bucket, &mut state).await?;
        info!(
            folder = run.folder,
            rows = manifest.rows,
            parts = manifest.parts.len(),
            "extracted a table into the raw zone"
        );
        Ok(result(ExtractStatus::Extracted, finished, manifest))
    }

    /// Finishes the last run, if its process died. Returns its folder.
    async fn finish_planned(&self, bucket: &str, state: &mut StateObject<'_>) -> Result<Option<String>> {
        let planned = state.state.as_ref().map(|state| &state.run).filter(|run| !run.is_published);
        let Some(folder) = planned.map(|run| run.folder.clone()) else { return Ok(None) };
        info!(folder, "finishing an earlier extract, whose process has ended");
        publish::publish(&self.store, bucket, state).await?;
        Ok(Some(folder))
    }

    /// The manifest of the run, if it was complete before.
    async fn manifest_of(&self, bucket: &str, run: &Run) -> Result<Option<Manifest>> {
        const MAX_BYTES: u64 = 64 << 20;
        let key = run.manifest_key();
        let Some(object) = self.store.read_small(bucket, &key, MAX_BYTES).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&object.bytes).map_err(|error| {
            Error::new(ErrorKind::FileBroken, format!("s3://{bucket}/{key} is not a manifest")).with_source(error)
        })?;
        match manifest.run == run.id {
            true => Ok(Some(manifest)),
            false => Err(Error::new(
                ErrorKind::DestinationTaken,
                format!(
                    "s3://{bucket}/{} has the files of another extract, of {}; name another time or another folder",
                    run.folder, manifest.relation
                ),
            )),
        }
    }

    /// Fails if the folder has any file. It would become part of this extract.
    async fn check_folder_is_free(&self, bucket: &str, run: &Run) -> Result<()> {
        let mut pages = self.store.list(bucket, &run.folder);
        while let Some(page) = pages.next().await? {
            if let Some(listed) = page.iter().find(|listed| !listed.key.ends_with('/')) {
                let message = format!(
                    "s3://{bucket}/{} has files already, such as {}; name another time",
                    run.folder, listed.key
                );
                return Err(Error::new(ErrorKind::DestinationTaken, message));
            }
        }
        Ok(())
    }

    /// Reads the rows, and sends them as parts that stay invisible.
    async fn read_source(
        &self,
        bucket: &str,
        request: &ExtractRequest,
        run: &Run,
        (state, progress, deadline): (&StateObject<'_>, &Progress, &Deadline),
    ) -> Result<(SentParts, Manifest)> {
        let started_at = Timestamp::now();
        let (credentials, options) = tokio::select! {
            login = self.login() => login?,
            error = deadline.reached() => return Err(error),
        };
        let reading = async {
            let mut source = SourceDatabase::open(&credentials, &options).await?;
            let columns = source.describe(&request.relation).await?;
            let cursor = cursor_range(&mut source, request, state).await?;
            Ok::<_, Error>((source, columns, cursor))
        };
        let (mut source, columns, cursor) = tokio::select! {
            opened = reading => opened?,
            error = deadline.reached() => return Err(error),
        };
        let mut writer = PartWriter::new((&self.store, bucket), run, request.limits, &columns, progress.clone());
        let read = async {
            if let Some(range) = cursor.rows() {
                source.read(range, &mut writer).await?;
            }
            writer.finish(cursor == RowsToRead::All).await
        };
        let read = tokio::select! {
            read = read => read,
            error = deadline.reached() => Err(error),
        };
        if let Err(error) = read {
            writer.abort().await;
            return Err(error);
        }
        source.close().await;
        let sent = writer.into_sent();
        let (rows, bytes) =
            sent.parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
        let manifest = Manifest {
            run: run.id.clone(),
            source: source_name(&self.settings.credentials),
            relation: request.relation_text().to_owned(),
            slot: run.slot,
            columns,
            cursor: cursor.into_manifest(),
            parts: sent.parts.clone(),
            rows,
            bytes,
            started_at,
            ended_at: Timestamp::now(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok((sent, manifest))
    }

    /// Writes the plan, after which the run will be finished. If another run was planned first, aborts the uploads.
    async fn plan(&self, bucket: &str, object: &mut StateObject<'_>, state: TableState) -> Result<()> {
        let uploads = state.run.uploads.clone();
        match object.plan(state).await? {
            Planned::Yes => {
                Failpoint::ExtractPlanned.reached().await?;
                Ok(())
            }
            Planned::AnotherRun => {
                abort_all(&self.store, bucket, &uploads).await;
                let message =
                    "another extract of this table was faster, so the rows of this one are dropped; send it again";
                Err(Error::new(ErrorKind::Busy, message))
            }
        }
    }

    async fn login(&self) -> Result<(Credentials, DestinationOptions)> {
        let credentials = self.secrets.get(false).await?;
        let mut options = self.settings.options.clone();
        if let (Some(name), Tls::Verify { ca_pem }) = (&self.settings.ca_secret, &mut options.tls) {
            *ca_pem = self.secrets.certificates(name).await?;
        }
        options.connect_timeout = options.connect_timeout.max(Duration::from_secs(1));
        Ok((credentials, options))
    }
}

/// The rows that a run reads.
#[derive(Debug, PartialEq, Eq)]
enum RowsToRead {
    /// Every row.
    All,
    /// The rows of a range; `nulls` rows have no value.
    Range { range: CursorRange, nulls: u64 },
    /// None, because no row is above the value that the last run has reached.
    Nothing { column: String, after: Option<String>, nulls: u64 },
}

impl RowsToRead {
    /// The range to read; `None` if there is nothing to read.
    fn rows(&self) -> Option<Option<&CursorRange>> {
        match self {
            Self::All => Some(None),
            Self::Range { range, .. } => Some(Some(range)),
            Self::Nothing { .. } => None,
        }
    }

    fn into_manifest(self) -> Option<ManifestCursor> {
        match self {
            Self::All => None,
            Self::Range { range: CursorRange { column, after, up_to }, nulls } => {
                Some(ManifestCursor { column, after, up_to: Some(up_to), rows_without_value: nulls })
            }
            Self::Nothing { column, after, nulls } => {
                Some(ManifestCursor { column, up_to: after.clone(), after, rows_without_value: nulls })
            }
        }
    }
}

/// Fixes the range of the cursor: above the value that the last run has reached, up to the largest one in the snapshot.
async fn cursor_range(
    source: &mut SourceDatabase,
    request: &ExtractRequest,
    object: &StateObject<'_>,
) -> Result<RowsToRead> {
    let Some(column) = request.cursor.clone() else { return Ok(RowsToRead::All) };
    let last = object.state.as_ref().and_then(|state| state.cursor.as_ref());
    if let Some(last) = last.filter(|last| last.column != column) {
        let message = format!(
            "the cursor of {} is the column {:?}, not {column:?}; delete that object to begin again",
            object.address(),
            last.column
        );
        return Err(Error::new(ErrorKind::EventInvalid, message));
    }
    let after = last.and_then(|last| last.value.clone());
    let end = source.cursor_end(&column, after.as_deref()).await?;
    if end.nulls > 0 {
        warn!(column, rows = end.nulls, "rows without a value in the cursor column are not extracted");
    }
    let nulls = end.nulls;
    Ok(match end.largest {
        Some(up_to) => RowsToRead::Range { range: CursorRange { column, after, up_to }, nulls },
        None => RowsToRead::Nothing { column, after, nulls },
    })
}

/// Fails if the folder of the table belongs to another source or relation. Their rows would be mixed.
fn check_same_source(object: &StateObject<'_>, request: &ExtractRequest, source: &str) -> Result<()> {
    let Some(state) = &object.state else { return Ok(()) };
    if state.source == source && state.relation == request.relation_text() {
        return Ok(());
    }
    let message = format!(
        "the folder {} of the raw zone has extracts of {} from {:?}; use another name, or delete {} to begin again",
        request.name,
        state.relation,
        state.source,
        object.address()
    );
    Err(Error::new(ErrorKind::DestinationTaken, message))
}

/// The state with this run as the last one.
fn next_state(
    object: &StateObject<'_>,
    request: &ExtractRequest,
    run: &Run,
    source: &str,
    sent: SentParts,
    manifest: Manifest,
) -> TableState {
    let before = object.state.as_ref().and_then(|state| state.cursor.clone());
    let reached = manifest
        .cursor
        .as_ref()
        .map(|cursor| CursorState { column: cursor.column.clone(), value: cursor.up_to.clone() });
    TableState {
        source: source.to_owned(),
        relation: request.relation_text().to_owned(),
        // A full extract does not move the cursor.
        cursor: reached.or(before),
        run: PlannedRun {
            folder: run.folder.clone(),
            planned_at: Timestamp::now(),
            is_published: false,
            uploads: sent.uploads,
            manifest,
        },
    }
}

/// The name of a database, without its password: that of its secret, or its address.
fn source_name(credentials: &CredentialSettings) -> String {
    match credentials {
        CredentialSettings::Secret(secret) => secret.name.clone(),
        CredentialSettings::Inline(login) => format!("{}:{}/{}", login.host, login.port, login.database),
    }
}
