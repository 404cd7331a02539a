"""`results/{table}.json`: the same numbers for `dvc metrics`, nested by row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccr.artifacts.files import write_json

NAMES = ("dataset", "mt", "visual", "target_lang", "method", "teacher")


def write(rows: Iterable[Mapping[str, Any]], identity: Sequence[str], path: str, key: str) -> None:
    """Write {`dataset/mt/.../target_lang/method`: {metric: value}}, with the job's key. Empty cells are left out.

    Args:
        rows: column -> value, as in the csv. identity: columns that identify a row; the first, `data`, is written next
            to the metrics; those of the others that are in NAMES make up the row's name.
    """
    numbers = {}
    for row in rows:
        name = "/".join(row[column] for column in NAMES if column in identity)
        kept = {column: value for column, value in row.items() if column not in identity[1:]}
        numbers[name] = {column: value for column, value in kept.items() if value is not None}
    write_json(numbers | {"key": key}, path)
