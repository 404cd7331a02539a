"""What a job cost: time, memory, energy. Stored with its result in the memo; no key or seal depends on it."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ccr.artifacts.energy import metered

USED_BY = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Yields a dict that holds, afterwards, the cost of what ran within.

    `seconds`; `cpu_seconds`, of this process and those that it started and waited for; `peak_mb`, the peak memory of
    the largest of them since it started; `joules`, see `energy.metered`.
    """
    cost: dict[str, Any] = {}
    start, cpu = time.perf_counter(), _cpu_seconds()
    with metered() as joules:
        yield cost
    cost["seconds"] = round(time.perf_counter() - start, 2)
    cost["cpu_seconds"] = round(_cpu_seconds() - cpu, 2)
    cost["peak_mb"] = round(max(resource.getrusage(who).ru_maxrss for who in USED_BY) / 1024)
    cost["joules"] = joules()


def _cpu_seconds() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, USED_BY))
