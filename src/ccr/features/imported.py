"""Features that were extracted elsewhere."""

from pathlib import Path

from tqdm import tqdm

from ccr.artifacts.jobs import Job
from ccr.features.items import items_of
from ccr.features.writing import write
from ccr.registry import EXTRACTORS


def run(job: Job) -> None:
    """Write `features`, and `rejected` without rows, of one data set from a published dump."""
    items = items_of(job)
    extractor = EXTRACTORS[job.settings["extractor"]].load()
    metadata, rows = extractor.read(items, Path(job.inputs["root"]), job.settings["options"])
    write(job, metadata, tqdm(rows, job.target, len(items), unit="item", mininterval=1), len(items), {})
