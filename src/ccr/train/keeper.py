"""When a training's state is kept: every few minutes, and when the process is asked to end."""

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
    """Keeps a training's state as often as the job says, and ends the process at SIGTERM or SIGINT after keeping it.

    SIGTERM is SLURM's warning before a job's limit, SIGINT is Ctrl-C. Within the context they wait for the step at
    hand; after the last step they are let pass, for what is left to do is short.
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
        self._signal = number  # a second one changes nothing: a whole process group is often told twice

    def load(self) -> Any | None:
        """The state to go on from, None where there is none."""
        return self._checkpoint.load()

    def between_steps(self, state: Callable[[], Any]) -> None:
        """To be called wherever training may be cut; `state` is asked for when it is to be kept.

        Raises `SystemExit` with the status by which shells tell of the signal.
        """
        due = time.monotonic() - self._last >= 60 * self._job.checkpoint_minutes
        due, asked = processes.largest(due and processes.rank() == 0, self._signal)
        if not (due or asked):
            return
        kept = self._save(state())
        self._last = time.monotonic()
        asked = processes.largest(self._signal)[0]  # perhaps in the meantime
        if asked:
            log.warning(
                "%s: stopped by %s. %s in %s; the same command goes on from there.",
                self._job.target, signal.Signals(asked).name,
                "Its state is kept" if kept else "An older state may lie", self._checkpoint.path,
            )  # fmt: skip
            raise SystemExit(128 + asked)

    def _save(self, state: Any) -> bool:
        """Whether the state is kept: a training is not given up because a disk takes no more for the moment."""
        kept = True
        if processes.rank() == 0:
            try:
                self._checkpoint.save(state)
            except CcrError as error:
                log.warning("%s The training goes on without this state.", error)
                kept = False
        processes.wait()  # torchrun ends the others when one has ended
        return kept

    def done(self) -> None:
        """The result is there: nothing is left to go on from."""
        self._checkpoint.remove()
