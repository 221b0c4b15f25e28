//! The beginning of a file: a provisional schema from its first rows, and a check of every later row.

use futures_util::stream;

use crate::batch::BatchStream;
use crate::destination::ValueCheck;
use crate::error::Result;
use crate::failpoint::Failpoint;
use crate::reader::FileReader;
use crate::reader::ValueScan;
use crate::reader::encoding::detects_encoding;
use crate::reader::streamed::{BadRecords, ScanSummary, StreamedRows};
use spillway_formats::decoder::Decoder;
use spillway_formats::detect::{Format, StreamFormat};
use spillway_formats::schema::Schema;

/// Why a file must be scanned before it can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StopReason {
    /// The limit of rejected records depends on the number of all records.
    #[error("the file has a bad record")]
    BadRecord,
    /// The types of those columns depend on every value.
    #[error("the file has columns that its first rows lack")]
    MoreColumns,
    /// The table was created with the types of the first rows.
    #[error("a value needs another column type than the first rows")]
    TypeChanged,
}

/// The result of a pass over the file.
#[derive(Debug)]
pub(crate) enum PassResult {
    /// The pass reached the end of the file.
    Complete(ScanSummary),
    /// The pass stopped earlier. The rows so far must not be committed.
    Stopped(StopReason),
}

/// A file whose first rows were peeked at. No row was returned yet.
pub(crate) struct PeekedFile {
    rows: StreamedRows,
    names: Vec<String>,
    schema: Schema,
    stopped: Option<StopReason>,
}

impl FileReader {
    /// Peeks at the first rows. Returns `None` for Parquet, for a file without rows, when the first record is bad, when
    /// the encoding must be detected from all bytes, when the first rows do not have the types of the table settings, and for JSON
    /// whose types the catalog of its raw zone needs.
    ///
    /// # Errors
    /// When the object cannot be read or is broken.
    pub(crate) async fn peek(&self) -> Result<Option<PeekedFile>> {
        let (decoded, format) = self.detect().await?;
        let Format::Streaming(format) = format else { return Ok(None) };
        let needs_types = self.value_scan == ValueScan::On && format == StreamFormat::Json;
        if detects_encoding(format, &self.options) || needs_types {
            return Ok(None);
        }
        let decoder = Decoder::new(format, &self.options);
        let scan = (BadRecords::Stop, self.value_scan);
        let mut rows = StreamedRows::start(decoded, decoder, self.options.columns.clone(), scan);
        let mut inference = rows.inference();
        let Some(first) = rows.peek().await? else { return Ok(None) };
        Failpoint::HeadersRead.reached().await?;
        inference.observe(first);
        let (width, first_rows) = (first.width(), first.rows() as u64);
        let names = rows.first_names(width);
        let mut schema = inference.finish_as(names.clone()).of_first_rows();
        schema.is_of_changes = self.options.reads_changes(format);
        if self.options.columns.set_types(&mut schema).is_err() {
            // All values together may have a type that the first ones do not prove.
            return Ok(None);
        }
        self.key_fields.extend(&mut schema, first_rows);
        Failpoint::Inferred.reached().await?;
        Ok(Some(PeekedFile { rows, names, schema, stopped: None }))
    }
}

impl PeekedFile {
    /// The columns, with types inferred from the first rows only.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Returns all rows, from the first. The check may end the stream early; [`PeekedFile::end`] returns the reason.
    pub(crate) fn rows<'a>(&'a mut self, reader: &'a FileReader, value_check: ValueCheck) -> BatchStream<'a> {
        let Self { rows, names, schema, stopped } = self;
        let (width, schema) = (names.len(), &*schema);
        let inference = (value_check == ValueCheck::EveryValue).then(|| rows.inference());
        let checked =
            stream::try_unfold((rows, inference, stopped), move |(rows, mut inference, stopped)| async move {
                let Some(batch) = rows.next().await? else { return Ok(None) };
                if batch.width() != width {
                    *stopped = Some(StopReason::MoreColumns);
                    return Ok(None);
                }
                if let Some(inference) = &mut inference {
                    inference.observe(&batch);
                    if !inference.would_create_columns_of(schema) {
                        *stopped = Some(StopReason::TypeChanged);
                        return Ok(None);
                    }
                }
                Ok(Some((batch, (rows, inference, stopped))))
            });
        reader.with_key_fields(Box::pin(checked))
    }

    /// Returns the end of the pass, after the stream of [`PeekedFile::rows`] has ended.
    ///
    /// # Errors
    /// When the rows were not read to their end.
    pub(crate) fn end(&mut self) -> Result<PassResult> {
        if let Some(reason) = self.stopped {
            return Ok(PassResult::Stopped(reason));
        }
        match self.rows.end()? {
            PassResult::Complete(summary) if summary.column_names != self.names => {
                Ok(PassResult::Stopped(StopReason::MoreColumns))
            }
            end => Ok(end),
        }
    }

    /// Returns the rows, so that a scan can continue this pass. `None` if any row was read.
    pub(crate) fn into_unread_rows(self) -> Option<StreamedRows> {
        self.rows.is_peeked().then_some(self.rows)
    }
}
