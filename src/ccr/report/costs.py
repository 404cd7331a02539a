"""What the jobs behind a table took, by stage, as recorded in the memo."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ccr.artifacts.jobs import Job
from ccr.artifacts.memo import is_kept, recorded_job
from ccr.artifacts.seals import maker_of


@dataclass(frozen=True)
class StageCost:
    """The jobs of a stage and their recorded costs (see `cost.measured`)."""

    stage: str
    jobs: int
    known: list[dict[str, Any]]

    @property
    def time(self) -> str:
        """Total of all known jobs, as if run one after the other, in hours, minutes and seconds."""
        return self._time("seconds")

    @property
    def processor_time(self) -> str:
        return self._time("cpu_seconds")

    @property
    def memory(self) -> str:
        """Peak memory of the job that took the most."""
        return f"{max(cost['peak_mb'] for cost in self.known):,} MB" if self.known else ""

    @property
    def energy(self) -> str:
        """An upper bound: while jobs run in parallel, each of them measures the whole machine."""
        joules = [cost["joules"] for cost in self.known]
        return f"≤ {sum(joules) / 3600:,.1f} Wh" if joules and None not in joules else "not measured"

    def _time(self, name: str) -> str:
        return str(timedelta(seconds=round(sum(cost[name] for cost in self.known)))) if self.known else ""


def costs(jobs: Iterable[Job]) -> list[StageCost]:
    """Costs by stage, in the order of the jobs; each job's cost is that of making its output, even if from the memo."""
    stages: dict[str, list[dict[str, Any] | None]] = {}
    for job in jobs:
        key = maker_of(next(iter(job.outputs.values())))
        cost = recorded_job(key).get("cost") if key and is_kept(key) else None
        stages.setdefault(job.stage, []).append(cost)
    return [StageCost(stage, len(found), [cost for cost in found if cost]) for stage, found in stages.items()]
