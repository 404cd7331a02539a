"""Batches of sequences of different lengths without padding.

A ragged batch is one long (N, d) tensor, N the number of real tokens or frames, and the lengths of its
sequences. Everything that works position by position (embeddings, linear layers, norms) runs on the N real
rows; only the attention scores themselves are computed on padded blocks, of neighbours: a batch sorted by length
has next to no padding there either.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ccr.networks.attention import attention

CHUNK = 64  # sequences per attention block


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring sequences: how many rows they have, and where those stand among the cells of (sequences, width)."""

    rows: int
    shape: tuple[int, int]
    cells: Tensor | None  # None: all sequences are equally long, nothing to pad
    mask: Tensor | None


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
        self._starts = lengths.cumsum(0) - lengths
        self._chunks = [self._chunk(start) for start in range(0, len(lengths), CHUNK)]

    def _chunk(self, start: int) -> _Chunk:
        lengths = self.lengths[start : start + CHUNK]
        count, width = int(lengths.sum()), int(lengths.max())
        shape = (len(lengths), width)
        if count == len(lengths) * width:
            return _Chunk(count, shape, None, None)
        mask = self.mask[start : start + CHUNK, :width]
        return _Chunk(count, shape, mask.flatten().nonzero()[:, 0], mask[:, None, None, :])

    @property
    def inside(self) -> Tensor:
        """(N,) bool, true between a sequence's first and last position, which in a caption are special tokens."""
        return (self.position > 0) & (self.position < self.lengths[self.sequence] - 1)

    @property
    def counted(self) -> Tensor:
        """(B, L) bool, the positions of the padded form that take part in a mean."""
        return self.mask

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...), zeros behind each sequence's end."""
        cells = rows.new_zeros(len(self.lengths) * self.width, *rows.shape[1:])
        return cells.index_copy(0, self._cells, rows).unflatten(0, (-1, self.width))

    def pad_some(self, rows: Tensor, sequences: Tensor) -> Tensor:
        """(N, ...) -> (S, L, ...): what `pad` makes of these sequences (S,) int64, in their order."""
        lengths = self.lengths[sequences]
        places = self._starts[sequences][:, None] + torch.arange(self.width, device=lengths.device)
        real = (torch.arange(self.width, device=lengths.device) < lengths[:, None]).flatten().nonzero()[:, 0]
        cells = rows.new_zeros(len(sequences) * self.width, *rows.shape[1:])
        taken = rows.index_select(0, places.flatten().index_select(0, real))
        return cells.index_copy(0, real, taken).unflatten(0, (-1, self.width))

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return padded.flatten(0, 1).index_select(0, self._cells)

    def fill(self, rows: Tensor, value: float) -> Tensor:
        """Rows of the real positions -> (N, ...); `value` is for what `Padded` adds."""
        return rows

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over the real positions of each sequence: (N, d) -> (B, d)."""
        wide = rows if rows.dtype == torch.float64 else rows.float()
        return torch.segment_reduce(wide, "mean", lengths=self.lengths).to(rows.dtype)

    def pool_words(self, rows: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the tokens of each word: (N, d) -> (B, W, d) and mask (B, W), W the most words of a sequence.

        Args:
            words: (N,) int64, the word of each token, numbered from 0 in each sequence; -1: no part of any word.
        """
        width = max(1, int(words.max()) + 1)
        keys = self.sequence * (width + 1) + words + 1  # tokens of a word stand together
        keys, counts = torch.unique_consecutive(keys, return_counts=True)
        means = torch.segment_reduce(rows if rows.dtype == torch.float64 else rows.float(), "mean", lengths=counts)
        sequence, word = keys // (width + 1), keys % (width + 1) - 1
        cells = (sequence * width + word)[word >= 0]
        pooled = means.new_zeros(len(self.lengths) * width, *rows.shape[1:]).index_copy(0, cells, means[word >= 0])
        mask = torch.zeros(len(pooled), dtype=torch.bool, device=rows.device).index_fill(0, cells, True)
        return pooled.unflatten(0, (-1, width)), mask.unflatten(0, (-1, width))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scale: float | None,
        padding_sees_all: bool = True,
    ) -> Tensor:
        """Attention within each sequence: (N, heads, d) each -> (N, heads, d).

        Args:
            padding_sees_all: what `Padded` adds attends to all positions, as published; else to real ones, as in BERT.
        """
        parts = []
        sizes = [chunk.rows for chunk in self._chunks]
        chunked = zip(*(x.split(sizes) for x in (query, key, value)), strict=True)
        for chunk, rows in zip(self._chunks, chunked, strict=True):
            padded = (_blocks(x, chunk).transpose(1, 2) for x in rows)
            out = attention(*padded, chunk.mask, dropout, scale)
            out = out.transpose(1, 2).flatten(0, 1)
            parts.append(out if chunk.cells is None else out.index_select(0, chunk.cells))
        return torch.cat(parts)


class Padded(Ragged):
    """The published form (`pooling: padded_mean`), for parity and for published checkpoints.

    Every sequence is filled up to the longest of its batch and N is B * L. Padding takes part in means, and a
    padded position attends to everything, so what is computed for a sequence depends on its batch.
    """

    def __init__(self, lengths: Tensor):
        super().__init__(lengths)
        places = torch.arange(self.mask.numel(), device=lengths.device)
        self.sequence, self.position = places // self.width, places % self.width

    @property
    def counted(self) -> Tensor:
        """(B, L) bool, all true: the published means run over padding too."""
        return torch.ones_like(self.mask)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...); what stands in padded places stays."""
        return rows.unflatten(0, (-1, self.width))

    def pad_some(self, rows: Tensor, sequences: Tensor) -> Tensor:
        """(N, ...) -> (S, L, ...): these sequences (S,) int64."""
        return self.pad(rows).index_select(0, sequences)

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return padded.flatten(0, 1)

    def fill(self, rows: Tensor, value: float) -> Tensor:
        """Rows of the real positions -> (N, ...), `value` in padded places."""
        return rows.new_full((self.mask.numel(), *rows.shape[1:]), value).index_copy(0, self._cells, rows)

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over all positions, padding included: (N, d) -> (B, d)."""
        return self.pad(rows).mean(1)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scale: float | None,
        padding_sees_all: bool = True,
    ) -> Tensor:
        """Attention within each sequence: (N, heads, d) each -> (N, heads, d).

        Args:
            padding_sees_all: what `Padded` adds attends to all positions, as published; else to real ones, as in BERT.
        """
        padded = (self.pad(x).transpose(1, 2) for x in (query, key, value))
        mask = self.mask[:, None, None, :]
        if padding_sees_all:
            mask = mask | ~self.mask[:, None, :, None]
        out = attention(*padded, mask, dropout, scale)
        return self.unpad(out.transpose(1, 2))


def _blocks(rows: Tensor, chunk: _Chunk) -> Tensor:
    """(n, ...) -> (sequences, width, ...), zeros behind each sequence's end."""
    if chunk.cells is not None:
        cells = rows.new_zeros(chunk.shape[0] * chunk.shape[1], *rows.shape[1:])
        rows = cells.index_copy(0, chunk.cells, rows)
    return rows.unflatten(0, chunk.shape)
