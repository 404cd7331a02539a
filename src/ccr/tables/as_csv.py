"""`results/{table}.csv`: one line per row, every column."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccr.artifacts.files import atomic


def write(names: Sequence[str], lines: Iterable[Mapping[str, Any]], path: str) -> None:
    """Write these columns of every line; an empty cell (None) says that there is no such number."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
