"""What Snakemake reads instead of comparing settings and code itself: a note for each job.

Snakemake goes by file times. The note (`noted`) is an input of every job, newer than the job's outputs if, and only if,
these are not what the job would make now.
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ccr.artifacts.files import make_folder
from ccr.artifacts.hashes import touch
from ccr.artifacts.jobs import Job, job_key
from ccr.artifacts.refusals import writing
from ccr.artifacts.seals import seal_path, sealed_key
from ccr.errors import CcrError

MADE = Path("work/made")  # what made the existing outputs

log = logging.getLogger(__name__)


def note(job: Job) -> None:
    """Record that the job's outputs exist, made under its digest and key."""
    _write(job, {"digest": job.digest, "key": job.key}, old=True)


def noted(job: Job, content: Callable[[str], str]) -> Path:
    """The job's note.

    It becomes newer than the outputs if these were made with other settings, other code or other inputs (raw data that
    was edited, say), by whomever and wherever: if they are not sealed with the job's present key or, while its inputs
    are not all there, with the key that this clone recorded for the job's digest; or if one of them is missing or
    damaged. Outputs that carry the present key are what the job would make, wherever they come from (`dvc pull`, `dvc
    checkout`, a copy) and whatever their times: they become newer than its inputs, which are settled before.

    Args:
        content: path -> hash of its content, remembered for the jobs of one pipeline: each input is looked at once.
    """
    path = _path(job)
    try:
        made = json.loads(path.read_text())
    except (OSError, ValueError):
        made = {}
    key = key_of_outputs(job)
    same = key is not None and made == {"digest": job.digest, "key": key}
    present = present_key(job, content)
    same = same and present in (key, None)
    if same and not _older_than_inputs(job) and not _of_tomorrow(job):
        return path
    if key is not None and key == present:
        for output in _outputs(job):
            touch(output)
        return _write(job, {"digest": job.digest, "key": key}, old=True)
    return path if same else _write(job, {"digest": job.digest, "key": None}, old=False)


def key_of_outputs(job: Job) -> str | None:
    """The key that the job's outputs are sealed with; None if they are not all there, or damaged (with a warning)."""
    try:
        return sealed_key(job)
    except (CcrError, OSError) as error:
        log.warning("%s", error)
        return None


def present_key(job: Job, content: Callable[[str], str]) -> str | None:
    """The key that the job would make its outputs under now; None while an input is missing or torn."""
    try:
        return job_key(job, content)
    except (CcrError, OSError):
        return None


def _of_tomorrow(job: Job) -> bool:
    """Whether an output was written before the clock was set back: whatever is made from it now would be older."""
    return max(path.stat().st_mtime for path in _outputs(job)) > time.time() + 1


def _older_than_inputs(job: Job) -> bool:
    inputs = map(_marker, job.prerequisites())
    newest = max((path.stat().st_mtime_ns for path in inputs if path.exists()), default=0)
    return min(path.stat().st_mtime_ns for path in _outputs(job)) < newest


def _write(job: Job, made: dict[str, str | None], old: bool) -> Path:
    """Not synced: a note torn by a power failure is as good as none."""
    path = _path(job)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        make_folder(path.parent)
        try:
            temporary.write_text(json.dumps(made))
            if old:
                os.utime(temporary, (1, 1))
            else:  # newer even than outputs with a time in the future
                times = [output.stat().st_mtime for output in _outputs(job) if output.exists()]
                latest = max([temporary.stat().st_mtime, *(time + 1 for time in times)])
                os.utime(temporary, (latest, latest))
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    return path


def _path(job: Job) -> Path:
    """In its own folder: Snakemake lists a folder once, and would not see notes added to it later."""
    return MADE / job.target / "note.json"


def _outputs(job: Job) -> list[Path]:
    return [*map(_marker, job.outputs.values()), seal_path(job)]


def _marker(path: str) -> Path:
    """The file whose time Snakemake looks at: for a folder, the manifest."""
    return Path(path, "manifest.json") if Path(path).is_dir() else Path(path)
