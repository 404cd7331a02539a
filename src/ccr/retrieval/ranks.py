"""Where the relevant entries of a gallery stand for each query: first rank, average precision, nDCG@10.

Relevance is equality of integer item ids, so one function serves both directions: a caption looks for its
item, an item for any of its captions. Ties are pessimistic: among equal scores irrelevant entries come first,
so a model that scores everything alike gets the worst rank, whatever the sort.

No gallery is sorted: the position of the k-th best relevant entry is k + the number of irrelevant entries
that score at least as high, and those are counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ccr.errors import CcrError

BLOCK = 2**20  # similarities held at a time (4 MB in float32: stays in cache)
SHARED = 2**26  # similarities up to which both directions read one matrix (256 MB)
CUTOFF = 10  # of nDCG
FEW = 25  # relevant entries per query up to which comparing with each beats a binary search


@dataclass(frozen=True)
class Ranks:
    """Per query, in query order: `first` (Q,) int64, from 1; `ap` and `ndcg10` (Q,) float64 in 0..1."""

    first: np.ndarray
    ap: np.ndarray
    ndcg10: np.ndarray


@dataclass(frozen=True)
class _Relevance:
    """Gallery entries of query q: `order[start[q] : start[q] + count[q]]`."""

    order: np.ndarray
    start: np.ndarray
    count: np.ndarray


def rank(queries, gallery, query_item, gallery_item, *, names=("query", "gallery")) -> Ranks:
    """Rank a gallery for every query by dot product.

    Args:
        queries: (Q, d) floats, tensor or array. gallery: (N, d) floats on the same device.
        query_item: (Q,) integers. gallery_item: (N,) integers; an entry is relevant where they are equal.
        names: what the two sides are called in error messages.
    Raises:
        CcrError: NaN or inf, named by side and row; a query without a relevant entry.
    """
    queries, gallery = finite(queries, names[0]), finite(gallery, names[1])
    return rank_blocks(dot_products(queries, gallery), query_item, gallery_item, names=names)


def rank_similarity(similarity, query_item, gallery_item, *, names=("query", "gallery")) -> Ranks:
    """As `rank`, from a given similarity matrix (Q, N), higher is better; its precision is kept."""
    similarity = torch.as_tensor(similarity)
    if not similarity.is_floating_point():
        similarity = similarity.double()
    return rank_blocks(lambda rows: similarity[rows], query_item, gallery_item, names=names)


def rank_both(captions, items, caption_item) -> tuple[Ranks, Ranks]:
    """Text-to-visual and visual-to-text ranks of a test set.

    Args:
        captions: (C, d) floats. items: (N, d) floats.
        caption_item: (C,) integers, the row of `items` that a caption describes; every item has one or more.
    Returns:
        Ranks of the C captions and of the N items.
    """
    captions, items = finite(captions, "caption"), finite(items, "item")
    item = np.arange(len(items))
    text, visual = dot_products(captions, items), dot_products(items, captions)
    if len(captions) * len(items) <= SHARED:
        similarity = torch.cat([text(rows) for rows in blocks(len(captions), len(items))])
        text, visual = (lambda rows: similarity[rows]), (lambda rows: similarity.T[rows])
    return (
        rank_blocks(text, caption_item, item, names=("caption", "item")),
        rank_blocks(visual, item, caption_item, names=("item", "caption")),
    )


def dot_products(queries: torch.Tensor, gallery: torch.Tensor) -> Callable[[slice], torch.Tensor]:
    """Function from a slice of queries to their (b, N) float32 similarities.

    Summed in float64 and then rounded: equal embeddings tie exactly, wherever they stand in a block. A
    float32 product breaks such ties by its own rounding error, and a collapsed model would get a score.
    """
    gallery = gallery.double().T
    return lambda rows: (queries[rows].double() @ gallery).float()


def rank_blocks(
    similarity: Callable[[slice], torch.Tensor], query_item, gallery_item, *, names=("query", "gallery")
) -> Ranks:
    """Rank from a function that gives the similarities (b, N) of a slice of queries; memory is one block."""
    query_item, gallery_item = np.asarray(query_item), np.asarray(gallery_item)
    relevance = _relevance(query_item, gallery_item, names)
    parts = []
    for rows in blocks(len(query_item), len(gallery_item)):
        scores = similarity(rows)
        expected = (len(query_item[rows]), len(gallery_item))
        if tuple(scores.shape) != expected:
            raise CcrError(f"Similarities of shape {tuple(scores.shape)}; the item ids ask for {expected}.")
        _finite_block(scores, rows.start, names)
        parts.append(_rank_block(scores.clone(memory_format=torch.contiguous_format), relevance, rows))
    return Ranks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def finite(embeddings, name: str) -> torch.Tensor:
    """`embeddings` (n, d) as a tensor; `CcrError` naming the first row with NaN or inf."""
    embeddings = torch.as_tensor(embeddings)
    bad = ~torch.isfinite(embeddings).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise CcrError(
            f"{name} embeddings: {int(bad.sum())} of {len(bad)} rows have NaN or inf, first row {row}. "
            "The model diverged or that row's input is bad: look at the loss in history.csv."
        )
    return embeddings


def _finite_block(scores: torch.Tensor, first_row: int, names: tuple[str, str]) -> None:
    low, high = torch.aminmax(scores)  # NaN passes through; several times faster than isfinite
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = ~torch.isfinite(scores)
        row, column = bad.nonzero()[0].tolist()
        raise CcrError(
            f"Similarity of {names[0]} row {first_row + row} and {names[1]} row {column} is "
            f"{float(scores[row, column])}: only finite numbers can be ranked."
        )


def _relevance(query_item: np.ndarray, gallery_item: np.ndarray, names: tuple[str, str]) -> _Relevance:
    if not len(query_item) or not len(gallery_item):
        sizes = f"{len(query_item)} {names[0]} rows, {len(gallery_item)} {names[1]} rows"
        raise CcrError(f"Nothing to rank: {sizes}. Both sides need at least one.")
    order = np.argsort(gallery_item, kind="stable")
    ids, start, count = np.unique(gallery_item[order], return_index=True, return_counts=True)
    slot = np.minimum(np.searchsorted(ids, query_item), len(ids) - 1)
    lost = np.flatnonzero(ids[slot] != query_item)
    if len(lost):
        raise CcrError(
            f"{names[0]} row {lost[0]} (item {query_item[lost[0]]}) has no relevant {names[1]} row "
            f"({len(lost)} such rows): leave out what cannot be found before ranking."
        )
    return _Relevance(order, start[slot], count[slot])


def blocks(n_rows: int, n_columns: int) -> list[slice]:
    """Slices of rows that hold about `BLOCK` similarities each."""
    step = max(1, BLOCK // n_columns)
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _rank_block(scores: torch.Tensor, relevance: _Relevance, rows: slice) -> tuple[np.ndarray, ...]:
    """First rank, AP and nDCG@10 of one block; `scores` (b, N) is overwritten."""
    start, count = relevance.start[rows, None], relevance.count[rows, None]
    nth = np.arange(count.max())[None, :]
    real = nth < count  # queries with fewer relevant entries are padded with their first one
    columns = torch.as_tensor(relevance.order[start + np.where(real, nth, 0)], device=scores.device)
    padding = torch.as_tensor(~real, device=scores.device)
    relevant = scores.gather(1, columns).masked_fill_(padding, -torch.inf).sort(dim=1, descending=True).values
    scores.scatter_(1, columns, -torch.inf)  # what remains is irrelevant
    above = _at_least(scores, relevant).cpu().numpy()

    position = above + nth + 1
    precision = np.where(real, (nth + 1) / position, 0.0)
    gain = np.where(real & (position <= CUTOFF), 1 / np.log2(position + 1), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(CUTOFF) + 2))[np.minimum(count[:, 0], CUTOFF) - 1]
    return position[:, 0], precision.sum(axis=1) / count[:, 0], gain.sum(axis=1) / ideal


def _at_least(scores: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """(b, R) int64: how many `scores` (b, N) of a row are >= each of its descending `thresholds` (b, R)."""
    n_rows, n_thresholds = thresholds.shape
    if n_thresholds <= FEW:
        passed = torch.empty_like(scores, dtype=torch.bool)
        counts = [
            torch.ge(scores, column[:, None], out=passed).sum(dim=1, dtype=torch.int32)
            for column in thresholds.unbind(dim=1)
        ]
        return torch.stack(counts, dim=1).long()
    passed = torch.searchsorted(thresholds.flip(1).contiguous(), scores, right=True)  # thresholds <= score
    passed += torch.arange(n_rows, device=scores.device)[:, None] * (n_thresholds + 1)
    histogram = torch.bincount(passed.flatten(), minlength=n_rows * (n_thresholds + 1))
    # a score that passes m thresholds passes the m lowest, the last m of the descending order
    return histogram.view(n_rows, n_thresholds + 1).flip(1).cumsum(1)[:, :n_thresholds]
