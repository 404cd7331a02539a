"""`results/{table}.json`: the same numbers for `dvc metrics`, nested by row."""

from collections.abc import Sequence

from ccr.artifacts import write_json
from ccr.tables import columns
from ccr.tables.rows import Row


def write(rows: Sequence[Row], path: str, key: str) -> None:
    """Write {`dataset/mt/visual/target_lang/method`: {metric: value}}, with the job's key. Empty cells are left out."""
    numbers = {}
    for row in rows:
        values = columns.values(row)
        name = "/".join(values[part] for part in ("dataset", "mt", "visual", "target_lang", "method"))
        kept = {column: value for column, value in values.items() if column not in columns.IDENTITY[1:]}
        numbers[name] = {column: value for column, value in kept.items() if value is not None}
    write_json(numbers | {"key": key}, path)
