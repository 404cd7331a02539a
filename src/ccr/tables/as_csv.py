"""`results/{table}.csv`: one line per row, every column."""

import csv
from collections.abc import Sequence

from ccr.artifacts import atomic
from ccr.tables import columns
from ccr.tables.rows import Row


def write(rows: Sequence[Row], path: str) -> None:
    """Write `columns.CSV` of every row; an empty cell says that there is no such number."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns.CSV, lineterminator="\n")
        writer.writeheader()
        writer.writerows(columns.values(row) for row in rows)
