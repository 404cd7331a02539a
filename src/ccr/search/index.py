"""Exact search for the nearest entries of a gallery of embeddings: scores and ties are those of the evaluation."""

import numpy as np
import torch
from torch import Tensor

from ccr.retrieval.tiles import error_bound, pair_scores


class Index:
    """A gallery to search, one query at a time.

    Args:
        embeddings: (N, dim) float32 unit vectors; may be memory-mapped.
    """

    def __init__(self, embeddings: np.ndarray):
        self._gallery = torch.from_numpy(embeddings)

    def __len__(self) -> int:
        return len(self._gallery)

    @torch.inference_mode()
    def top(self, query: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (k,) and scores (k,) float32 of the nearest entries, best first; equal scores by row.

        One product in float32 finds all entries that could be among the nearest whatever its rounding; these are then
        scored as in `retrieval.ranks`.

        Args:
            query: (dim,) float32 unit vector.
        """
        count = min(count, len(self._gallery))
        products = self._gallery @ query
        margin = 2 * error_bound(torch.float32, len(query))
        least = products.topk(count).values[-1] - margin
        rows = (products >= least).nonzero()[:, 0]
        scores = self._scores(query, rows)
        order = torch.argsort(scores, descending=True, stable=True)[:count]
        return rows[order].numpy(), scores[order].numpy()

    @torch.inference_mode()
    def standing(self, query: Tensor, row: int) -> int:
        """Rank of an entry, from 1: entries with an equal score rank before it, as in the evaluation."""
        products = self._gallery @ query
        margin = error_bound(torch.float32, len(query))
        own = self._scores(query, torch.tensor([row]))
        sure = products > own + margin
        close = ((products >= own - margin) & ~sure).nonzero()[:, 0]
        return int(sure.sum()) + int((self._scores(query, close) >= own).sum())

    def row(self, row: int) -> Tensor:
        """An entry, (dim,)."""
        return self._gallery[row]

    def _scores(self, query: Tensor, rows: Tensor) -> Tensor:
        return pair_scores(query[None], self._gallery, torch.zeros_like(rows), rows, "cpu")
