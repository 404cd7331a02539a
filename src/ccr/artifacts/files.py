"""Files that are either complete or absent: written under a temporary name, synced and renamed. JSON documents."""

import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ccr.artifacts.refusals import writing
from ccr.errors import CcrError

SYNCS = 16  # files at a time


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(file: Path) -> None:
    """Sync a new file and give it its folder's read and write permissions: safetensors writes for the owner only."""
    file.chmod(file.parent.stat().st_mode & 0o666)
    _sync(file)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Each gets at least the permissions of the one above it, whatever the umask.

    Write permission for others is not passed on, and a folder shared by everybody, such as /tmp, passes on nothing.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        above = each.parent.stat().st_mode
        if not above & stat.S_ISVTX:
            with suppress(PermissionError):  # another user was faster and owns it
                each.chmod(each.stat().st_mode | (above & 0o775))


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name next to `path`; on success it is synced and renamed to `path`, else removed.

    `CcrError` if the disk refuses the write.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        make_folder(path.parent)
        try:
            yield temporary
            _settle(temporary)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # the folder is not writable, or gone
                temporary.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; on success it replaces `path`, else it is removed.

    `CcrError` if the disk refuses the write.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        make_folder(temporary)
        try:
            yield temporary
            with ThreadPoolExecutor(SYNCS) as pool:  # a disk syncs many files at once in the time that a few take
                list(pool.map(_settle, [file for file in temporary.rglob("*") if file.is_file()]))
            _take_place(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> None:
    while True:
        try:
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
            return
        except OSError as error:  # another process put its own there in the meantime, or is deleting it too
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or not temporary.exists():
                raise


def write_json(obj: Any, path: str | os.PathLike) -> None:
    """Write `obj` atomically as JSON with sorted keys. NaN is refused (`ValueError`)."""
    with atomic(path) as temporary:
        text = json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; `CcrError` if it is missing or torn."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CcrError(f"{path}: not valid JSON ({error}). Delete it and run its job again.") from error
