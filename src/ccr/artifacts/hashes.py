"""Hashes of values and of files' bytes. A file is not read again while its size, time and inode stay the same."""

import atexit
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HASHES = Path("work/hashes")  # of files that have been read before: one file for each of their folders
SAVE_EVERY = 5.0  # seconds
SETTLED = 2.0  # seconds after which every further change shows in a file's modification time


def digest(obj: Any) -> str:
    """Hash of a JSON-able object."""
    return hashlib.blake2b(json.dumps(obj, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def shard_of(name: str, shards: int) -> int:
    """Which of `shards` shards a sentence or an item belongs to; depends only on its text or id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) % shards


def read_hash(path: Path) -> str:
    """Hash of a file's bytes, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def bytes_hash(path: str | os.PathLike, afresh: bool = False) -> str:
    """Hash of a file's bytes, or of the names and bytes of all files below a folder.

    Args:
        afresh: read files again that have been read before.
    """
    path = Path(path)
    if path.is_dir():
        return digest({str(file.relative_to(path)): bytes_hash(file, afresh) for file in files_below(path)})
    return once(path, "bytes", read_hash, afresh)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder except seals, sorted; links are followed, but into no folder twice.

    Hidden files and folders are not content: `.DS_Store`, or the times of a download from the hub in `.cache`.
    """
    found = []
    for above, folders, names in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(above, name) for name in names if not name.startswith(".") and not name.endswith("seal.json")]
    return sorted(file for file in found if file.is_file())


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, sorted and following links, but into no folder twice, because links may form a cycle."""
    passed = {_place(folder)} if folder.exists() else set()
    for above, folders, names in os.walk(folder, followlinks=True):
        inside = {name: _place(Path(above, name)) for name in sorted(folders)}
        folders[:] = [name for name, place in inside.items() if place not in passed]
        passed |= set(inside.values())
        yield above, folders, sorted(names)


def _place(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def once(path: Path, what: str, compute: Callable[[Path], str], afresh: bool = False) -> str:
    """`compute(path)`, or what it returned when the file was last read, if the file has not changed since.

    Args:
        what: name of the value among those kept for a file.
    """
    path = path.absolute()
    folder, state, settled = _Folder.of(path.parent), _state(path), time.time() - path.stat().st_mtime > SETTLED
    known = folder.known.get(path.name)
    known = known if isinstance(known, Mapping) and known.get("state") == state else {"state": state}
    if afresh or what not in known:
        known = known | {what: compute(path)}
        if settled:
            folder.keep(path.name, known)
    return known[what]


def once_of_bytes(path: Path, what: str, compute: Callable[[Path], str]) -> str:
    """`compute(path)`, or what it returned for a file with the same bytes: copies are not computed again."""
    name = bytes_hash(path)
    folder = _Folder.of(HASHES / "by-bytes" / name[:2])
    known = folder.known.get(name)
    known = known if isinstance(known, Mapping) else {}
    if what not in known:
        known = known | {what: compute(path)}
        folder.keep(name, known)
    return known[what]


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def touch(path: Path) -> None:
    """Set a file's modification time to now; what is known about its content stays known."""
    path = path.absolute()
    folder, state = _Folder.of(path.parent), _state(path)
    known = folder.known.get(path.name)
    os.utime(path)
    if isinstance(known, Mapping) and known.get("state") == state:
        folder.keep(path.name, known | {"state": _state(path)})


class _Folder:
    """What is known about the files of one folder. A cache: losing or damaging it costs only time."""

    every: dict[tuple[str, str], "_Folder"] = {}

    def __init__(self, folder: Path):
        self._file = (HASHES / f"{digest(str(folder))}.json").absolute()
        self._saved = time.monotonic()
        self._changed = False
        self._lock = threading.Lock()
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            found = {}
        self.known: dict[str, dict[str, Any]] = found if isinstance(found, Mapping) else {}

    @classmethod
    def of(cls, folder: Path) -> "_Folder":
        place = (str(folder), os.getcwd())
        if place not in cls.every:
            cls.every[place] = cls(folder)
        return cls.every[place]

    def keep(self, name: str, values: dict[str, Any]) -> None:
        with self._lock:
            self.known[name] = values
            self._changed = True
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        with self._lock:
            content, changed = json.dumps(self.known), self._changed
            self._changed, self._saved = False, time.monotonic()
        if not changed:
            return
        temporary = self._file.with_name(f".{self._file.name}.{uuid.uuid4().hex[:8]}.tmp")
        with suppress(OSError):  # a full disk, say: the files are read again next time
            self._file.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(content)
                os.replace(temporary, self._file)
            finally:
                temporary.unlink(missing_ok=True)


@atexit.register
def _save() -> None:
    for folder in _Folder.every.values():
        folder.save()
