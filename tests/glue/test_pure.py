"""Tests of the parts of the Glue job that need neither Spark nor a server. They take less than a second.

    python3 -m unittest discover -s tests/glue
"""

import ast
import copy
import json
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "glue"))

from spillway_glue import columns, ledger, login, plan, records  # noqa: E402
from spillway_glue.columns import TableColumn  # noqa: E402
from spillway_glue.object_version import ObjectVersion, hash_parts  # noqa: E402
from spillway_glue.refusal import Refused  # noqa: E402

PLAN = {
    "outcome": "loaded",
    "size_bytes": 9,
    "rows_parsed": 2,
    "rows_rejected": 0,
    "format": {
        "name": "csv",
        "compression": None,
        "encoding": "UTF-8",
        "csv": {"delimiter": "tab", "quote": '"', "escape": "doubled quotes", "has_header": True, "skipped_lines": 0, "has_trailing_delimiter": False},
    },
    "columns": [
        {"name": "id", "type": "integer", "has_nulls": False, "table_column": "ID"},
        {"name": "amount", "type": "decimal(5,2)", "has_nulls": True},
    ],
    "table": {"name": "sales.orders", "load_mode": "append", "ignored_columns": []},
}


def changed(path, value):
    document = copy.deepcopy(PLAN)
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[name]
    place[last] = value
    return document


class PlanTest(unittest.TestCase):
    def test_plan_is_read(self):
        found = plan.read(json.dumps(PLAN))
        self.assertEqual((found.format, found.rows, found.size_bytes, found.csv.delimiter), ("csv", 2, 9, "\t"))
        self.assertEqual([column.table_column for column in found.columns], ["ID", "amount"])
        self.assertEqual((found.columns[1].type, found.columns[1].precision, found.columns[1].scale), ("decimal", 5, 2))

    def test_file_that_the_job_would_read_in_another_way_is_refused(self):
        for path, value, text in [
            ("outcome", "fell_back", "fell_back"),
            ("outcome", "already_loaded", "already_loaded"),
            ("rows_rejected", 1, "MAX_REJECTS"),
            ("table.load_mode", "merge", "LOAD_MODE=merge"),
            ("table.ignored_columns", ["x"], "UNKNOWN_COLUMNS"),
            ("format.compression", "gzip", "gzip"),
            ("format.encoding", "windows-1252", "windows-1252"),
            ("format.name", "orc", "orc"),
            ("format.csv.escape", "backslash", "doubled"),
            ("format.csv.skipped_lines", 2, "above the header"),
            ("format.csv.has_trailing_delimiter", True, "delimiter"),
            ("columns", [{"name": "j", "type": "json", "has_nulls": False}], '"j" has the type json'),
            ("format", None, "not a document"),
            ("columns", [{}], "not a document"),
        ]:
            with self.subTest(path), self.assertRaises(Refused) as refused:
                plan.read(json.dumps(changed(path, value)))
            self.assertIn(text, str(refused.exception))

    def test_text_that_is_no_plan_is_refused(self):
        for text in ("", "[]", "{}", "null", "not JSON"):
            self.assertRaises(Refused, plan.read, text)

    def test_table_names(self):
        self.assertEqual(plan.table_parts("orders"), (None, "orders"))
        self.assertEqual(plan.table_parts("sales.orders"), ("sales", "orders"))
        for name in ("a.b.c", ".b", "a."):
            self.assertRaises(Refused, plan.table_parts, name)


def file_column(type_name, precision=0, scale=0, has_nulls=False):
    return plan.FileColumn("x", type_name, precision, scale, has_nulls, "x")


class ColumnsTest(unittest.TestCase):
    def test_types_that_cannot_be_proved_are_refused_by_name(self):
        for is_mysql, column, table in [
            (True, file_column("decimal", 5, 2), TableColumn("x", "bigint")),
            (True, file_column("text"), TableColumn("x", "char", 9)),
            (True, file_column("date and time"), TableColumn("x", "datetime", 0)),
            (True, file_column("integer", has_nulls=True), TableColumn("x", "bigint", is_auto_increment=True)),
            (True, file_column("integer"), TableColumn("x", "double")),
            (False, file_column("date and time"), TableColumn("x", "timestamp with time zone")),
            (False, file_column("text"), TableColumn("x", "citext")),
            (False, file_column("date and time"), TableColumn("x", "timestamp without time zone", 3)),
            (False, file_column("binary"), TableColumn("x", "text")),
            (False, file_column("decimal", 40, 0), TableColumn("x", "numeric")),
        ]:
            with self.subTest(table), self.assertRaises(Refused) as refused:
                columns.staged(is_mysql, True, column, table, "c0")
            self.assertIn('column "x"', str(refused.exception))

    def test_null_tokens_are_null_in_csv_and_not_in_text(self):
        number, text = file_column("integer"), file_column("text")
        integer, varchar = TableColumn("x", "bigint"), TableColumn("x", "varchar", 9)
        self.assertIn("'<na>'", columns.staged(True, True, number, integer, "c0").expression)
        self.assertNotIn("'<na>'", columns.staged(True, False, number, integer, "c0").expression)
        self.assertNotIn("'<na>'", columns.staged(True, True, text, varchar, "c0").expression)

    def test_texts_are_checked_for_length(self):
        for table, limit in [
            (TableColumn("x", "varchar", 9), "char_length(c0) <= 9"),
            (TableColumn("x", "text"), "octet_length(c0) <= 65535"),
        ]:
            self.assertIn(limit, columns.staged(True, True, file_column("text"), table, "c0").expression)
        self.assertEqual(columns.staged(True, True, file_column("text"), TableColumn("x", "longtext"), "c0").expression, "c0")
        self.assertIn("'\\u0000'", columns.staged(False, True, file_column("text"), TableColumn("x", "text"), "c0").expression)

    def test_patterns_accept_what_the_first_pass_does(self):
        moment = "^(" + columns.DATE + columns.CLOCK + columns.OFFSET + r")\Z"
        for text in ("2024-02-29T13:05Z", "2024-02-29 13:05:00+02", "2024-02-29 13:05:00.123456-0230", "1000-01-01T00:00:00+02:30"):
            self.assertRegex(text, moment)
        for text in ("2024-02-29 13:05:00", "2024-02-29 24:00Z", "2024-02-29 13:05:60Z", "0999-01-01 00:00Z", "2024-02-29 13:05:00.1234567Z"):
            self.assertNotRegex(text, moment)
        for text in ("1e3", "-0.5", ".5", "5.", "2.5E-10"):
            self.assertRegex(text, f"^({columns.DOUBLE})\\Z")
        for text in ("", ".", "-", "01", "e3", "NaN", "1e", "0x1"):
            self.assertNotRegex(text, f"^({columns.DOUBLE})\\Z")

    def test_literal_is_escaped(self):
        self.assertEqual(columns.literal("a'b\\c"), "'a\\'b\\\\c'")


class RecordsTest(unittest.TestCase):
    def test_numbers_keep_their_digits(self):
        line = '{"a": 9007199254740993.10, "b": "", "c": null, "d": true, "e": "x"}'
        self.assertEqual(records.parse_record(line, list("abcdez")), ("9007199254740993.10", "", None, "true", "x", None))
        self.assertIsNone(records.parse_record(" ", ["a"]))

    def test_other_records_are_refused_without_their_values(self):
        for line in ('{"a": secret}', "[1]", '{"a": 1, "a": 2}', '{"a": {"secret": 1}}', '{"b": 1}', '{"a": NaN}'):
            with self.subTest(line), self.assertRaises(ValueError) as refused:
                records.parse_record(line, ["a"])
            self.assertIn(columns.MARK, str(refused.exception))
            self.assertNotIn("secret", str(refused.exception))


class IdentityTest(unittest.TestCase):
    def test_identity_covers_each_part(self):
        versions = [("b", "k", None, "e", 1), ("b", "k", "v", "e", 1), ("b", "k", None, "f", 1), ("b", "k", None, "e", 2), ("bk", "", None, "e", 1)]
        self.assertEqual(len({ObjectVersion(*version).source_id for version in versions}), 5)
        self.assertNotEqual(hash_parts(["ab", "c"]), hash_parts(["a", "bc"]))


class LedgerTest(unittest.TestCase):
    """The statements must be those of the Rust source, apart from columns that the job does not read."""

    def test_statements_are_those_of_spillway(self):
        source = (ROOT / "crates/core/src/ledger/statements.rs").read_text()
        source = re.sub(r"\\\n\s*", "", source).replace("{more}", "")
        for name in ("INSERT", "CLAIM_AGAIN", "CLAIM_CONTENT", "DUPLICATE", "LOADED"):
            found = re.search(rf'const {name}: &str =\s*"([^"]*)"', source)
            self.assertEqual(getattr(ledger, name), found[1], name)


class LoginTest(unittest.TestCase):
    SECRET = {"username": "u", "password": "p&?", "host": "db", "dbname": "my db"}

    def read(self, given, **more):
        return login.read_login(json.dumps(self.SECRET | more), {"engine": "", "port": ""} | given)

    def test_engine_is_that_of_the_argument_then_the_secret_then_the_port(self):
        self.assertTrue(self.read({"engine": "mariadb"}, engine="postgres").is_mysql)
        self.assertFalse(self.read({}, engine="aurora-postgresql").is_mysql)
        self.assertFalse(self.read({"port": "5432"}).is_mysql)
        self.assertTrue(self.read({}).is_mysql)
        self.assertEqual(self.read({}, port="3307").port, 3307)

    def test_missing_fields_are_named_and_the_password_is_not_in_the_url(self):
        with self.assertRaises(Refused) as refused:
            login.read_login('{"username": "u", "password": "p"}', {})
        self.assertIn("host, database", str(refused.exception))
        for engine, verified, plain in [("mysql", "serverSslCert=/ca.pem", "useSsl=false"), ("postgres", "sslmode=verify-full&sslrootcert=/ca.pem", "sslmode=disable")]:
            found = self.read({"engine": engine})
            self.assertIn(verified, found.url("/ca.pem"))
            self.assertIn(plain, found.url(None))
            self.assertNotIn("p&?", found.url(None))
            self.assertIn("/my%20db?", found.url(None))

    def test_names_are_quoted(self):
        found = self.read({"engine": "mysql"})
        self.assertEqual(found.quoted_table("a`b.c"), "`a``b`.`c`")
        self.assertEqual(self.read({"engine": "postgres"}).quoted('a"b'), '"a""b"')


def job_arguments():
    """The arguments that `load.py` declares. The file itself imports Spark."""
    tree = ast.parse((ROOT / "glue/load.py").read_text())
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    return ast.literal_eval(values["REQUIRED"]), ast.literal_eval(values["DEFAULTS"])


class TemplateTest(unittest.TestCase):
    TEMPLATE = (ROOT / "templates/glue.yaml").read_text()
    ACTIONS = {
        "head_object": "s3:GetObject",
        "get_object": "s3:GetObject",
        "put_object": "s3:PutObject",
        "delete_object": "s3:DeleteObject",
        "list_objects_v2": "s3:ListBucket",
        "get_secret_value": "secretsmanager:GetSecretValue",
    }
    # Glue reads the script, and S3 needs it to read a version.
    MORE = {"s3:GetObjectVersion"}

    def test_role_allows_exactly_the_calls_of_the_source(self):
        source = "".join(path.read_text() for path in (ROOT / "glue").rglob("*.py"))
        calls = set(re.findall(r'(?:s3|client\("\w+"\))\.([a-z][a-z_0-9]+)\(', source))
        self.assertEqual(calls, set(self.ACTIONS))
        allowed = set(re.findall(r"\b(?:s3|secretsmanager):[A-Z]\w+", self.TEMPLATE))
        self.assertEqual(allowed, set(self.ACTIONS.values()) | self.MORE)

    def test_arguments_of_the_template_are_those_of_the_job(self):
        required, defaults = job_arguments()
        given = set(re.findall(r"^ +--([a-z_]+):", self.TEMPLATE, re.M)) | set(re.findall(r'"--([a-z_]+)":', self.TEMPLATE))
        self.assertEqual(given - set(required) - set(defaults), set())
        self.assertEqual(set(required) - given, set())

    def test_documentation_has_each_argument(self):
        required, defaults = job_arguments()
        page = (ROOT / "docs/tiers.md").read_text()
        # Tests set these two.
        for name in {*required, *defaults} - {"path", "worker"}:
            self.assertTrue(f"`--{name}`" in page, name)


if __name__ == "__main__":
    unittest.main()
