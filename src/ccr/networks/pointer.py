"""The query and key head of word-level alignment (docs/methods.md, item 10; CL2CM)."""

import math

from torch import Tensor, nn


class Pointer(nn.Module):
    """Where each word of a sentence points in another sentence."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = 1 / math.sqrt(width)

    def forward(self, words: Tensor, partners: Tensor) -> Tensor:
        """States (B, R, h) and (B, C, h) -> logits (B, R, C)."""
        return self.query(words) @ self.key(partners).transpose(1, 2) * self.scale
