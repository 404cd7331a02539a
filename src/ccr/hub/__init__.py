"""Published models: their files, in a local folder or on the hub (Hugging Face). Does not need torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ccr.artifacts.contents import content_hash
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError

WEIGHTS = (  # the first pair that exists is used
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
WEIGHTS_NAMES = "model.safetensors or pytorch_model.bin"


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model. `repository`: its name on the hub, "" for a local folder.

    `revision`: the commit on the hub, or the hash of the folder's files. `setting`: the key in params.yaml that names
    the model, for messages.
    """

    folder: Path
    repository: str
    revision: str
    setting: str

    @classmethod
    def find(
        cls, model: str, revision: str, setting: str, small: Iterable[str], every: Iterable[str], advice: str = ""
    ) -> Self:
        """The model's small files; those of a hub model are fetched.

        Args:
            model: name on the hub, or folder. revision: branch, tag or commit on the hub.
            small: patterns of all files that a result depends on, except the weights.
            every: names of the small files that are needed, for the message if nothing can be fetched.
            advice: what else to try if the hub does not have the model.
        """
        folder = Path(model).expanduser()
        if folder.is_dir():
            files = [*_matching(folder, small), *_weights(folder)]
            return cls(folder, "", digest({file.name: content_hash(file) for file in files}), setting)
        folder = _fetch(model, revision, small, setting, [*every, WEIGHTS_NAMES], advice)
        return cls(folder, model, folder.name, setting)

    @property
    def name(self) -> str:
        """The last part of the name on the hub, or the folder's name."""
        return self.repository.rsplit("/", 1)[-1] or self.folder.resolve().name

    @property
    def identity(self) -> dict[str, str]:
        """Which model this is. The path and the name of a local folder are not part of it."""
        return {"model": self.repository or "local files", "revision": self.revision}

    def check(self, needed: Iterable[tuple[str, ...]]) -> None:
        """Raise a `CcrError` that names what is missing: small files (any one of each tuple), a folder's weights."""
        missing = [" or ".join(names) for names in needed if not any((self.folder / name).exists() for name in names)]
        if not self.repository and not _weights(self.folder):
            missing.append(WEIGHTS_NAMES)
        if missing:
            raise _absent(self.repository or str(self.folder), self.setting, missing, self.folder)

    def weights(self) -> Path:
        """The folder, with weights in it. Those of a hub model are fetched; `CcrError` if they are missing."""
        for patterns in WEIGHTS if self.repository else ():
            _fetch(self.repository, self.revision, patterns, self.setting, [WEIGHTS_NAMES])
            if _matching(self.folder, patterns):
                break
        if not _weights(self.folder):
            raise _absent(self.repository or str(self.folder), self.setting, [WEIGHTS_NAMES], self.folder)
        return self.folder

    def json(self, file: str) -> dict[str, Any]:
        """The JSON object in a file; empty if the file does not exist. `CcrError` if it is not a JSON object."""
        path = self.folder / file
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except (ValueError, RecursionError) as error:
            raise CcrError(f"{path}: not valid JSON ({error}). Fetch the model again.") from error
        if not isinstance(content, dict):
            raise CcrError(f"{path}: holds no JSON object. Fetch the model again.")
        return content


def _fetch(
    repository: str, revision: str, patterns: Iterable[str], setting: str, missing: list[str], advice: str = ""
) -> Path:
    """The folder with the matching files of a hub model; cached files are not fetched again."""
    from huggingface_hub import constants, errors, snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.HFValidationError as error:
        raise CcrError(f"{setting}: {repository} is no folder, and no name that a hub could know.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        message = f"{setting}: the hub has no public model {repository} with a revision {revision!r}. {advice}"
        raise CcrError(message.rstrip()) from error
    except Exception as error:  # whatever a broken network or a full disk raises
        raise _absent(f"{repository} ({revision})", setting, missing, Path(constants.HF_HUB_CACHE), error) from error


def _absent(
    model: str, setting: str, missing: list[str], folder: Path, error: Exception | str = "it is not there"
) -> CcrError:
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return CcrError(
        f"{model}: the model is not whole on this machine and could not be fetched ({reason}). Missing in {folder}: "
        f"{'; '.join(missing)}. Run this once with a network; or fetch the files elsewhere and give their folder: "
        f"{setting}: /path/to/folder."
    )


def _weights(folder: Path) -> list[Path]:
    return next(filter(None, (_matching(folder, patterns) for patterns in WEIGHTS)), [])


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})
