"""Features computed from the media files by one of our extractors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ccr.artifacts.jobs import Job
from ccr.features.extraction import Extraction
from ccr.features.items import items_of
from ccr.features.shards import unreadable
from ccr.features.writing import write


def run(job: Job) -> None:
    """Write `features` and `rejected` of one data set by one extractor that computes."""
    extraction, items = Extraction(job, Path(job.target).stem), items_of(job)
    outcomes = extraction.extract(items, unreadable(job.after))

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for item, outcome in zip(items, outcomes, strict=True):
            if not outcome.reason:
                yield item.item_id, extraction.features(item, outcome)

    rejected = {item: outcome.reason for item, outcome in zip(items, outcomes, strict=True) if outcome.reason}
    write(job, extraction.metadata, rows(), len(items) - len(rejected), rejected)
