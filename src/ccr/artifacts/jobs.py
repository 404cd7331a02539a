"""Jobs and their keys: what identifies a result."""

import os
import platform
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ccr.artifacts.code import code_hash
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import digest


@dataclass(frozen=True)
class Job:
    """One unit of work: what it reads (role -> path or paths), what it writes (role -> path) and its settings.

    `target` is its name: the path of what it makes. `module` makes it (`run(job)`), with `entries` of the registry
    (`OBJECTIVES.infonce`). `after`: files that must exist beforehand but do not affect the result. `threads`, `gpus`:
    what it requests; `checkpoint_minutes`: how often a training run saves its state; `trackers`: where it can be
    followed: no result depends on these. `key` identifies the result: see `job_key`.
    """

    stage: str
    target: str
    inputs: dict[str, Any]
    outputs: dict[str, str]
    settings: dict[str, Any]
    module: str
    entries: tuple[str, ...] = ()
    threads: int = 1
    gpus: int = 0
    checkpoint_minutes: float = 10.0
    trackers: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    key: str = ""

    @property
    def code(self) -> str:
        """Hash of the code that makes it."""
        return code_hash(self.module, tuple(self.entries))

    @property
    def digest(self) -> str:
        """Hash of the settings and the code, which changes with params.yaml and the source."""
        return digest([self.settings, self.code])

    def input_paths(self) -> list[str]:
        """The paths of its inputs, as a flat list."""
        return [p for value in self.inputs.values() for p in ([value] if isinstance(value, str) else value)]

    def prerequisites(self) -> list[str]:
        """All paths that must exist beforehand: its inputs, and what affects no result."""
        return [*self.input_paths(), *self.after]


def job_key(job: Job, content: Callable[[str], str] = content_hash) -> str:
    """Key of a job's result: settings, code, and the content of every input. Names and machines play no part."""
    contents = {
        role: content(paths) if isinstance(paths, str) else [content(p) for p in paths]
        for role, paths in job.inputs.items()
    }
    return digest([job.stage, job.settings, job.code, contents])


def load_job(path: str | os.PathLike) -> Job:
    """A job, with its key, from its JSON form (a line of `ccr plan --json TARGET`)."""
    job = Job(**read_json(path))
    return replace(job, key=job_key(job))


def dump_job(job: Job) -> dict[str, Any]:
    """The JSON form of a job."""
    return asdict(job)


def provenance(job: Job) -> dict[str, Any]:
    """Where, when and with which code a result was made. Nothing depends on it."""
    return {
        "key": job.key,
        "target": job.target,
        "code": _commit() or "unknown",
        "code_hash": job.code,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    """The commit of the code as git describes it; empty without git."""
    try:
        describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    except OSError:  # compute nodes may have none
        return ""
