//! Where settings are looked up, and what a value may be.
//!
//! The environment is a lookup, so that tests bring their own.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::vars::{self, Variable};
use crate::error::{Error, ErrorKind, Result};

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where settings are looked up.
pub struct Environment {
    lookup: Box<Lookup>,
}

impl Environment {
    /// The process's own environment.
    #[allow(clippy::disallowed_methods, reason = "the one room that reads the environment")]
    pub fn of_process() -> Self {
        Self { lookup: Box::new(|name| std::env::var_os(name)) }
    }

    /// The given pairs and nothing else.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<(String, OsString)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let lookup = move |name: &str| pairs.iter().rfind(|pair| pair.0 == name).map(|pair| pair.1.clone());
        Self { lookup: Box::new(lookup) }
    }

    /// Who works here, for people who read leases and the ledger: the service, where it runs, its process.
    pub fn worker(&self, service: &str) -> String {
        let place = [&vars::AWS_LAMBDA_LOG_STREAM_NAME, &vars::HOSTNAME]
            .into_iter()
            .find_map(|variable| self.set(variable).ok().flatten())
            .unwrap_or_else(|| "local".to_owned());
        format!("{service} on {place}, process {}", std::process::id())
    }

    /// The value that was set, or nothing. An empty value counts as unset; a default does not count as set.
    pub(super) fn set(&self, variable: &Variable) -> Result<Option<String>> {
        let Some(value) = (self.lookup)(variable.name).filter(|value| !value.is_empty()) else { return Ok(None) };
        match value.into_string() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(refused(variable, "bytes that are not UTF-8")),
        }
    }

    /// The value that was set, or the default.
    pub(super) fn get(&self, variable: &Variable) -> Result<Option<String>> {
        Ok(self.set(variable)?.or_else(|| variable.default.map(str::to_owned)))
    }

    /// The value or the default; with neither, an error that says `why` the variable is needed.
    pub(super) fn need(&self, variable: &Variable, why: &str) -> Result<String> {
        self.get(variable)?
            .ok_or_else(|| settings_error(format!("{} is not set; it takes {} ({why})", variable.name, variable.takes)))
    }

    pub(super) fn number<N>(&self, variable: &Variable, range: RangeInclusive<N>) -> Result<N>
    where
        N: std::str::FromStr + PartialOrd,
    {
        let text = self.need(variable, variable.doc)?;
        let number = text.trim().parse::<N>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| refused_text(variable, &text))
    }

    pub(super) fn choice<T: Clone>(&self, variable: &Variable, choices: &[(&str, T)]) -> Result<T> {
        let text = self.need(variable, variable.doc)?;
        let wanted = text.trim().to_ascii_lowercase();
        let found = choices.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.clone()).ok_or_else(|| refused_text(variable, &text))
    }

    pub(super) fn seconds(&self, variable: &Variable, range: RangeInclusive<u64>) -> Result<Duration> {
        self.number(variable, range).map(Duration::from_secs)
    }

    /// What stands between commas; nothing when the variable is unset.
    pub(super) fn list(&self, variable: &Variable) -> Result<Vec<String>> {
        let Some(text) = self.set(variable)? else { return Ok(Vec::new()) };
        let items: Vec<String> =
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        if items.is_empty() {
            return Err(refused_text(variable, &text));
        }
        Ok(items)
    }
}

pub(super) fn refused_text(variable: &Variable, got: &str) -> Error {
    refused(variable, &format!("{got:?}"))
}

pub(super) fn refused(variable: &Variable, got: &str) -> Error {
    settings_error(format!("{} is {got}; it takes {}", variable.name, variable.takes))
}

pub(super) fn settings_error(message: impl Display) -> Error {
    Error::new(ErrorKind::Settings, message.to_string())
}
