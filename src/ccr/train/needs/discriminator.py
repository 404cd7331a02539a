"""Language discriminators, each with its own optimiser (docs/methods.md, item 7; NRCCR)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ccr.networks.discriminator import Discriminator
from ccr.objectives.adversarial import discriminator_loss
from ccr.objectives.provider import Context, Encoded
from ccr.objectives.provider import Provider as Base
from ccr.objectives.step import Step
from ccr.train.optimizers import Adam
from ccr.train.processes import average, full, gather

Captions = tuple[Tensor, Tensor]  # token states (B, L, width), counted positions (B, L)


class Adversary:
    """The opponent of an `adversarial` term.

    Args:
        term: its options. width: of the token states. device: where they are.
    """

    def __init__(self, term: Mapping[str, Any], width: int, device: torch.device):
        self.discriminator = Discriminator(term["discriminator"], width).to(device)
        fused = True if device.type == "cuda" else None  # None on a CPU: the same bits as before
        self._optimizer = Adam(self.discriminator.parameters(), lr=term["lr"], fused=fused)

    def update(self, originals: Captions, translations: Captions) -> Tensor:
        """One step of the discriminator on detached states; returns its loss before that step."""
        self.discriminator.requires_grad_(True)
        logits = (self.discriminator(states.detach(), counted) for states, counted in (originals, translations))
        loss = discriminator_loss(*map(gather, logits))
        self._optimizer.zero_grad()
        loss.backward()
        average(weight.grad for weight in self.discriminator.parameters())
        self._optimizer.step()
        return loss.detach()

    def logits(self, captions: Captions) -> Tensor:
        """(B, 2) of the whole batch, with a gradient for the states and none for the discriminator."""
        self.discriminator.requires_grad_(False)
        return gather(self.discriminator(*captions))

    def state_dict(self) -> dict[str, Any]:
        """The state that further steps depend on."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimizer.load_state_dict(state["optimizer"])


def captions(encoded: Encoded, stream: str) -> Captions:
    """What a discriminator judges, in float32 or float64."""
    states, rows = encoded.texts[stream]
    [padded] = states.shape.pad_some(rows, states.tokens)
    return full(padded), states.shape.counted.index_select(0, rows)


class Provider(Base):
    """One discriminator per term: it takes its own step, then fills `step.logits`."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], context: Context):
        super().__init__(terms, context)
        width, device = self.network.text.width, self.network.device
        self.adversaries = {name: Adversary(term, width, device) for name, term in terms.items()}

    def fill(self, step: Step, encoded: Encoded) -> dict[str, Tensor]:
        """See `Provider`. Returns each discriminator's loss before its step."""
        values = {}
        with torch.autocast(self.network.device.type, enabled=False):
            for name, adversary in self.adversaries.items():
                pair = self.terms[name]["pair"]
                originals, translations = (captions(encoded, stream) for stream in pair)
                values[f"{name}_discriminator"] = adversary.update(originals, translations)
                step.logits[tuple(pair)] = adversary.logits(translations)
        return values

    def state_dict(self) -> dict[str, Any]:
        """See `Provider`."""
        return {name: adversary.state_dict() for name, adversary in self.adversaries.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Provider`."""
        for name, adversary in self.adversaries.items():
            adversary.load_state_dict(state[name])
