"""Providers of an objective's needs: everything that a term uses in addition to the embeddings of its pair.

A need is a line in the registry's `NEEDS` and a module with a class `Provider`, which serves all terms that name it. An
objective with its own weights names the need `weights`; the class is then in its module, with an object per such term.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ccr.objectives.step import Step


@dataclass(frozen=True)
class Context:
    """What a provider may use: the `network` being trained (a `DualEncoder`, on its device), and `mask`, the id of the
    tokenizer's mask token, None if it has none.
    """

    network: Any
    mask: int | None


@dataclass(frozen=True)
class Encoded:
    """The results of a step's pass through the text encoder.

    `groups`: captions that went through it together (`TextGroup`), `passes`: their states (`TextStates`), in the same
    order. `texts`: stream -> (states, (B,) int64, the sequence of each row's caption in them). `teacher`: stream ->
    (B, d) embeddings by the CL teacher, if there is one.
    """

    groups: Sequence[Any]
    passes: Sequence[Any]
    texts: Mapping[str, tuple[Any, Tensor]]
    teacher: Mapping[str, Tensor]


class Provider:
    """The base class provides nothing.

    Args:
        terms: the terms that have the need, with their options.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], context: Context):
        self.terms = terms
        self.network = context.network

    def prepare(self, encoded: Encoded) -> dict[str, Tensor]:
        """Further streams, as pooled text states (B, h), which the text head maps like captions."""
        return {}

    def fill(self, step: Step, encoded: Encoded) -> dict[str, Tensor]:
        """Put into the step what the terms need; returns scalars for the training's history, on the device."""
        return {}

    def modules(self) -> Iterable[nn.Module]:
        """Modules whose weights are trained with the network's and saved with the training state."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """The state that further steps depend on."""
        return {str(number): module.state_dict() for number, module in enumerate(self.modules())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        for number, module in enumerate(self.modules()):
            module.load_state_dict(state[str(number)])
