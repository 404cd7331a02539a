"""How many entries of a gallery reach a given score: exactly, and in the memory of one tile per thread.

The score of a query and an entry is the sum of their products in float64, added in a fixed order and rounded to
float32. It depends only on the two embeddings, not on tiles, threads, device or where they are stored, so that equal
embeddings tie. Few scores need to be computed this way. The error of a float32 matrix product has a bound known
beforehand (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1: it holds for any order of
summation), so it decides all comparisons except the close ones; these are made with the scores themselves.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ccr.errors import CcrError

SIDE = {"cpu": 1024, "cuda": 4096}  # rows and columns of a tile: its similarities stay in cache, or fill a GPU
VALUES = 2**20  # embedding values processed together where no tile is made
CLOSE = 1 / 64  # share of close comparisons in a tile above which float64 is tried before single scores
FEW = 25  # thresholds per query up to which comparing with each beats a binary search
PLAIN = (1e-15, 1e15)  # range of the lengths of embeddings that are multiplied in float32
LARGEST = 1e38  # product of two lengths up to which a score is finite
Check = Callable[[Tensor, int], None]


def pair_scores(queries, gallery, rows, columns, device) -> Tensor:
    """Scores (P,) float32 of the pairs of `rows` of the queries and `columns` of the gallery, in batches."""
    step = max(1, VALUES // queries.shape[1])
    pairs = [(rows[start : start + step], columns[start : start + step]) for start in range(0, len(rows), step)]
    parts = [_score(take(queries, row, device), take(gallery, column, device)) for row, column in pairs]
    return torch.cat(parts) if parts else torch.empty(0, device=device)


def _score(one: Tensor, other: Tensor) -> Tensor:
    """(p,) float32 from (p, dim) and (p, dim). A sum over an axis has no fixed order; adding halves has one."""
    terms = one.double() * other.double()
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        rest = terms[:, 2 * half :]
        terms = torch.cat([terms[:, :half] + terms[:, half : 2 * half], rest], dim=1)
    return terms[:, 0].float()


def norms(embeddings, name: str) -> Tensor:
    """Length (n,) float64 of each row of (n, dim); `CcrError` naming the first row with NaN or inf."""
    step = max(1, VALUES // embeddings.shape[1])
    lengths = torch.empty(len(embeddings), dtype=torch.float64)
    good = torch.empty(len(embeddings), dtype=torch.bool)
    for start in range(0, len(embeddings), step):
        block = slice(start, start + step)
        rows = take(embeddings, block, "cpu")
        good[block] = torch.isfinite(rows).all(dim=1)
        lengths[block] = torch.linalg.vector_norm(rows.double(), dim=1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise CcrError(
            f"{name} embeddings: {int((~good).sum())} of {len(good)} rows have NaN or inf, first row {row}. "
            "The model diverged or that row's input is bad: look at the loss in history.csv."
        )
    return lengths


def take(embeddings, rows, device) -> Tensor:
    """These rows of a tensor or of an array, which may be memory-mapped, on the device."""
    if isinstance(embeddings, Tensor):
        return embeddings[rows].detach().to(device)
    return torch.from_numpy(np.array(embeddings[rows])).to(device)


def count_at_least(
    queries: Tensor, query_norms: Tensor, gallery, gallery_norms: Tensor, thresholds: Tensor, check: Check
) -> Tensor:
    """(b, R) int64: how many gallery entries score at least each threshold.

    Args:
        queries: (b, dim). gallery: (N, dim), a tensor or an array. query_norms (b,), gallery_norms (N,): float64.
        thresholds: (b, R) float32, descending; scores of pairs, or -inf.
        check: is called with scores (b, n) and their first column if some may not be finite.
    """
    scale = query_norms[:, None] * gallery_norms.max()
    single = torch.get_float32_matmul_precision() == "highest" and _plain(query_norms) and _plain(gallery_norms)
    precisions = (torch.float32, torch.float64) if single else (torch.float64,)
    intervals = [_interval(queries.to(precision), scale, thresholds) for precision in precisions]
    overflow = bool(scale.max() > LARGEST)
    counts = torch.zeros_like(thresholds, dtype=torch.int64)
    side = SIDE[queries.device.type]
    for start in range(0, len(gallery), side):
        tile = take(gallery, slice(start, start + side), queries.device)
        if overflow:
            check((queries.double() @ tile.double().T).float(), start)
        counts += _count_in_tile(queries, intervals, tile, thresholds)
    return counts


def _interval(queries: Tensor, scale: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The queries and, per threshold (b, R), the lowest undecided product and the lowest that is surely above."""
    # what rounds to a threshold or higher lies above the midpoint between it and the next lower float32
    below = torch.nextafter(thresholds, torch.full_like(thresholds, -torch.inf))
    boundary = (thresholds.double() + below.double()) / 2
    dim, precision = queries.shape[1], queries.dtype
    error = error_bound(precision, dim) * scale + 4 * dim * torch.finfo(precision).tiny
    low, high = (boundary - error).to(precision), (boundary + error).to(precision)
    return queries, low, torch.nextafter(high, torch.full_like(high, torch.inf))


def _count_in_tile(queries: Tensor, intervals: list, tile: Tensor, thresholds: Tensor) -> Tensor:
    for factors, low, above in intervals:
        products = factors @ tile.to(factors.dtype).T
        counts = at_least(products, above)
        close = at_least(products, low) - counts
        number = int(close.sum())
        if number <= CLOSE * products.numel():
            break
    if number:
        rows = close.any(dim=1).nonzero()[:, 0]
        scores = _with_scores(products[rows], low[rows], above[rows], queries[rows], tile)
        counts[rows] = at_least(scores, thresholds[rows])
    return counts


def _with_scores(products: Tensor, low: Tensor, above: Tensor, queries: Tensor, tile: Tensor) -> Tensor:
    """Products (b, n) in float32, replaced by the scores where a product is in an interval (b, R) of its row."""
    rows, columns = _between(products, low, above)
    scores = products.float()
    scores[rows, columns] = pair_scores(queries, tile, rows, columns, queries.device)
    return scores


def _plain(lengths: Tensor) -> bool:
    """Whether products of embeddings of these lengths neither overflow nor underflow in float32."""
    return bool(lengths.min() > PLAIN[0] and lengths.max() < PLAIN[1])


def error_bound(precision: torch.dtype, dim: int) -> float:
    """Bound on |product - score before its rounding|, as a share of the product of the two lengths.

    It covers `dim` roundings of a product in any order; 64 more are more than enough for the casts of embeddings and
    bounds and the roundings of the score itself.
    """
    roundings = (dim + 64) * torch.finfo(precision).eps / 2
    return roundings / (1 - roundings)


def _between(products: Tensor, low: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the products (b, n) within [`low`, `above`) for any of their row's (b, R), descending."""
    if low.shape[1] <= FEW:
        inside = torch.zeros_like(products, dtype=torch.bool)
        for bottom, top in zip(low.unbind(dim=1), above.unbind(dim=1), strict=True):
            inside |= (products >= bottom[:, None]) & (products < top[:, None])
    else:
        reached, passed = (torch.searchsorted(ends.flip(1).contiguous(), products, right=True) for ends in (low, above))
        inside = reached > passed
    if inside.device.type == "cpu":  # numpy finds the few among many in a fifth of the time
        return tuple(map(torch.from_numpy, divmod(np.flatnonzero(inside.numpy()), inside.shape[1])))
    return inside.nonzero(as_tuple=True)


def at_least(scores: Tensor, thresholds: Tensor) -> Tensor:
    """(b, R) int64: how many `scores` (b, n) of a row are >= each of its descending `thresholds` (b, R)."""
    n_rows, n_thresholds = thresholds.shape
    if n_thresholds <= FEW and scores.shape[1] < 2**24:  # ones are summed as floats: fast, and exact up to there
        passed = torch.empty_like(scores, dtype=torch.float32)
        counts = [torch.ge(scores, column[:, None], out=passed).sum(dim=1) for column in thresholds.unbind(dim=1)]
        return torch.stack(counts, dim=1).long()
    passed = torch.searchsorted(thresholds.flip(1).contiguous(), scores, right=True)  # thresholds <= score
    passed += torch.arange(n_rows, device=scores.device)[:, None] * (n_thresholds + 1)
    histogram = torch.bincount(passed.flatten(), minlength=n_rows * (n_thresholds + 1))
    # a score that passes m thresholds passes the m lowest, the last m of the descending order
    return histogram.view(n_rows, n_thresholds + 1).flip(1).cumsum(1)[:, :n_thresholds]
