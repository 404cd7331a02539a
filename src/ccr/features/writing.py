"""How every job of the stage writes its features."""

import os
from collections.abc import Iterable

import numpy as np

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import REJECTED
from ccr.errors import CcrError
from ccr.features.items import Item
from ccr.store import write_features


def write(
    job: Job, metadata: dict[str, str], rows: Iterable[tuple[str, np.ndarray]], rejected: dict[Item, str]
) -> None:
    """Write `features`, rows in ascending order of their ids, and `rejected`, items with the reasons, perhaps none."""
    columns = {
        "item_id": [item.item_id for item in rejected],
        "path": [item.path for item in rejected],
        "reason": [*rejected.values()],
    }
    try:
        write_features(job.outputs["features"], rows, metadata=metadata, key=job.key)
        write_parquet(columns, job.outputs["rejected"], REJECTED, key=job.key)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise CcrError(
            f"{job.outputs['features']}: cannot be written ({reason}). Make room and run it again."
        ) from error
