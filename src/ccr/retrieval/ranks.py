"""How the relevant entries of a gallery rank for each query: first rank, average precision, nDCG@10.

Relevance is equality of integer item ids, so one function serves both directions: a caption looks for its
item, an item for any of its captions. Ties are pessimistic: among equal scores, irrelevant entries come first,
so a model that scores everything alike gets the worst rank, regardless of sorting.

No gallery is sorted: the position of the k-th best relevant entry is k + the number of irrelevant entries
that score at least as high, and those are counted. From embeddings, this is done tile by tile (`tiles`), so that
millions of entries need no more memory than thousands.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ccr.errors import CcrError
from ccr.retrieval.tiles import SIDE, at_least, count_at_least, norms, pair_scores, take

BLOCK = 2**20  # similarities held at a time (4 MB in float32: stays in cache)
CUTOFF = 10  # of nDCG


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

    def columns(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Relevant entries (b, R) of these queries, which of them are real, and how many there are (b, 1).

        Queries with fewer than R are padded with their first one.
        """
        start, count = self.start[rows, None], self.count[rows, None]
        nth = np.arange(count.max())[None, :]
        real = nth < count
        return self.order[start + np.where(real, nth, 0)], real, count


def rank(queries, gallery, query_item, gallery_item, *, names=("query", "gallery")) -> Ranks:
    """Rank a gallery for every query by dot product.

    The score of a pair is its dot product summed in float64 in a fixed order and rounded to float32, and scores
    are compared exactly. So the ranks do not depend on blocks, threads or device, and equal embeddings tie. It runs
    on the GPU if there is one, else on as many threads as torch may use. In addition to the embeddings it holds, per
    thread, one tile of 1024 x 1024 similarities (a GPU: 4096 x 4096) and its embeddings, and a few numbers per row.

    Args:
        queries: (Q, d) floats, tensor or array. gallery: (N, d) floats. Arrays may be memory-mapped.
        query_item: (Q,) integers. gallery_item: (N,) integers; an entry is relevant where they are equal.
        names: what the two sides are called in error messages.
    Raises:
        CcrError: NaN or inf, named by side and row; a query without a relevant entry; sizes that do not match.
    """
    query_item, gallery_item = np.asarray(query_item), np.asarray(gallery_item)
    shapes = tuple(queries.shape), tuple(gallery.shape)
    if shapes != ((len(query_item), shapes[1][1]), (len(gallery_item), shapes[1][1])):
        raise CcrError(
            f"{names[0]} embeddings of shape {shapes[0]} for {len(query_item)} item ids, {names[1]} embeddings of "
            f"shape {shapes[1]} for {len(gallery_item)}: one id per row and equal dimensions are expected."
        )
    query_norms, gallery_norms = norms(queries, names[0]), norms(gallery, names[1])
    relevance = _relevance(query_item, gallery_item, names)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def block(rows: slice) -> tuple[np.ndarray, ...]:
        columns, real, count = relevance.columns(rows)
        index = np.repeat(np.arange(rows.start, rows.stop), columns.shape[1])
        relevant = pair_scores(queries, gallery, index, columns.ravel(), device).view(columns.shape)
        relevant = relevant.masked_fill(torch.as_tensor(~real, device=device), -torch.inf)
        relevant = relevant.sort(dim=1, descending=True).values
        counts = count_at_least(
            take(queries, rows, device), query_norms[rows].to(device), gallery, gallery_norms, relevant,
            lambda scores, column: _finite_block(scores, (rows.start, column), names),
        )  # fmt: skip
        above = counts - at_least(relevant, relevant)
        return _measures(above.cpu().numpy(), real, count)

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    side = SIDE[device.type]
    step = max(1, min(side, -(-len(query_item) // threads), side**2 // relevance.count.max()))
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
        return _joined(pool.map(block, _slices(len(query_item), step)))


def rank_similarity(similarity, query_item, gallery_item, *, names=("query", "gallery")) -> Ranks:
    """Like `rank`, from a given similarity matrix (Q, N), higher is better; its precision is kept."""
    similarity = torch.as_tensor(similarity)
    if not similarity.is_floating_point():
        similarity = similarity.double()
    return rank_blocks(lambda rows: similarity[rows], query_item, gallery_item, names=names)


def rank_both(captions, items, caption_item) -> tuple[Ranks, Ranks]:
    """Text-to-visual and visual-to-text ranks of a test set.

    Args:
        captions: (C, d) floats. items: (N, d) floats.
        caption_item: (C,) integers, the row of `items` that a caption describes; every item has at least one.
    Returns:
        Ranks of the C captions and of the N items.
    """
    item = np.arange(len(items))
    return (
        rank(captions, items, caption_item, item, names=("caption", "item")),
        rank(items, captions, item, caption_item, names=("item", "caption")),
    )


def dot_products(queries: torch.Tensor, gallery: torch.Tensor) -> Callable[[slice], torch.Tensor]:
    """Function from a slice of queries to their (b, N) float32 similarities.

    Summed in float64 and then rounded: equal embeddings tie exactly, wherever they are in a block. A float32
    product would break such ties by its own rounding error, and a collapsed model would get an undeserved score.
    """
    gallery = gallery.double().T
    return lambda rows: (queries[rows].double() @ gallery).float()


def rank_blocks(
    similarity: Callable[[slice], torch.Tensor], query_item, gallery_item, *, names=("query", "gallery")
) -> Ranks:
    """Rank from a function that returns the similarities (b, N) of a slice of queries; memory holds one block."""
    query_item, gallery_item = np.asarray(query_item), np.asarray(gallery_item)
    relevance = _relevance(query_item, gallery_item, names)
    parts = []
    for rows in blocks(len(query_item), len(gallery_item)):
        scores = similarity(rows)
        expected = (len(query_item[rows]), len(gallery_item))
        if tuple(scores.shape) != expected:
            raise CcrError(f"Similarities of shape {tuple(scores.shape)}; the item ids ask for {expected}.")
        _finite_block(scores, (rows.start, 0), names)
        parts.append(_rank_block(scores.clone(memory_format=torch.contiguous_format), relevance, rows))
    return _joined(parts)


def finite(embeddings, name: str) -> torch.Tensor:
    """`embeddings` (n, d) as a tensor; `CcrError` naming the first row with NaN or inf."""
    embeddings = torch.as_tensor(embeddings)
    norms(embeddings, name)
    return embeddings


def _finite_block(scores: torch.Tensor, first: tuple[int, int], names: tuple[str, str]) -> None:
    low, high = torch.aminmax(scores)  # NaN passes through; several times faster than isfinite
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = ~torch.isfinite(scores)
        row, column = bad.nonzero()[0].tolist()
        raise CcrError(
            f"Similarity of {names[0]} row {first[0] + row} and {names[1]} row {first[1] + column} is "
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
    return _slices(n_rows, max(1, BLOCK // n_columns))


def _slices(n_rows: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _rank_block(scores: torch.Tensor, relevance: _Relevance, rows: slice) -> tuple[np.ndarray, ...]:
    """First rank, AP and nDCG@10 of one block; `scores` (b, N) is overwritten."""
    entries, real, count = relevance.columns(rows)
    columns = torch.as_tensor(entries, device=scores.device)
    padding = torch.as_tensor(~real, device=scores.device)
    relevant = scores.gather(1, columns).masked_fill_(padding, -torch.inf).sort(dim=1, descending=True).values
    scores.scatter_(1, columns, -torch.inf)  # what remains is irrelevant
    return _measures(at_least(scores, relevant).cpu().numpy(), real, count)


def _measures(above: np.ndarray, real: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
    """First rank, AP and nDCG@10 from the number of irrelevant entries (b, R) above each relevant one, best first."""
    nth = np.arange(real.shape[1])
    position = above + nth + 1
    precision = np.where(real, (nth + 1) / position, 0.0)
    gain = np.where(real & (position <= CUTOFF), 1 / np.log2(position + 1), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(CUTOFF) + 2))[np.minimum(count[:, 0], CUTOFF) - 1]
    return position[:, 0], _sum(precision) / count[:, 0], _sum(gain) / ideal


def _sum(terms: np.ndarray) -> np.ndarray:
    """Sums (b,) of (b, R), one term after the other: the zeros that pad a block change no bit."""
    return np.cumsum(terms, axis=1)[:, -1]


def _joined(parts: Iterable[tuple[np.ndarray, ...]]) -> Ranks:
    return Ranks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Run torch on one thread per thread of ours: parallel blocks wait for one another only at the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
