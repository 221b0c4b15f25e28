"""Writes the pyarrow_*.parquet files beside it, for the tests in pyarrow.rs.

Run it with pyarrow 26: python3 pyarrow_files.py
"""

import datetime
import decimal
import pathlib
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

FOLDER = pathlib.Path(__file__).parent
ROWS = 200


def write(name, table, **options):
    pq.write_table(table, FOLDER / f"pyarrow_{name}.parquet", **options)


def unless_missing(row, value):
    return None if row % 7 == 3 else value


def encodings():
    """One column for each encoding, in small pages. The test computes the same values."""
    columns, encoding = {}, {}

    def add(name, kind, type_, value):
        columns[name] = pa.array([unless_missing(row, value(row)) for row in range(ROWS)], type_)
        if kind:
            encoding[name] = kind

    numbers = lambda row: (row * 7919 - 100_000) * (row % 3 - 1)
    texts = lambda row: f"prefix/{row // 10}/{row * row}"
    add("int_delta", "DELTA_BINARY_PACKED", pa.int32(), numbers)
    add("long_delta", "DELTA_BINARY_PACKED", pa.int64(), lambda row: numbers(row) * 1_000_003)
    add("text_lengths", "DELTA_LENGTH_BYTE_ARRAY", pa.string(), texts)
    add("text_prefixes", "DELTA_BYTE_ARRAY", pa.string(), texts)
    add("int_split", "BYTE_STREAM_SPLIT", pa.int32(), numbers)
    add("double_split", "BYTE_STREAM_SPLIT", pa.float64(), lambda row: numbers(row) / 8)
    add("float_split", "BYTE_STREAM_SPLIT", pa.float32(), lambda row: row / 4)
    add("fixed_split", "BYTE_STREAM_SPLIT", pa.binary(4), lambda row: f"{row:04}".encode())
    add("flag_rle", "RLE", pa.bool_(), lambda row: row % 5 < 2)
    add("text_plain", "PLAIN", pa.string(), texts)
    columns["word_dictionary"] = pa.array([unless_missing(row, f"word {row % 9}") for row in range(ROWS)])
    table = pa.table(columns)
    for version in ("1.0", "2.0"):
        write(
            f"encodings_v{version[0]}",
            table,
            use_dictionary=["word_dictionary"],
            column_encoding={**encoding} if version == "2.0" else {k: v for k, v in encoding.items() if v != "RLE"},
            data_page_version=version,
            data_page_size=256,
            write_batch_size=32,
            row_group_size=75,
            write_page_index=True,
            write_page_checksum=True,
        )


def codecs():
    table = pa.table({"id": list(range(50)), "note": ["abc" * (row % 9) for row in range(50)]})
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        write(f"codec_{codec}", table, compression=codec)


def types():
    number = decimal.Decimal
    at = datetime.datetime(2024, 2, 29, 13, 5, 0, 250000)
    point = pa.struct([("x", pa.int32()), ("tags", pa.list_(pa.string()))])
    columns = [
        ("d9", pa.decimal128(9, 2), [number("-1234567.89"), number("0.05"), None]),
        ("d18", pa.decimal128(18, 6), [number("123456789012.000001"), number("-0.000001"), None]),
        ("d38", pa.decimal128(38, 10), [number("1234567890123456789012345678.0123456789"), number("0"), None]),
        ("d50", pa.decimal256(50, 5), [number("123456789012345678901234567890123456789012345.00001"), number("1"), None]),
        ("half", pa.float16(), [1.5, -0.25, None]),
        ("single", pa.float32(), [0.1, float("nan"), None]),
        ("u8", pa.uint8(), [255, 0, None]),
        ("u32", pa.uint32(), [4294967295, 0, None]),
        ("u64", pa.uint64(), [18446744073709551615, 0, None]),
        ("day", pa.date32(), [at.date(), datetime.date(1970, 1, 1), None]),
        ("day64", pa.date64(), [at.date(), datetime.date(1969, 12, 31), None]),
        ("clock32", pa.time32("ms"), [datetime.time(13, 5, 0, 250000), datetime.time(0), None]),
        ("clock64", pa.time64("us"), [datetime.time(23, 59, 59, 999999), datetime.time(0), None]),
        ("at_s", pa.timestamp("s"), [at.replace(microsecond=0), datetime.datetime(1969, 12, 31), None]),
        ("at_ns", pa.timestamp("ns"), [at, datetime.datetime(1970, 1, 1), None]),
        ("instant", pa.timestamp("us", "America/New_York"), [at.replace(tzinfo=datetime.timezone.utc), at.replace(tzinfo=datetime.timezone.utc), None]),
        ("span", pa.duration("s"), [datetime.timedelta(hours=1), datetime.timedelta(0), None]),
        ("nothing", pa.null(), [None, None, None]),
        ("large", pa.large_string(), ["grün", "", None]),
        ("view", pa.string_view(), ["a longer text than twelve bytes", "", None]),
        ("bytes", pa.binary(), [b"\xff\x00", b"", None]),
        ("category", pa.dictionary(pa.int8(), pa.string()), ["a", "b", None]),
        ("list", pa.list_(pa.int64()), [[1, None], [], None]),
        ("large_list", pa.large_list(pa.string()), [["a\"b", "NULL"], [], None]),
        ("fixed_list", pa.list_(pa.int16(), 2), [[1, 2], [3, None], None]),
        ("map", pa.map_(pa.string(), point), [[("k", {"x": 1, "tags": ["a"]})], [], None]),
        ("struct", point, [{"x": None, "tags": []}, {"x": 2, "tags": None}, None]),
        ("deep", pa.list_(pa.list_(point)), [[[{"x": 1, "tags": ["b"]}], None, []], [], None]),
        ("days", pa.list_(pa.date32()), [[at.date()], [None], None]),
        ("amounts", pa.list_(pa.decimal128(9, 2)), [[number("1.10")], [None], None]),
    ]
    arrays = {name: pa.array(values, type_) for name, type_, values in columns}
    arrays["id"] = pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2**128 - 1).bytes, None], pa.uuid())
    arrays["doc"] = pa.array(['{"a": [1, 2]}', "[]", None], pa.json_())
    table = pa.table(arrays)
    write("types", table, store_decimal_as_integer=True)
    # As other writers do, without Arrow's schema, and with lists in the older form.
    write("types_plain", table, store_schema=False, use_compliant_nested_type=False, version="1.0")


def int96():
    """Timestamps of 96 bits, also beyond the years of 64-bit nanoseconds, and within nested values."""
    last = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)
    first = datetime.datetime(1, 1, 1, 0, 0, 0, 1)
    us = pa.timestamp("us")
    table = pa.table({
        "flat": pa.array([last, first, None], us),
        "list": pa.array([[last, None, first], [], None], pa.list_(us)),
        "struct": pa.array([{"at": last, "n": 1}, {"at": None, "n": 2}, None], pa.struct([("at", us), ("n", pa.int32())])),
        "map": pa.array([[("k", first)], [("k", None)], None], pa.map_(pa.string(), us)),
        "deep": pa.array([[{"at": [last]}], [{"at": None}], None], pa.list_(pa.struct([("at", pa.list_(us))]))),
        "fine": pa.array([[1], [1_000], None], pa.list_(pa.timestamp("ns"))),
        "other": pa.array([[1], [], None], pa.list_(pa.int64())),
    })
    write("int96", table, use_deprecated_int96_timestamps=True)
    write("int96_plain", table, use_deprecated_int96_timestamps=True, store_schema=False)


def row_groups():
    schema = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string()))])
    part = lambda ids: pa.table({"id": ids, "tags": [[str(id)] for id in ids]}, schema)
    with pq.ParquetWriter(FOLDER / "pyarrow_empty_groups.parquet", schema) as writer:
        for ids in ([], [1, 2], [], [], [3], []):
            writer.write_table(part(ids))
    with pq.ParquetWriter(FOLDER / "pyarrow_no_groups.parquet", schema):
        pass
    names = pa.table([[1], [2], [3]], names=["a", "a", "A"])
    write("repeated_names", names)
    write("no_columns", pa.table({}))


class Keys(pe.KmsClient):
    """Stores the keys of the files in plain text: the tests never decrypt them."""

    def wrap_key(self, key_bytes, master_key_identifier):
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return bytes.fromhex(wrapped_key)


def encrypted():
    table = pa.table({"id": [1, 2], "secret": ["a", "b"]})
    factory = pe.CryptoFactory(lambda _: Keys())
    for name, is_plain in (("footer", False), ("column", True)):
        options = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["secret"]}, plaintext_footer=is_plain)
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), options)
        write(f"encrypted_{name}", table, encryption_properties=properties)


if __name__ == "__main__":
    for make in (encodings, codecs, types, int96, row_groups, encrypted):
        make()
