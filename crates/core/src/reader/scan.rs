//! The scan: reads every value once, determines the column types, counts rows, lists bad records.

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::reader::bytes::BodySummary;
use crate::reader::hint;
use crate::reader::parquet_rows::ParquetRows;
use crate::reader::peeked_file::PassResult;
use crate::reader::shape::FileShape;
use crate::reader::streamed::{BadRecords, ScanSummary, StreamedRows};
use crate::reader::{FileLayout, FileReader};
use spillway_formats::decoder::{Decoder, Layout};
use spillway_formats::detect::Format;
use spillway_formats::numbers::with_thousands;
use spillway_formats::reject::Reject;
use spillway_formats::schema::Schema;
use spillway_formats::schema::infer::Inference;
use spillway_formats::{Batch, TextEncoding};

/// The result of a scan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScanResult {
    /// The file's columns with their final types, then those of `KEY_COLUMNS`. No columns for an empty file.
    pub schema: Schema,
    /// Number of rows that later passes return: those that are not rejected.
    pub rows: u64,
    /// The bad records, in file order. Later passes skip them.
    pub rejects: Vec<Reject>,
    /// SHA-256 of the stored bytes in hex.
    pub body_sha256: String,
    /// Number of bytes after decompression.
    pub decoded_bytes: u64,
    /// The layout for later passes.
    pub layout: FileLayout,
    /// How other programs would see the file.
    pub shape: Box<FileShape>,
    /// What the user may have meant with the file.
    pub hint: Option<String>,
}

impl ScanResult {
    /// Whether single records can be copied from the file by their position.
    pub(crate) fn can_extract_records(&self) -> bool {
        match &self.layout {
            // Without the other records, escapes could not be detected again.
            FileLayout::Streaming(Layout::Csv(dialect)) => {
                dialect.encoding == TextEncoding::Utf8 && !dialect.has_detected_escape()
            }
            FileLayout::Streaming(Layout::Json { is_plain, .. }) => *is_plain,
            FileLayout::Parquet => false,
        }
    }
}

impl FileReader {
    /// Reads the whole file once.
    ///
    /// # Errors
    /// When the object cannot be read or is broken, has more bad records than allowed, or only bad records.
    pub(crate) async fn scan(&self) -> Result<ScanResult> {
        let rows = self.first_pass().await?;
        self.scan_rows(rows).await
    }

    /// Like [`FileReader::scan`], but continues a pass that has peeked at the first rows.
    pub(crate) async fn continue_scan(&self, rows: StreamedRows) -> Result<ScanResult> {
        self.scan_rows(FirstPass::Streaming(Box::new(rows))).await
    }

    async fn scan_rows(&self, mut pass: FirstPass) -> Result<ScanResult> {
        let mut inference = pass.inference()?;
        let mut rows = 0;
        while let Some(batch) = pass.next().await? {
            if rows == 0 {
                Failpoint::HeadersRead.reached().await?;
            }
            rows += batch.rows() as u64;
            self.progress.add_rows(batch.rows());
            inference.observe(&batch);
        }
        let mut summary = pass.end()?;
        if self.options.columns.keep_columns() {
            summary.suspects.retain_text_columns(|column| inference.is_text(column));
        }
        summary.suspects.forget_thousands();
        let rules = &self.options.columns;
        let of_file = summary.hint(rules);
        let ScanSummary { column_names, layout, rejects, shape, bytes, .. } = summary;
        self.check_reject_limit(rows, &rejects)?;
        let hint =
            hint::joined(of_file.into_iter().chain(hint::of_values(layout.as_ref(), &column_names, rules, &inference)));
        let mut schema = inference.finish_as(column_names);
        schema.is_of_changes = layout.as_ref().is_some_and(|layout| self.options.reads_changes(layout.format()));
        self.options.columns.set_types(&mut schema)?;
        self.key_fields.extend(&mut schema, rows);
        Failpoint::Inferred.reached().await?;
        let (body_sha256, decoded_bytes) = (bytes.sha256()?.to_owned(), bytes.decoded_bytes);
        let layout = layout.map_or(FileLayout::Parquet, FileLayout::Streaming);
        Ok(ScanResult { schema, rows, rejects, body_sha256, decoded_bytes, layout, shape, hint })
    }

    /// Starts a pass over all rows that determines the layout, and skips bad records.
    ///
    /// # Errors
    /// When the file cannot be read, or has a format that is not supported.
    pub(crate) async fn first_pass(&self) -> Result<FirstPass> {
        let (decoded, format) = self.detect().await?;
        match format {
            Format::Streaming(format) => {
                let options = self.options_with_encoding(format).await?;
                let decoder = Decoder::new(format, &options);
                let rules = self.options.columns.clone();
                let rows = StreamedRows::start(decoded, decoder, rules, (BadRecords::Reject, self.value_scan));
                Ok(FirstPass::Streaming(Box::new(rows)))
            }
            Format::Parquet if decoded.compression().is_some() => {
                let message = "the Parquet file is compressed as a whole, so it cannot be read by byte ranges; \
                     upload it uncompressed: Parquet compresses its columns itself";
                Err(Error::new(ErrorKind::FileBroken, message))
            }
            Format::Parquet => {
                let rows = self.parquet().await?;
                Ok(FirstPass::Parquet(Box::new(rows), decoded.drain().await?))
            }
        }
    }

    /// Fails for a file with more bad records than the settings allow, or with only bad records.
    fn check_reject_limit(&self, rows: u64, rejects: &[Reject]) -> Result<()> {
        let Some(first) = rejects.first() else { return Ok(()) };
        let bad = rejects.len() as u64;
        let records = rows + bad;
        if rows > 0 && bad <= self.options.limits.rejects.max_of(records) {
            return Ok(());
        }
        let (bad, of_all) = (with_thousands(bad), with_thousands(records));
        let what = match (rows, records) {
            (0, 1) => "the only record is bad".to_owned(),
            (0, _) => format!("each of the {of_all} records is bad; the first"),
            (_, _) => {
                let max = with_thousands(self.options.limits.rejects.max_of(records));
                let verb = if rejects.len() == 1 { "is" } else { "are" };
                format!("{bad} of {of_all} records {verb} bad, more than MAX_REJECTS allows ({max}); the first")
            }
        };
        let error = Error::new(ErrorKind::FileBroken, format!("{what}: {}", first.reason)).at(first.position);
        Err(match &first.column {
            Some(column) => error.in_column(column),
            None => error,
        })
    }
}

/// The first pass over an object's rows.
pub(crate) enum FirstPass {
    Streaming(Box<StreamedRows>),
    /// Rows are read by byte ranges; the summary is that of a pass over all stored bytes.
    Parquet(Box<ParquetRows>, BodySummary),
}

impl FirstPass {
    /// Returns the next rows.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>> {
        match self {
            Self::Streaming(rows) => rows.next().await,
            Self::Parquet(rows, _) => rows.next().await,
        }
    }

    /// The names of the first `width` columns, once the first batch is known.
    pub(crate) fn first_names(&self, width: usize) -> Result<Vec<String>> {
        match self {
            Self::Streaming(rows) => Ok(rows.first_names(width)),
            Self::Parquet(rows, _) => rows.names(),
        }
    }

    fn inference(&self) -> Result<Inference> {
        match self {
            Self::Streaming(rows) => Ok(rows.inference()),
            Self::Parquet(rows, _) => rows.inference(),
        }
    }

    /// Returns the summary, after [`FirstPass::next`] has returned `None`.
    pub(crate) fn end(self) -> Result<ScanSummary> {
        match self {
            Self::Streaming(mut rows) => match rows.end()? {
                PassResult::Complete(summary) => Ok(summary),
                PassResult::Stopped(_) => Err(Error::new(ErrorKind::Internal, "a scan stopped at a bad record")),
            },
            Self::Parquet(rows, bytes) => {
                let shape = Box::new(FileShape::of_parquet(rows.hive_columns()));
                Ok(ScanSummary {
                    column_names: rows.names()?,
                    layout: None,
                    rejects: Vec::new(),
                    shape,
                    suspects: Box::default(),
                    bytes,
                })
            }
        }
    }
}
