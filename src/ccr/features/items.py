"""The items of a job."""

from typing import NamedTuple

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet


class Item(NamedTuple):
    """An image or a video; `path` is relative to the root, None when no media file is published."""

    item_id: str
    path: str | None
    kind: str


def items_of(job: Job) -> list[Item]:
    """All items of the job's data set, ascending by item_id."""
    table = read_parquet(job.inputs["items"], columns=list(Item._fields)).sort_by("item_id")
    return [Item(*row) for row in zip(*(table[name].to_pylist() for name in Item._fields), strict=True)]
