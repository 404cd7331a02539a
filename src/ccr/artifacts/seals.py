"""Seals record which bytes a job wrote under which key: `seal.json` in its folder, `{name}.seal.json` next to its file.

A seal travels with the results (DVC, copies), so that pulled files can be checked to be intact and to match their key.
"""

import os
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.hashes import bytes_hash, digest
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError

DEPTH = 4  # levels above a file at which a folder's seal is looked for


def seal_path(job: Job) -> Path:
    """The path of the seal of a job's outputs."""
    target = Path(job.target)
    in_folder = job.stage == "world" or next(iter(job.outputs.values())) != job.target
    return target / "seal.json" if in_folder else target.with_suffix(".seal.json")


def seal(job: Job) -> dict[str, str]:
    """Record the hashes of a job's outputs next to them, and return them by role."""
    path = seal_path(job)
    hashes = {role: bytes_hash(output) for role, output in job.outputs.items()}
    outputs = {_name(path, output): hashes[role] for role, output in job.outputs.items()}
    write_json(with_digest({"key": job.key, "outputs": outputs}), path)
    return hashes


def sealed_key(job: Job, afresh: bool = False) -> str | None:
    """The key under which a job's outputs were sealed; None if one of them, or the seal, is missing.

    Args:
        afresh: read files again that have been read before.
    Raises `CcrError`, naming the file, if one is not what was sealed.
    """
    path = seal_path(job)
    if not path.is_file() or not all(Path(output).exists() for output in job.outputs.values()):
        return None
    sealed = _read(path)
    if any(_name(path, output) not in sealed["outputs"] for output in job.outputs.values()):
        return None
    for output in job.outputs.values():
        _check(path, sealed["outputs"], Path(output), afresh)
    return sealed["key"]


def check_input(path: str, maker: Job | None) -> None:
    """Raise `CcrError` if a file that a job is about to read is not what was sealed.

    Args:
        maker: the job that made it, so that there must be a seal; None for a file provided by the user.
    """
    found = sealing(Path(path))
    if found is None and maker:
        raise CcrError(
            f"{path}: no seal next to it says that this is what its job wrote. Make it again: "
            f"`ccr {maker.stage} {maker.target}`."
        )
    if found is not None:
        _check(found, _read(found)["outputs"], Path(path))


def maker_of(path: str) -> str | None:
    """The key of the job that made a file or folder, according to its seal; None without a seal."""
    found = sealing(Path(path))
    return None if found is None else _read(found)["key"]


def sealing(path: Path) -> Path | None:
    """The seal that covers a file or folder: in the folder, in one above, or next to the file; None without one."""
    for folder in [path, *path.parents][: DEPTH + 1]:
        if (folder / "seal.json").is_file():
            return folder / "seal.json"
    beside = sorted(path.parent.glob("*.seal.json"))
    return next((file for file in beside if path.name in _read(file)["outputs"]), None)


def _check(path: Path, outputs: dict[str, str], output: Path, afresh: bool = False) -> None:
    name = _name(path, output)
    if name not in outputs:  # a file in a folder that was sealed as a whole
        name, output = ".", path.parent
    if bytes_hash(output, afresh) != outputs.get(name):
        raise CcrError(
            f"{output}: is not what its job wrote: its hash is another one than {path} names. Delete it and run its "
            "job again (`make`, `dvc repro` and `snakemake` do so by themselves)."
        )


def _name(path: Path, output: str | Path) -> str:
    return os.path.relpath(output, path.parent)


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not is_whole(content):
        raise CcrError(f"{path}: is damaged: its digest is not that of its content. Delete it and run its job again.")
    return content


def with_digest(content: dict[str, Any]) -> dict[str, Any]:
    """A document with a hash of itself."""
    return content | {"digest": digest(content)}


def is_whole(content: Any) -> bool:
    """Whether a document still matches the digest that it was given."""
    return isinstance(content, dict) and content.get("digest") == digest(
        {name: value for name, value in content.items() if name != "digest"}
    )
