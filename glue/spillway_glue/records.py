"""Parses JSON lines. It runs on the executors, so its errors are texts that the driver program finds by their mark."""

import json

from spillway_glue.columns import MARK


def parse_record(line, names):
    """Returns the values of a JSON record as texts, in the order of the names, and None for an empty line. Numbers keep their digits."""
    if not line.strip():
        return None
    try:
        record = json.loads(line, parse_int=str, parse_float=str, parse_constant=_not_finite, object_pairs_hook=_unique)
    except ValueError:
        raise ValueError(f"{MARK}a line is not a JSON object with unique names") from None
    if not isinstance(record, dict):
        raise ValueError(f"{MARK}a line is not a JSON object")
    if unknown := sorted(record.keys() - set(names)):
        raise ValueError(f'{MARK}a record has the name "{unknown[0]}", which the plan lacks')
    return tuple(_text(record.get(name), name) for name in names)


def _text(value, name):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError(f'{MARK}column "{name}" has an object or an array; load the file with the task')


def _unique(pairs):
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError
    return record


def _not_finite(_):
    raise ValueError
