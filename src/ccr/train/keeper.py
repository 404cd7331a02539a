"""When a training run's state is saved: every few minutes, and when the process is asked to end."""

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.train import processes
from ccr.train.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Keeper:
    """Saves a training run's state as often as the job says, and on SIGTERM or SIGINT ends the process after saving.

    SIGTERM is SLURM's warning before a job's time limit, SIGINT is Ctrl-C. Within the context, they take effect after
    the current step; after the last step they are ignored, because little is left to do.
    """

    def __init__(self, job: Job, checkpoint: Checkpoint):
        self._job = job
        self._checkpoint = checkpoint
        self._last = time.monotonic()
        self._signal = 0  # none
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Keeper":
        self._handlers = {number: signal.signal(number, self._asked) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number  # a second one changes nothing: process groups are often signalled twice

    def load(self) -> Any | None:
        """The state to resume from, None if there is none."""
        return self._checkpoint.load()

    def between_steps(self, state: Callable[[], Any]) -> None:
        """Call wherever training may be interrupted; `state` is called only when the state is to be saved.

        Raises `SystemExit` with the status by which shells report the signal.
        """
        due = time.monotonic() - self._last >= 60 * self._job.checkpoint_minutes
        due, asked = processes.largest(due and processes.rank() == 0, self._signal)
        if not (due or asked):
            return
        kept = self._save(state())
        self._last = time.monotonic()
        asked = processes.largest(self._signal)[0]  # one may have come in the meantime
        if asked:
            log.warning(
                "%s: stopped by %s. %s in %s; the same command resumes from there.",
                self._job.target, signal.Signals(asked).name,
                "Its state is kept" if kept else "An older state may lie", self._checkpoint.path,
            )  # fmt: skip
            raise SystemExit(128 + asked)

    def _save(self, state: Any) -> bool:
        """Save, and return whether that worked: a disk that is full for the moment is no reason to stop training."""
        kept = True
        if processes.rank() == 0:
            try:
                self._checkpoint.save(state)
            except CcrError as error:
                log.warning("%s Training continues without this state.", error)
                kept = False
        processes.wait()  # torchrun ends the others when one has ended
        return kept

    def done(self) -> None:
        """Remove the checkpoint: the result is written, so there is nothing left to resume."""
        self._checkpoint.remove()
