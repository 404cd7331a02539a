"""The paired test: is a method better than the baseline over these test items?

Defined in docs/methods.md, "Metrics and the paired test".

The unit is the test item. Captions of one item are not independent of each other; items are.
"""

import numpy as np

from ccr.retrieval.metrics import RECALLS

DRAWS = 10_000
SEED = 0
LEVEL = 0.05
SMALLEST = 1 / (DRAWS + 1)  # p if no draw is as far from 0 as the observation: a bound, not a measurement


def contributions(t2v_rank, t2v_item, v2t_rank, v2t_item, n_items: int) -> np.ndarray:
    """What each item adds to SumR: the sum over items is SumR.

    For each k of 1, 5, 10, a caption that finds its item within k adds 100 / (number of captions) to that item, and an
    item that finds one of its captions within k adds 100 / (number of items).

    Args:
        t2v_rank, t2v_item: (C,) rank of the first relevant item and item number, per caption.
        v2t_rank, v2t_item: (N,) the same per item as a query.
    Returns:
        (n_items,) float64.
    """
    return _share(t2v_rank, t2v_item, n_items) + _share(v2t_rank, v2t_item, n_items)


def _share(rank, item, n_items: int) -> np.ndarray:
    hits = (np.asarray(rank)[:, None] <= np.array(RECALLS)).sum(axis=1)
    return 100 * np.bincount(np.asarray(item), weights=hits, minlength=n_items) / len(hits)


def sign_flip(differences, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Two-sided paired permutation test: (k,) p values of (k, n) differences, method minus baseline per item.

    Under the null hypothesis, each item's difference is equally likely to have the opposite sign. p is the share of
    random sign draws, including the observed signs, whose sum is at least as far from 0. All rows share the draws.
    """
    differences = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    n_items = differences.shape[1]
    # sums that differ only by rounding must count as equal
    observed = np.abs(differences.sum(axis=1)) - 1e-9 * np.abs(differences).sum(axis=1)
    generator = np.random.default_rng(seed)
    as_far = np.ones(len(differences), dtype=np.int64)
    step = max(1, 2**22 // n_items)
    for start in range(0, draws, step):
        shape = (min(step, draws - start), n_items)
        signs = generator.integers(0, 2, size=shape, dtype=np.int8) * 2.0 - 1.0
        as_far += (np.abs(signs @ differences.T) >= observed).sum(axis=0)
    return as_far / (draws + 1)


def holm(p_values) -> np.ndarray:
    """Holm's step-down correction of (k,) p values for k tests, in the given order (Holm 1979)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
