//! A temporary file without a name: the operating system deletes it when the process ends, however it ends.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, ErrorKind, Result};
use crate::local_file::{unnamed_file, unnamed_file_error};

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) length: usize,
}

/// The number of bytes of a link to a part of a file.
pub(super) const LINK_BYTES: usize = 16;

impl Chunk {
    /// A part of the file as bytes, or the bytes for none.
    pub(super) fn link(chunk: Option<Self>) -> [u8; LINK_BYTES] {
        let (start, length) = chunk.map_or((0, 0), |chunk| (chunk.start, chunk.length as u64));
        let mut link = [0; LINK_BYTES];
        link[..8].copy_from_slice(&start.to_le_bytes());
        link[8..].copy_from_slice(&length.to_le_bytes());
        link
    }

    /// The part of the file that a link names, if it names one.
    pub(super) fn of_link(link: &[u8]) -> Option<Self> {
        let (start, length) = link.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length.first_chunk()?)).ok()?;
        (length > 0).then_some(Self { start: u64::from_le_bytes(*start), length })
    }
}

/// A file that only grows. It is created with the first bytes.
#[derive(Debug, Default)]
pub(super) struct TemporaryFile {
    file: Option<File>,
    length: u64,
}

impl TemporaryFile {
    /// Appends bytes.
    ///
    /// # Errors
    /// When the folder for temporary files has no space, or cannot be written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<Chunk> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file().map_err(|error| unnamed_file_error(&error))?),
        };
        file.write_all_at(bytes, self.length).map_err(|error| unnamed_file_error(&error))?;
        let chunk = Chunk { start: self.length, length: bytes.len() };
        self.length += bytes.len() as u64;
        Ok(chunk)
    }

    /// Appends the bytes of a part of the file to `out`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read(&self, chunk: Chunk, out: &mut Vec<u8>) -> Result<()> {
        let Some(file) = &self.file else { return Err(broken()) };
        let start = out.len();
        out.resize(start + chunk.length, 0);
        file.read_exact_at(&mut out[start..], chunk.start).map_err(|error| unnamed_file_error(&error))
    }

    /// The number of bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// The error for bytes that are not those that were written.
pub(super) fn broken() -> Error {
    Error::new(ErrorKind::Internal, "a temporary file does not contain the rows that were written to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_returned() {
        let mut file = TemporaryFile::default();
        let (first, second) = (file.append(b"abc").unwrap(), file.append(b"de").unwrap());
        let mut out = b"-".to_vec();
        file.read(second, &mut out).unwrap();
        file.read(first, &mut out).unwrap();
        assert_eq!((out.as_slice(), file.length()), (&b"-deabc"[..], 5));
    }
}
