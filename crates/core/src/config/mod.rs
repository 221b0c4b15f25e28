//! Settings: declared, read from the environment, checked. Nothing else reads the environment.
//!
//! A missing or invalid setting stops the process at start. The message contains the name, the value and the accepted
//! values. [`settings`] contains the declarations; `docs/settings.md` is generated from them.
//!
//! This is the top layer: it builds the settings of every other module, and no other module imports it.

#[cfg(test)]
mod boundary_tests;
mod command_line;
#[cfg(test)]
mod declaration_tests;
#[cfg(test)]
mod docs;
mod environment;
mod explain;
mod programs;
mod read;
mod read_database;
mod read_exports;
mod read_redshift;
mod read_stream;
#[cfg(test)]
mod redshift_tests;
pub mod setting;
pub mod settings;
mod table_settings;
#[cfg(test)]
mod table_settings_tests;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod tests;

use secrecy::SecretString;

pub use command_line::{CommandSettings, DatabaseChoice, is_color_off};
pub use environment::Environment;
pub use explain::{EffectiveSetting, EffectiveSettings, Origin, effective_settings};
pub use programs::{IngestRole, IngestSettings, TaskSettings, TriggerSettings};

/// A password that is never printed, from plain text.
pub fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}
