"""Learning rate over a training run."""

import math
from collections.abc import Mapping

from torch.optim import Optimizer

DECAY = 0.99  # per epoch, of `plateau`
PATIENCE = 3  # epochs at a rate before it may be halved


class Schedule:
    """Sets the learning rate of each of the optimiser's groups, times its `scale`: a linear warm-up, then `kind`.

    `cosine`: half a cosine down to 0 over all steps. `plateau` (NRCCR; docs/methods.md, item 8): x.99 per epoch, and
    halved after an epoch without improvement, at the earliest in the third epoch since the last halving.

    Args:
        lr: the peak rate. warmup: steps, may be fractional. steps: of the whole training run.
    """

    def __init__(self, kind: str, optimizer: Optimizer, lr: float, warmup: float, steps: int):
        self.kind = kind
        self.lr = lr
        self._optimizer = optimizer
        self._warmup, self._steps = warmup, steps
        self._step = 0
        self._decay = 1.0
        self._epochs_at_rate = 0
        self._apply()

    def after_step(self) -> None:
        """Call after every step of the optimiser."""
        self._step += 1
        self._apply()

    def after_epoch(self, improved: bool) -> None:
        """Call after every validation; `improved`: it was the best so far."""
        if self.kind != "plateau":
            return
        self._epochs_at_rate += 1
        self._decay *= DECAY
        if not improved and self._epochs_at_rate >= PATIENCE:
            self._decay /= 2
            self._epochs_at_rate = 0
        self._apply()

    def state_dict(self) -> dict[str, float]:
        """The schedule's current position."""
        return {"step": self._step, "decay": self._decay, "epochs_at_rate": self._epochs_at_rate}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Resume from what `state_dict` returned."""
        self._step, self._decay, self._epochs_at_rate = state["step"], state["decay"], state["epochs_at_rate"]
        self._apply()

    def _apply(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr * self._factor() * group.get("scale", 1.0)

    def _factor(self) -> float:
        if self._step < self._warmup:
            return (self._step + 1) / (self._warmup + 1)
        if self.kind == "plateau":
            return self._decay
        return 0.5 * (1 + math.cos(math.pi * (self._step - self._warmup) / max(1, self._steps - self._warmup)))
