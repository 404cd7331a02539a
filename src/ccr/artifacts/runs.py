"""The folder of a trained run."""

from os import PathLike
from pathlib import Path

from ccr.artifacts.schemas import RUN_FILES
from ccr.errors import CcrError


def run_files(folder: str | PathLike[str]) -> dict[str, str]:
    """A run directory's files by role; `CcrError` when one is missing."""
    files = {role: str(Path(folder) / name) for role, name in RUN_FILES.items()}
    for path in files.values():
        if not Path(path).is_file():
            raise CcrError(
                f"{path}: no such file. Name a trained run's folder, or one that `ccr import-nrccr` made; it holds "
                f"{', '.join(RUN_FILES.values())}."
            )
    return files
