//! The settings of the pipeline, read from the environment and checked against each other.

use std::time::Duration;

use spillway_formats::columns::ColumnRules;
use spillway_formats::compression::DecodedLimits;
use spillway_formats::csv::CsvDialect;
use spillway_formats::decoder::ReadOptions;
use spillway_formats::json::JsonOptions;
use spillway_formats::limits::ReadLimits;

use super::environment::Environment;
use super::read_database::{check_table_named, database};
use super::read_redshift::copy_prefix;
use super::setting::{Declared, Reason, invalid};
use super::settings::{self, CsvEscape};
use super::table_settings;
use crate::catalog::GlueSettings;
use crate::cost::Compute;
use crate::error::Result;
use crate::glue_jobs::GlueJobSettings;
use crate::key_columns::KeyColumn;
use crate::pattern::TablePatterns;
use crate::pipeline::{AfterLoad, DatabaseAccess, DatabaseSettings, PipelineConfig};
use crate::route::Prefixes;

/// The memory for a decoder where the size of the function or task is unknown: half of a task of the default size.
const DEFAULT_DECODER_BYTES: u64 = 1 << 30;

impl PipelineConfig {
    /// Reads the settings that every program needs.
    ///
    /// Table settings in S3 are read later: see [`crate::pipeline::Tables`].
    pub fn read(environment: &Environment) -> Result<Self> {
        check_table_named(environment)?;
        Self::read_without_table(environment)
    }

    /// Reads the settings of a command, which may name the table in another way.
    pub(super) fn read_without_table(environment: &Environment) -> Result<Self> {
        let mut config = Self::read_defaults(environment)?;
        if let Some(location) = environment.find(&settings::SPILLWAY_CONFIG)? {
            config.database.tables = table_settings::tables(&location, environment, &config)?;
        }
        Ok(config)
    }

    /// Reads the settings of all tables without settings of their own.
    pub(super) fn read_defaults(environment: &Environment) -> Result<Self> {
        let database = database(environment)?;
        let compute = compute(environment)?;
        Ok(Self {
            region: environment.get(&settings::AWS_REGION)?,
            prefixes: prefixes(environment)?,
            glue: glue(environment)?,
            key_columns: key_columns(environment, &database.tables.current().routes.patterns)?,
            glue_job: glue_job(environment, &database)?,
            database,
            export_key: export_key(environment)?,
            dedupe: environment.get(&settings::DEDUPE)?,
            after_load: environment.get(&settings::AFTER_LOAD)?,
            catalog_raw: catalog_raw(environment)?,
            raw_database: raw_database(environment)?,
            lake_database: environment.get(&settings::LAKE_DATABASE)?,
            files: files(environment, compute)?,
            buffer_max_bytes: environment.get(&settings::BUFFER_MAX_BYTES)?,
            max_concurrent_files: environment.get(&settings::MAX_CONCURRENT_FILES)?,
            lease: environment.get(&settings::LEASE_SECONDS)?,
            sync_overlap: Duration::from_secs(3600 * environment.get(&settings::SYNC_OVERLAP_HOURS)?),
            compute,
            host: environment.host(),
            stack: environment.get(&settings::STACK_NAME)?,
            event_bus: environment.find(&settings::EVENT_BUS)?,
        })
    }
}

/// `EXPORT_KEY`: each name once.
fn export_key(environment: &Environment) -> Result<Vec<String>> {
    let columns = environment.find(&settings::EXPORT_KEY)?.unwrap_or_default();
    let is_named_twice = |name: &String| columns.iter().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1;
    match columns.iter().any(is_named_twice) {
        true => Err(invalid(&settings::EXPORT_KEY, &columns.join(","), Reason::Form)),
        false => Ok(columns),
    }
}

/// `CATALOG_RAW`, which needs files that stay in place.
fn catalog_raw(environment: &Environment) -> Result<bool> {
    let is_on = environment.get(&settings::CATALOG_RAW)?;
    if is_on && environment.get(&settings::AFTER_LOAD)? != AfterLoad::Keep {
        let why = "it needs AFTER_LOAD=keep, because the table is over the files where they are".to_owned();
        return Err(invalid(&settings::CATALOG_RAW, "true", Reason::Because(why)));
    }
    Ok(is_on)
}

/// `RAW_DATABASE`, which must be another database than those of the fallback and the lake: their tables have the same names.
fn raw_database(environment: &Environment) -> Result<String> {
    let name = environment.get(&settings::RAW_DATABASE)?;
    for other in [&settings::GLUE_DATABASE, &settings::LAKE_DATABASE] {
        if environment.get(other)? == name {
            let why = format!("it is also {}, whose tables have the same names", other.info.name);
            return Err(invalid(&settings::RAW_DATABASE, &name, Reason::Because(why)));
        }
    }
    Ok(name)
}

/// The size of this function or task, when the platform or the template has set it.
fn compute(environment: &Environment) -> Result<Option<Compute>> {
    if let Some(memory_mb) = environment.find(&settings::AWS_LAMBDA_FUNCTION_MEMORY_SIZE)? {
        return Ok(Some(Compute::Lambda { memory_mb }));
    }
    let task = (environment.find(&settings::TASK_CPU)?, environment.find(&settings::TASK_MEMORY)?);
    Ok(task.0.zip(task.1).map(|(cpu_units, memory_mb)| Compute::Fargate { cpu_units, memory_mb }))
}

/// The limits on a file.
pub(super) fn limits(environment: &Environment, compute: Option<Compute>) -> Result<ReadLimits> {
    let decoded = DecodedLimits {
        max_bytes: environment.get(&settings::MAX_DECODED_BYTES)?,
        max_ratio: environment.get(&settings::MAX_DECODED_RATIO)?,
    };
    Ok(ReadLimits {
        max_record_bytes: environment.get(&settings::MAX_RECORD_BYTES)?,
        max_columns: environment.get(&settings::MAX_COLUMNS)?,
        max_memory_bytes: compute.map_or(DEFAULT_DECODER_BYTES, |compute| compute.memory_bytes() / 2),
        decoded,
        rejects: environment.get(&settings::MAX_REJECTS)?,
    })
}

fn files(environment: &Environment, compute: Option<Compute>) -> Result<ReadOptions> {
    let limits = limits(environment, compute)?;
    Ok(ReadOptions {
        format: environment.get(&settings::FILE_FORMAT)?,
        csv: csv(environment)?,
        json: JsonOptions {
            records_path: environment.find(&settings::JSON_RECORDS)?,
            values: environment.get(&settings::JSON_VALUES)?,
            flatten_depth: environment.get(&settings::JSON_FLATTEN_DEPTH)?,
        },
        columns: ColumnRules::default(),
        limits,
    })
}

fn csv(environment: &Environment) -> Result<CsvDialect> {
    let delimiter = environment.get(&settings::CSV_DELIMITER)?;
    let quote = environment.get(&settings::CSV_QUOTE)?;
    if delimiter.is_some() && delimiter == quote {
        let text = environment.text(&settings::CSV_DELIMITER)?.unwrap_or_default();
        return Err(invalid(&settings::CSV_DELIMITER, &text, Reason::Form));
    }
    let escape = match environment.get(&settings::CSV_ESCAPE)? {
        CsvEscape::Auto => None,
        // A dialect whose escape character is the quote has doubled quotes only.
        CsvEscape::None => quote,
        CsvEscape::Character(byte) => Some(byte),
    };
    let comment = environment.get(&settings::CSV_COMMENT)?;
    let clashes = |byte: Option<u8>, others: &[Option<u8>]| byte.is_some() && others.contains(&byte);
    let unusable: Option<&dyn Declared> = match (clashes(escape, &[delimiter]), clashes(comment, &[delimiter, quote])) {
        (true, _) => Some(&settings::CSV_ESCAPE),
        (false, true) => Some(&settings::CSV_COMMENT),
        (false, false) => None,
    };
    if let Some(setting) = unusable {
        let why = "it is also the delimiter or the quote".to_owned();
        return Err(invalid(setting, &environment.text(setting)?.unwrap_or_default(), Reason::Because(why)));
    }
    let null_values: Option<Vec<String>> = environment.find(&settings::NULL_VALUES)?;
    Ok(CsvDialect {
        delimiter,
        quote,
        has_header: environment.get(&settings::CSV_HEADER)?,
        encoding: environment.get(&settings::CSV_ENCODING)?,
        null_values: null_values.map(|values| values.into_iter().map(String::into_bytes).collect()),
        escape,
        comment,
        skip_lines: environment.get(&settings::CSV_SKIP_LINES)?,
        skip_footer_lines: environment.get(&settings::CSV_SKIP_FOOTER_LINES)?,
        extra_field: environment.get(&settings::CSV_EXTRA_FIELD)?,
        blank_records: environment.get(&settings::CSV_BLANK_RECORDS)?,
        repeated_headers: environment.get(&settings::CSV_REPEATED_HEADERS)?,
        short_records: environment.get(&settings::CSV_SHORT_RECORDS)?,
        detected: None,
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
        lake: environment.find(&settings::LAKE_PREFIX)?,
        glue_job: match environment.find(&settings::GLUE_JOB)? {
            Some(_) => Some(environment.get(&settings::GLUE_JOB_PREFIX)?),
            None => None,
        },
        copy: copy_prefix(environment)?,
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
    let lake = prefixes.lake.iter().map(|prefix| (&settings::LAKE_PREFIX as &dyn Declared, prefix));
    let copy = prefixes.copy.iter().map(|prefix| (&settings::REDSHIFT_COPY_PREFIX as &dyn Declared, prefix));
    let glue = prefixes.glue_job.iter().map(|prefix| (&settings::GLUE_JOB_PREFIX as &dyn Declared, prefix));
    let all: Vec<(&dyn Declared, &String)> = upload.chain(own).chain(lake).chain(copy).chain(glue).collect();
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

/// `GLUE_JOB`, which loads into MySQL, MariaDB and PostgreSQL.
fn glue_job(environment: &Environment, database: &DatabaseSettings) -> Result<Option<GlueJobSettings>> {
    let Some(job) = environment.find(&settings::GLUE_JOB)? else { return Ok(None) };
    if let DatabaseAccess::Redshift(_) = database.access {
        let why = "the job cannot load into Redshift".to_owned();
        return Err(invalid(&settings::GLUE_JOB, &job, Reason::Because(why)));
    }
    Ok(Some(GlueJobSettings {
        job,
        min_bytes: environment.get(&settings::GLUE_MIN_BYTES)?,
        prefix: environment.get(&settings::GLUE_JOB_PREFIX)?,
    }))
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
    // A setting of an earlier version that asks for another format stops the process.
    environment.get(&settings::FALLBACK_FORMAT)?;
    Ok(GlueSettings {
        database: environment.get(&settings::GLUE_DATABASE)?,
        table: environment.get(&settings::GLUE_TABLE)?,
    })
}
