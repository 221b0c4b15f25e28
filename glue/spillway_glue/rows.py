"""Reads the file with Spark, as one text column for each column of the file. An unquoted empty field of CSV is NULL."""

import secrets

from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from spillway_glue.columns import MARK, literal
from spillway_glue.records import parse_record
from spillway_glue.refusal import Refused

# The text of a Parquet value, by the beginning of Spark's name of its type.
PARQUET = {
    "string": "{0}",
    "binary": "{0}",
    "boolean": "CAST({0} AS STRING)",
    "tinyint": "CAST({0} AS STRING)",
    "smallint": "CAST({0} AS STRING)",
    "int": "CAST({0} AS STRING)",
    "bigint": "CAST({0} AS STRING)",
    "decimal": "CAST({0} AS STRING)",
    "double": "CAST({0} AS STRING)",
    "date": "CAST({0} AS STRING)",
    "timestamp_ntz": "date_format({0}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')",
    "timestamp": "date_format({0}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')",
}
SESSION = {
    "spark.sql.session.timeZone": "UTC",
    # Decimals as text have no exponent. Each other cast of the job is a TRY_CAST.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}


def read(spark, plan, path, has_line_breaks):
    """Returns a DataFrame with the columns `c0`, `c1` and so on."""
    for name, value in SESSION.items():
        spark.conf.set(name, value)
    if plan.format == "csv":
        return _csv(spark, plan, path, has_line_breaks)
    if has_line_breaks:
        raise Refused("--line_breaks is for CSV only")
    return _json_lines(spark, plan, path) if plan.format == "json" else _parquet(spark, plan, path)


def _schema(plan, more=()):
    names = [f"c{number}" for number in range(len(plan.columns))]
    return StructType([StructField(name, StringType()) for name in (*names, *more)])


def _csv(spark, plan, path, has_line_breaks):
    dialect = plan.csv
    options = {
        "sep": dialect.delimiter,
        "quote": dialect.quote,
        "escape": dialect.quote,
        "header": dialect.has_header,
        "encoding": "UTF-8",
        "multiLine": has_line_breaks,
        # Spark's message for FAILFAST contains the record.
        "mode": "PERMISSIVE",
        # Spark's default is the empty text, which would also be the value of a quoted empty field.
        "nullValue": f"null {secrets.token_hex(16)}",
        "emptyValue": "",
        "columnNameOfCorruptRecord": "broken",
    }
    read = spark.read.schema(_schema(plan, ["broken"])).options(**options).csv(path)
    error = literal(MARK + "a record has another number of fields than the header")
    first = F.expr(f"CASE WHEN broken IS NULL THEN c0 ELSE raise_error({error}) END").alias("c0")
    return read.select(first, *[f"c{number}" for number in range(1, len(plan.columns))])


def _json_lines(spark, plan, path):
    names = [column.name for column in plan.columns]
    lines = spark.read.text(path).rdd
    return spark.createDataFrame(lines.map(lambda line: parse_record(line[0], names)).filter(lambda row: row is not None), _schema(plan))


def _parquet(spark, plan, path):
    if all(column.type != "binary" for column in plan.columns):
        # Old writers do not declare their texts. The first pass has found that each value is UTF-8.
        spark.conf.set("spark.sql.parquet.binaryAsString", "true")
    read = spark.read.parquet(path)
    fields = {field.name: field.dataType.simpleString() for field in read.schema.fields}
    if set(fields) != {column.name for column in plan.columns}:
        raise Refused("the columns of the Parquet file are not those of the plan; load the file with the task")
    return read.select(*[_parquet_text(column, fields[column.name]).alias(f"c{number}") for number, column in enumerate(plan.columns)])


def _parquet_text(column, type_name):
    text = PARQUET.get(type_name.partition("(")[0])
    if text is None or (type_name == "binary") != (column.type == "binary"):
        raise Refused(f'column "{column.name}" has the Parquet type {type_name}; load the file with the task')
    if column.type == "date and time with offset" and type_name == "timestamp":
        text = f"concat({text}, 'Z')"
    return F.expr(text.format("`" + column.name.replace("`", "``") + "`"))
