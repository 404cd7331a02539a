"""What users are told if a disk or a folder refuses a write: one message with the path and what to do."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from ccr.errors import CcrError

LINK = "make the folder a link to another disk"
ROOM = f"Make room there (`ccr memo gc` deletes what no table needs), or {LINK}"
RIGHTS = "Have its permissions changed, or make the folder a link to one of yours"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: f"Your quota there is used up. Delete something of yours, have it raised, or {LINK}",
    errno.EFBIG: "Files may not be so large there (`ulimit -f`, or the file system)",
    errno.EROFS: f"It is mounted for reading only. Have it mounted for writing, or {LINK}",
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EIO: f"The disk may be failing (`dmesg` tells). Copy what is there, and {LINK}",
}
NO_PATHS = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
MEMORY = "End other programs, or run fewer jobs at a time: make CORES=1"
TEMPORARY = re.compile(r"\.([^/]+)\.[0-9a-f]{8}\.tmp")  # the temporary names of `ccr.artifacts.files`
SHORT = re.compile(r"\d+ requested and \d+ written")  # all that numpy says


def refusal(error: BaseException, path: str | PathLike | None = None) -> CcrError | None:
    """The `CcrError` for an error which means that a disk or a folder refuses a write; None for any other error.

    Each library wraps such errors in its own way (safetensors, pyarrow, `shutil.copytree`, PyAV), but the system's
    wording is in all of them.

    Args:
        path: what was being written, in case the error does not name it.
    """
    if isinstance(error, CcrError):
        return None
    text = str(error)
    known = (n for n in REMEDIES if getattr(error, "errno", None) == n or os.strerror(n) in text)
    number = next(known, errno.ENOSPC if SHORT.search(text) else None)
    if number is None:
        return None
    where = _where(error, path or Path.cwd())
    reason, remedy = os.strerror(number), REMEDIES[number]
    if number == errno.ENOSPC and _inodes_are_used_up(where):
        reason, remedy = f"{reason}: its disk holds no more files, inodes are used up", f"Delete files there, or {LINK}"
    verb = "opened" if number in (errno.EACCES, errno.EPERM) else "written"
    return CcrError(
        f"{where}: cannot be {verb} ({reason}). {remedy}, and run the same again: nothing was left half-written."
    )


def _where(error: BaseException, otherwise: str | PathLike = "") -> str:
    """The path that an error names (for a copy, the one being written), without a temporary name."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return TEMPORARY.sub(r"\1", str(named or otherwise))


def _inodes_are_used_up(where: str) -> bool:
    for folder in Path(where).absolute().parents:
        if folder.is_dir():
            stat = os.statvfs(folder)
            return bool(stat.f_files) and stat.f_favail == 0
    return False


@contextmanager
def writing(path: str | PathLike) -> Iterator[None]:
    """Turn any error which means that the disk refuses to write `path` into one `CcrError` that names the path."""
    try:
        yield
    except Exception as error:
        if refused := refusal(error, path):
            raise refused from error
        raise


@contextmanager
def for_people() -> Iterator[None]:
    """At a `CcrError`, a refused write, a bad path or full memory, end the process with a message and status 1 only."""
    try:
        yield
    except CcrError as error:
        sys.exit(f"ccr: {error}")
    except (MemoryError, BrokenExecutor) as error:  # the second: a process of a pool was killed
        sys.exit(f"ccr: most likely out of memory ({error or 'MemoryError'}). {MEMORY}.")
    except Exception as error:
        if refused := refusal(error):
            sys.exit(f"ccr: {refused}")
        if isinstance(error, OSError) and error.errno in NO_PATHS:
            sys.exit(f"ccr: {_where(error)}: {error.strerror}. Give another path.")
        raise
