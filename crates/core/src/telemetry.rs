//! Logs: lines on standard error, which Lambda and ECS store. They contain no row values and no secrets.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, ErrorKind, Result};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Plain text for a terminal.
    Text,
}

/// The content and the format of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives of the filter, such as `warn,spillway=debug`.
    pub filter: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// Sets up logging for this process. Must be called once, before anything is logged.
pub fn init(settings: &LogSettings) -> Result<()> {
    // `EnvFilter` also matches spans and fields. It compiles regular expressions for that, which delays the start.
    let filter: Targets = settings.filter.parse().map_err(|error| {
        Error::new(ErrorKind::Settings, "RUST_LOG is not a list of directives such as warn,spillway=debug")
            .with_source(error)
    })?;
    let lines = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr);
    let installed = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().with(filter).try_init(),
        LogFormat::Text => {
            lines.compact().with_target(false).with_ansi(io::stderr().is_terminal()).finish().with(filter).try_init()
        }
    };
    installed.map_err(|error| Error::new(ErrorKind::Internal, "logging is set up already").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_directives_are_rejected_by_name() {
        let settings = LogSettings { filter: "spillway=loud".into(), format: LogFormat::Json };
        let error = init(&settings).unwrap_err();
        assert!(error.kind() == ErrorKind::Settings && error.to_string().starts_with("RUST_LOG"), "{error}");
    }
}
