"""What follows the raw states of a sequence (docs/methods.md, "Networks"): an input layer and one attention block.

The visual encoder is such a stack over frame features; NRCCR's text encoder has one above its transformer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.networks.attention import attention
from ccr.networks.ragged import Ragged


class InputLayer(nn.Module):
    """LayerNorm (or none), dropout, linear, ReLU, dropout: (N, dim) -> (N, width)."""

    def __init__(self, dim: int, width: int, layer_norm: bool, input_dropout: float, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.input_dropout = nn.Dropout(input_dropout)
        self.linear = nn.Linear(dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        return self.dropout(functional.relu(self.linear(self.input_dropout(self.norm(rows)))))


@dataclass(frozen=True)
class Attended:
    """What the attention block computes from a batch of N positions.

    `before` (N, width): states with positions, before attention. `query`, `key` (N, heads, keys / heads), `value`
    (N, heads, width / heads): their projections. `after` (N, width): the block's output.
    """

    before: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    after: Tensor


class AttentionBlock(nn.Module):
    """Learned positions and one self-attention layer without a feed-forward part, as in NRCCR.

    Queries and keys are `keys` wide over all heads (published: 512, whatever the width); scores are still divided by
    sqrt(width / heads), as published.
    """

    def __init__(self, width: int, keys: int, heads: int, longest: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(width / heads)
        self.positions = nn.Embedding(longest, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.position_norm = nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, keys), nn.Linear(width, keys)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: Tensor, shape: Ragged) -> Attended:
        """(N, width); sequences do not attend to each other."""
        before = self.position_norm(rows + self.positions(shape.position))
        projections = (self.query, self.key, self.value)
        query, key, value = (project(before).unflatten(1, (self.heads, -1)) for project in projections)
        attended = shape.attend(query, key, value, 0.0, self.scale).flatten(1)
        return Attended(before, query, key, value, self.norm(before + self.dropout(self.out(attended))))

    def across(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Cross-attention with the same weights, without the residual (NRCCR's teacher).

        Args:
            query: (B, Lq, heads, d) of one side. key, value: (B, Lk, heads, d) of the other.
            visible: (B, 1, Lq or 1, Lk) bool, which keys a query sees.
        Returns:
            (B, Lq, width).
        """
        sides = (x.transpose(1, 2) for x in (query, key, value))
        attended = attention(*sides, visible, 0.0, self.scale)
        return self.norm(self.dropout(self.out(attended.transpose(1, 2).flatten(2))))


class SequenceEncoder(nn.Module):
    """Raw states of a ragged batch to states: an input layer and, if `block` is given, an attention block.

    Args:
        dim: width of the raw states. settings: `hidden`, `input_dropout`, `dropout` of `networks.*.visual` or
            `networks.*.text.block`. layer_norm: normalise the raw states.
        block: `heads` and `keys` of the attention block, None for the input layer only (an image is one frame).
        longest: the most positions that a sequence may have.

    Attributes:
        any_type: computes in whatever type its weights have.
    """

    any_type = True

    def __init__(
        self,
        dim: int,
        settings: Mapping[str, Any],
        layer_norm: bool,
        block: Mapping[str, Any] | None,
        longest: int,
    ):
        super().__init__()
        self.width, dropout = settings["hidden"], settings["dropout"]
        self.input = InputLayer(dim, self.width, layer_norm, settings["input_dropout"], dropout)
        self.block = None
        if block is not None:
            self.block = AttentionBlock(self.width, block["keys"], block["heads"], longest, dropout)

    def forward(self, rows: Tensor, shape: Ragged) -> Tensor:
        """(N, dim), any float type -> (N, width)."""
        autocast = torch.is_autocast_enabled(rows.device.type)
        rows = self.input(rows.float() if autocast else rows.to(self.input.linear.weight.dtype))
        return rows if self.block is None else self.block(rows, shape).after

    def attend(self, rows: Tensor, shape: Ragged) -> Attended:
        """(N, dim) -> all that the attention block computes from it."""
        return self.block(self.input(rows), shape)
