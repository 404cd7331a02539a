"""When a sentence that a service does not translate is refused: one failure says little about the sentence.

A service that is faulty, overloaded or being updated fails for minutes or hours, possibly for some sentences only. So
it takes several failures, far enough apart in time, and both failures and refusals expire.
"""

import time
from collections.abc import Iterable

RUNS = 3  # failed runs, in which others were translated, until a sentence is refused
APART = 3 * 3600.0  # seconds; of runs closer together, only one counts
COUNTS_FOR = 90 * 86400.0  # seconds; older failures are forgotten
REFUSED_FOR = 30 * 86400.0  # seconds; then the sentence is tried again, and refused after the first failed run


def now() -> float:
    """Seconds since 1970, a clock that runs on different machines and days share."""
    return time.time()


def counted(failures: Iterable[float]) -> list[float]:
    """The failures of a sentence (seconds since 1970) that count."""
    found: list[float] = []
    latest = now()
    for failure in sorted(failures):
        if latest - COUNTS_FOR <= failure <= latest and (not found or failure - found[-1] >= APART):
            found.append(failure)
    return found


def when(seconds: float) -> str:
    """A time for messages, in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
