"""Alignment error rate against a known alignment of phrases (docs/methods.md, item 10)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quality:
    """Counts over sentence pairs; they can be added.

    `predicted`: linked pairs of words; `right`: those that lie in a linked pair of phrases. `phrases`: linked pairs
    of phrases; `found`: those that contain a predicted link.
    """

    predicted: int = 0
    right: int = 0
    phrases: int = 0
    found: int = 0

    def __add__(self, other: "Quality") -> "Quality":
        return Quality(
            self.predicted + other.predicted,
            self.right + other.right,
            self.phrases + other.phrases,
            self.found + other.found,
        )

    @property
    def precision(self) -> float:
        """Share of the predicted links that are right; 0 if nothing is predicted."""
        return self.right / max(self.predicted, 1)

    @property
    def recall(self) -> float:
        """Share of the phrases that are found."""
        return self.found / max(self.phrases, 1)

    @property
    def aer(self) -> float:
        """Alignment error rate (Och and Ney 2003): 0 is perfect, 1 is entirely wrong."""
        return 1 - (self.right + self.found) / max(self.predicted + self.phrases, 1)


def judge(links: np.ndarray, phrases: np.ndarray) -> Quality:
    """Compare the predicted links of one sentence pair with the true ones.

    Args:
        links: (A, 4) int, source start and end, target start and end of pairs of words.
        phrases: (S, 4) int, of pairs of phrases.
    """
    words, true = links[:, None], phrases[None]
    starts, ends = words[..., ::2] >= true[..., ::2], words[..., 1::2] <= true[..., 1::2]
    inside = (starts & ends).all(2)
    return Quality(len(links), int(inside.any(1).sum()), len(phrases), int(inside.any(0).sum()))
