//! The settings of the database side: the connection, the tables, and how rows are loaded.

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;

use super::environment::{Environment, settings_error};
use super::read_redshift::{check_redshift, redshift_keys, redshift_server, redshift_settings};
use super::setting::{Declared, Reason, Setting, invalid};
use super::settings;
use crate::destination::{
    Authentication, Changes, Credentials, DatabaseKind, DestinationOptions, Engine, LoadMode, Mirror, Output, Tls,
};
use crate::error::Result;
use crate::pattern;
use crate::pipeline::{DatabaseAccess, DatabaseSettings, TableRules, Tables};
use crate::route::TableRoutes;
use crate::secret::{CredentialSettings, SecretSettings};
use crate::table_name::TableName;

/// The certificates that sign RDS servers and proxies.
const RDS_CA_BUNDLE: &[u8] = include_bytes!("../../certs/rds-ca-bundle.pem");

/// Limit for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn database(environment: &Environment) -> Result<DatabaseSettings> {
    let ledger_table = environment.get(&settings::LEDGER_TABLE)?;
    let load_mode = load_mode(environment)?;
    let output = output(environment, &load_mode)?;
    Ok(DatabaseSettings {
        access: access(environment)?,
        tables: Tables::fixed(TableRules::of_routes(tables(environment, &ledger_table)?)),
        options: DestinationOptions {
            tls: tls(environment)?,
            load_method: environment.get(&settings::RDS_LOAD_METHOD)?,
            load_mode,
            unknown_columns: environment.get(&settings::UNKNOWN_COLUMNS)?,
            extra_column: environment.get(&settings::EXTRA_COLUMN)?,
            missing_columns: environment.get(&settings::MISSING_COLUMNS)?,
            changed_types: environment.get(&settings::CHANGED_TYPES)?,
            output,
            redshift_keys: redshift_keys(environment)?,
            ledger_table,
            connect_timeout: CONNECT_TIMEOUT,
            atomic_max_bytes: environment.get(&settings::ATOMIC_MAX_BYTES)?,
        },
        history_days: environment.get(&settings::HISTORY_DAYS)?,
        ca_secret: environment.find(&settings::RDS_CA_SECRET_NAME)?,
        retry_budget: environment.get(&settings::RDS_RETRY_SECONDS)?,
    })
}

fn load_mode(environment: &Environment) -> Result<LoadMode> {
    let mut mode = environment.get(&settings::LOAD_MODE)?;
    let has_key = mode.key().is_some();
    let columns = columns(environment, &settings::MERGE_KEY, has_key)?;
    let scope = self::columns(environment, &settings::MIRROR_SCOPE, matches!(mode, LoadMode::Mirror(_)))?;
    let max_deletes_percent = environment.get(&settings::MIRROR_MAX_DELETES)?;
    let operation_column = environment.get(&settings::OPERATION_COLUMN)?;
    match &mut mode {
        LoadMode::Append | LoadMode::Replace => {}
        LoadMode::Merge { key } => *key = columns,
        LoadMode::Changes(changes) => *changes = Changes { key: columns, operation_column },
        LoadMode::Mirror(mirror) => {
            if environment.get(&settings::MAX_REJECTS)?.is_on() {
                let why = "with LOAD_MODE=mirror it must be 0, because a file without its bad records would delete their rows";
                let text = environment.text(&settings::MAX_REJECTS)?.unwrap_or_default();
                return Err(invalid(&settings::MAX_REJECTS, &text, Reason::Because(why.to_owned())));
            }
            *mirror = Mirror { key: columns, scope, max_deletes_percent };
        }
    }
    Ok(mode)
}

/// The columns that a setting names, each once; none if they have no meaning.
fn columns(environment: &Environment, setting: &Setting<Vec<String>>, have_meaning: bool) -> Result<Vec<String>> {
    let columns = environment.find(setting)?.unwrap_or_default();
    let is_named_twice = |name: &String| columns.iter().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1;
    if (!have_meaning && !columns.is_empty()) || columns.iter().any(is_named_twice) {
        return Err(invalid(setting, &columns.join(","), Reason::Form));
    }
    Ok(columns)
}

/// `OUTPUT`, if the other settings allow it.
fn output(environment: &Environment, load_mode: &LoadMode) -> Result<Output> {
    let output = environment.get(&settings::OUTPUT)?;
    let why = match output {
        Output::Lake | Output::Both if environment.find(&settings::LAKE_PREFIX)?.is_none() => {
            "it needs LAKE_PREFIX, which is not set"
        }
        Output::Lake if *load_mode != LoadMode::Append => "the lake keeps every row, which needs LOAD_MODE=append",
        Output::Database | Output::Lake | Output::Both => return Ok(output),
    };
    let text = environment.text(&settings::OUTPUT)?.unwrap_or_default();
    Err(invalid(&settings::OUTPUT, &text, Reason::Because(why.to_owned())))
}

/// Fails if no setting names a table.
pub(super) fn check_table_named(environment: &Environment) -> Result<()> {
    let named: [&dyn Declared; 3] = [&settings::RDS_TABLE, &settings::TABLE_PATTERN, &settings::SPILLWAY_CONFIG];
    for setting in named {
        if environment.text(setting)?.is_some() {
            return Ok(());
        }
    }
    Err(settings_error(format!(
        "none of RDS_TABLE, TABLE_PATTERN and SPILLWAY_CONFIG is set; set RDS_TABLE to {}, or TABLE_PATTERN to {}",
        settings::RDS_TABLE.accepts(),
        settings::TABLE_PATTERN.accepts()
    )))
}

fn tables(environment: &Environment, ledger_table: &str) -> Result<TableRoutes> {
    let default = environment.find(&settings::RDS_TABLE)?;
    let patterns = environment.find(&settings::TABLE_PATTERN)?.unwrap_or_default();
    let is_ledger = |table: &&TableName| table.own_name().to_lowercase() == ledger_table.to_lowercase();
    if let Some(table) = default.as_ref().filter(is_ledger) {
        return Err(invalid(&settings::RDS_TABLE, table, Reason::Because("it is the name of the ledger".to_owned())));
    }
    let beside = [
        (pattern::attempts_table(ledger_table), "it is the name of the ledger's attempt history"),
        (pattern::syncs_table(ledger_table), "it is the name of the table with the ledger's watermarks"),
    ];
    for (name, why) in beside {
        if let Some(table) = default.as_deref().filter(|table| table.to_lowercase() == name.to_lowercase()) {
            return Err(invalid(&settings::RDS_TABLE, table, Reason::Because(why.to_owned())));
        }
    }
    for table in patterns.fixed_tables() {
        if let Err(why) = pattern::table_name(&table, ledger_table) {
            let text = environment.text(&settings::TABLE_PATTERN)?.unwrap_or_default();
            let why = format!("the table name {:?} {why}", table.as_str());
            return Err(invalid(&settings::TABLE_PATTERN, &text, Reason::Because(why)));
        }
    }
    Ok(TableRoutes { patterns, default })
}

fn access(environment: &Environment) -> Result<DatabaseAccess> {
    let redshift = redshift_server(environment)?;
    let copy_role = environment.get(&settings::REDSHIFT_COPY_ROLE)?;
    match environment.find(&settings::RDS_ENGINE)? {
        Some(DatabaseKind::Redshift) => {
            check_redshift(environment)?;
            Ok(DatabaseAccess::Redshift(redshift_settings(environment, redshift, copy_role)?))
        }
        kind @ (Some(DatabaseKind::Server(_)) | None) => {
            if let Some((setting, name)) = redshift {
                return Err(invalid(setting, &name, Reason::Because("it needs RDS_ENGINE=redshift".to_owned())));
            }
            let engine = kind.and_then(|kind| match kind {
                DatabaseKind::Server(engine) => Some(engine),
                DatabaseKind::Redshift => None,
            });
            Ok(DatabaseAccess::Login(credentials(environment, engine)?))
        }
    }
}

fn credentials(environment: &Environment, engine: Option<Engine>) -> Result<CredentialSettings> {
    let port = environment.find(&settings::RDS_PORT)?;
    let host = environment.find(&settings::RDS_HOST)?;
    let user = environment.find(&settings::RDS_USER)?;
    let password = environment.find(&settings::RDS_PASSWORD)?;
    let database = environment.find(&settings::RDS_DB)?;
    let authentication = environment.get(&settings::RDS_AUTH)?;
    if authentication == Authentication::Iam && !environment.get(&settings::RDS_TLS)? {
        return Err(invalid(&settings::RDS_AUTH, "iam", Reason::Because("a token needs RDS_TLS=verify".to_owned())));
    }
    // A token replaces the password.
    let password = password.or_else(|| (authentication == Authentication::Iam).then(SecretString::default));
    let set = [
        ("RDS_HOST", host.is_some()),
        ("RDS_USER", user.is_some()),
        ("RDS_PASSWORD", password.is_some()),
        ("RDS_DB", database.is_some()),
    ];
    if let (Some(host), Some(user), Some(password), Some(database)) = (&host, user, password, &database) {
        let (host, database) = (host.clone(), database.clone());
        let engine = engine.unwrap_or(Engine::from_port(port));
        let port = port.unwrap_or(engine.default_port());
        let login = Credentials { engine, host, port, user, password, authentication, database };
        return Ok(CredentialSettings::Inline(login));
    }
    let Some(name) = environment.find(&settings::RDS_SECRET_NAME)? else {
        let missing: Vec<&str> = set.into_iter().filter(|(_, is_set)| !is_set).map(|(name, _)| name).collect();
        return Err(settings_error(format!(
            "RDS_SECRET_NAME is not set, and {} is missing; set RDS_SECRET_NAME to {}, or set all of RDS_HOST, RDS_USER, \
             RDS_PASSWORD and RDS_DB",
            missing.join(", "),
            settings::RDS_SECRET_NAME.accepts(),
        )));
    };
    Ok(CredentialSettings::Secret(SecretSettings { name, engine, host, port, database, authentication }))
}

fn tls(environment: &Environment) -> Result<Tls> {
    if !environment.get(&settings::RDS_TLS)? {
        return Ok(Tls::Off);
    }
    let Some(path) = environment.find(&settings::RDS_CA_FILE)? else {
        return Ok(Tls::Verify { ca_pem: Bytes::from_static(RDS_CA_BUNDLE) });
    };
    let unusable = |why: &str| invalid(&settings::RDS_CA_FILE, &path, Reason::Because(why.to_owned()));
    let ca_pem = std::fs::read(&path).map_err(|error| unusable("the file cannot be read").with_source(error))?;
    if memchr::memmem::find(&ca_pem, b"-----BEGIN CERTIFICATE-----").is_none() {
        return Err(unusable("the file contains no certificate"));
    }
    Ok(Tls::Verify { ca_pem: ca_pem.into() })
}
