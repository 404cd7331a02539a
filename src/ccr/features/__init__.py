"""features: images, videos or a published dump -> one features file per data set and extractor.

`extraction` runs the extractors (`descriptor`, `image_model`, `video_model`) on media files, each once: what they make
of a file is kept in the item `cache`. `published` looks features up that somebody else has extracted.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ccr import artifacts, registry, store
from ccr.artifacts import Job
from ccr.errors import CcrError
from ccr.features import shards
from ccr.features.extraction import Extraction
from ccr.features.items import Item, items_of


def run(job: Job) -> None:
    """Write `features` and `rejected` (always, perhaps empty) of one data set by one extractor.

    With `shard` in the settings only a part of the items is extracted, for the job that gathers.
    """
    entry = registry.EXTRACTORS[job.settings["extractor"]]
    if "shard" in job.settings:
        shards.write_shard(job, Extraction(job, Path(job.target).parent.name))
    elif entry.remembered:
        _extract(job)
    else:
        items = items_of(job)
        metadata, rows = entry.load().read(items, Path(job.inputs["root"]), job.settings["options"])
        _write(job, metadata, tqdm(rows, job.target, len(items), unit="item", mininterval=1), {})


def _extract(job: Job) -> None:
    extraction, items = Extraction(job, Path(job.target).stem), items_of(job)
    outcomes = extraction.extract(items, shards.unreadable(job.after))

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for item, outcome in zip(items, outcomes, strict=True):
            if not outcome.reason:
                yield item.item_id, extraction.features(item, outcome)

    rejected = {item: outcome.reason for item, outcome in zip(items, outcomes, strict=True) if outcome.reason}
    _write(job, extraction.metadata, rows(), rejected)


def _write(
    job: Job, metadata: dict[str, str], rows: Iterable[tuple[str, np.ndarray]], rejected: dict[Item, str]
) -> None:
    columns = {
        "item_id": [item.item_id for item in rejected],
        "path": [item.path for item in rejected],
        "reason": [*rejected.values()],
    }
    try:
        store.write_features(job.outputs["features"], rows, metadata=metadata, key=job.key)
        artifacts.write_parquet(columns, job.outputs["rejected"], artifacts.REJECTED, key=job.key)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise CcrError(
            f"{job.outputs['features']}: cannot be written ({reason}). Make room and run it again."
        ) from error
