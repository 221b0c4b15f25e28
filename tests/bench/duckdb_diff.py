"""Compares two CSV exports by their column `id` in DuckDB: `duckdb_diff.py OLD NEW OUTPUT TEMPORARY_FOLDER`.

The output has one JSON object per change, in the order of the keys.
"""

import sys

import duckdb

old, new, output, temporary = sys.argv[1:]
connection = duckdb.connect()
connection.execute(f"SET temp_directory = '{temporary}/duckdb'")
table = "read_csv('{}', all_varchar = true, header = true, delim = ',', quote = '\"')"
names = ["customer", "amount", "day", "note"]
sides = ", ".join(f"{side}.{name} AS {side}_{name}" for side in ("old", "new") for name in names)
differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in names)
connection.execute(f"""
    COPY (
        SELECT CASE WHEN old.id IS NULL THEN 'c' WHEN new.id IS NULL THEN 'd' ELSE 'u' END AS op,
               coalesce(new.id, old.id) AS id, {sides}
        FROM {table.format(old)} old FULL OUTER JOIN {table.format(new)} new ON old.id = new.id
        WHERE old.id IS NULL OR new.id IS NULL OR {differs}
        ORDER BY id
    ) TO '{output}' (FORMAT json)
""")
