//! The columns of a user's file: their types, and the Arrow types in which their values are read.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
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
    for (nanos_index, index) in int96_columns(arrow.metadata()).into_iter().enumerate() {
        columns[index].conversion = Conversion::Int96(nanos_index);
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
        _ => Conversion::Plain,
    };
    let column_type = match conversion {
        Conversion::Json => Some(ColumnType::Json),
        Conversion::Uuid | Conversion::Enum => Some(ColumnType::Text),
        Conversion::Plain | Conversion::Int96(_) => cells::column_type(field.data_type()),
    };
    if let Some(column_type) = column_type.filter(|_| is_supported(field.data_type())) {
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

/// The indexes of the columns with timestamps of 96 bits.
pub(super) fn int96_columns(metadata: &ParquetMetaData) -> Vec<usize> {
    let types = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let is_int96 = |kind: &Type| kind.is_primitive() && kind.get_physical_type() == PhysicalType::INT96;
    types.iter().enumerate().filter(|(_, kind)| is_int96(kind)).map(|(index, _)| index).collect()
}

/// Metadata with which Arrow reads each column in a supported type, and timestamps of 96 bits in `int96_unit`.
pub(super) fn arrow_metadata(
    metadata: &Arc<ParquetMetaData>,
    int96_unit: TimeUnit,
) -> Result<ArrowReaderMetadata, ParquetError> {
    // The Arrow schema that the writer may have stored is more precise (seconds, for example), but may be invalid. Then the
    // Parquet schema is used alone.
    let stored = ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new()).or_else(|_| {
        ArrowReaderMetadata::try_new(Arc::clone(metadata), ArrowReaderOptions::new().with_skip_arrow_metadata(true))
    })?;
    let int96 = int96_columns(metadata);
    let fields = stored.schema().fields().iter().enumerate().map(|(index, field)| match int96.contains(&index) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(int96_unit, None))),
        false => readable_field(field),
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
