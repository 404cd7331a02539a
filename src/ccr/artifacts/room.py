"""Free disk space: how much there is, and whether a planned write fits."""

import errno
import logging
import os
import shutil
from os import PathLike
from pathlib import Path

from ccr.artifacts.refusals import ROOM, refusal
from ccr.errors import CcrError

LARGE = 100_000_000  # bytes: less is checked, too, but not logged

log = logging.getLogger(__name__)


def existing(path: str | PathLike) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = Path(path).absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def free_bytes(path: str | PathLike) -> int:
    """Free bytes, for a user who is not root, on the disk of a folder that exists or will. Quotas are not included."""
    return shutil.disk_usage(existing(path)).free


def free_inodes(path: str | PathLike) -> int | None:
    """How many more files the disk of a folder can hold; None if it has no such limit."""
    stat = os.statvfs(existing(path))
    return stat.f_favail if stat.f_files else None


def room_for(path: str | PathLike, size: float, what: str, instead: str = "") -> None:
    """Log how much is about to be written below `path`, and refuse what cannot fit.

    Args:
        size: bytes, estimated too low rather than too high: what fits must not be refused.
        what: what is written, for the message. instead: what else could be done.
    Raises `CcrError`, also if nothing may be written there.
    """
    folder = existing(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise refusal(OSError(errno.EROFS if read_only else errno.EACCES, "", str(path)))
    free = free_bytes(path)
    if size > free:
        raise CcrError(
            f"{path}: no room for {what}: {_gb(size)} are needed, {_gb(free)} are free. "
            f"{ROOM}{instead and f', or {instead}'}."
        )
    if size > LARGE:
        log.info("%s: %s will take %s of %s that are free", path, what, _gb(size), _gb(free))


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
