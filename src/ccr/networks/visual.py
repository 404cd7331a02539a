"""The visual encoder g (METHODS, "Networks"): frame or image features to states."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ccr.networks.ragged import Ragged


class AttentionBlock(nn.Module):
    """One self-attention layer with residual and LayerNorm, without a feed-forward part, as NRCCR has it."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, ragged: Ragged) -> Tensor:
        """(N, width) -> (N, width); sequences do not see each other."""
        query, key, value = self.project(states).unflatten(1, (3, self.heads, -1)).unbind(1)
        attended = ragged.attend(query, key, value, 0.0, None).flatten(1)
        return self.norm(states + self.dropout(self.out(attended)))


class VisualEncoder(nn.Module):
    """States of a ragged batch of frame sequences; an image is a sequence of one frame.

    Args:
        settings: `networks.*.visual` resolved.
        dim: dimensions of a frame's feature.
    """

    def __init__(self, settings: Mapping[str, Any], dim: int):
        super().__init__()
        self.width = settings["hidden"]
        self.input = nn.Sequential(
            nn.LayerNorm(dim, elementwise_affine=False),  # the linear layer scales; so no gradient flows to the input
            nn.Dropout(settings["input_dropout"]),
            nn.Linear(dim, self.width),
            nn.ReLU(),
            nn.Dropout(settings["dropout"]),
        )
        self.block = None
        if settings["block"]:
            self.positions = nn.Embedding(settings["max_frames"], self.width)
            nn.init.normal_(self.positions.weight, std=0.02)
            self.norm = nn.LayerNorm(self.width)
            self.block = AttentionBlock(self.width, settings["heads"], settings["dropout"])

    def forward(self, features: Tensor, ragged: Ragged) -> Tensor:
        """Features (N, dim), any float type -> states (N, width)."""
        states = self.input(features.to(torch.float32))
        if self.block is None:
            return states
        return self.block(self.norm(states + self.positions(ragged.position)), ragged)
