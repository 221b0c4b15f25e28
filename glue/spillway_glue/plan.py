"""Reads the document that `spillway plan --json` prints: the result of the first pass over the file.

It has the dialect, the names and types of all columns, and the number of rows. A file that the job cannot read in the same way as
Spillway is refused here, before Spark starts.
"""

import json
import re
from dataclasses import dataclass

from spillway_glue.refusal import Refused

DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
TYPES = ("boolean", "integer", "double", "date", "date and time", "date and time with offset", "text", "binary")


@dataclass(frozen=True)
class FileColumn:
    """A column of the file."""

    name: str
    # One of TYPES, or `decimal`.
    type: str
    # Digits and digits after the point, of a decimal.
    precision: int
    scale: int
    has_nulls: bool
    # The column of the table as the plan has matched it; the column's own name without a database.
    table_column: str


@dataclass(frozen=True)
class Csv:
    """The dialect of a CSV file. Quotes within a field are doubled."""

    delimiter: str
    # Empty if the file has no quotes.
    quote: str
    has_header: bool


@dataclass(frozen=True)
class Plan:
    """What the first pass has found out about a file."""

    # `csv`, `json` or `parquet`.
    format: str
    csv: Csv | None
    size_bytes: int
    rows: int
    columns: tuple[FileColumn, ...]
    # `table` or `schema.table`.
    table: str


def read(text):
    """Returns the plan in a document. Fails if a load with Spillway would not store every row by appending it."""
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Refused(f"the plan is not a document of `spillway plan --json`: {type(error).__name__}") from None


def _read(document):
    outcome, table, layout = document["outcome"], document["table"], document["format"]
    if outcome != "loaded":
        kind = (document.get("error") or {}).get("kind", "no error")
        raise Refused(f"the plan says that the file would not be loaded: {outcome} ({kind})")
    if document["rows_rejected"]:
        raise Refused("the file has records that Spillway would reject (MAX_REJECTS); load it with the task")
    if table["load_mode"] != "append":
        raise Refused(f"LOAD_MODE={table['load_mode']}: the job only appends rows; load the file with the task")
    if table["ignored_columns"] or table.get("wider_columns"):
        raise Refused("the table lacks columns or types of the file (UNKNOWN_COLUMNS, CHANGED_TYPES); change the table first")
    name, compression = layout["name"], layout["compression"]
    if compression:
        raise Refused(f"the file is compressed with {compression}, so that it cannot be split; load it with the task")
    if name not in ("csv", "json", "parquet"):
        raise Refused(f"the job does not read files of the format {name}")
    if name != "parquet" and layout["encoding"] != "UTF-8":
        raise Refused(f"the file is in {layout['encoding']}; the job reads UTF-8 only")
    return Plan(
        format=name,
        csv=_csv(layout["csv"]) if name == "csv" else None,
        size_bytes=int(document["size_bytes"]),
        rows=int(document["rows_parsed"]),
        columns=tuple(_column(column) for column in document["columns"]),
        table=table["name"],
    )


def _csv(dialect):
    if dialect["escape"] != "doubled quotes" and dialect["quote"] != "none":
        raise Refused("quotes within fields are escaped with another character; the job reads doubled quotes only")
    if dialect["skipped_lines"]:
        raise Refused("there are lines above the header; load the file with the task")
    if dialect["has_trailing_delimiter"]:
        raise Refused("each record ends with one more delimiter; load the file with the task")
    characters = {"tab": "\t", "backslash": "\\"}
    quote = "" if dialect["quote"] == "none" else characters.get(dialect["quote"], dialect["quote"])
    return Csv(characters.get(dialect["delimiter"], dialect["delimiter"]), quote, dialect["has_header"])


def _column(column):
    name, type_name, digits = column["name"], column["type"], (0, 0)
    if found := DECIMAL.fullmatch(type_name):
        type_name, digits = "decimal", (int(found[1]), int(found[2]))
    elif type_name not in TYPES:
        raise Refused(f'column "{name}" has the type {type_name}; load the file with the task')
    table_column = column.get("table_column") or name
    return FileColumn(name, type_name, *digits, bool(column["has_nulls"]), table_column)


def table_parts(name):
    """Returns the schema, or None, and the own name of a table, as settings spell it."""
    schema, dot, own = name.partition(".")
    if not dot:
        return None, name
    if not schema or not own or "." in own:
        raise Refused(f"the table name {name} does not have the form table or schema.table")
    return schema, own
