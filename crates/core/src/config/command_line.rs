//! The settings of the command line. An option takes precedence over the environment variable of the same setting.

use tracing_subscriber::filter::LevelFilter;

use super::environment::{Environment, settings_error};
use super::programs::{level_filter, process};
use super::setting::Declared;
use super::settings;
use super::table_settings::nearest;
use crate::error::Result;
use crate::telemetry::{LogFormat, LogSettings};

impl Environment {
    /// The environment of this process, in which `NAME=VALUE` texts replace variables. The last one of a name counts.
    ///
    /// # Errors
    /// When a text has another form, or names no setting.
    pub fn of_command_line(overrides: &[String]) -> Result<Self> {
        let mut values = Vec::with_capacity(overrides.len());
        for text in overrides.iter().rev() {
            let (name, value) =
                text.split_once('=').ok_or_else(|| settings_error(format!("--set {text}: write NAME=VALUE")))?;
            values.push((declared(name)?.info().name, value.to_owned()));
        }
        Ok(process().with(values))
    }
}

/// The setting of this name, in any letter case.
fn declared(name: &str) -> Result<&'static dyn Declared> {
    settings::all().find(|setting| setting.info().name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let similar = nearest(&name.to_uppercase(), settings::all().map(|setting| setting.info().name));
        let advice = similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"));
        settings_error(format!("there is no setting {name}{advice}"))
    })
}

/// Whether `NO_COLOR` asks for text without colors.
pub fn is_color_off() -> bool {
    matches!(process().text(&settings::NO_COLOR), Ok(Some(_)) | Err(_))
}

impl LogSettings {
    /// The logs of a command: warnings as text, unless the environment sets something else.
    ///
    /// # Errors
    /// When a log setting is invalid.
    pub fn for_terminal(environment: &Environment) -> Result<Self> {
        let filter = match environment.find(&settings::RUST_LOG)? {
            Some(directives) => directives,
            None => level_filter(environment.find(&settings::LOG_LEVEL)?.unwrap_or(LevelFilter::WARN)),
        };
        let format = environment.find(&settings::LOG_FORMAT)?.unwrap_or(LogFormat::Text);
        Ok(Self { filter, format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(overrides: &[&str]) -> Result<Environment> {
        Environment::of_command_line(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn last_override_of_a_setting_counts() {
        let environment = of(&["MAX_REJECTS=1", "max_rejects=7"]).unwrap();
        assert_eq!(environment.text(&settings::MAX_REJECTS).unwrap().as_deref(), Some("7"));
    }

    #[test]
    fn unknown_names_are_rejected_with_the_most_similar_name() {
        let message = |text| of(&[text]).err().unwrap().to_string();
        assert_eq!(message("MAX_REJECT=1"), "there is no setting MAX_REJECT; did you mean MAX_REJECTS?");
        assert_eq!(message("zzz=1"), "there is no setting zzz");
        assert_eq!(message("MAX_REJECTS"), "--set MAX_REJECTS: write NAME=VALUE");
    }

    #[test]
    fn commands_log_warnings_as_text() {
        let settings = LogSettings::for_terminal(&Environment::of(&[])).unwrap();
        assert_eq!((settings.filter.as_str(), settings.format), ("warn,spillway=warn", LogFormat::Text));
    }
}
