"""Good files with changed bytes: reading them must give a result or one readable error."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

SECONDS, BYTES = 10, 1 << 30  # limits of a reader

# kind, where (share of the file), bytes
Change = tuple[str, float, bytes]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "drop", "insert", "double", "zeros"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, changes: list[Change]) -> bytes:
    """The bytes after these changes, applied in order."""
    for kind, share, value in changes:
        at, size = int(share * len(data)), len(value)
        before, after = data[:at], data[at:]
        if kind == "flip" and after:
            data = before + bytes([after[0] ^ value[0]]) + after[1:]
        elif kind == "set":
            data = before + value + after[size:]
        elif kind == "cut":
            data = before
        elif kind == "drop":
            data = before + after[size:]
        elif kind == "insert":
            data = before + value + after
        elif kind == "double":
            data = before + after[: 40 * size] + after
        elif kind == "zeros":
            data = before + bytes(len(after[: 4 * size])) + after[4 * size :]
    return data


class Reader(NamedTuple):
    """A file that is changed, and the function that reads it."""

    path: Path
    read: Callable[[], object]


@contextmanager
def bounded() -> Iterator[None]:
    """Make it an error to take more time or memory than a reader may."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
