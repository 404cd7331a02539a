"""Whether a table can have a report. Apart from the page, which loads torch and matplotlib."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from ccr.artifacts.contents import content_hash
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.notes import key_of_outputs, present_key
from ccr.params import Plan


def check(plan: Plan, job: Job) -> None:
    """`CcrError` for a table of another kind, one that has not been made, or was made with other settings or code."""
    if "recall" not in job.outputs:
        raise CcrError(f"{job.target}: no table of retrieval, and only these have a report.")
    if not Path(job.target).is_file():
        raise CcrError(f"{job.target}: no such table yet. Make it first: make {job.target}")
    content = cache(content_hash)
    if old := next((need.target for need in plan.needs(job.target) if _made_otherwise(need, content)), None):
        raise CcrError(f"{old}: was made with other settings or code than there are now. First: make {job.target}")


def _made_otherwise(job: Job, content: Callable[[str], str]) -> bool:
    """Whether what is there of a job has another key than the job has now; not if one of them cannot be known."""
    keys = {key_of_outputs(job), present_key(job, content)}
    return len(keys) == 2 and None not in keys
