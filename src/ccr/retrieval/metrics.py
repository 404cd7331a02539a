"""The metrics of a test set from its ranks, and what chance would give.

Defined in docs/methods.md, "Metrics and the paired test".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # ranks needs torch, its results do not
    from ccr.retrieval.ranks import Ranks

RECALLS = (1, 5, 10)
DIRECTIONS = ("t2v", "v2t")  # text-to-visual, visual-to-text
_NAMES = (*(f"r{k}" for k in RECALLS), "medr", "meanr", "map", "ndcg10")
METRICS = (*(f"{direction}_{name}" for direction in DIRECTIONS for name in _NAMES), "sumr")


def metrics(t2v: Ranks, v2t: Ranks) -> dict[str, float]:
    """All `METRICS` of a test set.

    Rates, mAP and nDCG@10 are percentages, ranks count from 1, and SumR is the sum of the six recalls.
    """
    values = {
        f"{direction}_{name}": value
        for direction, ranks in zip(DIRECTIONS, (t2v, v2t), strict=True)
        for name, value in _one_direction(ranks).items()
    }
    return values | {"sumr": sum(values[f"{direction}_r{k}"] for direction in DIRECTIONS for k in RECALLS)}


def _one_direction(ranks: Ranks) -> dict[str, float]:
    return {f"r{k}": 100 * float(np.mean(ranks.first <= k)) for k in RECALLS} | {
        "medr": float(np.median(ranks.first)),
        "meanr": float(np.mean(ranks.first)),
        "map": 100 * float(np.mean(ranks.ap)),
        "ndcg10": 100 * float(np.mean(ranks.ndcg10)),
    }


def chance_sumr(captions_per_item) -> float:
    """Expected SumR of a random order.

    Args:
        captions_per_item: (N,) integers m_i >= 1, C in total. A caption looks for its item among N; item i
            looks for any of its captions among C, and misses with probability binom(C - m_i, k) / binom(C, k).
    """
    count = np.asarray(captions_per_item, dtype=np.int64)
    text = sum(min(k / len(count), 1.0) for k in RECALLS)
    visual = sum(np.mean(_hit(count, count.sum(), k)) for k in RECALLS)
    return float(100 * (text + visual))


def _hit(relevant: np.ndarray, total: int, k: int) -> np.ndarray:
    # each factor: one more entry drawn, none of them relevant
    drawn = np.arange(min(k, total))
    return 1 - np.prod(np.maximum(total - relevant[:, None] - drawn, 0) / (total - drawn), axis=1)
