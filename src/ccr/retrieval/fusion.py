"""Several forms of one query (such as the target caption and its machine translation), scored together.

Similarities are standardised along the candidate axis before they are added, separately per direction, so
that a query counts by how much better its best candidates are than the rest, and an outlier affects only
one query. `min_max` scales by the extremes of the whole matrix instead, as published NRCCR does.
"""

from collections.abc import Callable, Sequence

import torch

from ccr.errors import CcrError
from ccr.retrieval.ranks import Ranks, blocks, dot_products, finite, rank_blocks


def standardise(similarity) -> torch.Tensor:
    """Rows of (Q, N) with mean 0 and (population) deviation 1, float64; a constant row becomes zeros."""
    scores = torch.as_tensor(similarity).double()
    constant = scores.amax(dim=1, keepdim=True) == scores.amin(dim=1, keepdim=True)
    centred = scores - scores.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(constant, 0.0, centred / torch.where(constant, 1.0, deviation))


def min_max(similarity, low=None, high=None) -> torch.Tensor:
    """(s - low) / (high - low), float64; low and high are the extremes of the whole matrix unless given.

    Raises `CcrError` for a constant matrix, for which it is not defined.
    """
    scores = torch.as_tensor(similarity).double()
    low, high = scores.min() if low is None else low, scores.max() if high is None else high
    if not high > low:
        raise CcrError("fusion: min_max is not defined for a constant similarity matrix; use fusion: standardise.")
    return (scores - low) / (high - low)


def rank_fused(parts: Sequence[tuple[float, object, object]], query_item, gallery_item, scaling: str) -> Ranks:
    """Like `ranks.rank`, for a weighted sum of scaled similarities, in blocks.

    Args:
        parts: (weight, queries (Q, d), gallery (N, d)) each; row q of every `queries` stands for the same
            query and row n of every `gallery` for the same candidate.
        scaling: `standardise` or `min_max`.
    """
    products, scalers = [], []
    for number, (_, queries, gallery) in enumerate(parts):
        queries, gallery = finite(queries, f"query {number}"), finite(gallery, f"gallery {number}")
        product = dot_products(queries, gallery)
        products.append(product)
        scalers.append(standardise if scaling == "standardise" else _by_extremes(product, len(queries), len(gallery)))
    weights = [weight for weight, _, _ in parts]

    def similarity(rows: slice) -> torch.Tensor:
        return sum(w * scale(dots(rows)) for w, scale, dots in zip(weights, scalers, products, strict=True))

    return rank_blocks(similarity, query_item, gallery_item)


def _by_extremes(product: Callable[[slice], torch.Tensor], n_queries: int, n_gallery: int):
    """`min_max` by the extremes of all blocks of a product."""
    extremes = [torch.aminmax(product(rows).double()) for rows in blocks(n_queries, n_gallery)]
    low, high = min(found.min for found in extremes), max(found.max for found in extremes)
    return lambda scores: min_max(scores, low, high)
