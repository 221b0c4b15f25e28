//! Settings: declared, read from the environment, checked. Nothing else reads the environment.
//!
//! A missing or invalid setting stops the process at start. The message contains the name, the value and the accepted
//! values. [`settings`] contains the declarations; `docs/settings.md` is generated from them.

#[cfg(test)]
mod boundary_tests;
#[cfg(test)]
mod docs;
mod environment;
mod read;
mod read_database;
pub mod setting;
pub mod settings;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod tests;

pub use environment::Environment;

use std::time::Duration;

use secrecy::SecretString;

use crate::cost::Compute;
pub use crate::destination::{Credentials, DestinationOptions, Engine, LoadMethod, LoadMode, Tls, UnknownColumns};
use crate::pattern::TablePatterns;
use crate::reject::RejectLimit;

/// Where things lie in the bucket. Each ends with a slash; none contains another, unless the whole bucket is uploaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    /// `UPLOAD_PREFIX`: where files arrive. One or several; an empty one is the whole bucket, and then the only one.
    pub upload: Vec<String>,
    /// `PROCESSED_PREFIX`: where loaded files go.
    pub processed: String,
    /// `FAILED_PREFIX`: where files go that fell back or are broken.
    pub failed: String,
    /// `GLUE_FALLBACK_PREFIX`: where rows go that the database did not take.
    pub fallback: String,
    /// `LEASE_PREFIX`: where workers note which source they hold.
    pub lease: String,
    /// `REJECTED_PREFIX`: where bad records go that were left out of a load.
    pub rejected: String,
}

/// The form of fallback objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackFormat {
    /// Typed, compressed, exact. The default.
    Parquet,
    /// All columns as strings.
    Csv,
}

impl FallbackFormat {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::Parquet, Self::Csv];

    /// The file name's ending, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// The Glue side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlueSettings {
    /// `GLUE_DATABASE`, lower case.
    pub database: String,
    /// `GLUE_TABLE`, lower case: the table of what was meant for `RDS_TABLE`. `route` names the others.
    pub table: String,
    /// `FALLBACK_FORMAT`.
    pub format: FallbackFormat,
}

/// Where the credentials of the database come from.
#[derive(Debug, Clone)]
pub enum CredentialSettings {
    /// `RDS_HOST`, `RDS_PORT`, `RDS_USER`, `RDS_PASSWORD`, `RDS_DB`: all there.
    Inline(Credentials),
    /// A secret in Secrets Manager.
    Secret(SecretSettings),
}

/// The secret that holds the credentials, and what fills in for the fields it lacks (RDS writes no host and no name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSettings {
    /// `RDS_SECRET_NAME`: its name or ARN.
    pub name: String,
    /// `RDS_ENGINE`, when set; it wins over the secret's.
    pub engine: Option<Engine>,
    /// `RDS_HOST`, when set.
    pub host: Option<String>,
    /// `RDS_PORT`, when set.
    pub port: Option<u16>,
    /// `RDS_DB`, when set.
    pub database: Option<String>,
}

/// Which table an object's rows go to; `route` decides by it. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// `TABLE_PATTERN`; none when it is unset.
    pub patterns: TablePatterns,
    /// `RDS_TABLE`: the table of every key that no pattern matches. Without it such keys are refused.
    pub default: Option<String>,
}

/// A column that says where a row comes from; see [`crate::schema::key_columns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyColumn {
    /// A named part of the key by `TABLE_PATTERN`, as text.
    Part(String),
    /// The object's bucket, as text.
    SourceBucket,
    /// The object's key, as text.
    SourceKey,
    /// The record's number in the file, from 1.
    SourceRow,
    /// When the attempt that read the file began.
    LoadedAt,
}

impl KeyColumn {
    /// The column that a name stands for.
    pub fn of(name: &str) -> Self {
        match name {
            "source_bucket" => Self::SourceBucket,
            "source_key" => Self::SourceKey,
            "source_row" => Self::SourceRow,
            "loaded_at" => Self::LoadedAt,
            part => Self::Part(part.to_owned()),
        }
    }

    /// The name in settings and, unless the file has it too, in the table.
    pub fn name(&self) -> &str {
        match self {
            Self::Part(name) => name,
            Self::SourceBucket => "source_bucket",
            Self::SourceKey => "source_key",
            Self::SourceRow => "source_row",
            Self::LoadedAt => "loaded_at",
        }
    }
}

/// The database side.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Inline credentials, or the secret that holds them.
    pub credentials: CredentialSettings,
    /// `TABLE_PATTERN` and `RDS_TABLE`.
    pub tables: TableSettings,
    /// How connections are made and rows are sent.
    pub options: DestinationOptions,
    /// `RDS_RETRY_SECONDS`: how long an outage is waited for before a file falls back.
    pub retry_budget: Duration,
}

/// Whether the same bytes under the same key load again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedupe {
    /// Once per key and content.
    Content,
    /// Every version loads.
    Version,
}

/// What files are, as far as it is not seen from each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Each file is looked at.
    Auto,
    /// CSV.
    Csv,
    /// JSON.
    Json,
    /// Parquet.
    Parquet,
}

/// Limits on what a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// `BUFFER_MAX_BYTES`: objects up to this size, as stored, are read once and held in memory.
    pub buffer_max_bytes: u64,
    /// `MAX_RECORD_BYTES`: the longest record, header included.
    pub max_record_bytes: usize,
    /// `MAX_COLUMNS`.
    pub max_columns: usize,
    /// Limits on what comes out of a compressed file.
    pub decoded: DecodedLimits,
    /// `MAX_REJECTS`.
    pub rejects: RejectLimit,
}

/// Limits on what comes out of a compressed file, so that a small one cannot fill a disk or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedLimits {
    /// `MAX_DECODED_BYTES`: the most bytes.
    pub max_bytes: u64,
    /// `MAX_DECODED_RATIO`: the most decoded bytes for each stored one, once there are many of them.
    pub max_ratio: u64,
}

/// How CSV is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvSettings {
    /// `CSV_DELIMITER`; without one it is found in each file.
    pub delimiter: Option<u8>,
    /// `CSV_QUOTE`; without one nothing is quoted.
    pub quote: Option<u8>,
    /// `CSV_HEADER`: whether the first record names the columns.
    pub has_header: bool,
    /// `CSV_ENCODING`, of files without a byte order mark; UTF-8 without one.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// `NULL_VALUES`: fields that mean NULL in every column unless they are quoted, instead of the usual tokens.
    pub null_values: Option<Vec<String>>,
}

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// `FILE_FORMAT`.
    pub format: FileFormat,
    /// How CSV is read.
    pub csv: CsvSettings,
    /// How far a file may go.
    pub limits: FileLimits,
}

/// What every binary needs to take an object down the road.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// `AWS_REGION`.
    pub region: String,
    /// Where things lie in the bucket.
    pub prefixes: Prefixes,
    /// The Glue side.
    pub glue: GlueSettings,
    /// The database side.
    pub database: DatabaseSettings,
    /// `KEY_COLUMNS`: what stands behind a file's own columns.
    pub key_columns: Vec<KeyColumn>,
    /// `DEDUPE`.
    pub dedupe: Dedupe,
    /// How files are read.
    pub files: FileSettings,
    /// `MAX_CONCURRENT_FILES`: how many small objects of one run are under way at once.
    pub max_concurrent_files: usize,
    /// `LEASE_SECONDS`: how long a worker that has died holds a source.
    pub lease: Duration,
    /// What this runs on, where that is known.
    pub compute: Option<Compute>,
}

/// How a Fargate task is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSettings {
    /// `ECS_CLUSTER`.
    pub cluster: String,
    /// `TASK_DEFINITION`: `family:revision` or ARN.
    pub task_definition: String,
    /// `CONTAINER_NAME`.
    pub container: String,
    /// `SUBNETS`; Fargate refuses a task without one.
    pub subnets: Vec<String>,
    /// `SECURITY_GROUPS`; the VPC's default one when empty.
    pub security_groups: Vec<String>,
    /// `ASSIGN_PUBLIC_IP` is `ENABLED`.
    pub assign_public_ip: bool,
}

/// Settings of the trigger function.
#[derive(Debug, Clone)]
pub struct TriggerSettings {
    /// The road.
    pub context: PipelineConfig,
    /// `INLINE_MAX_BYTES`: larger objects go to a task.
    pub inline_max_bytes: u64,
    /// How a task is started; `None` when no `ECS_CLUSTER` is set, and then a large object is an error.
    pub launch: Option<LaunchSettings>,
}

/// Settings of the ingest function.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// The road.
    pub context: PipelineConfig,
    /// `S3_BUCKET`: the bucket of a request that names none.
    pub bucket: String,
    /// `CSV_KEY` or `CSV_PREFIX` and `CSV_MODE`: what an empty request asks for, when one of them is set.
    pub standing_work: Option<DefaultRequest>,
    /// How a task is started for an object that this function has no time for; `None` when no `ECS_CLUSTER` is set.
    pub launch: Option<LaunchSettings>,
}

/// Which of the keys below a prefix are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum PrefixMode {
    /// Every one, oldest first.
    #[default]
    All,
    /// The most recently modified one.
    Latest,
}

/// What the task is asked to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultRequest {
    /// `CSV_KEY` and, where the event named one, `CSV_VERSION_ID`.
    Object(crate::object::ObjectRef),
    /// `CSV_PREFIX` and `CSV_MODE`.
    Prefix {
        /// The bucket.
        bucket: String,
        /// The prefix, or each upload prefix.
        prefixes: Vec<String>,
        /// Which keys.
        mode: PrefixMode,
    },
}

/// Settings of the task.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// The road.
    pub context: PipelineConfig,
    /// What to load.
    pub work: DefaultRequest,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives for the subscriber's filter.
    pub filter: String,
    /// The form of log lines.
    pub format: LogFormat,
}

/// Where a test wants the process to stand still; see [`crate::failpoint`].
#[cfg(feature = "failpoints")]
pub struct TestPause {
    /// `SPILLWAY_FAILPOINT`.
    pub point: String,
    /// `SPILLWAY_FAILPOINT_FILE`.
    pub file: std::path::PathBuf,
}

/// The failpoint that a test has set in the environment.
#[cfg(feature = "failpoints")]
pub fn test_pause() -> Option<TestPause> {
    let environment = Environment::of_process();
    let point = environment.find(&settings::SPILLWAY_FAILPOINT).ok()??;
    let file = environment.find(&settings::SPILLWAY_FAILPOINT_FILE).ok()??.into();
    Some(TestPause { point, file })
}

/// A password that is never printed, from plain text.
pub fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}
