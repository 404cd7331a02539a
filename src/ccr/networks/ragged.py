"""Batches of sequences of different lengths without padding.

A ragged batch is one long (N, d) tensor, N the number of real tokens or frames, and the lengths of its
sequences. Everything that works position by position (embeddings, linear layers, norms) runs on the N real
rows. Attention does too where torch has kernels for it; elsewhere its scores are computed on padded blocks of
neighbours: a batch sorted by length has next to no padding there either.

Row indices are computed on the CPU from the lengths and then copied, without ever waiting for a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ccr.networks.attention import attention, ragged_attention, runs_without_padding
from ccr.networks.transfer import to_device

CHUNK = 64  # sequences per attention block


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring sequences: how many rows they have, and the rows' places among the cells of (sequences, width)."""

    rows: int
    shape: tuple[int, int]
    cells: Tensor | None  # None: all sequences are equally long, nothing to pad
    mask: Tensor | None


@dataclass(frozen=True)
class WordPlaces:
    """Which tokens of a batch form a word.

    `shape`: number of sequences and the most words in one. `counts` (n,) int64, size of each run of tokens that belong
    together; `real` (w,) int64, the runs that are words; `cells` (w,) int64, the words' places in a table of `shape`.
    """

    shape: tuple[int, int]
    counts: Tensor
    real: Tensor
    cells: Tensor

    def pool(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over the tokens of each word: (N, d) -> (B, W, d) and mask (B, W), W the most words in a sequence."""
        wide = rows if rows.dtype == torch.float64 else rows.float()
        means = torch.segment_reduce(wide, "mean", lengths=self.counts, unsafe=True).index_select(0, self.real)
        places = self.shape[0] * self.shape[1]
        pooled = means.new_zeros(places, *rows.shape[1:]).index_copy(0, self.cells, means)
        mask = torch.zeros(places, dtype=torch.bool, device=rows.device).index_fill(0, self.cells, True)
        return pooled.unflatten(0, self.shape), mask.unflatten(0, self.shape)


class Ragged:
    """The shape of a ragged batch of B sequences with N positions in all.

    Args:
        lengths: (B,) int64 on the CPU, each >= 1. device: where the batch is.

    Attributes:
        lengths: (B,) int64.
        sequence: (N,) int64, the sequence each position belongs to.
        position: (N,) int64, each position's place in its sequence.
        mask: (B, L) bool, true at the real positions of the padded form, L the longest length.
    """

    def __init__(self, lengths: Tensor, device: Any = "cpu"):
        self._host = lengths
        self.width = int(lengths.max())
        mask = torch.arange(self.width) < lengths[:, None]
        cells = mask.flatten().nonzero()[:, 0]
        ends = lengths.cumsum(0)
        edges = torch.cat([ends.new_zeros(1), ends])
        parts = (lengths, edges, cells, cells // self.width, cells % self.width, torch.arange(self.width))
        self.lengths, self._ends, self._cells, self.sequence, self.position, self._steps = _sent(parts, device)
        self._starts = self._ends[:-1]
        self.mask = mask if self.lengths is lengths else self._steps < self.lengths[:, None]

    @cached_property
    def _edges(self) -> Tensor:
        """(B + 1,) int32, where sequences start and the last one ends."""
        return self._ends.int()

    @cached_property
    def _chunks(self) -> list[_Chunk]:
        return [self._chunk(start) for start in range(0, len(self._host), CHUNK)]

    def _chunk(self, start: int) -> _Chunk:
        lengths = self._host[start : start + CHUNK]
        count, width = int(lengths.sum()), int(lengths.max())
        shape = (len(lengths), width)
        if count == len(lengths) * width:
            return _Chunk(count, shape, None, None)
        cells = (torch.arange(width) < lengths[:, None]).flatten().nonzero()[:, 0]
        [cells] = _sent([cells], self.lengths.device)
        return _Chunk(count, shape, cells, self.mask[start : start + CHUNK, None, None, :width])

    def split(self, number: int) -> list["Ragged"]:
        """The shapes of `number` slices of neighbouring sequences, or of one per sequence if there are fewer."""
        parts = torch.tensor_split(self._host, min(number, len(self._host)))
        return [type(self)(part, self.lengths.device) for part in parts]

    @property
    def inside(self) -> Tensor:
        """(N,) bool, true between a sequence's first and last position, which in a caption are special tokens."""
        return (self.position > 0) & (self.position < self.lengths[self.sequence] - 1)

    @property
    def counted(self) -> Tensor:
        """(B, L) bool, the positions of the padded form that take part in a mean."""
        return self.mask

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...), zeros after each sequence's end."""
        cells = rows.new_zeros(len(self.lengths) * self.width, *rows.shape[1:])
        return cells.index_copy(0, self._cells, rows).unflatten(0, (-1, self.width))

    def pad_some(self, sequences: Tensor, *parts: Tensor) -> list[Tensor]:
        """Each (N, ...) -> (S, L, ...): these sequences (S,) int64, in this order; arbitrary values after an end."""
        starts, last = self._starts.index_select(0, sequences), len(self.sequence) - 1
        places = (starts[:, None] + self._steps).clamp(max=last)
        return [rows.index_select(0, places.flatten()).unflatten(0, places.shape) for rows in parts]

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return padded.flatten(0, 1).index_select(0, self._cells)

    def fill(self, rows: Tensor, value: float) -> Tensor:
        """Rows of the real positions -> (N, ...); `value` is for the positions that `Padded` adds."""
        return rows

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over the real positions of each sequence: (N, d) -> (B, d)."""
        wide = rows if rows.dtype == torch.float64 else rows.float()
        return torch.segment_reduce(wide, "mean", lengths=self.lengths, unsafe=True).to(rows.dtype)

    def words(self, words: Tensor) -> WordPlaces:
        """Where the words of a batch are.

        `words` (N,) int64 on the CPU: the word of each token, numbered from 0 in each sequence; -1: part of no word.
        """
        device, width = self.lengths.device, max(1, int(words.max()) + 1)
        keys = self._host_sequence * (width + 1) + words + 1  # tokens of a word are neighbours
        keys, counts = torch.unique_consecutive(keys, return_counts=True)
        sequence, word = keys // (width + 1), keys % (width + 1) - 1
        real = (word >= 0).nonzero()[:, 0]
        parts = _sent((counts, real, (sequence * width + word)[real]), device)
        return WordPlaces((len(self._host), width), *parts)

    @property
    def _host_sequence(self) -> Tensor:
        return torch.arange(len(self._host)).repeat_interleave(self._host)

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
            padding_sees_all: `Padded`'s padding attends to all positions, as published; else to real ones, as in BERT.
        """
        if runs_without_padding(query, dropout):
            return ragged_attention(query, key, value, self._edges, self.width, scale)
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

    Every sequence is padded to the longest of its batch, and N is B * L. Padding takes part in means, and in the
    attention block it attends to everything, so what is computed for a sequence depends on its batch.
    """

    def __init__(self, lengths: Tensor, device: Any = "cpu"):
        super().__init__(lengths, device)
        places = torch.arange(self.mask.numel(), device=self.lengths.device)
        self.sequence, self.position = places // self.width, places % self.width

    def words(self, words: Tensor) -> WordPlaces:
        """See `Ragged.words`; `words` are of the real tokens."""
        filled = words.new_full((len(self._host), self.width), -1)
        filled[torch.arange(self.width) < self._host[:, None]] = words
        return super().words(filled.flatten())

    @property
    def _host_sequence(self) -> Tensor:
        return torch.arange(len(self._host)).repeat_interleave(self.width)

    @property
    def counted(self) -> Tensor:
        """(B, L) bool, all true: the published means run over padding too."""
        return torch.ones_like(self.mask)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, ...) -> (B, L, ...); values at padded positions stay."""
        return rows.unflatten(0, (-1, self.width))

    def pad_some(self, sequences: Tensor, *parts: Tensor) -> list[Tensor]:
        """Each (N, ...) -> (S, L, ...): these sequences (S,) int64."""
        return [self.pad(rows).index_select(0, sequences) for rows in parts]

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return padded.flatten(0, 1)

    def fill(self, rows: Tensor, value: float) -> Tensor:
        """Rows of the real positions -> (N, ...), `value` at padded positions."""
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
            padding_sees_all: padding attends to all positions, as published; else only to real ones, as in BERT.
        """
        padded = (self.pad(x).transpose(1, 2) for x in (query, key, value))
        mask = self.mask[:, None, None, :]
        if padding_sees_all:
            mask = mask | ~self.mask[:, None, :, None]
        out = attention(*padded, mask, dropout, scale)
        return self.unpad(out.transpose(1, 2))


def _blocks(rows: Tensor, chunk: _Chunk) -> Tensor:
    """(n, ...) -> (sequences, width, ...), zeros after each sequence's end."""
    if chunk.cells is not None:
        cells = rows.new_zeros(chunk.shape[0] * chunk.shape[1], *rows.shape[1:])
        rows = cells.index_copy(0, chunk.cells, rows)
    return rows.unflatten(0, chunk.shape)


def _sent(parts: Sequence[Tensor], device: Any) -> Sequence[Tensor]:
    """Integers (n,) computed on the CPU, sent to the device in one copy, without waiting for it."""
    if torch.device(device).type == "cpu":
        return parts
    return to_device(torch.cat(list(parts)), device).split([len(part) for part in parts])
