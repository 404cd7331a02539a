"""How all jobs of the stage write their translations."""

import json
import logging

import pyarrow as pa

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS

log = logging.getLogger(__name__)


def write_translations(table: pa.Table, refused: dict[str, str], job: Job) -> None:
    """Write translations; `refused` (caption id -> reason) goes into the metadata, see `parquet.refused_of`."""
    metadata = {"refused": json.dumps(refused)} if refused else {}
    write_parquet(table, job.outputs["translations"], CAPTIONS, key=job.key, metadata=metadata)
    log.info("%s: %s captions", job.target, f"{len(table):,}")


def warn_of_no_way_back(engine: str, job: Job) -> None:
    """Warn that a file of back-translations has no rows."""
    log.warning(
        "%s: %r has no back-translation; the file has no rows, and terms that need it are off or an error (on_missing)",
        job.target, engine,
    )  # fmt: skip
