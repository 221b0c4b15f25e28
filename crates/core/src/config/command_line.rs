//! The settings of the command line. An option takes precedence over the environment variable of the same setting.

use secrecy::SecretString;
use tracing_subscriber::filter::LevelFilter;

use super::environment::{Environment, settings_error};
use super::programs::{level_filter, process};
use super::setting::Declared;
use super::settings;
use super::table_settings::nearest;
use crate::destination::DatabaseKind;
use crate::error::Result;
use crate::exports::MessageFormat;
use crate::pipeline::DatabaseAccess;
use crate::pipeline::PipelineConfig;
use crate::secret::CredentialSettings;
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
        Ok(process().fixed(values))
    }

    /// `S3_BUCKET`, for a command that may do without it.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn bucket(&self) -> Result<Option<String>> {
        self.find(&settings::S3_BUCKET)
    }

    /// `AWS_REGION`, for a command that needs no other setting.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn region(&self) -> Result<String> {
        self.get(&settings::AWS_REGION)
    }
}

/// The setting of this name, in any letter case.
fn declared(name: &str) -> Result<&'static dyn Declared> {
    settings::all().find(|setting| setting.info().name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let similar = nearest(&name.to_uppercase(), settings::all().map(|setting| setting.info().name));
        let advice = similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"));
        settings_error(format!("{name} is not a setting{advice}"))
    })
}

/// The settings of a command that reads or loads files.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// The pipeline. Without a database, its credentials are placeholders.
    pub pipeline: PipelineConfig,
    /// Whether the settings name a database.
    pub database: DatabaseChoice,
    /// `RDS_TABLE`.
    pub table: Option<String>,
    /// `S3_BUCKET`.
    pub bucket: Option<String>,
    /// `INLINE_MAX_BYTES`.
    pub inline_max_bytes: u64,
    /// `DIFF_MEMORY`.
    pub diff_memory: u64,
    /// `PUBLISH_FORMAT`.
    pub publish_format: MessageFormat,
    /// `PUBLISH_MAX_RECORD_BYTES`.
    pub publish_max_record_bytes: usize,
}

/// Whether the settings name a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChoice {
    /// They do.
    Named,
    /// They do not.
    Missing,
}

impl CommandSettings {
    /// Reads the settings. Commands wait a shorter time for a database than functions do, unless a setting says otherwise.
    ///
    /// # Errors
    /// When a setting is invalid, or the settings of a database are incomplete.
    pub fn read(environment: &Environment) -> Result<Self> {
        let is_set = |setting: &dyn Declared| environment.text(setting).map(|text| text.is_some());
        let is_redshift = environment.find(&settings::RDS_ENGINE)? == Some(DatabaseKind::Redshift);
        let has_database = is_redshift || is_set(&settings::RDS_HOST)? || is_set(&settings::RDS_SECRET_NAME)?;
        let needs_user = !is_redshift && is_set(&settings::RDS_HOST)? && !is_set(&settings::RDS_SECRET_NAME)?;
        if needs_user && !is_set(&settings::RDS_USER)? {
            let message =
                "no user for the database; write it in the URL, as in postgres://USER@HOST/DATABASE, or set RDS_USER";
            return Err(settings_error(message.to_owned()).with_advice());
        }
        let needs_password = !is_redshift && is_set(&settings::RDS_HOST)? && !is_set(&settings::RDS_SECRET_NAME)?;
        let has_no_password = !has_database || needs_password && !is_set(&settings::RDS_PASSWORD)?;
        let mut environment = environment.or(vec![(settings::RDS_RETRY_SECONDS.info.name, RETRY_SECONDS.to_owned())]);
        if !has_database {
            environment = environment.or(PLACEHOLDERS.map(|(name, value)| (name, value.to_owned())).to_vec());
        }
        if has_no_password {
            environment = environment.or(vec![(settings::RDS_PASSWORD.info.name, NO_PASSWORD.to_owned())]);
        }
        let mut pipeline = PipelineConfig::read_without_table(&environment)?;
        if let (true, DatabaseAccess::Login(CredentialSettings::Inline(login))) =
            (has_no_password, &mut pipeline.database.access)
        {
            login.password = SecretString::default();
        }
        Ok(Self {
            pipeline,
            database: if has_database { DatabaseChoice::Named } else { DatabaseChoice::Missing },
            table: environment.find(&settings::RDS_TABLE)?.map(|table| table.to_string()),
            bucket: environment.bucket()?,
            inline_max_bytes: environment.get(&settings::INLINE_MAX_BYTES)?,
            diff_memory: environment.get(&settings::DIFF_MEMORY)?,
            publish_format: environment.get(&settings::PUBLISH_FORMAT)?,
            publish_max_record_bytes: environment.get(&settings::PUBLISH_MAX_RECORD_BYTES)?,
        })
    }
}

/// The default of `RDS_RETRY_SECONDS` for commands.
const RETRY_SECONDS: &str = "10";

/// Values for the settings of a database, for commands that do not use one.
const PLACEHOLDERS: [(&str, &str); 3] = [("RDS_HOST", "none"), ("RDS_USER", "none"), ("RDS_DB", "none")];

/// The replacement of an empty password, which the environment counts as unset.
const NO_PASSWORD: &str = "none";

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
            None => match environment.find(&settings::LOG_LEVEL)? {
                Some(level) => level_filter(level),
                // The error of the command says what the SDK warns about before.
                None => format!("{},aws_config=error", level_filter(LevelFilter::WARN)),
            },
        };
        let format = environment.find(&settings::LOG_FORMAT)?.unwrap_or(LogFormat::Text);
        Ok(Self { filter, format })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use spillway_formats::reject::RejectLimit;

    use super::*;
    use crate::destination::LoadMode;

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
        assert_eq!(message("MAX_REJECT=1"), "MAX_REJECT is not a setting; did you mean MAX_REJECTS?");
        assert_eq!(message("zzz=1"), "zzz is not a setting");
        assert_eq!(message("MAX_REJECTS"), "--set MAX_REJECTS: write NAME=VALUE");
    }

    #[test]
    fn command_needs_neither_database_nor_table() {
        let read = |pairs: &[(&str, &str)]| CommandSettings::read(&Environment::of(pairs));
        let settings = read(&[]).unwrap();
        assert_eq!((settings.database, settings.table), (DatabaseChoice::Missing, None));
        assert!(settings.pipeline.key_parts("orders.csv").is_err(), "no setting names a table");
        let login = [("RDS_HOST", "h"), ("RDS_USER", "u"), ("RDS_DB", "d"), ("RDS_TABLE", "orders")];
        let settings = read(&login).unwrap();
        assert_eq!((settings.database, settings.table.as_deref()), (DatabaseChoice::Named, Some("orders")));
        assert_eq!(settings.pipeline.key_parts("a.csv").unwrap().table, "orders");
        let DatabaseAccess::Login(CredentialSettings::Inline(credentials)) = settings.pipeline.database.access else {
            panic!()
        };
        assert_eq!(credentials.password.expose_secret(), "");
        assert_eq!(settings.pipeline.database.retry_budget.as_secs(), 10);
        let error = read(&login[..2]).unwrap_err();
        assert!(error.message().contains("RDS_DB"), "{error}");
    }

    #[test]
    fn options_take_precedence_over_the_settings_of_a_table() {
        let config = "[[table]]\nname = \"orders\"\nload_mode = \"replace\"\nmax_rejects = 5\n";
        let environment = Environment::of(&[("SPILLWAY_CONFIG", config), ("MAX_REJECTS", "1")]);
        let environment = environment.fixed(vec![("LOAD_MODE", "append".to_owned())]);
        let table = CommandSettings::read(&environment).unwrap().pipeline.table(&"orders".into(), "orders.csv");
        assert_eq!(table.destination.load_mode, LoadMode::Append);
        assert_eq!(table.files.limits.rejects, RejectLimit::Count(5));
    }

    #[test]
    fn commands_log_warnings_as_text() {
        let settings = LogSettings::for_terminal(&Environment::of(&[])).unwrap();
        assert_eq!(
            (settings.filter.as_str(), settings.format),
            ("warn,spillway=warn,aws_config=error", LogFormat::Text)
        );
    }
}
