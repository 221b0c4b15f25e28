"""Files for the tests of the Glue job, with values that are easily stored in another form."""

import json
import random

NOTES = ["plain", "", None, 'a "quote", and a comma', "trailing space ", " leading", "NULL", "\\N", "back\\slash", "Grüße 東京 🙂", "tab\there", "it's"]
COLUMNS = ["id", "code", "amount", "large", "ratio", "is_ok", "day", "at", "moment", "note", "late"]


def row(number, rng):
    """The texts of one row; None is NULL."""
    day = f"{1900 + number % 200:04d}-{1 + number % 12:02d}-{1 + number % 28:02d}"
    clock = f"{number % 24:02d}:{number % 60:02d}:{number * 7 % 60:02d}"
    micros = f".{number % 1000000:06d}" if number % 3 else ""
    offset = ["Z", "+02:00", "-0330", "+05"][number % 4]
    return [
        str(number),
        f"{number % 100000000:08d}",
        [f"{number % 9973}.{number % 100:02d}", f"-{number % 97 + 1}.5", f".{number % 9 + 1}", str(number)][number % 4],
        f"{rng.randrange(10**17)}{rng.randrange(10**9):09d}.{number % 10000:04d}",
        [f"{number % 1000 + 1}e-3", f"-{number % 7 + 1}.25E10", "0.1", "1e300"][number % 4],
        [None, "true", "FALSE", "True"][number % 4],
        None if number % 11 == 0 else day,
        f"{day}{'T' if number % 2 else ' '}{clock}{micros}",
        f"2{number % 100:03d}-02-28T{clock}{micros}{offset}",
        NOTES[number % len(NOTES)],
        # The last record decides that this column is text.
        "00" if number == 0 else str(number),
    ]


def csv_field(text, number):
    if text is None:
        return ""
    if text == "" or any(mark in text for mark in ',"\n\r') or number % 5 == 0:
        return '"' + text.replace('"', '""') + '"'
    return text


def csv_rows(count, seed=1):
    rng = random.Random(seed)
    for number in range(count - 1, -1, -1):
        # Null tokens in columns that are not text.
        texts = row(number, rng)
        if number % 13 == 0:
            texts[2] = ["NULL", "n/a", "\\N"][number % 3]
        yield ",".join(csv_field(text, number) if index in (1, 9) else text or "" for index, text in enumerate(texts))


def write_csv(path, count, line_end="\n"):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + line_end)
        for line in csv_rows(count):
            file.write(line + line_end)


def write_csv_with_line_breaks(path, count):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("id,note\n")
        for number in range(count):
            file.write(f'{number},"first\nsecond{chr(13) if number % 2 else ""}\n{number}"\n')


def write_json(path, count):
    rng = random.Random(2)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            texts = dict(zip(COLUMNS, row(number, rng)))
            texts["note"] = NOTES[number % len(NOTES)]
            numbers = {"id": texts["id"], "large": texts["large"]}
            fields = [f"{json.dumps(name)}: {text}" for name, text in numbers.items()]
            names = ["code", "day", "at", "moment", "note"]
            fields += [f"{json.dumps(name)}: {json.dumps(texts[name])}" for name in names if texts[name] is not None or number % 2]
            fields.append('"is_ok": ' + {None: "null"}.get(texts["is_ok"], str(texts["is_ok"]).lower()))
            file.write("{" + ", ".join(fields) + "}\n")


def write_parquet(path, count):
    import duckdb

    duckdb.sql(f"""COPY (SELECT i::BIGINT AS id, (i % 1000)::INTEGER AS small, (i / 7)::DECIMAL(18,4) AS amount,
        (i::DOUBLE / 3) AS ratio, i % 2 = 0 AS is_ok, DATE '2024-01-01' + (i % 400)::INTEGER AS day,
        TIMESTAMP '2024-01-01 00:00:00' + to_microseconds(i * 1234567) AS at,
        CASE WHEN i % 3 = 0 THEN NULL WHEN i % 3 = 1 THEN '' ELSE 'note ' || i END AS note,
        encode('bytes' || chr(128 + (i % 60)::INTEGER)) || '\\xFF\\x00'::BLOB AS raw
        FROM range({count}) t(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 5000)""")
