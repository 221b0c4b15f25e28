//! The Hive type in which Athena, Redshift Spectrum and Spark read a column of a Parquet file in place.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::schema::types::{Type, TypePtr};

/// The largest precision of a decimal in Hive.
const MAX_PRECISION: i32 = 38;

/// The Hive type of a column; `None` if these programs cannot read it, or would read other values.
///
/// That concerns columns without any value (the null type), times of day, intervals, UUIDs, half floats, unsigned numbers of 32 and 64 bits, and names within structures that
/// Hive cannot spell.
pub(super) fn hive_type(kind: &Type) -> Option<String> {
    let info = kind.get_basic_info();
    if info.has_repetition() && info.repetition() == Repetition::REPEATED {
        return Some(format!("array<{}>", single_type(kind)?));
    }
    single_type(kind)
}

/// The type of one value.
fn single_type(kind: &Type) -> Option<String> {
    if kind.is_primitive() { primitive_type(kind) } else { group_type(kind) }
}

fn group_type(kind: &Type) -> Option<String> {
    let info = kind.get_basic_info();
    let is_list =
        matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST;
    let is_map = matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    match (is_list, is_map, kind.get_fields()) {
        (true, _, [entries]) => Some(format!("array<{}>", element_type(entries)?)),
        (_, true, [entries]) if !entries.is_primitive() => match entries.get_fields() {
            [key, value] => Some(format!("map<{},{}>", hive_type(key)?, hive_type(value)?)),
            _ => None,
        },
        (false, false, fields) => struct_type(fields),
        (_, _, _) => None,
    }
}

/// The type of the elements of a list. Old writers leave out the group around an element.
fn element_type(entries: &Type) -> Option<String> {
    match entries.is_primitive() {
        true => single_type(entries),
        false => match entries.get_fields() {
            [element] if entries.name() != "array" && !entries.name().ends_with("_tuple") => hive_type(element),
            fields => struct_type(fields),
        },
    }
}

fn struct_type(fields: &[TypePtr]) -> Option<String> {
    let field = |field: &TypePtr| {
        let is_plain = |character: char| character.is_alphanumeric() || character == '_';
        let name = field.name().to_lowercase();
        (!name.is_empty() && name.chars().all(is_plain)).then_some(())?;
        Some(format!("{name}:{}", hive_type(field)?))
    };
    let fields: Vec<String> = fields.iter().map(field).collect::<Option<_>>()?;
    (!fields.is_empty()).then(|| format!("struct<{}>", fields.join(",")))
}

fn primitive_type(kind: &Type) -> Option<String> {
    let info = kind.get_basic_info();
    let name = match (info.logical_type_ref(), info.converted_type(), kind.get_physical_type()) {
        (Some(LogicalType::Decimal(_)), _, _) | (_, ConvertedType::DECIMAL, _) => {
            let (precision, scale) = (kind.get_precision(), kind.get_scale());
            let is_valid = (1..=MAX_PRECISION).contains(&precision) && (0..=precision).contains(&scale);
            return is_valid.then(|| format!("decimal({precision},{scale})"));
        }
        (Some(LogicalType::Unknown | LogicalType::Uuid | LogicalType::Float16 | LogicalType::Time(_)), _, _) => {
            return None;
        }
        (
            _,
            ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::INTERVAL
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64,
            _,
        ) => return None,
        (Some(LogicalType::Timestamp(_)), _, PhysicalType::INT64) | (_, _, PhysicalType::INT96) => "timestamp",
        (_, ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS, PhysicalType::INT64) => "timestamp",
        (Some(LogicalType::Date), _, PhysicalType::INT32) | (_, ConvertedType::DATE, PhysicalType::INT32) => "date",
        (_, _, PhysicalType::BOOLEAN) => "boolean",
        (_, _, PhysicalType::INT32) => "int",
        (_, _, PhysicalType::INT64) => "bigint",
        (_, _, PhysicalType::FLOAT) => "float",
        (_, _, PhysicalType::DOUBLE) => "double",
        (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _, PhysicalType::BYTE_ARRAY)
        | (_, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON, PhysicalType::BYTE_ARRAY) => "string",
        (_, _, PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY) => "binary",
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn columns_have_the_type_in_which_athena_reads_them() {
        let message = "message schema {
            required boolean flag;
            optional int32 small;
            optional int32 day (DATE);
            optional int32 short (INTEGER(16,true));
            optional int32 unsigned (INTEGER(32,false));
            optional int32 clock (TIME(MILLIS,true));
            optional int64 big;
            optional int64 at (TIMESTAMP(MICROS,true));
            optional int64 nanos (TIMESTAMP(NANOS,false));
            optional int96 old;
            optional float f;
            optional double d;
            optional binary text (STRING);
            optional binary name (ENUM);
            optional binary bytes;
            optional int64 price (DECIMAL(12,2));
            optional fixed_len_byte_array(16) wide (DECIMAL(38,10));
            optional fixed_len_byte_array(16) id (UUID);
            optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
            optional group old_tags (LIST) { repeated int32 array; }
            optional group scores (MAP) { repeated group key_value { required binary key (STRING); optional double value; } }
            optional group address { optional binary Street (STRING); optional int32 number; }
            optional group odd { optional int32 a:b; }
            repeated int32 plain;
            optional int32 nothing (UNKNOWN);
        }";
        // The parser accepts no colon in a name.
        let schema = parse_message_type(&message.replace("a:b", "a-b")).unwrap();
        let types: Vec<String> = schema
            .get_fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), hive_type(field).unwrap_or_else(|| "-".to_owned())))
            .collect();
        let expected = [
            "flag boolean",
            "small int",
            "day date",
            "short int",
            "unsigned -",
            "clock -",
            "big bigint",
            "at timestamp",
            "nanos timestamp",
            "old timestamp",
            "f float",
            "d double",
            "text string",
            "name string",
            "bytes binary",
            "price decimal(12,2)",
            "wide decimal(38,10)",
            "id -",
            "tags array<string>",
            "old_tags array<int>",
            "scores map<string,double>",
            "address struct<street:string,number:int>",
            "odd -",
            "plain array<int>",
            "nothing -",
        ];
        assert_eq!(types, expected);
    }
}
