"""The memo: results by the key of the job that made them. Nothing is computed twice, nothing damaged is returned."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import accumulate
from os import PathLike, utime
from pathlib import Path
from typing import Any

from ccr.artifacts.contents import content_hash
from ccr.artifacts.cost import measured
from ccr.artifacts.files import atomic, atomic_folder, make_folder, read_json, write_json
from ccr.artifacts.hashes import bytes_hash, digest
from ccr.artifacts.jobs import Job, dump_job, job_key
from ccr.artifacts.room import room_for
from ccr.artifacts.seals import is_whole, maker_of, seal, sealed_key, with_digest
from ccr.errors import CcrError

MEMO = Path("work/memo")
DAMAGED = MEMO / "damaged"  # entries that were set aside
HOUR = 3600  # no process takes that long between two writes into an entry
RECORD = "job.json"  # next to a job's outputs, which are stored under their roles

log = logging.getLogger(__name__)


def memo_path(key: str) -> Path:
    """Folder of the memo that holds the outputs of the job with this key, under their roles."""
    return MEMO / key[:2] / key


def kept_keys() -> list[str]:
    """The keys of all entries."""
    return sorted(path.parent.name for path in MEMO.glob(f"??/[!.]*/{RECORD}"))  # hidden ones are being written


def recorded_job(key: str) -> dict[str, Any]:
    """The job that made what the memo holds under this key, in the form of `dump_job`.

    With `makers`: input path -> key of the job that made it; `code`: hash of its code; `hashes`: role -> hash of the
    output's bytes; `cost`: see `cost.measured`, None if it was computed elsewhere.
    """
    return read_json(memo_path(key) / RECORD)


def recall(job: Job) -> bool:
    """Copy the outputs of an identical earlier job from the memo; False if there is no intact entry.

    A damaged entry is set aside, and the log says so.
    """
    folder = memo_path(job.key)
    if not is_kept(job.key) or any(not (folder / role).exists() for role in job.outputs):
        return False
    try:
        if damage := damage_of(job.key):
            _set_aside(job.key, damage)
            return False
        for role, path in job.outputs.items():
            _copy(folder / role, path)
    except FileNotFoundError:  # the memo was deleted meanwhile
        return False
    seal(job)
    with suppress(PermissionError, FileNotFoundError):  # another user's, or deleted meanwhile
        utime(folder)  # when it was last used
    return True


def is_kept(key: str) -> bool:
    """Whether the memo has an entry under this key, intact or not."""
    return memo_path(key).is_dir()


def remember(job: Job, cost: dict[str, Any] | None = None) -> None:
    """Seal a job's outputs and store them in the memo, along with the job and its cost: `recorded_job`.

    If the memo's disk refuses the write, or the memo is deleted meanwhile, the outputs are complete and sealed all the
    same, and the log says so.
    """
    record = _record(job, seal(job), cost)
    size = sum(_measured(Path(path))[0] for path in job.outputs.values())
    try:
        room_for(memo_path(job.key), size, f"a copy of {job.target}")
        with atomic_folder(memo_path(job.key)) as temporary:
            for role, path in job.outputs.items():
                _copy(Path(path), temporary / role)
            write_json(record, temporary / RECORD)
    except (CcrError, FileNotFoundError) as error:
        reason = error if isinstance(error, CcrError) else f"{memo_path(job.key)}: was deleted while it was written."
        log.warning("%s The result is whole, but not in the memo; `ccr memo adopt` takes it in later.", reason)


def compute_into(job: Job, compute: Callable[[Job], None]) -> None:
    """Compute a job's outputs into the memo only."""
    with atomic_folder(memo_path(job.key)) as temporary:
        outputs = {role: str(temporary / role) for role in job.outputs}
        with measured() as cost:
            compute(replace(job, outputs=outputs))
        record = _record(job, {role: bytes_hash(path) for role, path in outputs.items()}, cost)
        write_json(record, temporary / RECORD)


def _record(job: Job, hashes: dict[str, str], cost: dict[str, Any] | None) -> dict[str, Any]:
    makers = {path: key for path in job.prerequisites() if (key := maker_of(path))}
    return with_digest(dump_job(job) | {"makers": makers, "code": job.code, "hashes": hashes, "cost": cost})


def adopt(job: Job) -> bool:
    """Take a job's outputs into the memo if they are sealed with its current key; True if it holds them now.

    Raises `CcrError` if one of them is not what was sealed, or a Parquet file's rows do not match its metadata.
    """
    if any(not Path(path).exists() for path in job.input_paths()):
        return False
    job = replace(job, key=job_key(job))
    if not is_kept(job.key) and sealed_key(job) == job.key:
        for path in job.outputs.values():
            content_hash(path)
        remember(job)
    return is_kept(job.key)


def damage_of(key: str, afresh: bool = False) -> str:
    """What is wrong with an entry; empty if it is intact.

    Args:
        afresh: read files again that have been read before.
    """
    folder = memo_path(key)
    try:
        record = recorded_job(key)
    except CcrError as error:
        return str(error)
    if not is_whole(record) or record["key"] != key:
        return f"{folder / RECORD}: is not what was written there"
    for role, expected in record["hashes"].items():
        if not (folder / role).exists():
            return f"{folder / role}: is missing"
        if bytes_hash(folder / role, afresh) != expected:
            return f"{folder / role}: is not what {record['target']} was when it was kept"
    return ""


def _set_aside(key: str, damage: str) -> None:
    place = DAMAGED / f"{key}-{time.time_ns()}"
    make_folder(place.parent)
    try:
        memo_path(key).rename(place)
    except FileNotFoundError:  # another process was faster
        return
    log.warning("%s. The entry is set aside in %s and made again.", damage, place)


def _copy(source: Path, target: str | PathLike) -> None:
    """Copy a file or a folder; what was there is replaced once the copy is complete."""
    if source.is_dir():
        with atomic_folder(target) as temporary:
            for path in sorted(source.rglob("*")):  # `shutil.copytree` would carry on with a full disk
                if path.is_dir():
                    (temporary / path.relative_to(source)).mkdir()
                else:
                    shutil.copy2(path, temporary / path.relative_to(source))
    else:
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)


# --- what is no longer needed ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """An entry of the memo: its folder, its size in bytes, and when it was last used (seconds since the epoch)."""

    folder: Path
    target: str
    size: int
    used: float


def unneeded(jobs: Iterable[Job], days: float = 0.0, gigabytes: float | None = None) -> list[Entry]:
    """Entries that no planned job would recall, the longest unused first.

    An entry is needed if its target is planned with the settings and the code that made it, and the entries that it was
    made from are needed too. Entries that were set aside are never needed, nor are those that a kill left incomplete.

    Args:
        days: only entries unused for at least this long.
        gigabytes: only as many of them as it takes to bring the memo down to this size.
    """
    planned = {job.target: job.digest for job in jobs}
    records = {key: recorded_job(key) for key in kept_keys() if not damage_of(key)}

    @cache
    def needed(key: str) -> bool:
        record = records[key]
        current = planned.get(record["target"]) == digest([record["settings"], record["code"]])
        read = Job(**{field.name: record[field.name] for field in fields(Job)}).input_paths()  # not what came before
        makers = {record["makers"].get(path) for path in read}
        return current and all(needed(maker) for maker in makers if maker in records)

    found = [_entry(memo_path(key), records[key]["target"]) for key in records if not needed(key)]
    found += [_entry(folder, "(set aside)") for folder in DAMAGED.glob("*")]
    found += [_entry(folder, "(incomplete)") for folder in _abandoned()]
    found = [entry for entry in found if entry.used <= time.time() - 86400 * days]
    found.sort(key=lambda entry: entry.used)
    if gigabytes is not None and MEMO.exists():
        freed = accumulate((entry.size for entry in found), initial=0)
        excess = _measured(MEMO)[0] - 1e9 * gigabytes
        found = [entry for entry, before in zip(found, freed, strict=False) if before < excess]
    return found


def _abandoned() -> Iterator[Path]:
    for folder in MEMO.glob("??/.*.tmp"):
        with suppress(FileNotFoundError):  # completed in the meantime
            if folder.stat().st_mtime < time.time() - HOUR:
                yield folder


def _entry(folder: Path, target: str) -> Entry:
    return Entry(folder, target, *_measured(folder))


def _measured(path: Path) -> tuple[int, float]:
    """Bytes of a file, or of all files in a folder; its modification time."""
    size = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with suppress(FileNotFoundError):  # another process was faster
            size += file.stat().st_size if file.is_file() else 0
    return size, path.stat().st_mtime


def forget(entry: Entry) -> None:
    """Delete an entry."""
    shutil.rmtree(entry.folder)
