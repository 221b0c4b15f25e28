//! The files of rejected records beside a local file: the records, copied byte for byte, and the error of each.
//!
//! They are complete before COMMIT is sent. A file that exists is neither changed nor deleted: its records may be corrected, and
//! not loaded yet. If it has the same content it is used as it is, otherwise the new file gets a number.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::local_file::STANDARD_INPUT;
use crate::object::SourceId;
use crate::pipeline::{FileRows, RejectWriter, TableConfig, copy_records};
use crate::reader::FileLayout;
use spillway_formats::reject::Reject;

/// The ending of the file with the errors, after that of the records.
const ERRORS_ENDING: &str = ".errors";

/// Fails if a file of rejected records would replace a whole table: they are only a part of their file.
///
/// # Errors
/// [`ErrorKind::Settings`].
pub(crate) fn check_not_replaced_by_part(path: &Path, config: &TableConfig) -> Result<()> {
    let mode = &config.destination.load_mode;
    if !mode.loads_full_exports() || !with_ending(path, ERRORS_ENDING).is_file() {
        return Ok(());
    }
    let message = format!(
        "with LOAD_MODE={} these rejected records would become the whole table; correct the complete file, and load that",
        mode.name()
    );
    Err(Error::new(ErrorKind::Settings, message).with_advice())
}

/// The largest number in a name.
const MAX_NUMBER: usize = 99;

/// Where the rejected records of one load are written.
#[derive(Debug)]
pub struct RejectFiles {
    records: PathBuf,
    /// Whether the user has named the file. It then gets no number.
    is_named: bool,
    written: Mutex<Written>,
}

/// The files of this load.
#[derive(Debug, Default)]
struct Written {
    /// The path of the records, if there are any.
    records: Option<PathBuf>,
    /// The files that this load has created.
    created: Vec<PathBuf>,
}

impl RejectFiles {
    /// Files beside the file itself. Their names do not end like a data file, so a pattern such as `*.csv` does not find them.
    pub(super) fn beside(path: &Path, id: &SourceId) -> Self {
        let ending = format!(".rejected-{}", &id.as_str()[..8]);
        // Standard input, or a pipe that the shell has made, such as /dev/fd/63.
        let has_no_folder = path.as_os_str() == STANDARD_INPUT || path.starts_with("/dev") || path.starts_with("/proc");
        let records = match path.file_name().filter(|_| !has_no_folder) {
            Some(_) => with_ending(path, &ending),
            None => PathBuf::from(format!("stdin{ending}")),
        };
        Self { records, is_named: false, written: Mutex::default() }
    }

    /// The file that the user names, which must not exist.
    ///
    /// # Errors
    /// When it exists.
    pub fn named(path: &str) -> Result<Self> {
        let records = PathBuf::from(path);
        match records.exists() || with_ending(&records, ERRORS_ENDING).exists() {
            true => Err(exists(&records)),
            false => Ok(Self { records, is_named: true, written: Mutex::default() }),
        }
    }

    /// The path of the records.
    pub(super) fn records_path(&self) -> PathBuf {
        self.written().records.clone().unwrap_or_else(|| self.records.clone())
    }

    /// Writes the records that the scan rejected, and those with `values` that the table rejected.
    pub(super) async fn write(&self, rows: &FileRows<'_>, values: Vec<Reject>, name: &str) -> Result<()> {
        self.remove_written()?;
        let Some((reader, scan)) = rows.scanned_file() else { return Ok(()) };
        let FileLayout::Streaming(layout) = &scan.layout else { return Ok(()) };
        let mut rejects = [rows.rejects(), &values].concat();
        if rejects.is_empty() {
            return Ok(());
        }
        rejects.sort_by_key(|reject| reject.position.byte);
        let partial = with_ending(&self.records, &format!(".{}.partial", std::process::id()));
        let partial = [with_ending(&partial, ERRORS_ENDING), partial];
        // After `kill -9` of an earlier process, such a file may be another name of a complete one.
        partial.iter().for_each(remove);
        let [errors_path, records_path] = &partial;
        let written = async {
            let (mut records, mut errors) = (Writer::create(records_path)?, Writer::create(errors_path)?);
            copy_records(reader, layout, rejects, name, (&mut records, &mut errors)).await?;
            records.finish()?;
            errors.finish()?;
            self.place(records_path, errors_path)
        };
        let written = written.await;
        partial.iter().for_each(remove);
        written?;
        Failpoint::RejectsWritten.reached().await?;
        Ok(())
    }

    /// Gives complete files the first names at which no other content is.
    fn place(&self, records: &Path, errors: &Path) -> Result<()> {
        for number in 1..=MAX_NUMBER {
            let name = match number {
                1 => self.records.clone(),
                number => with_ending(&self.records, &format!("-{number}")),
            };
            let files = [(errors, with_ending(&name, ERRORS_ENDING)), (records, name.clone())];
            let is_taken = files.iter().any(|(from, to)| to.exists() && !has_same_content(from, to));
            match (is_taken, self.is_named) {
                (true, true) => return Err(exists(&name)),
                (true, false) => continue,
                (false, _) => {}
            }
            let mut written = self.written();
            for (from, to) in files.iter().filter(|(_, to)| !to.exists()) {
                // A link never replaces a file.
                std::fs::hard_link(from, to).or_else(|_| copy_new(from, to)).map_err(|error| failed(to, error))?;
                written.created.push(to.clone());
            }
            written.records = Some(name);
            return Ok(());
        }
        Err(exists(&self.records))
    }

    /// Deletes the files that this load has created, because it has not committed.
    pub(super) fn remove_written(&self) -> Result<()> {
        let Written { created, .. } = std::mem::take(&mut *self.written());
        for path in created {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: impl AsRef<Path>) {
    let _best_effort = std::fs::remove_file(path);
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

/// Whether two files have the same bytes. A file that cannot be read counts as different.
fn has_same_content(one: &Path, other: &Path) -> bool {
    let read = |path: &Path| File::open(path).map(|file| BufReader::new(file).bytes());
    let (Ok(mut one), Ok(mut other)) = (read(one), read(other)) else { return false };
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(Ok(left)), Some(Ok(right))) if left == right => {}
            _ => return false,
        }
    }
}

/// Copies a file on a file system without links. The copy must not exist.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::create_new(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}

/// A file that is being written.
struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| failed(path, error))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Places files with these contents, and returns the paths of the records and of what exists afterwards.
    fn place(files: &RejectFiles, folder: &Path, content: &str) -> Result<PathBuf> {
        let (records, errors) = (folder.join("new"), folder.join("new.errors"));
        std::fs::write(&records, content).unwrap();
        std::fs::write(&errors, "{}").unwrap();
        let placed = files.place(&records, &errors).map(|()| files.records_path());
        [records, errors].iter().for_each(remove);
        placed
    }

    #[test]
    fn existing_file_is_neither_changed_nor_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let id = SourceId::parse(&"0".repeat(64)).unwrap();
        let files = || RejectFiles::beside(&folder.path().join("a.csv"), &id);
        let first = files();
        let path = place(&first, folder.path(), "bad\n").unwrap();
        assert_eq!(path, folder.path().join("a.csv.rejected-00000000"));

        // The same records again, as after a crash.
        let second = files();
        assert_eq!(place(&second, folder.path(), "bad\n").unwrap(), path);
        second.remove_written().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "bad\n");

        std::fs::write(&path, "corrected\n").unwrap();
        let third = files();
        let other = place(&third, folder.path(), "bad\n").unwrap();
        assert_eq!(other, folder.path().join("a.csv.rejected-00000000-2"));
        third.remove_written().unwrap();
        assert!(!other.exists());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "corrected\n");
        first.remove_written().unwrap();
        assert!(!path.exists(), "the load that has written it may remove it");
    }

    #[test]
    fn file_that_the_user_names_gets_no_number() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("mine");
        let files = RejectFiles::named(&name.display().to_string()).unwrap();
        std::fs::write(&name, "other\n").unwrap();
        assert_eq!(place(&files, folder.path(), "bad\n").unwrap_err().kind(), ErrorKind::Settings);
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "other\n");
    }
}
