//! Files of this machine: opens them, reads them in pieces, and identifies their versions.
//!
//! A version of a file is its path, its inode, its size and the times of its last change. These cost no read. The content is
//! identified by its checksum later, while it is loaded. Standard input is copied to a temporary file first, because a load
//! may read it more than once.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::object::hex;

/// The name of standard input on the command line.
pub const STANDARD_INPUT: &str = "-";

/// Number of bytes that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A change within this time may leave the same time stamps as the change before it.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// The same on a file system that stores whole seconds.
const COARSE_CLOCK_TICK: Duration = Duration::from_secs(2);

/// An open file. Clones share the handle.
#[derive(Debug, Clone)]
pub struct LocalFile {
    file: Arc<File>,
    /// The name, as the user wrote it. What is not UTF-8 in it is replaced.
    name: String,
    path: PathBuf,
    version: FileVersion,
    stamp: Stamp,
}

/// What identifies the content of an open file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileVersion {
    /// The state of a file in a folder.
    Stamp(Stamp),
    /// The checksum of a stream, as SHA-256 in hex.
    Content(String),
}

/// The state of a file, which every change of its content changes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    /// Seconds and nanoseconds of the last change of the content, which programs can set.
    modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of content or properties, which programs cannot set.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The state as text, for identities and the ledger.
    pub(crate) fn text(&self) -> String {
        let Self { device, inode, size_bytes, modified, changed } = self;
        format!(
            "device {device}, inode {inode}, {size_bytes} bytes, modified {}.{:09}, changed {}.{:09}",
            modified.0, modified.1, changed.0, changed.1
        )
    }

    /// How long another change could leave the same state.
    fn unsettled_for(&self, now: SystemTime) -> Duration {
        let tick = if self.changed.1 == 0 { COARSE_CLOCK_TICK } else { CLOCK_TICK };
        let (seconds, nanoseconds) = (self.changed.0.try_into().unwrap_or(0), self.changed.1.try_into().unwrap_or(0));
        let settled_at = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds) + tick;
        settled_at.duration_since(now).unwrap_or_default().min(tick)
    }
}

impl LocalFile {
    /// Opens a file, or copies standard input for the name `-`. A pipe is copied like standard input.
    ///
    /// # Errors
    /// [`ErrorKind::SourceMissing`] when it does not exist or is a folder, [`ErrorKind::Forbidden`] when it may not be read.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.as_os_str() == STANDARD_INPUT {
            return detached(move || Self::copy_of(io::stdin().lock(), path)).await;
        }
        let file = detached(move || Self::open_path(path)).await?;
        // A change in this instant would leave the same state, and the file would be mistaken for the one that is read now.
        tokio::time::sleep(file.stamp.unsettled_for(SystemTime::now())).await;
        Ok(file)
    }

    fn open_path(name: PathBuf) -> Result<Self> {
        let file = File::open(&name).map_err(|error| read_error(&error))?;
        let metadata = file.metadata().map_err(|error| read_error(&error))?;
        if metadata.is_dir() {
            let message = "it is a folder; name its files, such as folder/*.csv";
            return Err(Error::new(ErrorKind::SourceMissing, message).with_advice());
        }
        // A pipe such as /dev/fd/63 has no path of its own, nor has a file that a shell deletes after opening it.
        let path = match std::fs::canonicalize(&name) {
            Ok(path) if metadata.is_file() => path,
            Ok(_) | Err(_) => return Self::copy_of(file, name),
        };
        let stamp = Stamp::of(&metadata);
        let (file, name) = (Arc::new(file), name.to_string_lossy().into_owned());
        Ok(Self { file, name, path, version: FileVersion::Stamp(stamp), stamp })
    }

    /// Copies a stream to a temporary file that no other process can open.
    fn copy_of(mut stream: impl Read, path: PathBuf) -> Result<Self> {
        let mut file = unnamed_file().map_err(|error| unnamed_file_error(&error))?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; PIECE_BYTES as usize]);
        loop {
            let length = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(&error)),
            };
            hasher.update(&buffer[..length]);
            file.write_all(&buffer[..length]).map_err(|error| unnamed_file_error(&error))?;
        }
        let stamp = Stamp::of(&file.metadata().map_err(|error| read_error(&error))?);
        let version = FileVersion::Content(hex(&hasher.finalize()));
        Ok(Self { file: Arc::new(file), name: path.to_string_lossy().into_owned(), path, version, stamp })
    }

    /// The name, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path without links; `-` for standard input.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.stamp.size_bytes
    }

    /// What identifies the content.
    pub(crate) fn version(&self) -> &FileVersion {
        &self.version
    }

    /// When the content was last changed.
    pub(crate) fn last_modified(&self) -> Timestamp {
        let (seconds, nanoseconds) = self.stamp.modified;
        Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns the bytes from `start`, at most [`PIECE_BYTES`]. Empty at the end of the file.
    ///
    /// # Errors
    /// [`ErrorKind::SourceChanged`] when the file was changed since it was opened.
    pub(crate) async fn piece_at(&self, start: u64) -> Result<Bytes> {
        let length = self.stamp.size_bytes.saturating_sub(start).min(PIECE_BYTES);
        if length == 0 {
            self.check_unchanged()?;
            return Ok(Bytes::new());
        }
        self.read_exactly(start, length).await
    }

    /// Returns the bytes from `start`, all `length` of them.
    ///
    /// # Errors
    /// [`ErrorKind::SourceChanged`] when the file has become shorter.
    pub(crate) async fn read_exactly(&self, start: u64, length: u64) -> Result<Bytes> {
        let file = self.file.clone();
        blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, start)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// # Errors
    /// [`ErrorKind::SourceChanged`] when the file was changed since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|error| read_error(&error))?;
        let now = Stamp::of(&metadata);
        // A rename or another link changes the properties and not the content.
        let is_same = (now.size_bytes, now.modified) == (self.stamp.size_bytes, self.stamp.modified);
        if is_same { Ok(()) } else { Err(changed()) }
    }
}

/// Creates a temporary file that no other process can open, and that the operating system deletes when it is closed.
pub(crate) fn unnamed_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("spillway-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The error of a temporary file that cannot be created, written or read.
pub(crate) fn unnamed_file_error(error: &io::Error) -> Error {
    let folder = std::env::temp_dir();
    let message = format!(
        "the temporary file in {} cannot be used ({error}); set TMPDIR to a folder with enough space",
        folder.display()
    );
    Error::new(ErrorKind::Settings, message).with_advice()
}

/// Runs blocking calls of the file system in another thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| read_error(&error)),
        Err(error) => Err(Error::new(ErrorKind::Internal, "reading was stopped").with_source(error)),
    }
}

/// Runs blocking calls that may never end: a pipe may never be written or closed. The process can end while they wait.
async fn detached<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("open file".to_owned()).spawn(move || {
        // Without a receiver, the command was interrupted.
        let _ = sender.send(work());
    });
    started.map_err(|error| Error::new(ErrorKind::Internal, "cannot start a thread").with_source(error))?;
    match receiver.await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Internal, "reading was stopped").with_source(error)),
    }
}

fn changed() -> Error {
    Error::new(ErrorKind::SourceChanged, "the file was changed while it was read")
}

fn read_error(error: &io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::SourceMissing, "the file does not exist".to_owned()),
        io::ErrorKind::PermissionDenied => (ErrorKind::Forbidden, "the file may not be read".to_owned()),
        // The file has become shorter.
        io::ErrorKind::UnexpectedEof => return changed(),
        _ => (ErrorKind::SourceMissing, format!("the file cannot be read: {error}")),
    };
    Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(file: &LocalFile) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let piece = file.piece_at(bytes.len() as u64).await?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece);
        }
    }

    fn temporary(content: &[u8]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, content).unwrap();
        (folder, path.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn file_is_read_in_pieces() {
        let content: Vec<u8> = (0..3 * PIECE_BYTES / 2).map(|index| (index % 251) as u8).collect();
        let (_folder, path) = temporary(&content);
        let file = LocalFile::open(&path).await.unwrap();
        assert_eq!(file.size_bytes(), content.len() as u64);
        assert_eq!(all(&file).await.unwrap(), content);
        assert_eq!(file.read_exactly(5, 3).await.unwrap(), content[5..8]);
    }

    #[tokio::test]
    async fn change_while_reading_is_an_error() {
        let (_folder, path) = temporary(b"a\n1\n");
        let file = LocalFile::open(&path).await.unwrap();
        std::fs::write(&path, b"a\n2\n").unwrap();
        assert_eq!(all(&file).await.unwrap_err().kind(), ErrorKind::SourceChanged);
        let file = LocalFile::open(&path).await.unwrap();
        std::fs::write(&path, b"a\n").unwrap();
        assert_eq!(all(&file).await.unwrap_err().kind(), ErrorKind::SourceChanged);
    }

    #[tokio::test]
    async fn every_change_gives_another_version() {
        let (_folder, path) = temporary(b"a\n1\n");
        let first = LocalFile::open(&path).await.unwrap();
        assert_eq!(first.version(), LocalFile::open(&path).await.unwrap().version());
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"a\n2\n").unwrap();
        // The size is the same, and a program such as rsync sets the time back.
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(first.version(), LocalFile::open(&path).await.unwrap().version());
    }

    #[tokio::test]
    async fn missing_files_and_folders_are_named_as_such() {
        let (folder, _path) = temporary(b"");
        let error = LocalFile::open("/no/such/file").await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::SourceMissing, "the file does not exist"));
        let error = LocalFile::open(folder.path()).await.unwrap_err();
        assert!(error.message().contains("it is a folder"), "{error}");
    }

    #[test]
    fn stream_is_identified_by_its_content() {
        let version = |content: &[u8]| LocalFile::copy_of(content, PathBuf::from("-")).unwrap().version().clone();
        assert_eq!(version(b"a\n1\n"), version(b"a\n1\n"));
        assert_ne!(version(b"a\n1\n"), version(b"a\n2\n"));
    }

    #[test]
    fn file_settles_after_a_tick_of_its_clock() {
        let mut stamp = Stamp { device: 1, inode: 1, size_bytes: 1, modified: (9, 9), changed: (10, 5) };
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert!(stamp.unsettled_for(at(10_000)) > Duration::from_millis(90));
        assert_eq!(stamp.unsettled_for(at(10_200)), Duration::ZERO);
        assert_eq!(stamp.unsettled_for(at(5_000)), CLOCK_TICK, "a clock that was set back does not block a load");
        stamp.changed = (10, 0);
        assert_eq!(stamp.unsettled_for(at(11_000)), Duration::from_secs(1));
    }
}
