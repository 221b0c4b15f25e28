//! The settings of Redshift, and the settings that it does not support.

use super::environment::{Environment, settings_error};
use super::setting::{Declared, Reason, Setting, invalid};
use super::settings;
use crate::destination::{
    ChangedTypes, DatabaseKind, LoadMode, Output, RedshiftKeys, RedshiftLogin, RedshiftServer, RedshiftSettings,
    UnknownColumns,
};
use crate::error::Result;

/// The workgroup or the cluster, with the setting that names it; `None` if neither is set.
///
/// # Errors
/// When both are set.
pub(super) fn redshift_server(environment: &Environment) -> Result<Option<(&'static Setting<String>, String)>> {
    let workgroup = environment.find(&settings::REDSHIFT_WORKGROUP)?;
    let cluster = environment.find(&settings::REDSHIFT_CLUSTER)?;
    match (workgroup, cluster) {
        (Some(_), Some(name)) => {
            let why = "REDSHIFT_WORKGROUP is also set".to_owned();
            Err(invalid(&settings::REDSHIFT_CLUSTER, &name, Reason::Because(why)))
        }
        (Some(name), None) => Ok(Some((&settings::REDSHIFT_WORKGROUP, name))),
        (None, Some(name)) => Ok(Some((&settings::REDSHIFT_CLUSTER, name))),
        (None, None) => Ok(None),
    }
}

/// The settings of a Redshift database.
pub(super) fn redshift_settings(
    environment: &Environment,
    server: Option<(&'static Setting<String>, String)>,
    copy_role: String,
) -> Result<RedshiftSettings> {
    let user = environment.find(&settings::RDS_USER)?;
    let secret = environment.find(&settings::RDS_SECRET_NAME)?;
    let missing = |text: &str| settings_error(format!("RDS_ENGINE is redshift, and {text}"));
    let (setting, name) =
        server.ok_or_else(|| missing("neither REDSHIFT_WORKGROUP nor REDSHIFT_CLUSTER is set; set one of them"))?;
    let is_cluster = setting.info.name == settings::REDSHIFT_CLUSTER.info.name;
    let login = match (secret, user) {
        (Some(secret), _) => RedshiftLogin::Secret(secret),
        (None, Some(user)) if is_cluster => RedshiftLogin::User(user),
        (None, Some(user)) => {
            let why =
                "a workgroup has the user of the caller's role, or that of the secret in RDS_SECRET_NAME".to_owned();
            return Err(invalid(&settings::RDS_USER, &user, Reason::Because(why)));
        }
        (None, None) => RedshiftLogin::Caller,
    };
    let database = environment.find(&settings::RDS_DB)?;
    Ok(RedshiftSettings {
        server: if is_cluster { RedshiftServer::Cluster(name) } else { RedshiftServer::Workgroup(name) },
        database: database.ok_or_else(|| missing("RDS_DB is not set; set it to the name of the database"))?,
        login,
        copy_role,
        copy_prefix: environment.get(&settings::REDSHIFT_COPY_PREFIX)?,
    })
}

/// The prefix of the rows that COPY reads; `None` without Redshift.
pub(super) fn copy_prefix(environment: &Environment) -> Result<Option<String>> {
    let prefix = environment.get(&settings::REDSHIFT_COPY_PREFIX)?;
    let is_redshift = environment.find(&settings::RDS_ENGINE)? == Some(DatabaseKind::Redshift);
    Ok(is_redshift.then_some(prefix))
}

/// The keys of a new table.
pub(super) fn redshift_keys(environment: &Environment) -> Result<RedshiftKeys> {
    Ok(RedshiftKeys {
        distribution: environment.find(&settings::REDSHIFT_DIST_KEY)?,
        sort: environment.find(&settings::REDSHIFT_SORT_KEY)?.unwrap_or_default(),
    })
}

/// Fails if a setting asks for something that Spillway does not do in Redshift.
pub(super) fn check_redshift(environment: &Environment) -> Result<()> {
    let supported: [(&dyn Declared, bool, &str); 4] = [
        (
            &settings::LOAD_MODE,
            match environment.get(&settings::LOAD_MODE)? {
                LoadMode::Append | LoadMode::Replace | LoadMode::Merge { .. } => true,
                LoadMode::Mirror(_) | LoadMode::Changes(_) => false,
            },
            "does not mirror tables and applies no changes",
        ),
        (&settings::OUTPUT, environment.get(&settings::OUTPUT)? == Output::Database, "has no lake beside it"),
        (
            &settings::UNKNOWN_COLUMNS,
            matches!(environment.get(&settings::UNKNOWN_COLUMNS)?, UnknownColumns::Refuse | UnknownColumns::Ignore),
            "adds no columns to tables",
        ),
        (
            &settings::CHANGED_TYPES,
            environment.get(&settings::CHANGED_TYPES)? == ChangedTypes::Refuse,
            "changes no columns of tables",
        ),
    ];
    for (setting, is_supported, why) in supported {
        if !is_supported {
            let text = environment.text(setting)?.unwrap_or_default();
            return Err(invalid(setting, &text, Reason::Because(format!("Spillway {why} with RDS_ENGINE=redshift"))));
        }
    }
    Ok(())
}
