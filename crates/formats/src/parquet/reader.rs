//! Parquet files that users bring, as batches of fields. The file knows its columns' types: none is inferred from text.
//!
//! What a file declares is checked before room is made for it ([`super::footer`]). Memory is what the largest row group has
//! compressed, its columns' open pages, and a batch; all three are bounded. The reader behind may panic on corrupt pages
//! all the same; that ends here as a broken file.

use std::future::Future;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::basic::{Compression, ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::schema::types::Type;

use super::cells;
use super::counts::{self, Chunks, CountedRows};
use super::footer;
use super::ranges::{FOOTER_GUESS_BYTES, Ranges};
use crate::error::BoxError;
use crate::schema::ColumnType;
use crate::schema::value::{Value, parse};
use crate::{Batch, Error, ErrorKind, FieldKind, Position, Result};

/// The longest footer.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
/// The most that a row group may have compressed: it is held whole.
const MAX_ROW_GROUP_BYTES: u64 = 512 << 20;
/// The most that the pages of a row group which are open at a time may have decompressed.
const MAX_OPEN_PAGES_BYTES: u64 = 512 << 20;
/// The most values that a column chunk with lists may have: one row may have them all.
const MAX_LIST_VALUES: u64 = 64 << 20;
/// What Arrow may hold decoded at once, by the average row.
const DECODED_BYTES: u64 = 4 << 20;
const DECODED_ROWS: usize = 1024;
const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED_MAGIC: &[u8; 4] = b"PARE";
/// The magic at both ends, and the footer's length.
const FRAME_BYTES: u64 = 12;

/// How far a file may go before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetLimits {
    /// The longest record in bytes, as fields.
    pub max_record_bytes: usize,
    /// The most columns.
    pub max_columns: usize,
}

/// Reads one file, once.
pub struct ParquetReader {
    columns: Vec<FileColumn>,
    limits: ParquetLimits,
    /// `None` once the file has ended or has turned out to be broken.
    rows: Option<Streams>,
    decoded: Option<Decoded>,
    record: u64,
}

/// All columns, and once more those of INT96: 64 bits hold either all of their days or their nanoseconds.
struct Streams {
    all: CountedRows<CheckedRanges>,
    nanos: Option<CountedRows<CheckedRanges>>,
}

/// Rows of [`Streams`], and how many of them were taken.
struct Decoded {
    all: RecordBatch,
    nanos: Option<RecordBatch>,
    next_row: usize,
}

struct FileColumn {
    name: String,
    column_type: ColumnType,
    form: Form,
}

/// What Arrow's type does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Usual,
    Uuid,
    Json,
    /// In microseconds; the nanoseconds are this column of the others.
    Int96(usize),
}

impl ParquetReader {
    /// Reads the footer of an object of `size_bytes` and checks what it declares. `read` gives the bytes of a range.
    pub async fn open<Read, Answer, E>(size_bytes: u64, read: Read, limits: ParquetLimits) -> Result<Self>
    where
        Read: FnMut(Range<u64>) -> Answer + Clone + Send + 'static,
        Answer: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let mut ranges = Ranges::new(size_bytes, read.clone());
        let footer = read_footer(&mut ranges).await?;
        footer::check(&footer).map_err(broken)?;
        let metadata = contained(|| ParquetMetaDataReader::decode_metadata(&footer))?;
        let metadata = Arc::new(metadata);
        check_row_groups(&metadata)?;
        counts::check_footer(&metadata)?;
        let chunks = Arc::new(Chunks::of(&metadata)?);
        let arrow = contained(|| arrow_metadata(&metadata, TimeUnit::Microsecond))?;
        let columns = columns(&arrow, limits.max_columns)?;
        let mut ranges = CheckedRanges { ranges, metadata: Arc::clone(&metadata), chunks: Arc::clone(&chunks) };
        for range in chunks.without_rows() {
            ranges.get_bytes(range).await.map_err(not_decoded)?;
        }
        let all = CountedRows::new(contained(|| stream(ranges, arrow).build())?, &metadata);
        let old_moments = int96_columns(&metadata);
        let nanos = match old_moments.is_empty() {
            true => None,
            false => {
                let nanos = contained(|| {
                    let ranges = Ranges::new(size_bytes, read);
                    let ranges = CheckedRanges { ranges, metadata: Arc::clone(&metadata), chunks };
                    let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), old_moments);
                    let arrow = arrow_metadata(&metadata, TimeUnit::Nanosecond)?;
                    stream(ranges, arrow).with_projection(mask).build()
                })?;
                Some(CountedRows::new(nanos, &metadata))
            }
        };
        Ok(Self { columns, limits, rows: Some(Streams { all, nanos }), decoded: None, record: 0 })
    }

    /// The columns' names as they stand in the file, and their types: every value of a column is of its type, or the column
    /// is text.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.column_type))
    }

    /// The next rows, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(decoded) = self.decoded.take() {
                return self.take_batch(decoded).map(Some);
            }
            // After an error the streams are gone.
            let Some(mut rows) = self.rows.take() else { return Ok(None) };
            match AssertUnwindSafe(rows.next()).catch_unwind().await {
                Ok(Ok(Some(decoded))) => {
                    self.decoded = (decoded.all.num_rows() > 0).then_some(decoded);
                    self.rows = Some(rows);
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(panicked()),
            }
        }
    }

    /// As many rows of what is decoded as fit one batch.
    fn take_batch(&mut self, mut decoded: Decoded) -> Result<Batch> {
        let mut batch = Batch::new(self.columns.len());
        let mut text = Vec::new();
        while decoded.next_row < decoded.all.num_rows() && !batch.is_full() {
            let row = decoded.next_row;
            self.record += 1;
            let position = Position { record: self.record, line: 0, byte: 0 };
            let before = batch.size_bytes();
            for (column, array) in self.columns.iter().zip(decoded.all.columns()) {
                text.clear();
                let kind = match column.form {
                    Form::Uuid => Ok(cells::write_uuid(array, row, &mut text)),
                    Form::Usual | Form::Json => cells::write(array, row, &mut text),
                    Form::Int96(place) => match &decoded.nanos {
                        Some(nanos) => cells::write_int96(array, nanos.column(place), row, &mut text),
                        None => Err("is not read"),
                    },
                };
                match kind {
                    Ok(None) => batch.push_field(None),
                    Ok(Some(_)) if column.form == Form::Json && is_nested(&text) => {
                        batch.push_kind(FieldKind::Nested, &text);
                    }
                    Ok(Some(kind)) => batch.push_kind(kind, &text),
                    Err(what) => {
                        let message = format!("the value {what}");
                        return Err(Error::new(ErrorKind::Invalid, message).at(position).in_column(&column.name));
                    }
                }
            }
            if batch.size_bytes() - before > self.limits.max_record_bytes {
                let message = format!("the record is longer than {} bytes", self.limits.max_record_bytes);
                return Err(Error::new(ErrorKind::Invalid, message).at(position));
            }
            batch.end_row(position);
            decoded.next_row += 1;
        }
        self.decoded = (decoded.next_row < decoded.all.num_rows()).then_some(decoded);
        Ok(batch)
    }
}

impl Streams {
    /// The next rows of both.
    async fn next(&mut self) -> Result<Option<Decoded>> {
        let Some(all) = self.all.next().await? else { return Ok(None) };
        let nanos = match &mut self.nanos {
            Some(nanos) => nanos.next().await?,
            None => None,
        };
        if self.nanos.is_some() && nanos.as_ref().is_none_or(|nanos| nanos.num_rows() != all.num_rows()) {
            return Err(broken("its columns have different numbers of rows"));
        }
        Ok(Some(Decoded { all, nanos, next_row: 0 }))
    }
}

fn stream(ranges: CheckedRanges, arrow: ArrowReaderMetadata) -> ParquetRecordBatchStreamBuilder<CheckedRanges> {
    let rows = batch_rows(arrow.metadata());
    ParquetRecordBatchStreamBuilder::new_with_metadata(ranges, arrow).with_batch_size(rows)
}

/// The places of the columns with timestamps of 96 bits.
fn int96_columns(metadata: &ParquetMetaData) -> Vec<usize> {
    let kinds = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let is_int96 = |kind: &Type| kind.is_primitive() && kind.get_physical_type() == PhysicalType::INT96;
    kinds.iter().enumerate().filter(|(_, kind)| is_int96(kind)).map(|(place, _)| place).collect()
}

/// The footer's bytes, without its length and the magic.
async fn read_footer(ranges: &mut Ranges) -> Result<Bytes> {
    let size_bytes = ranges.size_bytes();
    if size_bytes < FRAME_BYTES {
        return Err(broken("the file is too short for a footer"));
    }
    let tail_start = size_bytes.saturating_sub(FOOTER_GUESS_BYTES as u64);
    let tail = ranges.read(tail_start..size_bytes).await?;
    let Some((front, [a, b, c, d, magic @ ..])) = tail.split_last_chunk::<8>() else {
        return Err(broken("the file is too short for a footer"));
    };
    match magic {
        MAGIC => {}
        ENCRYPTED_MAGIC => return Err(broken("the footer is encrypted, which is not supported")),
        _ => return Err(broken("the file does not end as Parquet does; it may be cut")),
    }
    let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    if length > size_bytes - FRAME_BYTES || length > MAX_FOOTER_BYTES {
        return Err(broken("the footer is longer than it can be"));
    }
    match usize::try_from(length) {
        Ok(length) if length <= front.len() => Ok(tail.slice(front.len() - length..front.len())),
        _ => ranges.read(size_bytes - 8 - length..size_bytes - 8).await,
    }
}

fn check_row_groups(metadata: &ParquetMetaData) -> Result<()> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        match column.compression() {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::LZ4
            | Compression::LZ4_RAW
            | Compression::ZSTD(_) => {}
            Compression::BROTLI(_) => return Err(unsupported("brotli")),
            Compression::LZO => return Err(unsupported("lzo")),
        }
        if column.column_descr().max_rep_level() > 0 && column.num_values() > MAX_LIST_VALUES as i64 {
            return Err(broken("a row group's lists have too many values; write smaller row groups"));
        }
    }
    Ok(())
}

fn unsupported(codec: &str) -> Error {
    let message =
        format!("its columns are compressed with {codec}, which is not supported; use zstd, snappy, lz4 or gzip");
    Error::new(ErrorKind::Invalid, message)
}

/// The columns as Arrow has them, in the types that are read; timestamps of 96 bits in this unit.
fn arrow_metadata(metadata: &Arc<ParquetMetaData>, int96: TimeUnit) -> Result<ArrowReaderMetadata, ParquetError> {
    // The writer's own Arrow types tell seconds and the like. They may be nonsense; Parquet's types then do.
    let given = ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new()).or_else(|_| {
        ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_skip_arrow_metadata(true))
    })?;
    let old_moments = int96_columns(metadata);
    let fields = given.schema().fields().iter().enumerate().map(|(place, field)| match old_moments.contains(&place) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(int96, None))),
        false => readable_field(field),
    });
    let schema: SchemaRef =
        Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), given.schema().metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_schema(schema))
}

fn readable_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(readable(field.data_type())))
}

/// One type of those that mean the same. Views point into the pages, so that a long text which is repeated is there once.
fn readable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, values) => readable(values),
        DataType::RunEndEncoded(_, values) => readable(values.data_type()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Duration(_) => DataType::Int64,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => DataType::List(readable_field(field)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(readable_field).collect()),
        DataType::Map(entries, is_sorted) => DataType::Map(readable_field(entries), *is_sorted),
        other => other.clone(),
    }
}

fn columns(arrow: &ArrowReaderMetadata, max_columns: usize) -> Result<Vec<FileColumn>> {
    let fields = arrow.schema().fields();
    if fields.len() > max_columns {
        return Err(Error::new(ErrorKind::Invalid, format!("the file has more than {max_columns} columns")));
    }
    let kinds = arrow.parquet_schema().root_schema().get_fields();
    let mut columns = fields.iter().zip(kinds).map(|(field, kind)| column(field, kind)).collect::<Result<Vec<_>>>()?;
    for (nanos_place, place) in int96_columns(arrow.metadata()).into_iter().enumerate() {
        columns[place].form = Form::Int96(nanos_place);
    }
    Ok(columns)
}

fn column(field: &Field, kind: &Type) -> Result<FileColumn> {
    let info = kind.get_basic_info();
    let form = match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Uuid), _) if matches!(field.data_type(), DataType::FixedSizeBinary(16)) => Form::Uuid,
        (Some(LogicalType::Json), _) | (None, ConvertedType::JSON) if field.data_type() == &DataType::Utf8View => {
            Form::Json
        }
        _ => Form::Usual,
    };
    let column_type = match form {
        Form::Json => Some(ColumnType::Json),
        Form::Usual | Form::Uuid | Form::Int96(_) => cells::column_type(field.data_type()),
    };
    if let Some(column_type) = column_type.filter(|_| is_supported(field.data_type())) {
        return Ok(FileColumn { name: field.name().clone(), column_type, form });
    }
    let message = "the column has a type that is not supported; write it as text";
    Err(Error::new(ErrorKind::Invalid, message).in_column(field.name()))
}

/// Whether every type within a type is supported.
fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => is_supported(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        other => cells::column_type(other).is_some(),
    }
}

fn is_nested(text: &[u8]) -> bool {
    matches!(parse(ColumnType::Json, Some(text)), Some(Value::Json(_)))
}

/// How many rows are decoded at a time, by the widest average row.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let row_bytes = |group: &RowGroupMetaData| {
        u64::try_from(group.total_byte_size()).unwrap_or(0) / u64::try_from(group.num_rows()).unwrap_or(1).max(1)
    };
    let widest = metadata.row_groups().iter().map(row_bytes).max().unwrap_or(0).max(1);
    usize::try_from(DECODED_BYTES / widest).unwrap_or(DECODED_ROWS).clamp(1, DECODED_ROWS)
}

/// Ranges that are within the file and of a bounded size, with pages that declare bounded sizes and as many rows as the
/// footer does.
struct CheckedRanges {
    ranges: Ranges,
    metadata: Arc<ParquetMetaData>,
    chunks: Arc<Chunks>,
}

impl CheckedRanges {
    fn check_ranges(&self, ranges: &[Range<u64>]) -> Result<()> {
        let is_outside = |range: &Range<u64>| range.start > range.end || range.end > self.ranges.size_bytes();
        if ranges.iter().any(is_outside) {
            return Err(broken("a column chunk lies outside of the file; it may be cut"));
        }
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if bytes > MAX_ROW_GROUP_BYTES {
            return Err(broken(format!(
                "a row group has more than {MAX_ROW_GROUP_BYTES} bytes; write smaller row groups"
            )));
        }
        Ok(())
    }

    fn check_pages(&self, ranges: &[Range<u64>], chunks: &[Bytes]) -> Result<()> {
        let mut open_bytes = 0;
        for (range, bytes) in ranges.iter().zip(chunks) {
            let chunk = self.chunks.at(range)?;
            let pages = footer::pages(bytes).map_err(broken)?;
            if chunk.is_list && pages.values > MAX_LIST_VALUES {
                return Err(broken("a row group's lists have too many values; write smaller row groups"));
            }
            chunk.check(&pages)?;
            open_bytes += pages.open_bytes;
        }
        if open_bytes > MAX_OPEN_PAGES_BYTES {
            return Err(broken(format!(
                "the pages of a row group need more than {MAX_OPEN_PAGES_BYTES} bytes at a time; write smaller pages"
            )));
        }
        Ok(())
    }
}

impl AsyncFileReader for CheckedRanges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut answers = self.get_byte_ranges(vec![range]).await?;
            answers.pop().ok_or_else(|| ParquetError::EOF("a range was not answered".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            self.check_ranges(&ranges).map_err(ours)?;
            let chunks = self.ranges.get_byte_ranges(ranges.clone()).await?;
            self.check_pages(&ranges, &chunks).map_err(ours)?;
            Ok(chunks)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = Arc::clone(&self.metadata);
        async move { Ok(metadata) }.boxed()
    }
}

/// Runs what may panic on a file that is not what it declares.
fn contained<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(not_decoded),
        Err(_) => Err(panicked()),
    }
}

fn panicked() -> Error {
    broken("the file is not what it declares")
}

fn ours(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// What went wrong: our own error as it was, anything else as a broken file. The reader's messages tell of sizes and types.
pub(super) fn not_decoded(error: ParquetError) -> Error {
    let unreadable = |source: BoxError| broken("it cannot be decoded").with_source(source);
    match error {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => unreadable(source),
        },
        other => unreadable(Box::new(other)),
    }
}

pub(super) fn broken(what: impl AsRef<str>) -> Error {
    Error::new(ErrorKind::Invalid, format!("the file is no valid Parquet: {}", what.as_ref()))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
