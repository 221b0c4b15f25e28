//! Runs the extracts of a request: here, or in a task.

use jiff::Timestamp;
use serde::Serialize;

use super::{BatchResult, Dispatcher, RequestResult};
use crate::deadline::Deadline;
use crate::destination::Authentication;
use crate::error::{Error, ErrorKind, Result};
use crate::extract::{ExtractResult, ExtractStatus, Extractor, ManifestCursor, SourceSettings};
use crate::pipeline::DatabaseAccess;
use crate::progress::Progress;
use crate::request::ExtractJob;
use crate::secret::{CredentialSettings, SecretSettings};

/// What one extract of a request has done.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ExtractReport {
    /// This process ran it.
    Done {
        /// Whether this process read the source.
        status: ExtractStatus,
        /// The bucket.
        bucket: String,
        /// The prefix of the parts and the manifest.
        folder: String,
        /// The folder of an earlier run that this one finished first.
        #[serde(skip_serializing_if = "Option::is_none")]
        finished_before: Option<String>,
        /// Number of rows.
        rows: u64,
        /// Number of parts.
        parts: usize,
        /// Size of the parts in bytes.
        bytes: u64,
        /// The range of the cursor.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<ManifestCursor>,
    },
    /// A task runs it, and writes the result to its log.
    HandedOver {
        /// Always `handed_over`.
        status: &'static str,
        /// The name in the raw zone.
        name: String,
        /// The ARN of the task.
        task: String,
    },
}

impl From<ExtractResult> for ExtractReport {
    fn from(result: ExtractResult) -> Self {
        let ExtractResult { status, bucket, folder, finished_before, manifest } = result;
        Self::Done {
            status,
            bucket,
            folder,
            finished_before,
            rows: manifest.rows,
            parts: manifest.parts.len(),
            bytes: manifest.bytes,
            cursor: manifest.cursor,
        }
    }
}

impl Dispatcher {
    /// Runs extracts one after the other. The failure of one does not stop the others.
    pub(super) async fn run_extracts(&self, bucket: &str, jobs: &[ExtractJob], deadline: &Deadline) -> RequestResult {
        let mut results = BatchResult::new(&self.metrics);
        let mut extracts = Vec::new();
        for job in jobs {
            match self.run_extract(bucket, job, deadline).await {
                Ok(report) => extracts.push(report),
                Err(error) => {
                    let message = format!("the extract of {:?} failed", job.extract.name);
                    results.add_failure(Some(Error::new(error.kind(), message).with_source(error)));
                }
            }
        }
        RequestResult { extracts, ..results.into() }
    }

    async fn run_extract(&self, bucket: &str, job: &ExtractJob, deadline: &Deadline) -> Result<ExtractReport> {
        if job.in_task {
            return self.dispatch_extract(bucket, job, deadline).await;
        }
        let extractor = Box::pin(Extractor::new(self.source(job)?)).await;
        let result = Box::pin(extractor.run(bucket, &job.extract, &Progress::default(), deadline)).await?;
        Ok(result.into())
    }

    async fn dispatch_extract(&self, bucket: &str, job: &ExtractJob, deadline: &Deadline) -> Result<ExtractReport> {
        let Some(launcher) = &self.launcher else {
            let message = "\"run_in\" is \"task\", but no tasks are set up (ECS_CLUSTER)";
            return Err(Error::new(ErrorKind::Settings, message));
        };
        launcher.ensure_capacity().await?;
        let request = job.task_request(bucket, Timestamp::now()).to_string();
        let task = launcher.launch_request(&request, deadline.remaining()).await?;
        Ok(ExtractReport::HandedOver { status: "handed_over", name: job.extract.name.clone(), task })
    }

    /// The database that an extract reads: that of its secret, or that of the settings.
    fn source(&self, job: &ExtractJob) -> Result<SourceSettings> {
        let settings = &self.context.settings;
        let (credentials, ca_secret) = match (&job.secret, &settings.database.access) {
            (Some(name), _) => (CredentialSettings::Secret(secret(name)), None),
            (None, DatabaseAccess::Login(credentials)) => (credentials.clone(), settings.database.ca_secret.clone()),
            (None, DatabaseAccess::Redshift(_)) => {
                let message = "an extract reads PostgreSQL, MySQL or MariaDB; name its secret, or let Redshift write the files \
                               itself, with UNLOAD";
                return Err(Error::new(ErrorKind::Settings, message));
            }
        };
        let options = settings.database.options.clone();
        Ok(SourceSettings { region: settings.region.clone(), credentials, ca_secret, options })
    }
}

/// A secret with everything that a login needs.
fn secret(name: &str) -> SecretSettings {
    SecretSettings {
        name: name.to_owned(),
        engine: None,
        host: None,
        port: None,
        database: None,
        authentication: Authentication::Password,
    }
}
