"""A vision model's files: where they are and which model they make. Without torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr.artifacts import content_hash, digest
from ccr.errors import CcrError

PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the second holds it under `image_processor`
SMALL = ("config.json", *PREPROCESSING)
WEIGHTS = (  # the first pair that is there is used
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
NEEDED = ("config.json", PREPROCESSING[0], "model.safetensors or pytorch_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model. `repository`: its name at the hub, "" for a folder of the user's.

    `revision`: the commit at the hub, or the hash of the folder's files. `setting`: whose model it is, for messages.
    """

    folder: Path
    repository: str
    revision: str
    setting: str

    def __str__(self) -> str:
        return f"{self.repository or 'local files'}@{self.revision}"

    @property
    def config(self) -> dict[str, Any]:
        """The model's config."""
        return _json(self.folder / "config.json")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What is to be done to pictures."""
        whole, nested = (self.folder / name for name in PREPROCESSING)
        return _json(whole) if whole.exists() else _json(nested).get("image_processor", {})

    def weights(self) -> Path:
        """The folder, with weights in it. Those of a hub's model are fetched; `CcrError` where they cannot be."""
        for patterns in WEIGHTS if self.repository else ():
            _fetch(self.repository, self.revision, patterns, self.setting)
            if _matching(self.folder, patterns):
                break
        if not _weights(self.folder):
            raise _absent(self.repository or str(self.folder), [NEEDED[-1]], self.setting)
        return self.folder


def find(model: str, revision: str, setting: str) -> Checkpoint:
    """The model's small files, fetched where they are at the hub; a folder's weights must be there too.

    Args:
        model: name at the hub, or folder. revision: branch, tag or commit at the hub.
        setting: the key in params.yaml that names it, for messages.
    Raises `CcrError` where files are missing: which, and how to give a folder.
    """
    if not model:
        raise CcrError(f"{setting}: missing. Give a model's name at the hub, or a folder with {', '.join(NEEDED)}.")
    folder = Path(model).expanduser()
    local = folder.is_dir()
    if not local:
        folder = _fetch(model, revision, SMALL, setting)
    missing = [] if (folder / NEEDED[0]).exists() else [NEEDED[0]]
    missing += [] if _matching(folder, PREPROCESSING) else [NEEDED[1]]
    missing += [] if not local or _weights(folder) else [NEEDED[2]]
    if missing:
        raise _absent(model, missing, setting)
    return Checkpoint(folder, "", _hash(folder), setting) if local else Checkpoint(folder, model, folder.name, setting)


def _fetch(repository: str, revision: str, patterns: Iterable[str], setting: str) -> Path:
    """The folder with a hub's files that match; what is in its cache is not fetched again."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.HFValidationError as error:
        raise CcrError(f"{setting}: {repository} is no folder, and no name that a hub could know.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CcrError(f"{setting}: the hub has no public model {repository} with a revision {revision!r}.") from error
    except Exception as error:  # whatever a broken network or a full disk raises
        raise _absent(f"{repository} ({revision})", NEEDED, setting, error) from error


def _absent(model: str, missing: Iterable[str], setting: str, error: Exception | None = None) -> CcrError:
    reason = f" and could not be fetched ({str(error).splitlines()[0]})" if error else ""
    return CcrError(
        f"{model}: the model is not whole on this machine{reason}. Missing: {', '.join(missing)}. Run this once with a "
        f"network; or fetch the files elsewhere and give their folder: {setting}: /path/to/folder."
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CcrError(f"{path}: not valid JSON ({error}). Fetch the model again.") from error


def _hash(folder: Path) -> str:
    """Hash of all files of a folder that features depend on."""
    return digest({file.name: content_hash(file) for file in [*_matching(folder, SMALL), *_weights(folder)]})


def _weights(folder: Path) -> list[Path]:
    return next(filter(None, (_matching(folder, patterns) for patterns in WEIGHTS)), [])


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})
