"""When a sentence that a service does not translate is refused: one failure says little about the sentence.

A service that is ill, overloaded or being updated fails for minutes or hours, and for some sentences only. So failures
count when they lie apart, as many as it takes, and neither they nor a refusal are true for ever.
"""

import time
from collections.abc import Iterable

RUNS = 3  # that have failed at a sentence, while others were translated
APART = 3 * 3600.0  # seconds; of runs that follow one another sooner, one counts
COUNTS_FOR = 90 * 86400.0  # seconds; older failures are forgotten
REFUSED_FOR = 30 * 86400.0  # seconds; then the sentence is tried again, and refused at the first run that fails


def now() -> float:
    """Seconds since 1970: runs on several machines and days share this clock."""
    return time.time()


def counted(failures: Iterable[float]) -> list[float]:
    """Those of a sentence's failures (seconds since 1970) that count."""
    found: list[float] = []
    latest = now()
    for failure in sorted(failures):
        if latest - COUNTS_FOR <= failure <= latest and (not found or failure - found[-1] >= APART):
            found.append(failure)
    return found


def when(seconds: float) -> str:
    """A moment for people, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
