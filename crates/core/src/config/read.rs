//! The settings of each program, read from the environment and checked against each other.

use super::environment::{Environment, settings_error};
use super::read_database::database;
use super::setting::{Declared, Reason, invalid};
use super::{
    CsvSettings, DecodedLimits, DefaultRequest, FileLimits, FileSettings, GlueSettings, IngestSettings, KeyColumn,
    LaunchSettings, LogSettings, PipelineConfig, Prefixes, TaskSettings, TriggerSettings, settings,
};
use crate::cost::Compute;
use crate::error::{Error, Result};
use crate::object::ObjectRef;
use crate::pattern::TablePatterns;

impl PipelineConfig {
    /// Reads the settings that every program needs.
    pub fn read(environment: &Environment) -> Result<Self> {
        let database = database(environment)?;
        Ok(Self {
            region: environment.get(&settings::AWS_REGION)?,
            prefixes: prefixes(environment)?,
            glue: glue(environment)?,
            key_columns: key_columns(environment, &database.tables.patterns)?,
            database,
            dedupe: environment.get(&settings::DEDUPE)?,
            files: files(environment)?,
            max_concurrent_files: environment.get(&settings::MAX_CONCURRENT_FILES)?,
            lease: environment.get(&settings::LEASE_SECONDS)?,
            compute: compute(environment)?,
        })
    }
}

impl TriggerSettings {
    /// Reads the settings of the trigger function from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads the settings of the trigger function.
    pub fn read(environment: &Environment) -> Result<Self> {
        Ok(Self {
            context: PipelineConfig::read(environment)?,
            inline_max_bytes: environment.get(&settings::INLINE_MAX_BYTES)?,
            launch: launch(environment)?,
        })
    }
}

impl IngestSettings {
    /// Reads the settings of the ingest function from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads the settings of the ingest function.
    pub fn read(environment: &Environment) -> Result<Self> {
        let context = PipelineConfig::read(environment)?;
        let bucket = environment.get(&settings::S3_BUCKET)?;
        let has_request =
            environment.find(&settings::CSV_KEY)?.is_some() || environment.find(&settings::CSV_PREFIX)?.is_some();
        let standing_work = if has_request { Some(default_request(environment, &context, &bucket)?) } else { None };
        Ok(Self { context, bucket, standing_work, launch: launch(environment)? })
    }
}

impl TaskSettings {
    /// Reads the settings of the task from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads the settings of the task.
    pub fn read(environment: &Environment) -> Result<Self> {
        let bucket = environment.get(&settings::S3_BUCKET)?;
        let context = PipelineConfig::read(environment)?;
        let work = default_request(environment, &context, &bucket)?;
        Ok(Self { context, work })
    }
}

impl LogSettings {
    /// Reads the log settings from the environment of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads the log settings. The level of AWS Lambda comes first, then `RUST_LOG`, then `LOG_LEVEL`.
    pub fn read(environment: &Environment) -> Result<Self> {
        let filter = match environment.find(&settings::AWS_LAMBDA_LOG_LEVEL)? {
            Some(level) => level_filter(level),
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

/// Spillway's own modules at this level, all others at `warn` or less.
fn level_filter(level: &str) -> String {
    let others = if matches!(level, "error" | "off") { level } else { "warn" };
    format!("{others},spillway={level}")
}

/// The size of this function or task, when the platform or the template has set it.
fn compute(environment: &Environment) -> Result<Option<Compute>> {
    if let Some(memory_mb) = environment.find(&settings::AWS_LAMBDA_FUNCTION_MEMORY_SIZE)? {
        return Ok(Some(Compute::Lambda { memory_mb }));
    }
    let task = (environment.find(&settings::TASK_CPU)?, environment.find(&settings::TASK_MEMORY)?);
    Ok(task.0.zip(task.1).map(|(cpu_units, memory_mb)| Compute::Fargate { cpu_units, memory_mb }))
}

fn files(environment: &Environment) -> Result<FileSettings> {
    let decoded = DecodedLimits {
        max_bytes: environment.get(&settings::MAX_DECODED_BYTES)?,
        max_ratio: environment.get(&settings::MAX_DECODED_RATIO)?,
    };
    let limits = FileLimits {
        buffer_max_bytes: environment.get(&settings::BUFFER_MAX_BYTES)?,
        max_record_bytes: environment.get(&settings::MAX_RECORD_BYTES)?,
        max_columns: environment.get(&settings::MAX_COLUMNS)?,
        decoded,
        rejects: environment.get(&settings::MAX_REJECTS)?,
    };
    Ok(FileSettings { format: environment.get(&settings::FILE_FORMAT)?, csv: csv(environment)?, limits })
}

fn csv(environment: &Environment) -> Result<CsvSettings> {
    let delimiter = environment.get(&settings::CSV_DELIMITER)?;
    let quote = environment.get(&settings::CSV_QUOTE)?;
    if delimiter.is_some() && delimiter == quote {
        let text = environment.text(&settings::CSV_DELIMITER)?.unwrap_or_default();
        return Err(invalid(&settings::CSV_DELIMITER, &text, Reason::Form));
    }
    let encoding = environment.get(&settings::CSV_ENCODING)?;
    Ok(CsvSettings {
        delimiter,
        quote,
        has_header: environment.get(&settings::CSV_HEADER)?,
        encoding: (encoding != encoding_rs::UTF_8).then_some(encoding),
        null_values: environment.find(&settings::NULL_VALUES)?,
    })
}

/// The prefixes, none of which is inside another.
fn prefixes(environment: &Environment) -> Result<Prefixes> {
    let prefixes = Prefixes {
        upload: environment.get(&settings::UPLOAD_PREFIX)?,
        processed: environment.get(&settings::PROCESSED_PREFIX)?,
        failed: environment.get(&settings::FAILED_PREFIX)?,
        fallback: environment.get(&settings::GLUE_FALLBACK_PREFIX)?,
        lease: environment.get(&settings::LEASE_PREFIX)?,
        rejected: environment.get(&settings::REJECTED_PREFIX)?,
    };
    // The whole bucket contains Spillway's own prefixes; their objects are skipped by name.
    let upload = prefixes.upload.iter().filter(|prefix| !prefix.is_empty());
    let upload = upload.map(|prefix| (&settings::UPLOAD_PREFIX as &dyn Declared, prefix));
    let own: [(&dyn Declared, &String); 5] = [
        (&settings::PROCESSED_PREFIX, &prefixes.processed),
        (&settings::FAILED_PREFIX, &prefixes.failed),
        (&settings::GLUE_FALLBACK_PREFIX, &prefixes.fallback),
        (&settings::LEASE_PREFIX, &prefixes.lease),
        (&settings::REJECTED_PREFIX, &prefixes.rejected),
    ];
    let all: Vec<(&dyn Declared, &String)> = upload.chain(own).collect();
    for (outer_index, (outer_setting, outer)) in all.iter().enumerate() {
        for (inner_index, (inner_setting, inner)) in all.iter().enumerate() {
            if outer_index != inner_index && inner.starts_with(outer.as_str()) {
                let why = format!("it is inside {} ({outer:?})", outer_setting.info().name);
                return Err(invalid(*inner_setting, inner, Reason::Because(why)));
            }
        }
    }
    Ok(prefixes)
}

/// `KEY_COLUMNS`: each name once, and each part in a pattern.
fn key_columns(environment: &Environment, patterns: &TablePatterns) -> Result<Vec<KeyColumn>> {
    let names = environment.find(&settings::KEY_COLUMNS)?.unwrap_or_default();
    let mut columns: Vec<KeyColumn> = Vec::with_capacity(names.len());
    for name in &names {
        let column = KeyColumn::of(name);
        let why = match &column {
            column if columns.contains(column) => "is listed twice",
            KeyColumn::Part(part) if !patterns.have_part(part) => "is not a part of a pattern in TABLE_PATTERN",
            _ => {
                columns.push(column);
                continue;
            }
        };
        return Err(invalid(&settings::KEY_COLUMNS, &names.join(", "), Reason::Because(format!("{name} {why}"))));
    }
    Ok(columns)
}

fn glue(environment: &Environment) -> Result<GlueSettings> {
    Ok(GlueSettings {
        database: environment.get(&settings::GLUE_DATABASE)?,
        table: environment.get(&settings::GLUE_TABLE)?,
        format: environment.get(&settings::FALLBACK_FORMAT)?,
    })
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
    }))
}

fn missing(setting: &dyn Declared) -> Error {
    let (name, accepts) = (setting.info().name, setting.accepts());
    settings_error(format!("{name} is not set, but ECS_CLUSTER is; {name} accepts {accepts}"))
}

fn default_request(environment: &Environment, context: &PipelineConfig, bucket: &str) -> Result<DefaultRequest> {
    let mode = environment.get(&settings::CSV_MODE)?;
    if let Some(key) = environment.find(&settings::CSV_KEY)? {
        let version_id = environment.find(&settings::CSV_VERSION_ID)?;
        return Ok(DefaultRequest::Object(ObjectRef { bucket: bucket.to_owned(), key, version_id }));
    }
    let prefix = environment.find(&settings::CSV_PREFIX)?;
    let prefixes = prefix.map_or_else(|| context.prefixes.upload.clone(), |prefix| vec![prefix]);
    Ok(DefaultRequest::Prefix { bucket: bucket.to_owned(), prefixes, mode })
}
