//! What every command starts with: the settings, the logs and the output.

use spillway_core::config::{CommandSettings, Environment};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::telemetry::{self, LogSettings};

use crate::arguments::Global;
use crate::output::Output;

/// The environment and the output of a command.
pub(crate) struct Session {
    /// The settings: options first, then environment variables.
    pub(crate) environment: Environment,
    /// Standard output and standard error.
    pub(crate) output: Output,
}

impl Session {
    /// Reads the environment and sets up TLS and the logs.
    ///
    /// # Errors
    /// When `--set` names no setting, or a log setting is invalid.
    pub(crate) fn start(global: &Global, output: Output) -> Result<Self> {
        let environment = Environment::of_command_line(&overrides(global))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
        provider.map_err(|_| Error::new(ErrorKind::Internal, "a TLS provider is already installed"))?;
        telemetry::init(&LogSettings::for_terminal(&environment)?)?;
        Ok(Self { environment, output })
    }
}

impl Session {
    /// The settings of a command, in which these values of options replace others.
    ///
    /// # Errors
    /// When a setting is invalid. The message names the option that has set it.
    pub(crate) fn settings(&self, values: Vec<(&'static str, String)>) -> Result<CommandSettings> {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        CommandSettings::read(&self.environment.fixed(values)).map_err(|error| named_by_option(error, &names))
    }
}

/// The options that set a setting, where the names differ.
const OPTIONS: [(&str, &str); 7] = [
    ("DIFF_MEMORY", "--memory"),
    ("EXPORT_KEY", "--key"),
    ("MERGE_KEY", "--key"),
    ("RDS_CA_FILE", "--ca-file"),
    ("RDS_SECRET_NAME", "--secret"),
    ("RDS_TABLE", "--table"),
    ("RDS_HOST", "the URL of the database"),
];

/// The error about a setting, preceded by the option that has set it. A user of options may not know the names of settings.
fn named_by_option(error: Error, set: &[&str]) -> Error {
    let message = error.to_string();
    let is_about = |name: &str| message.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    match OPTIONS.iter().find(|(name, _)| set.contains(name) && is_about(name)) {
        Some((_, option)) if error.kind() == ErrorKind::Settings => error.for_object(*option),
        Some(_) | None => error,
    }
}

/// The settings that options set, as `NAME=VALUE`.
fn overrides(global: &Global) -> Vec<String> {
    let config = global.config.iter().map(|path| format!("SPILLWAY_CONFIG={path}"));
    config.chain(global.set.iter().cloned()).collect()
}
