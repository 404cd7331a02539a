"""The folder of a trained run."""

from os import PathLike
from pathlib import Path

from ccr.artifacts.files import read_json
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


def evaluations_of(run: Path) -> list[Path]:
    """Folders of a run's evaluations that are where the pipeline puts them.

    A run without a target language (`source_only`) is evaluated in every one, others in those that they learnt.
    """
    if "runs" not in run.parts[-7:-6]:
        return []
    *_, data, mt, visual, learnt, method, seed = run.parts
    settings = read_json(run_files(run)["config"])["settings"]
    langs = ["*"] if learnt == settings["source_lang"] else learnt.split("+")
    every = run.parents[6] / "evaluations" / data / mt / visual
    return [file.parent for lang in langs for file in sorted(every.glob(f"{lang}/{method}/{seed}/metrics.json"))]
