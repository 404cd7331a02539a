"""A run for MTEB: the run's files, and the extractor that computes features of pictures (`extractor.json`)."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.schemas import RUN_FILES
from ccr.errors import CcrError
from ccr.export.card import card
from ccr.export.folder import new_folder
from ccr.registry import EXTRACTORS

EXTRACTOR = "extractor.json"


def export(files: Mapping[str, str], folder: Path, evaluations: list[Path], features: Job | None) -> None:
    """Write a new folder for `mteb_student.Student(folder)`.

    Args:
        files: the run's, by role. evaluations: folders of its evaluations, for the model card. features: the job that
            made the features it was trained on.
    Raises:
        CcrError: features that cannot be computed for new pictures; a folder that already exists.
    """
    if features is None:
        run = Path(files["model"]).parent
        raise CcrError(f"{run}: params.yaml plans no such run, so it is not known how its features are made.")
    if not EXTRACTORS[features.settings["extractor"]].remembered:
        raise CcrError(
            f"{features.target}: these features came with the data set, so none can be made of MTEB's pictures. "
            "Export a run with an extractor that computes (docs/features.md)."
        )
    with new_folder(folder) as temporary:
        for role, path in files.items():
            shutil.copyfile(path, temporary / RUN_FILES[role])
        made_by = {"name": Path(features.target).stem, "extractor": features.settings["extractor"]}
        write_json(made_by | {"options": features.settings["options"]}, temporary / EXTRACTOR)
        (temporary / "README.md").write_text(card(files, read_json(files["config"]), evaluations), encoding="utf-8")
