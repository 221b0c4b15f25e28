//! The counts that a Parquet file declares, compared with each other and with what is read.
//!
//! The footer, the row groups, the column chunks and the pages all say how many rows there are. A reader that trusts one of
//! them loses rows without an error when that one is too small.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::footer::Pages;
use super::reader::{broken, not_decoded};
use crate::Result;

/// Compares the footer's number of rows with the row groups', and theirs with the values of their columns.
pub(super) fn check_footer(metadata: &ParquetMetaData) -> Result<()> {
    let total: i128 = metadata.row_groups().iter().map(|group| i128::from(group.num_rows())).sum();
    let declared = metadata.file_metadata().num_rows();
    if i128::from(declared) != total {
        return Err(broken(format!("the footer declares {declared} rows, but its row groups declare {total}")));
    }
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let (number, rows) = (index + 1, group.num_rows());
        if rows < 0 {
            return Err(broken(format!("row group {number} declares {rows} rows")));
        }
        if let Some(column) = group.columns().iter().find(|column| !has_values_for(column, rows)) {
            let values = column.num_values();
            return Err(broken(format!("row group {number} declares {rows} rows, but {values} values of the column"))
                .in_column(column.column_path().string()));
        }
    }
    Ok(())
}

/// Whether a column chunk can have this many rows: a flat column has a value or a NULL for each, a list has at least one.
fn has_values_for(column: &ColumnChunkMetaData, rows: i64) -> bool {
    match is_list(column) {
        true => column.num_values() >= rows && (column.num_values() == 0) == (rows == 0),
        false => column.num_values() == rows,
    }
}

fn is_list(column: &ColumnChunkMetaData) -> bool {
    column.column_descr().max_rep_level() > 0
}

/// The column chunks of a file by their first byte.
pub(super) struct Chunks(HashMap<u64, Chunk>);

/// What the footer declares of one column chunk.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) is_list: bool,
    /// The end of its bytes in the file.
    end: u64,
    /// The number of the row group, from 1.
    group: usize,
    column: String,
    rows: u64,
    values: u64,
}

impl Chunks {
    /// The chunks that have bytes.
    pub(super) fn of(metadata: &ParquetMetaData) -> Result<Self> {
        let mut chunks = HashMap::new();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            for column in group.columns() {
                let (range, chunk) = Chunk::of(index + 1, group, column)?;
                if range.is_empty() {
                    continue;
                }
                if chunks.insert(range.start, chunk).is_some() {
                    return Err(broken("two column chunks begin at the same byte"));
                }
            }
        }
        Ok(Self(chunks))
    }

    /// The chunk that a range covers.
    ///
    /// # Errors
    /// When the footer declares none there.
    pub(super) fn at(&self, range: &Range<u64>) -> Result<&Chunk> {
        let chunk = self.0.get(&range.start).filter(|chunk| chunk.end == range.end);
        chunk.ok_or_else(|| broken("a column chunk has no bytes"))
    }

    /// The ranges of the chunks in row groups that declare no rows. The Parquet reader skips such groups.
    pub(super) fn without_rows(&self) -> Vec<Range<u64>> {
        let chunks = self.0.iter().filter(|(_, chunk)| chunk.rows == 0);
        chunks.map(|(start, chunk)| *start..chunk.end).collect()
    }
}

impl Chunk {
    fn of(group_number: usize, group: &RowGroupMetaData, column: &ColumnChunkMetaData) -> Result<(Range<u64>, Self)> {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let unsigned =
            |value: i64| u64::try_from(value).map_err(|_| broken("a column chunk declares a negative number"));
        let range = unsigned(start)?..unsigned(start)?.saturating_add(unsigned(column.compressed_size())?);
        let chunk = Self {
            is_list: is_list(column),
            end: range.end,
            group: group_number,
            column: column.column_path().string(),
            rows: unsigned(group.num_rows())?,
            values: unsigned(column.num_values())?,
        };
        Ok((range, chunk))
    }

    /// Compares the numbers of values and rows with those of the chunk's pages.
    pub(super) fn check(&self, pages: &Pages) -> Result<()> {
        let Self { group, rows, values, .. } = self;
        let message = match pages.rows {
            _ if pages.values != *values => {
                format!("row group {group} declares {values} values, but the pages declare {}", pages.values)
            }
            Some(page_rows) if page_rows != *rows => {
                format!("row group {group} declares {rows} rows, but the pages declare {page_rows}")
            }
            Some(_) | None => return Ok(()),
        };
        Err(broken(message).in_column(&self.column))
    }
}

/// The rows of a file, with the rows of each row group counted.
pub(super) struct CountedRows<Bytes> {
    stream: ParquetRecordBatchStream<Bytes>,
    /// Number and rows of those row groups that come next and have rows.
    declared: std::vec::IntoIter<(usize, u64)>,
    open: Option<OpenGroup>,
}

struct OpenGroup {
    reader: ParquetRecordBatchReader,
    number: usize,
    declared_rows: u64,
    rows: u64,
}

impl<Bytes: AsyncFileReader + Unpin + Send + 'static> CountedRows<Bytes> {
    /// The rows of a stream that reads all row groups and has not begun.
    pub(super) fn new(stream: ParquetRecordBatchStream<Bytes>, metadata: &ParquetMetaData) -> Self {
        let rows = |group: &RowGroupMetaData| u64::try_from(group.num_rows()).unwrap_or(0);
        let declared = metadata.row_groups().iter().enumerate().map(|(index, group)| (index + 1, rows(group)));
        let declared: Vec<_> = declared.filter(|(_, rows)| *rows > 0).collect();
        Self { stream, declared: declared.into_iter(), open: None }
    }

    /// The next rows of one row group, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(group) = &mut self.open {
                if let Some(batch) = group.reader.next() {
                    let batch = batch.map_err(|error| not_decoded(error.into()))?;
                    group.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                group.check()?;
                self.open = None;
            }
            let reader = self.stream.next_row_group().await.map_err(not_decoded)?;
            self.open = match (reader, self.declared.next()) {
                (Some(reader), Some((number, declared_rows))) => {
                    Some(OpenGroup { reader, number, declared_rows, rows: 0 })
                }
                (None, None) => return Ok(None),
                (Some(_), None) => return Err(broken("it has more row groups than the footer declares")),
                (None, Some((number, rows))) => {
                    return Err(broken(format!("row group {number} declares {rows} rows, but 0 are read")));
                }
            };
        }
    }
}

impl OpenGroup {
    fn check(&self) -> Result<()> {
        let Self { number, declared_rows, rows, .. } = self;
        match rows == declared_rows {
            true => Ok(()),
            false => Err(broken(format!("row group {number} declares {declared_rows} rows, but {rows} are read"))),
        }
    }
}
