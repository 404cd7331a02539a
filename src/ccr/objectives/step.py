"""What an objective sees of a training step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ccr.objectives.transport import Words


@dataclass
class Step:
    """A batch of B aligned triplets.

    Attributes:
        embeddings: stream -> (B, d) unit rows; streams are visual, source, target, back, and cross, the
            cross-attention teacher's.
        items: (B,) int64, the item of each row: rows of one item are no negatives of each other.
        tau: the network's learnable temperature, a scalar.
        words: text stream and layer -> states (B, W, h) and mask (B, W) of its words, for objectives that need them.
        clean: likewise, without dropout and hidden words, without gradient.
        pointers: pair of text streams and layer -> logits (B, R, C), (B, C, R) of each word for its partner.
        teacher: text stream -> (B, d') unit embeddings by the CL teacher, for objectives that need them.
        logits: pair of text streams -> (B, 2) logits of the second by the pair's discriminator, likewise.
    """

    embeddings: dict[str, Tensor]
    items: Tensor
    tau: Tensor
    words: dict[tuple[str, int | str], Words] = field(default_factory=dict)
    clean: dict[tuple[str, int | str], Words] = field(default_factory=dict)
    pointers: dict[tuple[str, str, int | str], tuple[Tensor, Tensor]] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    _similarity: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    def similarity(self, pair: tuple[str, str]) -> Tensor:
        """(B, B) similarities of the two streams, computed once a step."""
        pair = tuple(pair)
        if pair not in self._similarity:
            self._similarity[pair] = self.embeddings[pair[0]] @ self.embeddings[pair[1]].T
        return self._similarity[pair]

    @property
    def same_item(self) -> Tensor:
        """(B, B) bool: another row of the same item, the diagonal left out."""
        same = self.items[:, None] == self.items[None, :]
        return same & ~torch.eye(len(self.items), dtype=torch.bool, device=same.device)
