//! A delta: the changes of a comparison as JSON lines in a file, optionally compressed.
//!
//! The first line is the summary, and each other line is a change. The file appears under its name when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::change::Change;
use super::summary::Summary;
use crate::error::{Error, ErrorKind, Result};
use spillway_formats::compression::Compressor;

/// The value of `format` in the first line.
pub(super) const FORMAT: &str = "spillway-delta";

/// The value of `format_version` in the first line.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Number of bytes that are compressed and written at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// How a delta is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl DeltaCompression {
    /// The compression that the name of a file shows; `None` unless it is `.jsonl`, `.jsonl.gz` or `.jsonl.zst`.
    pub fn of_name(name: &str) -> Option<Self> {
        let endings = [(".jsonl", Self::None), (".jsonl.gz", Self::Gzip), (".jsonl.zst", Self::Zstd)];
        let name = name.to_ascii_lowercase();
        endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, compression)| compression)
    }

    fn compressor(self) -> Compressor {
        match self {
            Self::None => Compressor::none(),
            Self::Gzip => Compressor::gzip(),
            Self::Zstd => Compressor::zstd(),
        }
    }
}

/// The first line.
#[derive(Debug, Serialize)]
pub(super) struct Heading<'a> {
    pub(super) format: &'static str,
    pub(super) format_version: u32,
    #[serde(flatten)]
    pub(super) summary: &'a Summary,
}

/// Writes a delta to a file of this machine.
#[derive(Debug)]
pub struct DeltaWriter {
    file: File,
    path: PathBuf,
    /// The name of the file until it is complete; `None` after that.
    partial: Option<PathBuf>,
    compressor: Compressor,
    block: Vec<u8>,
    compressed: Vec<u8>,
}

impl DeltaWriter {
    /// The compression that the name of a file shows.
    ///
    /// # Errors
    /// When it has another ending than those of [`DeltaCompression::of_name`].
    pub fn check_name(path: &Path) -> Result<DeltaCompression> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        DeltaCompression::of_name(&name).ok_or_else(|| {
            let message = format!("{}: the name must end with .jsonl, .jsonl.gz or .jsonl.zst", path.display());
            Error::new(ErrorKind::Settings, message)
        })
    }

    /// Creates a file beside `path`. [`DeltaWriter::write_summary`] writes its first line.
    ///
    /// # Errors
    /// When the name has another ending than those of [`DeltaCompression::of_name`], or the file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let compression = Self::check_name(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{:08x}.partial", fastrand::u32(..)));
        let file =
            OpenOptions::new().write(true).create_new(true).open(&partial).map_err(|error| failed(path, &error))?;
        let block = Vec::with_capacity(BLOCK_BYTES);
        let compressor = compression.compressor();
        let path = path.to_owned();
        Ok(Self { file, path, partial: Some(partial), compressor, block, compressed: Vec::new() })
    }

    /// Adds the first line.
    ///
    /// # Errors
    /// When the summary cannot be written as JSON.
    pub fn write_summary(&mut self, summary: &Summary) -> Result<()> {
        let heading = Heading { format: FORMAT, format_version: FORMAT_VERSION, summary };
        serde_json::to_writer(&mut self.block, &heading).map_err(|error| failed(&self.path, &error.into()))?;
        self.block.push(b'\n');
        Ok(())
    }

    /// Adds a change.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, change: &Change<'_>) -> Result<()> {
        change.write_line(&mut self.block);
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Completes the file, and replaces an earlier one of this name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.write_block()?;
        self.compressor.finish(&mut self.compressed)?;
        let written = self.file.write_all(&self.compressed).and_then(|()| self.file.sync_all());
        let Some(partial) = self.partial.take() else { return Ok(()) };
        written.and_then(|()| fs::rename(&partial, &self.path)).map_err(|error| {
            let _best_effort = fs::remove_file(&partial);
            failed(&self.path, &error)
        })
    }

    fn write_block(&mut self) -> Result<()> {
        self.compressor.push(&self.block, &mut self.compressed)?;
        self.file.write_all(&self.compressed).map_err(|error| failed(&self.path, &error))?;
        self.block.clear();
        self.compressed.clear();
        Ok(())
    }
}

impl Drop for DeltaWriter {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _best_effort = fs::remove_file(partial);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Settings, format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_shows_the_compression() {
        let of = DeltaCompression::of_name;
        assert_eq!(of("a.JSONL.zst"), Some(DeltaCompression::Zstd));
        assert_eq!(of("a.jsonl.gz"), Some(DeltaCompression::Gzip));
        assert_eq!((of("a.jsonl"), of("a.json"), of("jsonl.zst")), (Some(DeltaCompression::None), None, None));
    }

    #[test]
    fn incomplete_file_is_removed_and_a_complete_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delta.jsonl");
        let summary = Summary {
            old: None,
            new: super::super::ExportSummary::default(),
            key: vec!["id".to_owned()],
            counts: super::super::ChangeCounts::default(),
            schema_changes: super::super::SchemaChanges::default(),
        };
        fs::write(&path, "earlier").unwrap();
        drop(DeltaWriter::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier");
        let mut writer = DeltaWriter::create(&path).unwrap();
        writer.write_summary(&summary).unwrap();
        writer.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"format\":\"spillway-delta\",\"format_version\":1,\"old\":null,"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(DeltaWriter::create(Path::new("a.csv")).is_err());
        assert!(DeltaWriter::create(&folder.path().join("missing/a.jsonl")).is_err());
    }
}
