"""Are the bytes behind the results those that were written? And which rows of which table depend on damaged ones?"""

from collections.abc import Iterator
from pathlib import Path

from ccr.artifacts.memo import damage_of, kept_keys
from ccr.artifacts.seals import seal_path, sealed_key
from ccr.errors import CcrError
from ccr.explain import row_name
from ccr.params.plan import Plan
from ccr.store import damaged_arrays


def verify(plan: Plan, afresh: bool) -> Iterator[str]:
    """Lines that name what is damaged: in the memo, among the cached arrays, in data/ and results/; none if nothing is.

    Args:
        afresh: also read files again that have not changed since they were last read.
    """
    yield from filter(None, (damage_of(key, afresh) for key in kept_keys()))
    yield from (f"{array}: is not what was decoded from its features file" for array in damaged_arrays(afresh))
    damaged = set()
    for job in plan.jobs.values():
        try:
            if sealed_key(job, afresh) is None and all(Path(path).exists() for path in job.outputs.values()):
                raise CcrError(f"{job.target}: its seal, {seal_path(job)}, is missing or of fewer files")
        except CcrError as error:
            yield str(error)
            damaged.add(job.target)
    yield from _rows(plan, damaged)


def _rows(plan: Plan, damaged: set[str]) -> Iterator[str]:
    """Lines that name the rows of existing tables that depend on damaged results."""
    for table in plan.jobs.values():
        for row in table.settings["rows"] if table.stage == "tables" and Path(table.target).exists() else ():
            behind = {job.target for path in row["metrics"] for job in plan.needs(plan.makers[path].target)}
            if behind & damaged:
                yield f"{table.target}: row {row_name(row)} rests on {', '.join(sorted(behind & damaged))}"
