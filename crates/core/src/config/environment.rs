//! The environment variables, and the values of settings in them.
//!
//! The environment is a lookup function, so that tests can pass their own.

use std::ffi::OsString;
use std::fmt::Display;
use std::sync::Arc;

use super::setting::{Declared, Setting, invalid};
use super::settings;
use crate::error::{Error, ErrorKind, Result};

/// The host in names if neither the settings nor the system name it.
const UNKNOWN_HOST: &str = "local";

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The environment that settings are read from.
#[derive(Clone)]
pub struct Environment {
    lookup: Arc<Lookup>,
    /// Values of the command line, which no other value replaces.
    fixed: Arc<Vec<(&'static str, String)>>,
}

impl Environment {
    /// The environment of this process.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self::with_lookup(|name| std::env::var_os(name))
    }

    /// An environment with only these variables.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<(String, OsString)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Self::with_lookup(move |name: &str| pairs.iter().rfind(|pair| pair.0 == name).map(|pair| pair.1.clone()))
    }

    /// This environment, with other values for some variables.
    pub(super) fn with(&self, values: Vec<(&'static str, String)>) -> Self {
        let inner = self.lookup.clone();
        let lookup = move |name: &str| match values.iter().find(|value| value.0 == name) {
            Some((_, value)) => Some(OsString::from(value)),
            None => inner(name),
        };
        Self { fixed: self.fixed.clone(), ..Self::with_lookup(lookup) }
    }

    /// This environment with values that take precedence over all others, also over those of single tables.
    #[must_use]
    pub fn fixed(&self, values: Vec<(&'static str, String)>) -> Self {
        let fixed = values.into_iter().chain(self.fixed.iter().cloned()).collect();
        Self { lookup: self.lookup.clone(), fixed: Arc::new(fixed) }
    }

    /// Whether the command line sets a variable.
    pub(super) fn is_fixed(&self, name: &str) -> bool {
        self.fixed.iter().any(|value| value.0 == name)
    }

    /// This environment with values for variables that are not set.
    #[must_use]
    pub fn or(&self, values: Vec<(&'static str, String)>) -> Self {
        let inner = self.lookup.clone();
        let lookup = move |name: &str| match inner(name).filter(|value| !value.is_empty()) {
            Some(value) => Some(value),
            None => values.iter().find(|value| value.0 == name).map(|(_, value)| OsString::from(value)),
        };
        Self { fixed: self.fixed.clone(), ..Self::with_lookup(lookup) }
    }

    /// An environment that looks up every variable with this function.
    pub(super) fn with_lookup(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), fixed: Arc::default() }
    }

    /// The host in the worker's name and of local files: the log stream of a function, or the host name.
    ///
    /// Shells such as bash set `HOSTNAME` but do not export it, so the system is asked too.
    pub(super) fn host(&self) -> String {
        [&settings::AWS_LAMBDA_LOG_STREAM_NAME, &settings::HOSTNAME]
            .into_iter()
            .find_map(|setting| self.find(setting).ok().flatten())
            .or_else(|| whoami::hostname().ok().filter(|name| !name.is_empty()))
            .unwrap_or_else(|| UNKNOWN_HOST.to_owned())
    }

    /// The text of a variable. An empty text counts as unset.
    pub(super) fn text(&self, setting: &dyn Declared) -> Result<Option<String>> {
        let name = setting.info().name;
        let fixed = self.fixed.iter().find(|value| value.0 == name).map(|(_, value)| OsString::from(value));
        let value = fixed.or_else(|| (self.lookup)(name));
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
        let not_text = |_| settings_error(format!("{name} is not valid UTF-8; it accepts {}", setting.accepts()));
        value.into_string().map(Some).map_err(not_text)
    }

    /// The value if the variable is set. A default does not count.
    pub(super) fn find<T: Clone + Sync>(&self, setting: &Setting<T>) -> Result<Option<T>> {
        self.text(setting)?.map(|text| parse(setting, &text)).transpose()
    }

    /// The value, or the default.
    ///
    /// # Errors
    /// Also if the variable is unset and has no default.
    pub(super) fn get<T: Clone + Sync>(&self, setting: &Setting<T>) -> Result<T> {
        match (self.find(setting)?, setting.info.default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => parse(setting, default),
            (None, None) => {
                Err(settings_error(format!("{} is not set; it accepts {}", setting.info.name, setting.accepts())))
            }
        }
    }
}

fn parse<T: Clone + Sync>(setting: &Setting<T>, text: &str) -> Result<T> {
    setting.value.parse(text).map_err(|reason| invalid(setting, text, reason))
}

pub(super) fn settings_error(message: impl Display) -> Error {
    Error::new(ErrorKind::Settings, message.to_string())
}
