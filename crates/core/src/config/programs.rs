//! The settings of each program.

use tracing_subscriber::filter::LevelFilter;

use super::environment::{Environment, settings_error};
use super::setting::Declared;
use super::{read_stream, settings};
use crate::error::{Error, Result, chain};
use crate::exports::ImportSettings;
use crate::launch::LaunchSettings;
use crate::object::ObjectRef;
use crate::pipeline::PipelineConfig;
use crate::request::{DefaultRequest, Request};
use crate::stream::StreamSettings;
use crate::telemetry::LogSettings;

/// Settings of the trigger function.
#[derive(Debug, Clone)]
pub struct TriggerSettings {
    /// The pipeline.
    pub pipeline: PipelineConfig,
    /// `INLINE_MAX_BYTES`: larger objects go to a task.
    pub inline_max_bytes: u64,
    /// How a task is started; `None` without `ECS_CLUSTER`, when a large object fails.
    pub launch: Option<LaunchSettings>,
    /// `UPLOAD_QUEUE_URL`.
    pub upload_queue_url: Option<String>,
}

/// Settings of the ingest function.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// The pipeline.
    pub pipeline: PipelineConfig,
    /// `S3_BUCKET`: the bucket of a request that does not name one.
    pub bucket: String,
    /// `CSV_KEY`, or `CSV_PREFIX` and `CSV_MODE`: the request of a call without one.
    pub default_request: Option<DefaultRequest>,
    /// How a task is started for an object that needs more time than is left; `None` without `ECS_CLUSTER`.
    pub launch: Option<LaunchSettings>,
    /// `UPLOAD_QUEUE_URL`, which a check tests.
    pub upload_queue_url: Option<String>,
}

/// What the ingest function does.
#[derive(Debug, Clone)]
pub enum IngestRole {
    /// It runs requests.
    Requests(Box<IngestSettings>),
    /// It transforms records of a stream, because `STREAM_TABLE_FIELD` is set.
    Stream(StreamSettings),
    /// It imports full exports, because `EXPORT_TARGET` is set.
    Exports(Box<ImportSettings>),
}

/// Settings of the task.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// The pipeline.
    pub pipeline: PipelineConfig,
    /// The request: `TASK_REQUEST`, or the object or prefix that the settings name.
    pub request: Request,
}

impl TriggerSettings {
    /// Reads the settings of the trigger function from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&process())
    }

    /// Reads the settings of the trigger function.
    pub fn read(environment: &Environment) -> Result<Self> {
        Ok(Self {
            pipeline: PipelineConfig::read(environment)?,
            inline_max_bytes: environment.get(&settings::INLINE_MAX_BYTES)?,
            launch: launch(environment)?,
            upload_queue_url: environment.find(&settings::UPLOAD_QUEUE_URL)?,
        })
    }
}

impl IngestSettings {
    /// Reads the settings of the ingest function from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&process())
    }

    /// Reads the settings of the ingest function.
    pub fn read(environment: &Environment) -> Result<Self> {
        let pipeline = PipelineConfig::read(environment)?;
        let bucket = environment.get(&settings::S3_BUCKET)?;
        let has_request =
            environment.find(&settings::CSV_KEY)?.is_some() || environment.find(&settings::CSV_PREFIX)?.is_some();
        let default_request = if has_request { Some(default_request(environment, &pipeline, &bucket)?) } else { None };
        Ok(Self {
            pipeline,
            bucket,
            default_request,
            launch: launch(environment)?,
            upload_queue_url: environment.find(&settings::UPLOAD_QUEUE_URL)?,
        })
    }
}

impl IngestRole {
    /// Reads the role and its settings from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&process())
    }

    /// Reads the role and its settings.
    pub fn read(environment: &Environment) -> Result<Self> {
        Ok(match (read_stream::stream(environment)?, ImportSettings::read(environment)?) {
            (Some(settings), None) => Self::Stream(settings),
            (None, Some(settings)) => Self::Exports(Box::new(settings)),
            (None, None) => Self::Requests(Box::new(IngestSettings::read(environment)?)),
            (Some(_), Some(_)) => {
                let message = "STREAM_TABLE_FIELD and EXPORT_TARGET are both set; each needs a function of its own";
                return Err(settings_error(message.to_owned()));
            }
        })
    }
}

impl TaskSettings {
    /// Reads the settings of the task from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&process())
    }

    /// Reads the settings of the task.
    pub fn read(environment: &Environment) -> Result<Self> {
        let bucket = environment.get(&settings::S3_BUCKET)?;
        let pipeline = PipelineConfig::read(environment)?;
        let request = match environment.find(&settings::TASK_REQUEST)? {
            Some(text) => task_request(&text, &bucket)?,
            None => default_request(environment, &pipeline, &bucket)?.into(),
        };
        Ok(Self { pipeline, request })
    }
}

impl LogSettings {
    /// Reads the log settings from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&process())
    }

    /// Reads the log settings.
    ///
    /// In a function, `LOG_LEVEL` can only be less verbose than Lambda's own level: Lambda drops the lines above its level.
    /// Elsewhere `RUST_LOG` comes first, then `LOG_LEVEL`.
    pub fn read(environment: &Environment) -> Result<Self> {
        let filter = match environment.find(&settings::AWS_LAMBDA_LOG_LEVEL)? {
            Some(lambda) => {
                level_filter(environment.find(&settings::LOG_LEVEL)?.map_or(lambda, |level| level.min(lambda)))
            }
            None => match environment.find(&settings::RUST_LOG)? {
                Some(directives) => directives,
                None => level_filter(environment.get(&settings::LOG_LEVEL)?),
            },
        };
        let format = match environment.find(&settings::LOG_FORMAT)? {
            Some(format) => Some(format),
            None => environment.find(&settings::AWS_LAMBDA_LOG_FORMAT)?,
        };
        Ok(Self { filter, format: format.map_or_else(|| environment.get(&settings::LOG_FORMAT), Ok)? })
    }
}

/// The environment of this process. In builds for tests, also arms the failpoint that it names.
pub(super) fn process() -> Environment {
    let environment = Environment::of_process();
    #[cfg(feature = "failpoints")]
    if let (Ok(Some(point)), Ok(Some(file))) =
        (environment.find(&settings::SPILLWAY_FAILPOINT), environment.find(&settings::SPILLWAY_FAILPOINT_FILE))
    {
        crate::failpoint::arm(&point, file.into());
    }
    environment
}

/// Spillway's own modules at this level, all others at `warn` or less.
pub(super) fn level_filter(level: LevelFilter) -> String {
    let others = level.min(LevelFilter::WARN);
    format!("{others},spillway={level}")
}

fn launch(environment: &Environment) -> Result<Option<LaunchSettings>> {
    let assign_public_ip = environment.get(&settings::ASSIGN_PUBLIC_IP)?;
    let Some(cluster) = environment.find(&settings::ECS_CLUSTER)? else { return Ok(None) };
    Ok(Some(LaunchSettings {
        cluster,
        task_definition: environment
            .find(&settings::TASK_DEFINITION)?
            .ok_or_else(|| missing(&settings::TASK_DEFINITION))?,
        container: environment.find(&settings::CONTAINER_NAME)?.ok_or_else(|| missing(&settings::CONTAINER_NAME))?,
        subnets: environment.find(&settings::SUBNETS)?.unwrap_or_default(),
        security_groups: environment.find(&settings::SECURITY_GROUPS)?.unwrap_or_default(),
        assign_public_ip,
        max_tasks: environment.get(&settings::MAX_TASKS)?,
        capacity: environment.get(&settings::TASK_CAPACITY)?,
    }))
}

fn missing(setting: &dyn Declared) -> Error {
    let (name, accepts) = (setting.info().name, setting.accepts());
    settings_error(format!("{name} is not set, but ECS_CLUSTER is; {name} accepts {accepts}"))
}

/// The error does not repeat the text, which may contain a query.
fn task_request(text: &str, bucket: &str) -> Result<Request> {
    let request = serde_json::from_str(text)
        .map_err(|error| settings_error(format!("TASK_REQUEST is not a JSON document: {error}")))?;
    Request::parse(&request, bucket, None)
        .map_err(|error| settings_error(format!("TASK_REQUEST is not a valid request: {}", chain(&error))))
}

fn default_request(environment: &Environment, pipeline: &PipelineConfig, bucket: &str) -> Result<DefaultRequest> {
    let mode = environment.get(&settings::CSV_MODE)?;
    if let Some(key) = environment.find(&settings::CSV_KEY)? {
        let version_id = environment.find(&settings::CSV_VERSION_ID)?;
        return Ok(DefaultRequest::Object(ObjectRef { bucket: bucket.to_owned(), key, version_id }));
    }
    let prefix = environment.find(&settings::CSV_PREFIX)?;
    let prefixes = prefix.map_or_else(|| pipeline.prefixes.upload.clone(), |prefix| vec![prefix]);
    Ok(DefaultRequest::Prefix { bucket: bucket.to_owned(), prefixes, mode })
}
