"""A training's history where people follow trainings: TensorBoard, Weights & Biases, MLflow.

`train.trackers` names them; accelerate's trackers are the one interface to all. No result depends on any of them.
"""

import logging
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.train import processes

FOLDER = Path("work/tracking")
PROJECT = "ccr"

log = logging.getLogger(__name__)


class Tracking:
    """Tells a job's trackers of each epoch, in the first process alone, within the context.

    A training that goes on from a checkpoint tells its history from the first epoch, and its earlier files are deleted
    before: no epoch stands there twice, and none that was lost in between is missing.
    """

    def __init__(self, job: Job):
        """Raises `CcrError` for a tracker that is not installed."""
        for name in job.trackers:
            if missing := [package for package in ("accelerate", name) if find_spec(package) is None]:
                raise CcrError(
                    f"train.trackers: {name} needs what is not installed: pip install {' '.join(missing)} -c "
                    "constraints.txt, or take it out."
                )
        self._job = job
        self._run = job.target.lstrip("/")
        self._trackers: dict[str, Any] = {}
        self._told = 0

    def __enter__(self) -> "Tracking":
        if self._job.trackers and processes.rank() == 0:
            shutil.rmtree(FOLDER / self._run, ignore_errors=True)
            for name in self._job.trackers:
                self._try(name, self._start, name)
        return self

    def _start(self, name: str) -> None:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState(cpu=True)  # what trackers log by; of this process alone, it touches no GPU
        FOLDER.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER.absolute()}/mlflow.db")
        options = {
            "tensorboard": {"run_name": self._run, "logging_dir": FOLDER},
            # an id makes one run of a training that was stopped and went on
            "wandb": {
                "run_name": PROJECT,
                "name": self._run,
                "id": self._job.key,
                "resume": "allow",
                "dir": FOLDER,
            },
            "mlflow": {"experiment_name": PROJECT, "run_name": self._run},
        }
        tracker = LOGGER_TYPE_TO_CLASS[name](**options[name])
        tracker.start()
        self._trackers[name] = tracker

    def tell(self, history: list[dict[str, float]]) -> None:
        """Log the rows that are new: every column, at the step `epoch`."""
        for row in history[self._told :]:
            values = {name: value for name, value in row.items() if name != "epoch"}
            for name, tracker in list(self._trackers.items()):
                self._try(name, tracker.log, values, row["epoch"])
        self._told = len(history)

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._trackers.items()):
            self._try(name, tracker.finish)

    def _try(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """A tracker that fails is done without: the training goes on."""
        try:
            action(*arguments)
        except Exception as error:
            self._trackers.pop(name, None)
            log.warning(
                "%s: no more of it is told to %s (%s: %s).", self._job.target, name, type(error).__name__, error
            )
