//! The files of rejected records beside a local file: the records, copied byte for byte, and the error of each.
//!
//! They are complete before COMMIT is sent. The default names contain the identity of the file's version, so only another
//! load of the same version overwrites them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::object::SourceId;
use crate::pipeline::{FileRows, RejectWriter, copy_records};
use crate::reader::FileLayout;
use spillway_formats::reject::Reject;

/// The ending of the file with the errors, after that of the records.
const ERRORS_ENDING: &str = ".errors";

/// Where the rejected records of one load are written.
#[derive(Debug)]
pub struct RejectFiles {
    records: PathBuf,
    errors: PathBuf,
    /// Whether an existing file may be replaced: the name is ours, or this load has written it.
    is_own: AtomicBool,
    /// Whether this load has written the files. It then holds the claim, so no earlier load has committed.
    is_written: AtomicBool,
}

impl RejectFiles {
    /// Files beside the file itself. Their names do not end like a data file, so a pattern such as `*.csv` does not find them.
    pub(super) fn beside(path: &Path, id: &SourceId) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let stem = if name == "-" { "stdin" } else { &*name };
        let records = path.with_file_name(format!("{stem}.rejected-{}", &id.as_str()[..8]));
        Self::of(records, true)
    }

    /// The file that the user names, which must not exist.
    ///
    /// # Errors
    /// When it exists.
    pub fn named(path: &str) -> Result<Self> {
        let files = Self::of(PathBuf::from(path), false);
        match files.records.exists() || files.errors.exists() {
            true => Err(exists(&files.records)),
            false => Ok(files),
        }
    }

    fn of(records: PathBuf, is_own: bool) -> Self {
        let mut errors = records.clone().into_os_string();
        errors.push(ERRORS_ENDING);
        Self { records, errors: errors.into(), is_own: AtomicBool::new(is_own), is_written: AtomicBool::new(false) }
    }

    /// The path of the records.
    pub(super) fn records_path(&self) -> &Path {
        &self.records
    }

    /// Writes the records that the scan rejected, and those with `values` that the table rejected.
    pub(super) async fn write(&self, rows: &FileRows<'_>, values: Vec<Reject>, name: &str) -> Result<()> {
        let Some((reader, scan)) = rows.scanned_file() else { return Ok(()) };
        let FileLayout::Streaming(layout) = &scan.layout else { return Ok(()) };
        let mut rejects = [rows.rejects(), &values].concat();
        if rejects.is_empty() {
            return self.remove();
        }
        rejects.sort_by_key(|reject| reject.position.byte);
        let mut records = Writer::create(&self.records, self)?;
        let mut errors = Writer::create(&self.errors, self)?;
        self.is_own.store(true, Ordering::Relaxed);
        self.is_written.store(true, Ordering::Relaxed);
        copy_records(reader, layout, rejects, name, (&mut records, &mut errors)).await?;
        records.finish()?;
        errors.finish()?;
        Failpoint::RejectsWritten.reached().await;
        Ok(())
    }

    /// Deletes the files that this load has written. Those of an earlier load stay: it may have committed.
    pub(super) fn remove_written(&self) -> Result<()> {
        if self.is_written.load(Ordering::Relaxed) { self.remove() } else { Ok(()) }
    }

    /// Deletes the files of this load, or of an earlier one of the same version. The caller must hold the claim.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.is_own.load(Ordering::Relaxed) {
            return Ok(());
        }
        for path in [&self.records, &self.errors] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// A file that is being written.
struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    fn create(path: &Path, files: &RejectFiles) -> Result<Self> {
        let created = match files.is_own.load(Ordering::Relaxed) {
            true => File::create(path),
            false => File::create_new(path),
        };
        let file = created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(path, error),
        })?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Writes everything to the disk.
    fn finish(self) -> Result<()> {
        let Self { path, file } = self;
        let file = file.into_inner().map_err(|error| failed(&path, error.into_error()))?;
        file.sync_all().map_err(|error| failed(&path, error))
    }
}

impl RejectWriter for Writer {
    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| failed(&self.path, error))
    }
}

fn exists(path: &Path) -> Error {
    let message = format!("the file for rejected records {} exists already; name another one", path.display());
    Error::new(ErrorKind::Settings, message)
}

fn failed(path: &Path, error: io::Error) -> Error {
    let message = format!("cannot write the rejected records to {}; name another file with --rejects", path.display());
    Error::new(ErrorKind::Settings, message).with_source(error)
}
