"""A training run's history in the tools used to follow training: TensorBoard, Weights & Biases, MLflow.

`train.trackers` names them; accelerate's trackers are the common interface. No result depends on any of them.
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
    """Reports each epoch to a job's trackers, only in the first process, within the context.

    A training run that resumes from a checkpoint reports its history from the first epoch, and its earlier files are
    deleted first: no epoch appears twice, and none that was lost in between is missing.
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

        PartialState(cpu=True)  # trackers log through it; limited to this process, it touches no GPU
        FOLDER.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER.absolute()}/mlflow.db")
        options = {
            "tensorboard": {"run_name": self._run, "logging_dir": FOLDER},
            # with an id, a training that was stopped and resumed is a single run
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
        """Log the new rows: every column, with the epoch as the step."""
        for row in history[self._told :]:
            values = {name: value for name, value in row.items() if name != "epoch"}
            for name, tracker in list(self._trackers.items()):
                self._try(name, tracker.log, values, row["epoch"])
        self._told = len(history)

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._trackers.items()):
            self._try(name, tracker.finish)

    def _try(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """Drop a tracker that fails: training continues without it."""
        try:
            action(*arguments)
        except Exception as error:
            self._trackers.pop(name, None)
            log.warning("%s: no longer reported to %s (%s: %s).", self._job.target, name, type(error).__name__, error)
