//! Compares the numbers of rows and values that a Parquet file declares with each other and with the rows that are read.
//!
//! The footer, the row groups, the column chunks and the pages all declare them. A reader that trusts only one of these
//! numbers loses rows without an error if it is too small.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::failure::{decode_error, invalid};
use super::pages::PageTotals;
use crate::Result;

/// Compares the number of rows in the footer with the row groups, and these with their columns.
pub(super) fn check_footer(metadata: &ParquetMetaData) -> Result<()> {
    let total: i128 = metadata.row_groups().iter().map(|group| i128::from(group.num_rows())).sum();
    let declared = metadata.file_metadata().num_rows();
    if i128::from(declared) != total {
        return Err(invalid(format!("the footer declares {declared} rows, but its row groups declare {total}")));
    }
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let (number, rows) = (index + 1, group.num_rows());
        if rows < 0 {
            return Err(invalid(format!("row group {number} declares {rows} rows")));
        }
        if let Some(column) = group.columns().iter().find(|column| !has_values_for(column, rows)) {
            let values = column.num_values();
            return Err(invalid(format!("row group {number} declares {rows} rows, but {values} values of the column"))
                .in_column(column.column_path().string()));
        }
    }
    Ok(())
}

/// Whether a column chunk can have this many rows. A flat column has one value or NULL per row, a list at least one.
fn has_values_for(column: &ColumnChunkMetaData, rows: i64) -> bool {
    match is_list(column) {
        true => column.num_values() >= rows && (column.num_values() == 0) == (rows == 0),
        false => column.num_values() == rows,
    }
}

fn is_list(column: &ColumnChunkMetaData) -> bool {
    column.column_descr().max_rep_level() > 0
}

/// The memory of the definition level and the repetition level of a value.
const LEVEL_BYTES: u64 = 4;

/// The memory of a decoded value in bytes. A string is a view into its page.
fn value_bytes(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::BYTE_ARRAY => 16,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => column.column_descr().type_length().try_into().unwrap_or(16),
    }
}

/// The column chunks of a file, by the offset of their first byte.
pub(super) struct Chunks(HashMap<u64, Chunk>);

/// The declaration of one column chunk in the footer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The memory of a decoded value in bytes if it is within a list; 0 otherwise.
    pub(super) list_value_bytes: u64,
    /// The offset after its last byte.
    end: u64,
    /// The number of the row group, from 1.
    group: usize,
    column: String,
    rows: u64,
    values: u64,
}

impl Chunks {
    /// The chunks that are not empty.
    pub(super) fn of(metadata: &ParquetMetaData) -> Result<Self> {
        let mut chunks = HashMap::new();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            for column in group.columns() {
                let (range, chunk) = Chunk::of(index + 1, group, column)?;
                if range.is_empty() {
                    continue;
                }
                if chunks.insert(range.start, chunk).is_some() {
                    return Err(invalid("two column chunks begin at the same byte"));
                }
            }
        }
        Ok(Self(chunks))
    }

    /// The chunk of exactly this range.
    ///
    /// # Errors
    /// When the footer does not declare such a chunk.
    pub(super) fn at(&self, range: &Range<u64>) -> Result<&Chunk> {
        let chunk = self.0.get(&range.start).filter(|chunk| chunk.end == range.end);
        chunk.ok_or_else(|| invalid("a range is not a column chunk"))
    }

    /// The ranges of the chunks in row groups that declare 0 rows. The Parquet crate skips such groups.
    pub(super) fn without_rows(&self) -> Vec<Range<u64>> {
        let chunks = self.0.iter().filter(|(_, chunk)| chunk.rows == 0);
        chunks.map(|(start, chunk)| *start..chunk.end).collect()
    }
}

impl Chunk {
    fn of(group_number: usize, group: &RowGroupMetaData, column: &ColumnChunkMetaData) -> Result<(Range<u64>, Self)> {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let unsigned =
            |value: i64| u64::try_from(value).map_err(|_| invalid("a column chunk declares a negative number"));
        let range = unsigned(start)?..unsigned(start)?.saturating_add(unsigned(column.compressed_size())?);
        let chunk = Self {
            list_value_bytes: if is_list(column) { value_bytes(column) + LEVEL_BYTES } else { 0 },
            end: range.end,
            group: group_number,
            column: column.column_path().string(),
            rows: unsigned(group.num_rows())?,
            values: unsigned(column.num_values())?,
        };
        Ok((range, chunk))
    }

    /// Compares the numbers of values and rows with the pages of the chunk.
    pub(super) fn check(&self, pages: &PageTotals) -> Result<()> {
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
        Err(invalid(message).in_column(&self.column))
    }
}

/// Reads the rows of a file and counts those of each row group.
pub(super) struct CountedRows<File> {
    stream: ParquetRecordBatchStream<File>,
    /// Number (from 1) and rows of the next row groups, without those that declare 0 rows.
    declared: std::vec::IntoIter<(usize, u64)>,
    open: Option<OpenGroup>,
}

struct OpenGroup {
    reader: ParquetRecordBatchReader,
    number: usize,
    declared_rows: u64,
    rows: u64,
}

impl<File: AsyncFileReader + Unpin + Send + 'static> CountedRows<File> {
    /// Counts the rows of a stream that reads all row groups and has not been read from.
    pub(super) fn new(stream: ParquetRecordBatchStream<File>, metadata: &ParquetMetaData) -> Self {
        let rows = |group: &RowGroupMetaData| u64::try_from(group.num_rows()).unwrap_or(0);
        let declared = metadata.row_groups().iter().enumerate().map(|(index, group)| (index + 1, rows(group)));
        let declared: Vec<_> = declared.filter(|(_, rows)| *rows > 0).collect();
        Self { stream, declared: declared.into_iter(), open: None }
    }

    /// The next rows, all from one row group, or `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(group) = &mut self.open {
                if let Some(batch) = group.reader.next() {
                    let batch = batch.map_err(|error| decode_error(error.into()))?;
                    group.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                group.check()?;
                self.open = None;
            }
            let reader = self.stream.next_row_group().await.map_err(decode_error)?;
            self.open = match (reader, self.declared.next()) {
                (Some(reader), Some((number, declared_rows))) => {
                    Some(OpenGroup { reader, number, declared_rows, rows: 0 })
                }
                (None, None) => return Ok(None),
                (Some(_), None) => return Err(invalid("it has more row groups than its footer declares")),
                (None, Some((number, rows))) => {
                    return Err(invalid(format!("row group {number} declares {rows} rows, but 0 were read")));
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
            false => Err(invalid(format!("row group {number} declares {declared_rows} rows, but {rows} were read"))),
        }
    }
}
