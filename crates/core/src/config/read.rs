//! Reading settings: from names and texts to types, or a message that says what is wrong with which variable.

use super::environment::{Environment, refused, refused_text, settings_error};
use super::read_database::database;
use super::vars::{self, Variable};
use super::{
    CsvSettings, DecodedLimits, Dedupe, DefaultRequest, FallbackFormat, FileFormat, FileLimits, FileSettings,
    GlueSettings, IngestSettings, KeyColumn, LaunchSettings, LogFormat, LogSettings, PipelineConfig, PrefixMode,
    Prefixes, TaskSettings, TriggerSettings,
};
use crate::cost::Compute;
use crate::error::Result;
use crate::object::ObjectRef;
use crate::pattern::TablePatterns;
use crate::reject::RejectLimit;

impl PipelineConfig {
    /// Reads and checks what every binary needs.
    pub fn read(environment: &Environment) -> Result<Self> {
        let database = database(environment)?;
        Ok(Self {
            region: environment.need(&vars::AWS_REGION, vars::AWS_REGION.doc)?,
            prefixes: prefixes(environment)?,
            glue: glue(environment)?,
            key_columns: key_columns(environment, &database.tables.patterns)?,
            database,
            dedupe: environment.choice(&vars::DEDUPE, &[("content", Dedupe::Content), ("version", Dedupe::Version)])?,
            files: files(environment)?,
            max_concurrent_files: environment.number(&vars::MAX_CONCURRENT_FILES, 1..=64)?,
            lease: environment.seconds(&vars::LEASE_SECONDS, 5..=3600)?,
            compute: compute(environment)?,
        })
    }
}

impl TriggerSettings {
    /// Reads and checks the trigger's settings from the process's environment.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads and checks the trigger's settings.
    pub fn read(environment: &Environment) -> Result<Self> {
        Ok(Self {
            context: PipelineConfig::read(environment)?,
            inline_max_bytes: environment.number(&vars::INLINE_MAX_BYTES, 0..=u64::MAX)?,
            launch: launch(environment)?,
        })
    }
}

impl IngestSettings {
    /// Reads and checks the ingest function's settings from the process's environment.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads and checks the ingest function's settings.
    pub fn read(environment: &Environment) -> Result<Self> {
        let context = PipelineConfig::read(environment)?;
        let bucket = bucket(environment)?;
        let names_work = environment.set(&vars::CSV_KEY)?.is_some() || environment.set(&vars::CSV_PREFIX)?.is_some();
        let standing_work = if names_work { Some(default_request(environment, &context, &bucket)?) } else { None };
        Ok(Self { context, bucket, standing_work, launch: launch(environment)? })
    }
}

impl TaskSettings {
    /// Reads and checks the task's settings from the process's environment.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads and checks the task's settings.
    pub fn read(environment: &Environment) -> Result<Self> {
        let bucket = bucket(environment)?;
        let context = PipelineConfig::read(environment)?;
        let work = default_request(environment, &context, &bucket)?;
        Ok(Self { context, work })
    }
}

impl LogSettings {
    /// Reads and checks the log settings from the process's environment.
    pub fn from_env() -> Result<Self> {
        Self::read(&Environment::of_process())
    }

    /// Reads and checks the log settings. Lambda's own variables win, then `RUST_LOG`, then ours.
    pub fn read(environment: &Environment) -> Result<Self> {
        let filter = match environment.set(&vars::AWS_LAMBDA_LOG_LEVEL)? {
            Some(level) => level_filter(&vars::AWS_LAMBDA_LOG_LEVEL, &level)?,
            None => match environment.set(&vars::RUST_LOG)? {
                Some(directives) => directives,
                None => level_filter(&vars::LOG_LEVEL, &environment.need(&vars::LOG_LEVEL, vars::LOG_LEVEL.doc)?)?,
            },
        };
        let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        let ours = environment.set(&vars::LOG_FORMAT)?.is_some();
        let lambdas = environment.set(&vars::AWS_LAMBDA_LOG_FORMAT)?.is_some();
        let variable = if lambdas && !ours { &vars::AWS_LAMBDA_LOG_FORMAT } else { &vars::LOG_FORMAT };
        Ok(Self { filter, format: environment.choice(variable, &formats)? })
    }
}

/// What this runs on, where the platform or the template says so.
fn compute(environment: &Environment) -> Result<Option<Compute>> {
    let read = |variable| match environment.set(variable)? {
        Some(_) => environment.number(variable, 1..=1_000_000).map(Some),
        None => Ok(None),
    };
    if let Some(memory_mb) = read(&vars::AWS_LAMBDA_FUNCTION_MEMORY_SIZE)? {
        return Ok(Some(Compute::Lambda { memory_mb }));
    }
    let task = (read(&vars::TASK_CPU)?, read(&vars::TASK_MEMORY)?);
    Ok(task.0.zip(task.1).map(|(cpu_units, memory_mb)| Compute::Fargate { cpu_units, memory_mb }))
}

/// Our own modules at the level that was asked for, everybody else's at `warn` or less.
fn level_filter(variable: &Variable, text: &str) -> Result<String> {
    let level = match text.trim().to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "critical" => "error",
        "off" => "off",
        _ => return Err(refused_text(variable, text)),
    };
    let others = if matches!(level, "error" | "off") { level } else { "warn" };
    Ok(format!("{others},spillway={level}"))
}

fn files(environment: &Environment) -> Result<FileSettings> {
    let formats = [
        ("auto", FileFormat::Auto),
        ("csv", FileFormat::Csv),
        ("json", FileFormat::Json),
        ("parquet", FileFormat::Parquet),
    ];
    let format = environment.choice(&vars::FILE_FORMAT, &formats)?;
    let decoded = DecodedLimits {
        max_bytes: environment.number(&vars::MAX_DECODED_BYTES, 1..=u64::MAX)?,
        max_ratio: environment.number(&vars::MAX_DECODED_RATIO, 1..=1_000_000)?,
    };
    let limits = FileLimits {
        buffer_max_bytes: environment.number(&vars::BUFFER_MAX_BYTES, 0..=1 << 30)?,
        max_record_bytes: environment.number(&vars::MAX_RECORD_BYTES, 1024..=1 << 30)?,
        max_columns: environment.number(&vars::MAX_COLUMNS, 1..=65_535)?,
        decoded,
        rejects: reject_limit(environment)?,
    };
    Ok(FileSettings { format, csv: csv(environment)?, limits })
}

/// A number of records, or a share of them with a percent sign.
fn reject_limit(environment: &Environment) -> Result<RejectLimit> {
    let text = environment.need(&vars::MAX_REJECTS, vars::MAX_REJECTS.doc)?;
    let limit = match text.trim().strip_suffix('%') {
        None => text.trim().parse().ok().map(RejectLimit::Count),
        Some(usage) => {
            let percent = usage.trim().parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            percent.map(|percent| RejectLimit::PerMillion((percent * 10_000.0).round() as u64))
        }
    };
    limit.ok_or_else(|| refused_text(&vars::MAX_REJECTS, &text))
}

fn csv(environment: &Environment) -> Result<CsvSettings> {
    // Not trimmed: a tab is a blank.
    let text = environment.need(&vars::CSV_DELIMITER, vars::CSV_DELIMITER.doc)?;
    let delimiter = match (text.to_ascii_lowercase().as_str(), text.as_bytes()) {
        ("auto", _) => None,
        ("tab" | "\\t", _) => Some(b'\t'),
        (_, [byte]) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Some(*byte),
        _ => return Err(refused_text(&vars::CSV_DELIMITER, &text)),
    };
    let quote = environment.choice(&vars::CSV_QUOTE, &[("\"", Some(b'"')), ("'", Some(b'\'')), ("none", None)])?;
    if delimiter.is_some() && delimiter == quote {
        return Err(refused_text(&vars::CSV_DELIMITER, &text));
    }
    let label = environment.need(&vars::CSV_ENCODING, vars::CSV_ENCODING.doc)?;
    let encoding = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes())
        .ok_or_else(|| refused_text(&vars::CSV_ENCODING, &label))?;
    let null_values = environment.list(&vars::NULL_VALUES)?;
    Ok(CsvSettings {
        delimiter,
        quote,
        has_header: environment.choice(&vars::CSV_HEADER, &[("true", true), ("false", false)])?,
        encoding: (encoding != encoding_rs::UTF_8).then_some(encoding),
        null_values: (!null_values.is_empty()).then_some(null_values),
    })
}

fn bucket(environment: &Environment) -> Result<String> {
    environment.need(&vars::S3_BUCKET, "the bucket whose objects are loaded")
}

fn prefixes(environment: &Environment) -> Result<Prefixes> {
    let own = |variable: &Variable| prefix(variable, environment.need(variable, variable.doc)?);
    let prefixes = Prefixes {
        upload: upload_prefixes(environment)?,
        processed: own(&vars::PROCESSED_PREFIX)?,
        failed: own(&vars::FAILED_PREFIX)?,
        fallback: own(&vars::GLUE_FALLBACK_PREFIX)?,
        lease: own(&vars::LEASE_PREFIX)?,
        rejected: own(&vars::REJECTED_PREFIX)?,
    };
    let mut named = vec![
        (&vars::PROCESSED_PREFIX, &prefixes.processed),
        (&vars::FAILED_PREFIX, &prefixes.failed),
        (&vars::GLUE_FALLBACK_PREFIX, &prefixes.fallback),
        (&vars::LEASE_PREFIX, &prefixes.lease),
        (&vars::REJECTED_PREFIX, &prefixes.rejected),
    ];
    // In the whole bucket our own prefixes lie inside, and are passed over by name.
    let uploads = prefixes.upload.iter().filter(|prefix| !prefix.is_empty());
    named.splice(0..0, uploads.map(|prefix| (&vars::UPLOAD_PREFIX, prefix)));
    for (outer_index, (outer_variable, outer)) in named.iter().enumerate() {
        for (inner_index, (inner_variable, inner)) in named.iter().enumerate() {
            if outer_index != inner_index && inner.starts_with(outer.as_str()) {
                return Err(settings_error(format!(
                    "{} is {inner:?}, which lies inside {} ({outer:?}); it takes {}",
                    inner_variable.name, outer_variable.name, inner_variable.takes
                )));
            }
        }
    }
    Ok(prefixes)
}

/// `UPLOAD_PREFIX`: the prefixes between the commas; one empty prefix for a single slash, the whole bucket.
fn upload_prefixes(environment: &Environment) -> Result<Vec<String>> {
    let variable = &vars::UPLOAD_PREFIX;
    let text = environment.need(variable, variable.doc)?;
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [] => Err(refused_text(variable, &text)),
        ["/"] => Ok(vec![String::new()]),
        words => words.iter().map(|word| prefix(variable, (*word).to_owned())).collect(),
    }
}

/// A prefix with its slash at the end.
fn prefix(variable: &Variable, mut prefix: String) -> Result<String> {
    if !prefix.ends_with('/') {
        prefix.push('/');
    }
    if prefix.starts_with('/') {
        let message = format!("{prefix:?}; no prefix starts with a slash, and it");
        return Err(settings_error(format!("{} is {message} takes {}", variable.name, variable.takes)));
    }
    Ok(prefix)
}

/// `KEY_COLUMNS`: each name once, and each part one of a pattern.
fn key_columns(environment: &Environment, patterns: &TablePatterns) -> Result<Vec<KeyColumn>> {
    let variable = &vars::KEY_COLUMNS;
    let names = environment.list(variable)?;
    let mut columns: Vec<KeyColumn> = Vec::with_capacity(names.len());
    for name in &names {
        let column = KeyColumn::of(name);
        let why = match &column {
            column if columns.contains(column) => "stands there twice",
            KeyColumn::Part(part) if !patterns.have_part(part) => "is no part of a pattern in TABLE_PATTERN",
            _ => {
                columns.push(column);
                continue;
            }
        };
        return Err(refused(variable, &format!("{:?}, and {name} {why}", names.join(", "))));
    }
    Ok(columns)
}

fn glue(environment: &Environment) -> Result<GlueSettings> {
    let name = |variable: &Variable| -> Result<String> {
        let text = environment.need(variable, variable.doc)?;
        let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        if text.len() > 255 || !text.chars().all(is_plain) {
            return Err(refused_text(variable, &text));
        }
        Ok(text.to_ascii_lowercase())
    };
    Ok(GlueSettings {
        database: name(&vars::GLUE_DATABASE)?,
        table: name(&vars::GLUE_TABLE)?,
        format: environment
            .choice(&vars::FALLBACK_FORMAT, &[("parquet", FallbackFormat::Parquet), ("csv", FallbackFormat::Csv)])?,
    })
}

fn launch(environment: &Environment) -> Result<Option<LaunchSettings>> {
    let assign_public_ip = environment.choice(&vars::ASSIGN_PUBLIC_IP, &[("disabled", false), ("enabled", true)])?;
    let Some(cluster) = environment.set(&vars::ECS_CLUSTER)? else { return Ok(None) };
    let why = "needed with ECS_CLUSTER";
    Ok(Some(LaunchSettings {
        cluster,
        task_definition: environment.need(&vars::TASK_DEFINITION, why)?,
        container: environment.need(&vars::CONTAINER_NAME, why)?,
        subnets: environment.list(&vars::SUBNETS)?,
        security_groups: environment.list(&vars::SECURITY_GROUPS)?,
        assign_public_ip,
    }))
}

fn default_request(environment: &Environment, context: &PipelineConfig, bucket: &str) -> Result<DefaultRequest> {
    let modes = [("all", PrefixMode::All), ("latest", PrefixMode::Latest)];
    let mode = environment.choice(&vars::CSV_MODE, &modes)?;
    if let Some(key) = environment.set(&vars::CSV_KEY)? {
        let version_id = environment.set(&vars::CSV_VERSION_ID)?;
        return Ok(DefaultRequest::Object(ObjectRef { bucket: bucket.to_owned(), key, version_id }));
    }
    let prefix = environment.set(&vars::CSV_PREFIX)?;
    let prefixes = prefix.map_or_else(|| context.prefixes.upload.clone(), |prefix| vec![prefix]);
    Ok(DefaultRequest::Prefix { bucket: bucket.to_owned(), prefixes, mode })
}
