//! Reading the database's side of the settings: where it is, who we are there, which table, and how rows are sent.

use std::time::Duration;

use super::environment::{Environment, refused, refused_text, settings_error};
use super::vars::{self, Variable};
use super::{
    CredentialSettings, Credentials, DatabaseSettings, DestinationOptions, Engine, LoadMethod, LoadMode,
    SecretSettings, TableSettings, Tls, UnknownColumns, secret,
};
use crate::error::Result;
use crate::pattern::{self, TablePatterns};

/// The certificates that sign RDS servers and proxies.
const RDS_CA_BUNDLE: &[u8] = include_bytes!("../../certs/rds-ca-bundle.pem");

/// The longest time one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn database(environment: &Environment) -> Result<DatabaseSettings> {
    let ledger_table = environment.need(&vars::LEDGER_TABLE, vars::LEDGER_TABLE.doc)?;
    let ledger_table = table_name(&vars::LEDGER_TABLE, ledger_table)?;
    Ok(DatabaseSettings {
        credentials: credentials(environment)?,
        tables: tables(environment, &ledger_table)?,
        options: DestinationOptions {
            tls: tls(environment)?,
            load_method: environment.choice(
                &vars::RDS_LOAD_METHOD,
                &[("auto", LoadMethod::Auto), ("load-data", LoadMethod::LoadData), ("insert", LoadMethod::Insert)],
            )?,
            load_mode: load_mode(environment)?,
            unknown_columns: environment
                .choice(&vars::UNKNOWN_COLUMNS, &[("refuse", UnknownColumns::Refuse), ("add", UnknownColumns::Add)])?,
            ledger_table,
            connect_timeout: CONNECT_TIMEOUT,
            atomic_max_bytes: environment.number(&vars::ATOMIC_MAX_BYTES, 0..=u64::MAX)?,
        },
        retry_budget: environment.seconds(&vars::RDS_RETRY_SECONDS, 0..=3600)?,
    })
}

fn load_mode(environment: &Environment) -> Result<LoadMode> {
    let key = environment.list(&vars::MERGE_KEY)?;
    let modes =
        [("append", LoadMode::Append), ("replace", LoadMode::Replace), ("merge", LoadMode::Merge { key: key.clone() })];
    let mode = environment.choice(&vars::LOAD_MODE, &modes)?;
    let is_merge = matches!(mode, LoadMode::Merge { .. });
    let is_named_twice = |name: &String| key.iter().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1;
    if (!is_merge && !key.is_empty()) || key.iter().any(is_named_twice) {
        return Err(refused_text(&vars::MERGE_KEY, &key.join(",")));
    }
    Ok(mode)
}

fn tables(environment: &Environment, ledger_table: &str) -> Result<TableSettings> {
    let default = environment.set(&vars::RDS_TABLE)?.map(|name| table_name(&vars::RDS_TABLE, name)).transpose()?;
    let Some(text) = environment.set(&vars::TABLE_PATTERN)? else {
        return match default {
            Some(_) => Ok(TableSettings { patterns: TablePatterns::default(), default }),
            None => Err(settings_error(format!(
                "RDS_TABLE is not set, and neither is TABLE_PATTERN; set {}, or {}",
                vars::RDS_TABLE.takes,
                vars::TABLE_PATTERN.takes
            ))),
        };
    };
    let wrong = |why: String| refused(&vars::TABLE_PATTERN, &format!("{text:?}, and {why}"));
    let patterns = TablePatterns::parse(&text).map_err(wrong)?;
    for table in patterns.fixed_tables() {
        let named = pattern::table_name(table, ledger_table);
        named.map_err(|why| wrong(format!("the table's name {table:?} {why}")))?;
    }
    Ok(TableSettings { patterns, default })
}

fn table_name(variable: &Variable, name: String) -> Result<String> {
    // What MySQL allows in a quoted name, minus what only looks like a name.
    let is_name = name.chars().count() <= 64 && !name.contains('\0') && name.trim() == name;
    if is_name { Ok(name) } else { Err(refused_text(variable, &name)) }
}

fn credentials(environment: &Environment) -> Result<CredentialSettings> {
    let engine = engine(environment)?;
    let port = match environment.set(&vars::RDS_PORT)? {
        Some(_) => Some(environment.number(&vars::RDS_PORT, 1..=u16::MAX)?),
        None => None,
    };
    let host = environment.set(&vars::RDS_HOST)?;
    let user = environment.set(&vars::RDS_USER)?;
    let password = environment.set(&vars::RDS_PASSWORD)?;
    let database = environment.set(&vars::RDS_DB)?;
    let missing: Vec<&str> = [
        (&host, &vars::RDS_HOST),
        (&user, &vars::RDS_USER),
        (&password, &vars::RDS_PASSWORD),
        (&database, &vars::RDS_DB),
    ]
    .into_iter()
    .filter(|(value, _)| value.is_none())
    .map(|(_, variable)| variable.name)
    .collect();
    if let (Some(host), Some(user), Some(password), Some(database)) = (&host, user, password, &database) {
        let (host, database) = (host.clone(), database.clone());
        let engine = engine.unwrap_or(Engine::of_port(port));
        let port = port.unwrap_or(engine.default_port());
        let password = secret(password);
        return Ok(CredentialSettings::Inline(Credentials { engine, host, port, user, password, database }));
    }
    let Some(name) = environment.set(&vars::RDS_SECRET_NAME)? else {
        return Err(settings_error(format!(
            "RDS_SECRET_NAME is not set, and neither is {}; set {}, or all of RDS_HOST, RDS_USER, RDS_PASSWORD and RDS_DB",
            missing.join(", "),
            vars::RDS_SECRET_NAME.takes,
        )));
    };
    Ok(CredentialSettings::Secret(SecretSettings { name, engine, host, port, database }))
}

fn engine(environment: &Environment) -> Result<Option<Engine>> {
    let Some(text) = environment.set(&vars::RDS_ENGINE)? else { return Ok(None) };
    let found = Engine::of_name(&text.trim().to_ascii_lowercase());
    found.map(Some).ok_or_else(|| refused_text(&vars::RDS_ENGINE, &text))
}

fn tls(environment: &Environment) -> Result<Tls> {
    if !environment.choice(&vars::RDS_TLS, &[("verify", true), ("off", false)])? {
        return Ok(Tls::Off);
    }
    let Some(path) = environment.set(&vars::RDS_CA_FILE)? else {
        return Ok(Tls::Verify { ca_pem: RDS_CA_BUNDLE.to_vec() });
    };
    let unreadable = |why: &str| refused(&vars::RDS_CA_FILE, &format!("{path:?}, which {why}"));
    let ca_pem = std::fs::read(&path).map_err(|error| unreadable("cannot be read").with_source(error))?;
    if memchr::memmem::find(&ca_pem, b"-----BEGIN CERTIFICATE-----").is_none() {
        return Err(unreadable("holds no certificate"));
    }
    Ok(Tls::Verify { ca_pem })
}
