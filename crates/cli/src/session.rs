//! What every command starts with: the settings, the logs and the output.

use spillway_core::config::Environment;
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

/// The settings that options set, as `NAME=VALUE`.
fn overrides(global: &Global) -> Vec<String> {
    let config = global.config.iter().map(|path| format!("SPILLWAY_CONFIG={path}"));
    config.chain(global.set.iter().cloned()).collect()
}
