"""Scatter: a part of the items, extracted by a separate job.

A shard's features go into the item cache. The gathering job finds there everything it would otherwise extract itself,
so its output is the same as without shards, byte for byte.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from ccr.artifacts.hashes import shard_of
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.features.extraction import Extraction
from ccr.features.items import items_of

SHARD = pa.schema([(name, pa.string()) for name in ("item_id", "kind", "content", "reason")])


def run(job: Job) -> None:
    """Extract one shard: settings `shard` {number, of}; an item's shard depends only on its id."""
    shard = job.settings["shard"]
    extraction = Extraction(job, Path(job.target).parent.name)
    items = [item for item in items_of(job) if shard_of(item.item_id, shard["of"]) == shard["number"]]
    outcomes = extraction.extract(items, known={})
    columns = {
        "item_id": [item.item_id for item in items],
        "kind": [item.kind for item in items],
        "content": [outcome.content for outcome in outcomes],
        "reason": [outcome.reason for outcome in outcomes],
    }
    write_parquet(columns, job.outputs["shard"], SHARD, key=job.key)


def unreadable(paths: Iterable[str]) -> dict[tuple[str, str], str]:
    """(kind, content hash) -> reason, for the files that shards could not read."""
    rows = [row for path in paths for row in read_parquet(path, SHARD).to_pylist()]
    return {(row["kind"], row["content"]): row["reason"] for row in rows if row["content"] and row["reason"]}
