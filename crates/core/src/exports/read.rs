//! Reads an export of one or several files once, and divides its rows by the hash of their key.

use super::columns::ExportColumns;
use super::memory::Memory;
use super::partitions::Partitions;
use super::record::{Row, push_key_part, push_value};
use super::summary::ExportSummary;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::FileReader;
use spillway_formats::Batch;

/// The rows of an export that was read to its end.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) columns: ExportColumns,
    pub(super) partitions: Partitions,
    pub(super) summary: Option<ExportSummary>,
    /// Number of files.
    files: usize,
}

/// One export to read.
#[derive(Debug)]
pub(super) struct ExportFile {
    /// Bad records must be errors: without them, the rows would seem deleted.
    pub(super) reader: FileReader,
    /// Everything but the results of the pass.
    pub(super) summary: ExportSummary,
    /// `EXPORT_KEY`.
    pub(super) key: Vec<String>,
}

impl Export {
    /// An export without rows and columns, which is older than the first one.
    pub(super) fn none(partitions: usize, memory: Memory) -> Self {
        let partitions = Partitions::new(partitions, 0, memory);
        Self { columns: ExportColumns::default(), partitions, summary: None, files: 0 }
    }

    /// The name of the file or of the folder, for errors with a record; empty without a file.
    pub(super) fn file(&self) -> String {
        let name = self.summary.as_ref().map(|summary| summary.file.clone()).unwrap_or_default();
        match self.files {
            0 | 1 => name,
            files => format!("{name} ({files} files; their records are counted in the order of their keys)"),
        }
    }

    /// Reads all rows of all files.
    ///
    /// # Errors
    /// When a file cannot be read, has a bad record, no key column or other columns than the first one, or when a key is NULL.
    pub(super) async fn read(files: Vec<ExportFile>, partitions: usize, memory: Memory) -> Result<Self> {
        let mut export = Self::none(partitions, memory);
        for file in files {
            let name = file.summary.file.clone();
            export.add(file).await.map_err(|error| error.for_object(name))?;
        }
        Ok(export)
    }

    /// Adds the rows of a file.
    async fn add(&mut self, file: ExportFile) -> Result<()> {
        let ExportFile { reader, mut summary, key } = file;
        let rows_before = self.summary.as_ref().map_or(0, |earlier| earlier.rows);
        let mut first: Option<Divider> = None;
        let mut pass = reader.first_pass().await?;
        while let Some(batch) = pass.next().await? {
            let divider = match &mut first {
                Some(divider) => divider,
                None => first.insert(Divider::new(ExportColumns::of(pass.first_names(batch.width())?, &key)?)),
            };
            divider.add(&batch, rows_before, &mut self.partitions)?;
            reader.progress().add_rows(batch.rows());
            summary.rows += batch.rows() as u64;
        }
        let scan = pass.end()?;
        let columns = final_columns(scan.column_names.clone(), first.map(|first| first.columns), &key)?;
        summary.columns.clone_from(&columns.names);
        scan.bytes.sha256()?.clone_into(&mut summary.sha256);
        summary.decoded_bytes = scan.bytes.decoded_bytes;
        self.files += 1;
        self.summary = Some(match self.summary.take() {
            None => {
                self.columns = columns;
                summary
            }
            Some(earlier) => {
                check_same_columns(&self.columns.names, &columns.names)?;
                earlier.and(summary)
            }
        });
        Ok(())
    }
}

/// Fails unless a further file of an export has the columns of the first one, in the same order.
fn check_same_columns(first: &[String], found: &[String]) -> Result<()> {
    if first == found {
        return Ok(());
    }
    let message = format!(
        "the file has the columns {}, but the first file of the export has {}; all files of an export need the same columns",
        found.join(", "),
        first.join(", ")
    );
    Err(Error::new(ErrorKind::FileBroken, message))
}

/// The columns at the end of the file. JSON may have more than at its beginning.
fn final_columns(names: Vec<String>, first: Option<ExportColumns>, key: &[String]) -> Result<ExportColumns> {
    if names.is_empty() {
        let message = "the export is empty and has no header, so it does not show that the table has no rows; an export with a \
                       header alone does";
        return Err(Error::new(ErrorKind::FileBroken, message));
    }
    let columns = ExportColumns::of(names, key)?;
    if first.as_ref().is_some_and(|first| !columns.names.starts_with(&first.names)) {
        let message = "a column has another name at the end of the export than at its beginning";
        return Err(Error::new(ErrorKind::FileBroken, message));
    }
    match first.is_some_and(|first| first.key != columns.key) {
        true => {
            let message = "EXPORT_KEY names another column at the end of the export than at its beginning";
            Err(Error::new(ErrorKind::FileBroken, message).in_column(key.join(", ")))
        }
        false => Ok(columns),
    }
}

/// Divides batches into partitions.
#[derive(Debug)]
struct Divider {
    /// The columns of the first rows.
    columns: ExportColumns,
    key: Vec<u8>,
    values: Vec<u8>,
}

impl Divider {
    fn new(columns: ExportColumns) -> Self {
        Self { columns, key: Vec::new(), values: Vec::new() }
    }

    /// Adds a batch. `rows_before` is the number of records of earlier files.
    fn add(&mut self, batch: &Batch, rows_before: u64, partitions: &mut Partitions) -> Result<()> {
        let columns = &self.columns;
        let others: Vec<usize> = (0..batch.width()).filter(|index| !columns.key.contains(index)).collect();
        for row in 0..batch.rows() {
            self.key.clear();
            self.values.clear();
            for (part, column) in columns.key.iter().enumerate() {
                let Some(field) = batch.field(row, *column) else {
                    let message = "a column of the key is NULL; EXPORT_KEY must name columns with a value in every row";
                    let error = Error::new(ErrorKind::FileBroken, message).at(batch.position(row));
                    return Err(error.in_column(&columns.names[*column]));
                };
                push_key_part(&mut self.key, field, part + 1 == columns.key.len());
            }
            for column in &others {
                push_value(&mut self.values, batch.field(row, *column));
            }
            let record = rows_before + batch.position(row).record;
            partitions.push(Row { record, key: &self.key, values: &self.values })?;
        }
        Ok(())
    }
}
