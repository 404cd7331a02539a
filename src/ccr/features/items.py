"""The items of a job."""

from pathlib import PurePath
from typing import NamedTuple

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import ITEMS
from ccr.errors import CcrError


class Item(NamedTuple):
    """An image or a video; `path` is relative to the root, None if no media file is published."""

    item_id: str
    path: str | None
    kind: str


def items_of(job: Job) -> list[Item]:
    """All items of the job's data set, ascending by item_id. `CcrError` if a path leads out of the data set."""
    table = read_parquet(job.inputs["items"], ITEMS, list(Item._fields)).sort_by("item_id")
    items = [Item(*row) for row in zip(*(table[name].to_pylist() for name in Item._fields), strict=True)]
    for item in items:
        path = PurePath(item.path or "")
        if path.is_absolute() or ".." in path.parts:
            raise CcrError(
                f"{job.inputs['items']}: item {item.item_id!r} has the path {item.path}, out of the data set."
            )
    return items
