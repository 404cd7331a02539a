"""A batch on the device."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ccr.networks.ragged import Ragged, WordPlaces


@dataclass(frozen=True)
class TextGroup:
    """Captions that go through the text encoder together.

    `tokens` (N,) int64, or states of the frozen prefix (N, width) float32, and `shape` of the batch; `rows`: stream ->
    (B,) int64, the sequence of each triplet's caption. `words`: only if a term needs them.
    """

    tokens: Tensor
    shape: Ragged
    rows: dict[str, Tensor]
    words: WordPlaces | None = None


@dataclass(frozen=True)
class Batch:
    """B triplets, ready for the networks; with several processes, each has the texts and features of its slice.

    `texts`: every text stream is in one of the groups. `items` (B,) int64: item of each row. `features`: frame features
    and shape of the items, None for a text-only network; `item_rows` (B,) int64: the sequence of each row's item.
    `teacher`: text stream -> (B, d) embeddings by the CL teacher. `weights` (B,) float32 of the rows' translations,
    None if all are equal.
    """

    texts: list[TextGroup]
    items: Tensor
    features: tuple[Tensor, Ragged] | None = None
    item_rows: Tensor | None = None
    teacher: dict[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None


def hide_words(tokens: Tensor, shape: Ragged, rate: float, mask: int | None) -> Tensor:
    """Replace tokens by the mask token at the given rate, except the first and last of each caption."""
    if not rate:
        return tokens
    hidden = (torch.rand(len(tokens), device=tokens.device) < rate) & shape.inside
    return tokens.masked_fill(hidden, mask)
