"""Write features, for every job of the stage."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.room import room_for
from ccr.artifacts.schemas import REJECTED
from ccr.features.items import Item
from ccr.store import write_features

PACKED = 0.25  # compressed size of float16 features that compress well, as a share


def write(
    job: Job, metadata: dict[str, str], rows: Iterable[tuple[str, np.ndarray]], count: int, rejected: dict[Item, str]
) -> None:
    """Write `features`, rows in ascending order of their ids, and `rejected`, items with reasons (possibly none).

    Args:
        count: number of rows.
    """
    columns = {
        "item_id": [item.item_id for item in rejected],
        "path": [item.path for item in rejected],
        "reason": [*rejected.values()],
    }
    write_features(job.outputs["features"], _with_room(job, rows, count), metadata=metadata, key=job.key)
    write_parquet(columns, job.outputs["rejected"], REJECTED, key=job.key)


def _with_room(job: Job, rows: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[tuple[str, np.ndarray]]:
    """The rows; `CcrError` at the first one if `count` rows of its size cannot fit."""
    for number, (item, features) in enumerate(rows):
        if number == 0:
            room_for(Path(job.outputs["features"]).parent, PACKED * 2 * features.size * count, job.target)
        yield item, features
