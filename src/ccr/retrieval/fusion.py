"""Several queries for one need (the target caption and its machine translation, say) scored together.

Similarities are standardised along the candidate axis before they are added, separately per direction, so
that a query counts by how much better its best candidates are than the rest, and one outlier touches one
query alone.
"""

from collections.abc import Sequence

import torch

from ccr.retrieval.ranks import Ranks, dot_products, finite, rank_blocks


def standardise(similarity) -> torch.Tensor:
    """Rows of (Q, N) with mean 0 and (population) deviation 1, float64; a constant row becomes zeros."""
    scores = torch.as_tensor(similarity).double()
    constant = scores.amax(dim=1, keepdim=True) == scores.amin(dim=1, keepdim=True)
    centred = scores - scores.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(constant, 0.0, centred / torch.where(constant, 1.0, deviation))


def fuse(similarities: Sequence, weights: Sequence[float]) -> torch.Tensor:
    """Weighted sum of standardised (Q, N) similarity matrices of one direction, float64."""
    return sum(weight * standardise(matrix) for weight, matrix in zip(weights, similarities, strict=True))


def rank_fused(parts: Sequence[tuple[float, object, object]], query_item, gallery_item) -> Ranks:
    """As `ranks.rank`, for a weighted sum of similarities, in blocks.

    Args:
        parts: (weight, queries (Q, d), gallery (N, d)) each; row q of every `queries` stands for the same
            query and row n of every `gallery` for the same candidate.
    """
    products = [
        dot_products(finite(queries, f"query {n}"), finite(gallery, f"gallery {n}"))
        for n, (_, queries, gallery) in enumerate(parts)
    ]
    weights = [weight for weight, _, _ in parts]

    def similarity(rows: slice) -> torch.Tensor:
        return fuse([dots(rows) for dots in products], weights)

    return rank_blocks(similarity, query_item, gallery_item)
