//! The progress of a publication: a small JSON file beside the delta, so that a later run continues.
//!
//! It is written after Kinesis has stored the changes, never before. So a run that was killed sends some changes twice, and
//! skips none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::exports::ExportSource;
use crate::object::{ObjectRef, ObjectVersion};
use crate::store::Store;

const FORMAT: &str = "spillway-publish-progress";
const FORMAT_VERSION: u32 = 1;

/// The most bytes of a progress file.
const MAX_BYTES: u64 = 64 * 1024;

/// The shortest time between two writes of an object, which cost money and time.
const OBJECT_INTERVAL: Duration = Duration::from_secs(1);

/// What a publication sends, and where. Progress of another one says nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) delta_sha256: String,
    pub(super) stream: String,
    pub(super) region: String,
    pub(super) table: String,
    pub(super) tenant: Option<String>,
    pub(super) export_version: String,
    pub(super) message_format: String,
}

impl Identity {
    /// The names of the parts in which the other one differs.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("delta", self.delta_sha256 != other.delta_sha256),
            ("stream", self.stream != other.stream),
            ("region", self.region != other.region),
            ("table", self.table != other.table),
            ("tenant", self.tenant != other.tenant),
            ("version", self.export_version != other.export_version),
            ("format", self.message_format != other.message_format),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    format: String,
    format_version: u32,
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// Number of changes in the delta.
    pub(super) changes: u64,
    /// The number of the last change that Kinesis has stored, as it has all changes before it.
    pub(super) published: u64,
    updated_at: Timestamp,
}

impl Recorded {
    pub(super) fn new(identity: Identity, changes: u64, published: u64) -> Self {
        let (format, updated_at) = (FORMAT.to_owned(), Timestamp::now());
        Self { format, format_version: FORMAT_VERSION, identity, changes, published, updated_at }
    }
}

/// The file or the object with the progress.
#[derive(Debug)]
pub(super) struct ProgressFile {
    place: Place,
    saved_at: Option<Instant>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Object(Store, ObjectRef),
}

impl ProgressFile {
    /// The progress file of a delta for a stream.
    pub(super) fn beside(delta: &ExportSource<'_>, stream: &str, store: &Store) -> Self {
        let ending = format!(".published-{}.json", stream_name(stream));
        let place = match delta {
            ExportSource::Local(file) => Place::File(PathBuf::from(format!("{}{ending}", file.name()))),
            ExportSource::Object(object) | ExportSource::Version(ObjectVersion { object, .. }) => {
                Place::Object(store.clone(), ObjectRef::new(&object.bucket, format!("{}{ending}", object.key)))
            }
        };
        Self { place, saved_at: None }
    }

    /// The path, or `s3://bucket/key`.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Object(_, object) => object.to_string(),
        }
    }

    /// Reads the progress; `None` if the file does not exist.
    ///
    /// # Errors
    /// When it cannot be read, or is not a progress file.
    pub(super) async fn load(&self) -> Result<Option<Recorded>> {
        let bytes = match &self.place {
            Place::File(path) => match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    let error = Error::new(ErrorKind::Forbidden, "the progress cannot be read").with_source(error);
                    return Err(error.for_object(self.name()));
                }
            },
            Place::Object(store, object) => match store.read_small(&object.bucket, &object.key, MAX_BYTES).await? {
                Some(object) => object.bytes.to_vec(),
                None => return Ok(None),
            },
        };
        let recorded = serde_json::from_slice::<Recorded>(&bytes).ok().filter(|recorded| {
            recorded.format == FORMAT
                && recorded.format_version == FORMAT_VERSION
                && recorded.published <= recorded.changes
        });
        recorded.map(Some).ok_or_else(|| {
            let message =
                "the file is not the progress of a publication; delete it to publish the delta from the beginning";
            Error::new(ErrorKind::FileBroken, message).for_object(self.name())
        })
    }

    /// Writes the progress, unless it is in S3 and was just written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn save_if_due(&mut self, recorded: &Recorded) -> Result<()> {
        let interval = match self.place {
            Place::File(_) => Duration::ZERO,
            Place::Object(..) => OBJECT_INTERVAL,
        };
        match self.saved_at.is_none_or(|saved_at| saved_at.elapsed() >= interval) {
            true => self.save(recorded).await,
            false => Ok(()),
        }
    }

    /// Writes the progress. A reader sees the old or the new one, and no part of one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn save(&mut self, recorded: &Recorded) -> Result<()> {
        let mut text = serde_json::to_vec(recorded).map_err(|error| {
            Error::new(ErrorKind::Internal, "the progress cannot be written as JSON").with_source(error)
        })?;
        text.push(b'\n');
        match &self.place {
            Place::File(path) => replace(path, &text).map_err(|error| {
                let error = Error::new(ErrorKind::Settings, "the progress cannot be written").with_source(error);
                error.for_object(self.name())
            })?,
            Place::Object(store, object) => {
                store.put(&object.bucket, &object.key, text.into(), "application/json").await?;
            }
        }
        self.saved_at = Some(Instant::now());
        Ok(())
    }
}

/// Replaces a file at once.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{:08x}.partial", fastrand::u32(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
    let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _best_effort = fs::remove_file(&partial);
    }
    written
}

/// The name of a stream, from its name or its ARN, as a part of a file name.
fn stream_name(stream: &str) -> String {
    let name = stream.rsplit('/').next().unwrap_or_default();
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            delta_sha256: "d".to_owned(),
            stream: "shop".to_owned(),
            region: "us-east-1".to_owned(),
            table: "orders".to_owned(),
            tenant: None,
            export_version: "1".to_owned(),
            message_format: "dms".to_owned(),
        }
    }

    fn file(folder: &tempfile::TempDir) -> ProgressFile {
        ProgressFile { place: Place::File(folder.path().join("d.jsonl.published-shop.json")), saved_at: None }
    }

    #[tokio::test]
    async fn progress_is_replaced_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(&folder);
        assert_eq!(file.load().await.unwrap(), None);
        for published in [0, 500, 1_000] {
            let recorded = Recorded::new(identity(), 1_000, published);
            file.save_if_due(&recorded).await.unwrap();
            assert_eq!(file.load().await.unwrap(), Some(recorded));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn other_files_are_no_progress() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let mut beyond = Recorded::new(identity(), 3, 3);
        beyond.published = 4;
        for text in ["", "{}", &serde_json::to_string(&beyond).unwrap()] {
            fs::write(file.name(), text).unwrap();
            let error = file.load().await.unwrap_err();
            assert!(error.kind() == ErrorKind::FileBroken && error.message().contains("delete it"), "{error}");
        }
    }

    #[tokio::test]
    async fn folder_without_permission_is_an_error() {
        let mut missing = ProgressFile { place: Place::File("/no/such/folder/p.json".into()), saved_at: None };
        let error = missing.save(&Recorded::new(identity(), 1, 0)).await.unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder/p.json: "), "{error}");
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let other = Identity {
            delta_sha256: "e".to_owned(),
            stream: "t".to_owned(),
            region: "eu-west-1".to_owned(),
            table: "items".to_owned(),
            tenant: Some("acme".to_owned()),
            export_version: "2".to_owned(),
            message_format: "debezium".to_owned(),
        };
        assert_eq!(
            identity().differences(&other),
            ["delta", "stream", "region", "table", "tenant", "version", "format"]
        );
        assert!(identity().differences(&identity()).is_empty());
    }

    #[test]
    fn name_of_a_stream_is_part_of_a_file_name() {
        assert_eq!(stream_name("arn:aws:kinesis:us-east-1:123456789012:stream/shop-1.x"), "shop-1.x");
        assert_eq!((stream_name("a b:c"), stream_name("../x")), ("a_b_c".to_owned(), "x".to_owned()));
    }
}
