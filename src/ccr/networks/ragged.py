"""Batches of sequences of different lengths without padding.

A ragged batch is one long (N, d) tensor, N the number of real tokens or frames, and the lengths of its
sequences. Everything that works position by position (embeddings, linear layers, norms) runs on the N real
rows; only the attention scores themselves are computed on padded blocks.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface


class Ragged:
    """The shape of a ragged batch of B sequences with N positions in all.

    Args:
        lengths: (B,) int64, each >= 1.

    Attributes:
        sequence: (N,) int64, the sequence each position belongs to.
        position: (N,) int64, each position's place in its sequence.
        mask: (B, L) bool, true at the real positions of the padded form, L the longest length.
    """

    def __init__(self, lengths: Tensor):
        self.lengths = lengths
        self.width = int(lengths.max())
        steps = torch.arange(self.width, device=lengths.device)
        self.mask = steps < lengths[:, None]
        self._cells = self.mask.flatten().nonzero()[:, 0]
        self.sequence = self._cells // self.width
        self.position = self._cells % self.width

    @property
    def words(self) -> Tensor:
        """(B, L) bool, true at the positions between a sequence's first and last, which are special tokens."""
        inside = (self.position > 0) & (self.position < self.lengths[self.sequence] - 1)
        return self.pad(inside)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...), zeros behind each sequence's end."""
        cells = rows.new_zeros(len(self.lengths) * self.width, *rows.shape[1:])
        return cells.index_copy(0, self._cells, rows).unflatten(0, (-1, self.width))

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return padded.flatten(0, 1).index_select(0, self._cells)

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over the real positions of each sequence: (N, d) -> (B, d)."""
        return torch.segment_reduce(rows.float(), "mean", lengths=self.lengths).to(rows.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float, scale: float | None) -> Tensor:
        """Attention within each sequence: (N, heads, d) each -> (N, heads, d)."""
        query, key, value = (self.pad(x).transpose(1, 2) for x in (query, key, value))
        mask = self.mask[:, None, None, :]
        out = functional.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, scale=scale)
        return self.unpad(out.transpose(1, 2))


def _ragged_attention(module, query, key, value, attention_mask, *, ragged, scaling=None, dropout=0.0, **_):
    """Attention function for `transformers` models whose batch is one row of N tokens: (1, heads, N, d)."""
    rows = (x[0].transpose(0, 1) for x in (query, key, value))
    return ragged.attend(*rows, dropout, scaling)[None], None


# Any `transformers` model that supports attention backends then runs on ragged batches.
AttentionInterface.register("ragged", _ragged_attention)
AttentionMaskInterface.register("ragged", lambda *_, **__: None)
