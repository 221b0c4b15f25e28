//! The columns of a user's file: their types, and the Arrow types in which their values are read.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescPtr, Type};

use super::cells;
use super::hive_type::hive_type;
use crate::schema::ColumnType;
use crate::{Error, ErrorKind, Result};

/// A column of a user's file.
pub(super) struct FileColumn {
    /// The name as it is in the file.
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) conversion: Conversion,
    /// The type in which other programs read the column in place, see [`hive_type`].
    pub(super) hive_type: Option<String>,
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
    /// A nested value that contains timestamps of 96 bits. It is read twice in the same way.
    NestedInt96(usize),
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
            _ if columns[index].column_type == ColumnType::Json => Conversion::NestedInt96(second_index),
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
        Conversion::Plain | Conversion::Int96(_) | Conversion::NestedInt96(_) => {
            cells::column_type(field.data_type()).filter(|_| is_supported(field.data_type()))
        }
    };
    if let Some(column_type) = column_type {
        return Ok(FileColumn {
            name: field.name().clone(),
            column_type,
            conversion,
            hive_type: hive_type(parquet_type),
        });
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

/// The indexes of the columns with values of 96 bits.
pub(super) fn wide_columns(metadata: &ParquetMetaData) -> Vec<usize> {
    let schema = metadata.file_metadata().schema_descr();
    let intervals = (0..).zip(schema.root_schema().get_fields()).filter(|(_, kind)| is_interval(kind));
    let timestamps = (0..).zip(schema.columns()).filter(|(_, leaf)| leaf.physical_type() == PhysicalType::INT96);
    let roots = timestamps.map(|(leaf, _)| schema.get_column_root_idx(leaf));
    let mut indexes: Vec<usize> = intervals.map(|(index, _)| index).chain(roots).collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes
}

/// Whether a column contains intervals. Nested intervals are not supported.
fn is_interval(kind: &Type) -> bool {
    let info = kind.get_basic_info();
    let is_repeated = info.has_repetition() && info.repetition() == Repetition::REPEATED;
    kind.is_primitive() && !is_repeated && info.converted_type() == ConvertedType::INTERVAL
}

/// The type in which a value of 96 bits is read.
fn interval_type(read: WideRead) -> DataType {
    DataType::Interval(match read {
        WideRead::First => IntervalUnit::DayTime,
        WideRead::Second => IntervalUnit::YearMonth,
    })
}

/// See [`interval_type`].
fn timestamp_type(read: WideRead) -> DataType {
    let unit = match read {
        WideRead::First => TimeUnit::Microsecond,
        WideRead::Second => TimeUnit::Nanosecond,
    };
    DataType::Timestamp(unit, None)
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
    let schema = metadata.file_metadata().schema_descr();
    let mut leaves = Leaves { columns: schema.columns().iter(), read };
    let types = schema.root_schema().get_fields();
    let fields = stored.schema().fields().iter().zip(types).map(|(field, kind)| {
        let data_type = leaves.readable_type(field.data_type());
        let data_type = if is_interval(kind) { interval_type(read) } else { data_type };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    });
    let schema: SchemaRef =
        Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), stored.schema().metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_schema(schema))
}

/// The leaves of the file's schema, in order. Arrow's types have the same leaves in the same order.
struct Leaves<'a> {
    columns: std::slice::Iter<'a, ColumnDescPtr>,
    read: WideRead,
}

impl Leaves<'_> {
    fn readable_field(&mut self, field: &FieldRef) -> FieldRef {
        Arc::new(field.as_ref().clone().with_data_type(self.readable_type(field.data_type())))
    }

    /// The one type in which all equivalent types are read. A view points into its page, so a repeated long text is in memory
    /// only once.
    fn readable_type(&mut self, data_type: &DataType) -> DataType {
        match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::ListView(field)
            | DataType::LargeListView(field) => DataType::List(self.readable_field(field)),
            DataType::Struct(fields) => {
                DataType::Struct(fields.iter().map(|field| self.readable_field(field)).collect())
            }
            DataType::Map(entries, is_sorted) => DataType::Map(self.readable_field(entries), *is_sorted),
            leaf => match self.columns.next() {
                Some(column) if column.physical_type() == PhysicalType::INT96 => timestamp_type(self.read),
                Some(_) | None => readable_leaf(leaf),
            },
        }
    }
}

fn readable_leaf(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, values) => readable_leaf(values),
        DataType::RunEndEncoded(_, values) => readable_leaf(values.data_type()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Duration(_) => DataType::Int64,
        other => other.clone(),
    }
}
