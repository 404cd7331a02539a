"""A language discriminator and its own optimiser (METHODS, item 7; NRCCR)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ccr.networks.discriminator import Discriminator
from ccr.objectives.adversarial import discriminator_loss
from ccr.train.processes import average, gather

Captions = tuple[Tensor, Tensor]  # token states (B, L, width), counted positions (B, L)


class Adversary:
    """What an `adversarial` term plays against.

    Args:
        term: its options. width: of the token states. device: where they are.
    """

    def __init__(self, term: Mapping[str, Any], width: int, device: torch.device):
        self.discriminator = Discriminator(term["discriminator"], width).to(device)
        self._optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=term["lr"])

    def update(self, originals: Captions, translations: Captions) -> float:
        """One step of the discriminator on detached states; returns its loss before that step."""
        self.discriminator.requires_grad_(True)
        logits = (self.discriminator(states.detach(), counted) for states, counted in (originals, translations))
        loss = discriminator_loss(*map(gather, logits))
        self._optimizer.zero_grad()
        loss.backward()
        average(weight.grad for weight in self.discriminator.parameters())
        self._optimizer.step()
        return loss.item()

    def logits(self, captions: Captions) -> Tensor:
        """(B, 2) of the whole batch, with a gradient for the states and none for the discriminator."""
        self.discriminator.requires_grad_(False)
        return gather(self.discriminator(*captions))

    def state_dict(self) -> dict[str, Any]:
        """What further steps depend on."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimizer.load_state_dict(state["optimizer"])
