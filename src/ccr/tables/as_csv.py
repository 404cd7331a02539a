"""`results/{table}.csv`: one line per row, every column."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccr.artifacts.files import atomic

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(names: Sequence[str], lines: Iterable[Mapping[str, Any]], path: str) -> None:
    """Write these columns of every line; an empty cell (None) means that there is no such number.

    Text that a spreadsheet would evaluate (`=cmd()`) is prefixed with a quote; numbers stay numbers.
    """
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(line.get(name)) for name in names} for line in lines)


def _plain(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
