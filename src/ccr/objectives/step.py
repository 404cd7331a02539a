"""What an objective sees of a training step."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ccr.objectives.transport import Words


@dataclass
class Step:
    """A batch of B aligned triplets.

    Attributes:
        embeddings: stream -> (B, d) unit rows; streams are visual, source, target, back, and cross, the
            cross-attention teacher's.
        items: (B,) int64, the item of each row: rows of the same item are not negatives of each other.
        tau: the network's learnable temperature, a scalar.
        words: text stream and layer -> states (B, W, h) and mask (B, W) of its words, for objectives that need them.
        clean: likewise, without dropout, hidden words or gradient.
        pointers: pair of text streams and layer -> logits (B, R, C), (B, C, R) of each word for its partner.
        teacher: text stream -> (B, d') unit embeddings by the CL teacher, for objectives that need them.
        own: name of a term with its own weights -> what these compute from the batch; its `loss` gets it as `own`.
        logits: pair of text streams -> (B, 2) logits of the second by the pair's discriminator.
        weights: (B,) weight of each row's translation in terms that use it, None if all are equal.
    """

    embeddings: dict[str, Tensor]
    items: Tensor
    tau: Tensor
    words: dict[tuple[str, int | str], Words] = field(default_factory=dict)
    clean: dict[tuple[str, int | str], Words] = field(default_factory=dict)
    pointers: dict[tuple[str, str, int | str], tuple[Tensor, Tensor]] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    _similarity: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    def similarity(self, pair: tuple[str, str]) -> Tensor:
        """(B, B) similarities of the two streams, computed once per step."""
        pair = tuple(pair)
        if pair not in self._similarity:
            self._similarity[pair] = self.embeddings[pair[0]] @ self.embeddings[pair[1]].T
        return self._similarity[pair]

    def weigh(self, values: Tensor, pair: tuple[str, str]) -> Tensor:
        """Weights of a term's values (B, ...): those of the rows' translations if a stream of `pair` is one, else 1."""
        if self.weights is None or not {"target", "back"} & set(pair):
            return torch.ones_like(values)
        return self.weights.to(values.dtype).view(-1, *[1] * (values.ndim - 1)).expand_as(values)

    def mean(self, values: Tensor, pair: tuple[str, str], kept: Tensor | None = None) -> Tensor:
        """Weighted mean of a term's values (B, ...). `kept` (B, ...) bool: those that count; 0 if none does."""
        if self.weights is None and kept is None:
            return values.mean()
        weights = self.weigh(values, pair) * (1 if kept is None else kept)
        return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)

    @cached_property
    def diagonal(self) -> Tensor:
        """(B, B) bool: the row itself."""
        return torch.eye(len(self.items), dtype=torch.bool, device=self.items.device)

    @cached_property
    def same(self) -> Tensor:
        """(B, B) bool: rows of the same item, including the row itself."""
        return self.items[:, None] == self.items[None, :]

    @cached_property
    def same_item(self) -> Tensor:
        """(B, B) bool: other rows of the same item, without the diagonal."""
        return self.same & ~self.diagonal
