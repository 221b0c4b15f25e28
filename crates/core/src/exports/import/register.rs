//! The step register: which export an object belongs to, and whether all its files are there.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::place::{ExportPlace, compare_versions, is_part};
use super::state::{VersionRecord, VersionState};
use super::{Completion, ExportImporter, wrong_settings};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::{ObjectRef, ObjectVersion};
use crate::store::read::ListedObject;

/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A manifest that names the files of its export.
#[derive(Debug, Deserialize)]
struct Manifest {
    files: Vec<String>,
}

/// Whether the files of a version are complete.
#[derive(Debug, PartialEq, Eq)]
enum Completeness {
    Complete(Vec<ListedObject>),
    Waiting { seconds: u64 },
    NoManifest,
}

/// What the step has found out.
#[derive(Debug)]
enum Registered {
    /// The version has this state.
    As(&'static str),
    /// Its files may not be complete.
    Waiting { seconds: u64 },
    /// The object starts no import, for this reason.
    Ignored(&'static str),
}

impl ExportImporter {
    /// Registers the version that an object belongs to, when all its files are there.
    pub(super) async fn register(&self, bucket: Option<&str>, key: &str) -> Result<Value> {
        let settings = &self.settings;
        if let Some(other) = bucket.filter(|bucket| *bucket != settings.bucket) {
            let message = format!("the object is in the bucket {other}, but S3_BUCKET is {}", settings.bucket);
            return Err(wrong_settings(message));
        }
        if key.starts_with(&settings.registry_prefix) || key.starts_with(&settings.delta_prefix) {
            return Ok(ignored(key, "it belongs to the registry or to a delta"));
        }
        let Some((place, _)) = ExportPlace::of_key(key, &settings.prefix) else {
            return Ok(ignored(key, "its key is not {tenant}/{table}/{version}/{file} below EXPORT_PREFIX"));
        };
        let registered = self.register_version(&place).await;
        let registered = registered.map_err(|error| error.of_export(&place, &settings.prefix))?;
        let ExportPlace { tenant, table, version } = &place;
        let response = |status| json!({"status": status, "tenant": tenant, "table": table, "version": version});
        Ok(match registered {
            Registered::As(status) => response(status),
            Registered::Waiting { seconds } => {
                let mut waiting = response("waiting");
                waiting["seconds"] = seconds.into();
                waiting
            }
            Registered::Ignored(reason) => ignored(key, reason),
        })
    }

    async fn register_version(&self, place: &ExportPlace) -> Result<Registered> {
        let state = self.registry.state(&place.tenant, &place.table).await?;
        let listed = self.list(place).await?;
        if let Some(current) = &state.current {
            match compare_versions(&place.version, &current.version) {
                Ordering::Equal => {
                    if let Some(files) = self.files_to_compare(place, listed).await? {
                        check_unchanged(place, &current.files, &files)?;
                    }
                    self.mark_done(place, &current.statistics, Timestamp::now()).await?;
                    return Ok(Registered::As("done"));
                }
                Ordering::Less => {
                    self.record(place, self.versions(&listed).await?).await?;
                    self.mark_stale(place, &current.version).await?;
                    return Ok(Registered::As("stale"));
                }
                Ordering::Greater => {}
            }
        }
        let files = match self.completeness(place, listed).await? {
            Completeness::Complete(files) if files.is_empty() => {
                return Ok(Registered::Ignored("its version has no files"));
            }
            Completeness::Complete(files) => files,
            Completeness::NoManifest => {
                return Ok(Registered::Ignored("its version has no manifest yet, whose event starts the import"));
            }
            Completeness::Waiting { seconds } => return Ok(Registered::Waiting { seconds }),
        };
        self.record(place, self.versions(&files).await?).await?;
        Failpoint::ImportRegistered.reached().await?;
        Ok(Registered::As("registered"))
    }

    /// The files of a version, in the order of their keys, and its manifest.
    async fn list(&self, place: &ExportPlace) -> Result<Vec<ListedObject>> {
        let folder = place.folder(&self.settings.prefix);
        let manifest = match &self.settings.completion {
            Completion::Manifest(name) => Some(name.as_str()),
            Completion::Quiet(_) => None,
        };
        let (mut pages, mut files) = (self.store.list(&self.settings.bucket, &folder), Vec::new());
        while let Some(page) = pages.next().await? {
            files.extend(page.into_iter().filter(|listed| {
                let name = listed.key.strip_prefix(&folder).unwrap_or_default();
                is_part(name) && Some(name) != manifest
            }));
        }
        Ok(files)
    }

    async fn completeness(&self, place: &ExportPlace, files: Vec<ListedObject>) -> Result<Completeness> {
        match &self.settings.completion {
            Completion::Quiet(time) => Ok(after_quiet_time(files, *time, Timestamp::now())),
            Completion::Manifest(name) => {
                let key = format!("{}{name}", place.folder(&self.settings.prefix));
                let Some(object) = self.store.read_small(&self.settings.bucket, &key, MAX_MANIFEST_BYTES).await? else {
                    return Ok(Completeness::NoManifest);
                };
                named_files(&object.bytes, files, name)
            }
        }
    }

    /// The files of an imported version as they are now; `None` if its manifest is gone or names a file that is gone.
    async fn files_to_compare(
        &self,
        place: &ExportPlace,
        listed: Vec<ListedObject>,
    ) -> Result<Option<Vec<ListedObject>>> {
        if let Completion::Quiet(_) = self.settings.completion {
            return Ok(Some(listed));
        }
        match self.completeness(place, listed).await {
            Ok(Completeness::Complete(files)) => Ok(Some(files)),
            Ok(Completeness::NoManifest | Completeness::Waiting { .. }) => Ok(None),
            Err(error) if error.kind() == ErrorKind::FileBroken => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The current versions of listed files.
    async fn versions(&self, listed: &[ListedObject]) -> Result<Vec<ObjectVersion>> {
        let mut versions = Vec::with_capacity(listed.len());
        for file in listed {
            versions.push(self.store.head(&ObjectRef::new(&self.settings.bucket, &file.key)).await?);
        }
        Ok(versions)
    }

    /// Writes the record of a version that is complete.
    async fn record(&self, place: &ExportPlace, files: Vec<ObjectVersion>) -> Result<()> {
        let now = Timestamp::now();
        let register = |record: &mut Option<VersionRecord>| match record {
            // A failed version is tried again. If its files were replaced, the new ones count.
            Some(record) => {
                if record.files != files || record.state == VersionState::Failed {
                    record.files.clone_from(&files);
                    record.state = VersionState::Registered;
                    record.ended_at = None;
                }
            }
            None => {
                *record = Some(VersionRecord {
                    tenant: place.tenant.clone(),
                    table: place.table.clone(),
                    version: place.version.clone(),
                    state: VersionState::Registered,
                    files: files.clone(),
                    registered_at: now,
                    started_at: None,
                    ended_at: None,
                    statistics: None,
                    error_kind: None,
                    error: None,
                });
            }
        };
        self.registry.change_record(place, register).await
    }
}

fn ignored(key: &str, reason: &str) -> Value {
    info!(key, reason, "the object is not imported");
    json!({"status": "ignored", "reason": reason})
}

/// Fails if the files of an imported version are other ones now: their rows would never be imported.
fn check_unchanged(place: &ExportPlace, imported: &[ObjectVersion], listed: &[ListedObject]) -> Result<()> {
    let imported: BTreeSet<(&str, &str)> =
        imported.iter().map(|file| (file.object.key.as_str(), file.etag.as_str())).collect();
    let Some(other) = listed.iter().find(|file| !imported.contains(&(file.key.as_str(), file.etag.as_str()))) else {
        return Ok(());
    };
    let message = format!(
        "version {} was imported before {} was written; write all files again as a new version",
        place.version, other.key
    );
    Err(Error::new(ErrorKind::SourceChanged, message))
}

/// The files, if none of them was written within the quiet time.
fn after_quiet_time(files: Vec<ListedObject>, time: Duration, now: Timestamp) -> Completeness {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    let newest = files.iter().map(|file| file.last_modified).max();
    let ends = newest.and_then(|newest| newest.checked_add(time).ok());
    match ends.filter(|ends| *ends > now) {
        None => Completeness::Complete(files),
        Some(ends) => {
            Completeness::Waiting { seconds: u64::try_from(ends.duration_since(now).as_secs()).unwrap_or(0) + 1 }
        }
    }
}

/// The files that a manifest names; all files if it names none.
fn named_files(manifest: &[u8], mut files: Vec<ListedObject>, name: &str) -> Result<Completeness> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return match files.is_empty() {
            true => Err(Error::new(
                ErrorKind::FileBroken,
                format!("the manifest {name} is there, but no file of the export"),
            )),
            false => Ok(Completeness::Complete(files)),
        };
    };
    let file_name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let found: BTreeSet<String> = files.iter().map(|file| file_name(&file.key)).collect();
    if let Some(missing) = manifest.files.iter().find(|wanted| !found.contains(&file_name(wanted))) {
        let message =
            format!("the manifest {name} names {missing}, which does not exist; write it, and then the manifest again");
        return Err(Error::new(ErrorKind::FileBroken, message));
    }
    if manifest.files.is_empty() {
        return Err(Error::new(ErrorKind::FileBroken, format!("the manifest {name} names no files")));
    }
    let wanted: BTreeSet<String> = manifest.files.iter().map(|key| file_name(key)).collect();
    files.retain(|file| wanted.contains(&file_name(&file.key)));
    Ok(Completeness::Complete(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, seconds: i64) -> ListedObject {
        let last_modified = Timestamp::from_second(seconds).unwrap();
        ListedObject { key: key.into(), size_bytes: 1, etag: "\"e\"".into(), last_modified }
    }

    #[test]
    fn quiet_time_begins_with_the_newest_file() {
        let files = || vec![listed("v/a", 100), listed("v/b", 130)];
        let at = |second| after_quiet_time(files(), Duration::from_secs(60), Timestamp::from_second(second).unwrap());
        assert_eq!(at(131), Completeness::Waiting { seconds: 60 });
        assert_eq!(at(189), Completeness::Waiting { seconds: 2 });
        assert_eq!(at(190), Completeness::Complete(files()));
    }

    #[test]
    fn manifest_may_name_the_files() {
        let files = || vec![listed("v/a.csv", 1), listed("v/b.csv", 1)];
        let named = |manifest: &str| named_files(manifest.as_bytes(), files(), "_manifest.json");
        assert_eq!(named("").unwrap(), Completeness::Complete(files()));
        assert_eq!(named("{\"rows\": 3}").unwrap(), Completeness::Complete(files()));
        assert_eq!(named("{\"files\": [\"b.csv\"]}").unwrap(), Completeness::Complete(vec![listed("v/b.csv", 1)]));
        for (manifest, message) in
            [("{\"files\": [\"v/c.csv\"]}", "names v/c.csv"), ("{\"files\": []}", "names no files")]
        {
            assert!(named(manifest).unwrap_err().to_string().contains(message), "{manifest}");
        }
        assert!(named_files(b"", Vec::new(), "_SUCCESS").is_err());
    }
}
