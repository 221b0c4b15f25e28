"""Decides how a value of the file is checked and written for a column of the table.

Rows are staged as text that each engine reads exactly, and a value that its column cannot hold exactly refuses the file. The
expressions are Spark SQL. They raise an error that names the column and never the value.
"""

from dataclasses import dataclass

from spillway_glue.refusal import Refused

# Text in which an expression marks its own error among Spark's.
MARK = "spillway refuses the file: "

NULL_WORDS = ("null", "na", "n/a", "nan", "none", "nil", "#n/a", "<na>")
MYSQL_INTEGERS = {"tinyint": 7, "smallint": 15, "mediumint": 23, "int": 31, "bigint": 63}
POSTGRES_INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}
# The maximum bytes of MySQL's text types.
MYSQL_TEXTS = {"tinytext": 255, "text": 65_535, "mediumtext": 16_777_215, "longtext": None}

DATE = r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
CLOCK = r"[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?"
OFFSET = r"(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)"
INTEGER = r"-?(0|[1-9][0-9]{0,18})"
DOUBLE = r"-?(?=[.]?[0-9])(0|[1-9][0-9]*)?([.][0-9]*)?([eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class TableColumn:
    """A column of the table, as the server describes it."""

    name: str
    # The type without its size, in lower case.
    type: str
    # The characters or digits, and the digits after the point; None without a size.
    size: int | None = None
    scale: int | None = None
    is_unsigned: bool = False
    is_auto_increment: bool = False


@dataclass(frozen=True)
class StagedColumn:
    """How the values of one column go through the staging table."""

    name: str
    # The Spark SQL expression of the text to stage.
    expression: str
    # The expression in the SELECT from the staging table. `{}` is the quoted column.
    select: str
    is_binary: bool = False


def literal(text):
    """Returns a text as a literal of Spark SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def staged(is_mysql, is_csv, file_column, table_column, source):
    """Returns how the values of the Spark column `source` are staged for a column of the table.

    Raises Refused if the column's type is not one of those in which the job can prove that a value is stored exactly.
    """
    kind, checks, select = _kind(is_mysql, table_column)
    plan_type = file_column.type
    if table_column.is_auto_increment and file_column.has_nulls:
        raise _refused(file_column, "the server would number the rows without a value; load the file with the task")
    if kind == "binary" and plan_type == "binary":
        return StagedColumn(table_column.name, source, "{}", is_binary=True)
    if kind == "text" and plan_type != "binary":
        text = _checked(source, checks, "true", source, file_column, describe(table_column))
        return StagedColumn(table_column.name, text, select)
    if (plan_type, kind) not in _PAIRS:
        message = f"the file has {type_text(file_column)}, and the column of the table is {describe(table_column)}; load it with the task"
        raise _refused(file_column, message)
    is_valid, value = _PAIRS[plan_type, kind](is_mysql, file_column, table_column, source)
    value = _checked(source, [], is_valid, value, file_column, describe(table_column))
    if is_csv:
        words = ", ".join(literal(word) for word in NULL_WORDS)
        is_null = f"lower({source}) IN ('', {words}) OR {source} = {literal(chr(92) + 'N')}"
        value = f"CASE WHEN {is_null} THEN NULL ELSE {value} END"
    return StagedColumn(table_column.name, value, select)


def type_text(column):
    """Returns the type of the file's values for messages."""
    return f"decimal({column.precision},{column.scale})" if column.type == "decimal" else column.type


def describe(column):
    """Returns the type of a table's column for messages."""
    numbers = [str(number) for number in (column.size, column.scale) if number is not None]
    return column.type + (f"({','.join(numbers)})" if numbers else "") + (" unsigned" if column.is_unsigned else "")


def _checked(source, checks, is_valid, value, file_column, type_name):
    condition = " AND ".join([is_valid, *checks])
    error = literal(f'{MARK}column "{file_column.name}" has a value that does not fit {type_name}')
    if condition == "true":
        return value
    # A condition on NULL is NULL, so NULL stays NULL in the first branch.
    condition = condition.replace("{}", source)
    return f"CASE WHEN {source} IS NULL THEN NULL WHEN {condition} THEN {value} ELSE raise_error({error}) END"


def _refused(file_column, message):
    return Refused(f'column "{file_column.name}": {message}')


def _kind(is_mysql, column):
    """Returns the kind of a column, the checks of its text, and the expression that reads it from the staging table."""
    name = column.type
    if is_mysql:
        return _mysql_kind(name, column)
    no_nul = "instr({}, '\\u0000') = 0"
    if name in POSTGRES_INTEGERS:
        return "integer", [], f"CAST({{}} AS {name})"
    if name == "numeric":
        return "decimal", [], "CAST({} AS numeric)"
    if name == "text":
        return "text", [no_nul], "{}"
    if name == "character varying":
        return "text", [no_nul] + _length(column.size), "{}"
    kinds = {
        "boolean": "boolean",
        "double precision": "double",
        "date": "date",
        "timestamp without time zone": "date and time",
        "timestamp with time zone": "instant",
        "bytea": "binary",
    }
    if kinds.get(name) in ("date and time", "instant") and column.size not in (None, 6):
        return "other", [], "{}"
    return kinds.get(name, "other"), [], "{}" if name == "bytea" else f"CAST({{}} AS {name})"


def _mysql_kind(name, column):
    if name == "tinyint" and column.size == 1:
        return "boolean", [], "{}"
    if name in MYSQL_INTEGERS:
        return "integer", [], "{}"
    if name in MYSQL_TEXTS:
        limit = MYSQL_TEXTS[name]
        return "text", [f"octet_length({{}}) <= {limit}"] if limit else [], "{}"
    if name == "varchar":
        return "text", _length(column.size), "{}"
    kinds = {"decimal": "decimal", "double": "double", "date": "date", "longblob": "binary", "blob": "binary"}
    if name in ("datetime", "timestamp") and column.size == 6:
        return "date and time", [], "{}"
    return kinds.get(name, "other"), [], "{}"


def _length(characters):
    return [] if characters is None else [f"char_length({{}}) <= {characters}"]


def _matches(source, pattern):
    # Not `$`, which also matches before a line break at the end.
    return f"{source} RLIKE {literal('^(' + pattern + ')' + chr(92) + 'z')}"


def _boolean(is_mysql, _file, _table, source):
    yes, no = ("'1'", "'0'") if is_mysql else ("'true'", "'false'")
    return f"lower({source}) IN ('true', 'false')", f"CASE WHEN lower({source}) = 'true' THEN {yes} ELSE {no} END"


def _integer(is_mysql, _file, table, source):
    bits = (MYSQL_INTEGERS if is_mysql else POSTGRES_INTEGERS)[table.type]
    low, high = (0, 2 ** (bits + 1) - 1) if table.is_unsigned else (-(2**bits), 2**bits - 1)
    number = f"TRY_CAST({source} AS DECIMAL(38,0))"
    return f"{_matches(source, INTEGER)} AND {source} <> '-0' AND {number} BETWEEN {low} AND {high}", source


def _decimal(_is_mysql, file, table, source):
    # Without a size (PostgreSQL's numeric), the plan's digits are the limit.
    scale = file.scale if table.size is None else table.scale or 0
    digits = file.precision - file.scale if file.type == "decimal" else 19
    whole = digits if table.size is None else table.size - scale
    if table.is_unsigned or whole < 0 or whole + scale > 38:
        raise _refused(file, f"the column of the table is {describe(table)}; load the file with the task")
    wholes = "0" if whole == 0 else f"0|[1-9][0-9]{{0,{whole - 1}}}"
    digits = _matches(source, f"-?(?=[.]?[0-9])({wholes})?([.][0-9]{{0,{scale}}})?")
    # A zero would lose its sign.
    is_valid = f"{digits} AND NOT {_matches(source, '-[0.]*')}"
    return is_valid, f"CAST(CAST({source} AS DECIMAL({max(whole + scale, 1)},{scale})) AS STRING)"


def _double(_is_mysql, _file, _table, source):
    number = f"TRY_CAST({source} AS DOUBLE)"
    return f"{_matches(source, DOUBLE)} AND abs({number}) <= 1.7976931348623157E308D", source


def _date(_is_mysql, _file, _table, source):
    return f"{_matches(source, DATE)} AND TRY_CAST({source} AS DATE) IS NOT NULL", source


def _date_time(_is_mysql, _file, _table, source):
    # The day must exist. Times of the session's zone (UTC) always do.
    is_valid = f"{_matches(source, DATE + CLOCK)} AND TRY_CAST(substr({source}, 1, 10) AS DATE) IS NOT NULL"
    return is_valid, f"replace({source}, 'T', ' ')"


def _instant(is_mysql, _file, _table, source):
    # Spark reads times with seconds, and offsets with minutes and a colon.
    text = source
    for pattern, replacement in (
        ("^(.{10}.[0-9]{2}:[0-9]{2})([Z+-].*)$", "$1:00$2"),
        ("(T|:[0-9]{2}|[.][0-9]+)([+-][0-9]{2})$", "$1$2:00"),
        ("([+-][0-9]{2})([0-9]{2})$", "$1:$2"),
    ):
        text = f"regexp_replace({text}, {literal(pattern)}, {literal(replacement)})"
    instant = f"TRY_CAST({text} AS TIMESTAMP)"
    is_valid = (
        f"{_matches(source, DATE + CLOCK + OFFSET)} AND TRY_CAST(substr({source}, 1, 10) AS DATE) IS NOT NULL "
        f"AND year({instant}) BETWEEN 1000 AND 9999"
    )
    text = f"date_format({instant}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')"
    return is_valid, text if is_mysql else f"concat({text}, '+00')"


# The file's type and the column's kind, for which each value can be checked.
_PAIRS = {
    ("boolean", "boolean"): _boolean,
    ("integer", "integer"): _integer,
    ("integer", "decimal"): _decimal,
    ("decimal", "decimal"): _decimal,
    ("double", "double"): _double,
    ("date", "date"): _date,
    ("date and time", "date and time"): _date_time,
    ("date and time with offset", "instant"): _instant,
    ("date and time with offset", "date and time"): _instant,
}
