//! The columns of a user's file: their types, and the Arrow types in which their values are read.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::Type;

use super::cells;
use crate::schema::ColumnType;
use crate::{Error, ErrorKind, Result};

/// A column of a user's file.
pub(super) struct FileColumn {
    /// The name as it is in the file.
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) conversion: Conversion,
}

/// How values become fields, where Arrow's type alone does not determine it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// By Arrow's type.
    Plain,
    /// Sixteen bytes as a UUID.
    Uuid,
    /// Text that is JSON.
    Json,
    /// Bytes that the file declares as one of a set of names. They must be UTF-8.
    Enum,
    /// A timestamp of 96 bits. It is read twice: in microseconds, and in nanoseconds as this column of the second read.
    Int96(usize),
    /// An interval of 96 bits. It is read twice: its days and milliseconds, and its months as this column of the second read.
    Interval(usize),
}

/// One of the two reads of values that have 96 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WideRead {
    /// Timestamps in microseconds, and days and milliseconds of intervals.
    First,
    /// Timestamps in nanoseconds, and months of intervals.
    Second,
}

/// The columns of a file.
///
/// # Errors
/// When the file has more than `max_columns`, or a column of a type that is not supported.
pub(super) fn file_columns(arrow: &ArrowReaderMetadata, max_columns: usize) -> Result<Vec<FileColumn>> {
    let fields = arrow.schema().fields();
    if fields.len() > max_columns {
        return Err(Error::new(ErrorKind::Invalid, format!("the file has more than {max_columns} columns")));
    }
    let parquet_types = arrow.parquet_schema().root_schema().get_fields();
    let columns = fields.iter().zip(parquet_types).map(|(field, parquet_type)| file_column(field, parquet_type));
    let mut columns = columns.collect::<Result<Vec<_>>>()?;
    for (second_index, index) in wide_columns(arrow.metadata()).into_iter().enumerate() {
        columns[index].conversion = match columns[index].conversion {
            Conversion::Interval(_) => Conversion::Interval(second_index),
            _ => Conversion::Int96(second_index),
        };
    }
    Ok(columns)
}

fn file_column(field: &Field, parquet_type: &Type) -> Result<FileColumn> {
    let info = parquet_type.get_basic_info();
    let conversion = match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Uuid), _) if matches!(field.data_type(), DataType::FixedSizeBinary(16)) => Conversion::Uuid,
        (Some(LogicalType::Json), _) | (None, ConvertedType::JSON) if field.data_type() == &DataType::Utf8View => {
            Conversion::Json
        }
        (Some(LogicalType::Enum), _) | (None, ConvertedType::ENUM) => Conversion::Enum,
        _ if matches!(field.data_type(), DataType::Interval(_)) => Conversion::Interval(0),
        _ => Conversion::Plain,
    };
    let column_type = match conversion {
        Conversion::Json => Some(ColumnType::Json),
        Conversion::Uuid | Conversion::Enum | Conversion::Interval(_) => Some(ColumnType::Text),
        Conversion::Plain | Conversion::Int96(_) => {
            cells::column_type(field.data_type()).filter(|_| is_supported(field.data_type()))
        }
    };
    if let Some(column_type) = column_type {
        return Ok(FileColumn { name: field.name().clone(), column_type, conversion });
    }
    let message = "the column has a type that is not supported; write it as text";
    Err(Error::new(ErrorKind::Invalid, message).in_column(field.name()))
}

/// Whether a type and all types within it are supported.
fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => is_supported(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        other => cells::column_type(other).is_some(),
    }
}

/// The indexes of the columns whose values have 96 bits.
pub(super) fn wide_columns(metadata: &ParquetMetaData) -> Vec<usize> {
    let types = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let is_wide = |kind: &Type| wide_type(kind, WideRead::First).is_some();
    types.iter().enumerate().filter(|(_, kind)| is_wide(kind)).map(|(index, _)| index).collect()
}

/// The type in which values of 96 bits are read; `None` for other columns.
fn wide_type(kind: &Type, read: WideRead) -> Option<DataType> {
    let info = kind.get_basic_info();
    if !kind.is_primitive() || info.has_repetition() && info.repetition() == Repetition::REPEATED {
        return None;
    }
    match (kind.get_physical_type(), info.converted_type(), read) {
        (PhysicalType::INT96, _, WideRead::First) => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        (PhysicalType::INT96, _, WideRead::Second) => Some(DataType::Timestamp(TimeUnit::Nanosecond, None)),
        (_, ConvertedType::INTERVAL, WideRead::First) => Some(DataType::Interval(IntervalUnit::DayTime)),
        (_, ConvertedType::INTERVAL, WideRead::Second) => Some(DataType::Interval(IntervalUnit::YearMonth)),
        (_, _, _) => None,
    }
}

/// Metadata with which Arrow reads each column in a supported type, and values of 96 bits by one of two reads.
pub(super) fn arrow_metadata(
    metadata: &Arc<ParquetMetaData>,
    read: WideRead,
) -> Result<ArrowReaderMetadata, ParquetError> {
    // The Arrow schema that the writer may have stored is more precise (seconds, for example), but may be invalid. Then the
    // Parquet schema is used alone.
    let stored = ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new()).or_else(|_| {
        ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_skip_arrow_metadata(true))
    })?;
    let types = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let fields = stored.schema().fields().iter().zip(types).map(|(field, kind)| match wide_type(kind, read) {
        Some(data_type) => Arc::new(field.as_ref().clone().with_data_type(data_type)),
        None => readable_field(field),
    });
    let schema: SchemaRef =
        Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), stored.schema().metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_schema(schema))
}

fn readable_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(readable_type(field.data_type())))
}

/// The one type in which all equivalent types are read. A view points into its page, so a repeated long text is in memory
/// only once.
fn readable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, values) => readable_type(values),
        DataType::RunEndEncoded(_, values) => readable_type(values.data_type()),
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
