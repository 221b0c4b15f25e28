//! The settings of the import of exports.

use super::CommandSettings;
use super::environment::{Environment, settings_error};
use super::setting::{Reason, invalid};
use super::settings::{self, ExportTarget};
use crate::error::Result;
use crate::exports::{Completion, ImportSettings, ImportTarget};
use crate::pipeline::PipelineConfig;

impl ImportSettings {
    /// Reads the settings of imports; `None` without `EXPORT_TARGET`.
    ///
    /// # Errors
    /// When a setting is invalid or missing.
    pub fn read(environment: &Environment) -> Result<Option<Self>> {
        let Some(target) = environment.find(&settings::EXPORT_TARGET)? else { return Ok(None) };
        let stream = environment.find(&settings::EXPORT_STREAM)?;
        let stream = || stream.clone().ok_or_else(|| needs("EXPORT_STREAM"));
        let target = match target {
            ExportTarget::Database => ImportTarget::Database,
            ExportTarget::Stream => ImportTarget::Stream(stream()?),
            ExportTarget::Both => ImportTarget::Both(stream()?),
        };
        let settings = Self {
            pipeline: pipeline(environment, &target)?,
            bucket: environment.get(&settings::S3_BUCKET)?,
            prefix: environment.find(&settings::EXPORT_PREFIX)?.unwrap_or_default(),
            registry_prefix: environment.get(&settings::EXPORT_REGISTRY_PREFIX)?,
            delta_prefix: environment.get(&settings::EXPORT_DELTA_PREFIX)?,
            completion: completion(environment)?,
            max_deletes_percent: environment.get(&settings::EXPORT_MAX_DELETES)?,
            diff_memory: environment.get(&settings::DIFF_MEMORY)?,
            publish_format: environment.get(&settings::PUBLISH_FORMAT)?,
            publish_max_record_bytes: environment.get(&settings::PUBLISH_MAX_RECORD_BYTES)?,
            target,
        };
        check_prefixes(&settings)?;
        Ok(Some(settings))
    }
}

/// The pipeline. Without a database among the targets, its credentials are placeholders.
fn pipeline(environment: &Environment, target: &ImportTarget) -> Result<PipelineConfig> {
    match target {
        ImportTarget::Database | ImportTarget::Both(_) => PipelineConfig::read(environment),
        ImportTarget::Stream(_) => CommandSettings::read(environment).map(|settings| settings.pipeline),
    }
}

fn completion(environment: &Environment) -> Result<Completion> {
    let quiet = environment.get(&settings::EXPORT_QUIET_SECONDS)?;
    Ok(match environment.find(&settings::EXPORT_MANIFEST)? {
        None => Completion::Quiet(quiet),
        Some(name) if name.contains('/') => {
            let why = "it is a file in the folder of its version, so its name has no slash".to_owned();
            return Err(invalid(&settings::EXPORT_MANIFEST, &name, Reason::Because(why)));
        }
        Some(name) => Completion::Manifest(name),
    })
}

/// Fails if the registry and the deltas have prefixes inside each other. Those inside the prefix of the exports are skipped there.
fn check_prefixes(settings: &ImportSettings) -> Result<()> {
    let ImportSettings { registry_prefix: registry, delta_prefix: delta, .. } = settings;
    match registry.starts_with(delta.as_str()) || delta.starts_with(registry.as_str()) {
        true => Err(invalid(
            &settings::EXPORT_DELTA_PREFIX,
            delta,
            Reason::Because("it overlaps EXPORT_REGISTRY_PREFIX".to_owned()),
        )),
        false => Ok(()),
    }
}

fn needs(name: &str) -> crate::error::Error {
    settings_error(format!("{name} is not set, but EXPORT_TARGET needs it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IngestRole;
    use crate::error::ErrorKind;

    const STREAM: [(&str, &str); 3] =
        [("EXPORT_TARGET", "stream"), ("EXPORT_STREAM", "changes"), ("S3_BUCKET", "data")];

    fn read(more: &[(&str, &str)]) -> Result<Option<ImportSettings>> {
        ImportSettings::read(&Environment::of(&[&STREAM[..], more].concat()))
    }

    #[test]
    fn stream_needs_no_database() {
        let found = read(&[]).unwrap().unwrap();
        assert_eq!(found.target, ImportTarget::Stream("changes".to_owned()));
        assert_eq!((found.prefix.as_str(), found.delta_prefix.as_str()), ("", "delta/"));
        assert_eq!(found.completion, Completion::Quiet(std::time::Duration::from_secs(60)));
        assert!(read(&[("EXPORT_TARGET", "both")]).is_err());
        assert!(read(&[("EXPORT_TARGET", "database")]).is_err());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (more, why) in [
            (&[("EXPORT_STREAM", "")][..], "EXPORT_STREAM is not set"),
            (&[("EXPORT_MANIFEST", "a/b")], "no slash"),
            (&[("EXPORT_DELTA_PREFIX", "export-registry/d")], "overlaps EXPORT_REGISTRY_PREFIX"),
            (&[("EXPORT_MAX_DELETES", "101")], "from 0 to 100"),
        ] {
            let error = read(more).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(why), "{error}");
        }
        let manifest = read(&[("EXPORT_MANIFEST", "_SUCCESS")]).unwrap().unwrap();
        assert_eq!(manifest.completion, Completion::Manifest("_SUCCESS".to_owned()));
    }

    #[test]
    fn function_has_one_role() {
        assert!(ImportSettings::read(&Environment::of(&[])).unwrap().is_none());
        assert!(matches!(IngestRole::read(&Environment::of(&STREAM)).unwrap(), IngestRole::Exports(_)));
        let both = [&STREAM[..], &[("STREAM_TABLE_FIELD", "t")]].concat();
        assert!(IngestRole::read(&Environment::of(&both)).unwrap_err().to_string().contains("EXPORT_TARGET"));
    }
}
