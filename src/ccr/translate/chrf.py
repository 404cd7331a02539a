"""chrF2 (Popović 2015) of many sentences in one pass: per sentence and for the corpus.

The figures are those of sacreBLEU (default settings, one reference), whose corpus score keeps the n-grams of all
references in memory (gigabytes for the captions of a data set) and gives no scores of single sentences.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDER = 6  # length of the longest character n-grams
BETA = 2  # weight of recall


def statistics(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(n, ORDER, 3) int64: for every pair and order, n-grams in the hypothesis, in the reference, and in both.

    White space is ignored.
    """
    counts = np.zeros((len(hypotheses), ORDER, 3), np.int64)
    for row, pair in enumerate(zip(hypotheses, references, strict=True)):
        hypothesis, reference = ("".join(text.split()) for text in pair)
        for n in range(1, min(ORDER, len(reference)) + 1):
            found, wanted = _ngrams(hypothesis, n), _ngrams(reference, n)
            common = sum([min(count, wanted[ngram]) for ngram, count in found.items() if ngram in wanted])
            counts[row, n - 1] = max(len(hypothesis) - n + 1, 0), len(reference) - n + 1, common
    return counts


def score(counts: np.ndarray) -> np.ndarray:
    """chrF (0 to 100, float64) from `statistics`: (..., ORDER, 3) -> (...); the sum over n gives the corpus score."""
    hypothesis, reference, common = np.moveaxis(counts, -1, 0)
    orders = np.maximum(((hypothesis > 0) & (reference > 0)).sum(-1), 1)
    precision = (common / np.maximum(hypothesis, 1)).sum(-1) / orders
    recall = (common / np.maximum(reference, 1)).sum(-1) / orders
    weighted = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter([text[i : i + n] for i in range(len(text) - n + 1)])
